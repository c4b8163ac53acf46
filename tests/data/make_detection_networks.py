"""Makes detection/networks: one small network with a YOLO head of two levels, in the forms that yolo_qat reads.

    pip install torch onnx     (used: torch 2.14.1, onnx 1.23.2)
    python make_detection_networks.py detection/networks

maps.onnx, maps.pt and maps.pt2 end at the raw maps (box0, class0, box1, class1); whole.onnx goes on to scores and
distances of all cells, as networks do that were exported whole.
"""
import pathlib
import sys

import torch
from torch import nn

SIZE, CLASSES, BINS = 64, 4, 4


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.heads = nn.ModuleList(nn.Conv2d(channels, out, 1)
                                   for channels in (8, 12) for out in (4 * BINS, CLASSES))

    def forward(self, images):
        fine = self.stem(images)
        coarse = self.down(fine)
        return self.heads[0](fine), self.heads[1](fine), self.heads[2](coarse), self.heads[3](coarse)


class Whole(Maps):
    def forward(self, images):
        maps = super().forward(images)
        rows = lambda a, b: torch.cat([a.flatten(2), b.flatten(2)], 2)
        boxes = rows(maps[0], maps[2]).reshape(1, 4, BINS, -1).softmax(2)
        return torch.cat([boxes.flatten(1, 2), rows(maps[1], maps[3]).sigmoid()], 1)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    maps, whole = Maps().eval(), Whole().eval()
    whole.load_state_dict(maps.state_dict())
    example = torch.zeros(1, 3, SIZE, SIZE)
    names = ["box0", "class0", "box1", "class1"]
    common = {"opset_version": 17, "dynamo": False, "input_names": ["images"]}
    torch.onnx.export(maps, example, folder / "maps.onnx", output_names=names, **common)
    torch.onnx.export(whole, example, folder / "whole.onnx", output_names=["detections"], **common)
    torch.jit.trace(maps, example).save(folder / "maps.pt")
    torch.export.save(torch.export.export(maps, (example,)), folder / "maps.pt2")


if __name__ == "__main__":
    main()
