"""Makes yolo11_shapes.onnx and yolo11_pose_figures.onnx: YOLO11n and YOLO11n-pose at a quarter of their width, trained
in float on the drawn data sets of the samples.

    pip install ultralytics onnx     (used: ultralytics 8.4.190, torch 2.14.1, onnx 1.23.2)
    yolo_qat --draw-only data && yolo_pose_qat --draw-only data_pose
    python train_yolo_networks.py data/train yolo11_shapes.onnx
    python train_yolo_networks.py data_pose/train yolo11_pose_figures.onnx

A full-size network comes out the same way: give the YOLO object of a trained .pt to export(). The network's outputs are
its raw maps: box and class map of every level, then the keypoint maps.
"""
import argparse
import copy
import json
import math
import pathlib
from types import SimpleNamespace

import numpy as np
import torch
import ultralytics
import yaml
from PIL import Image
from ultralytics.nn.tasks import DetectionModel, PoseModel
from ultralytics.utils.loss import v8DetectionLoss, v8PoseLoss


class RawMaps(torch.nn.Module):
    """The network up to the last convolutions of its head."""

    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, model.model[-1]

    def forward(self, images):
        kept, x = [], images
        for layer in self.model.model[:-1]:
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
            x = layer(x)
            kept.append(x)
        levels = [kept[j] for j in self.head.f]
        maps = []
        for level, x in enumerate(levels):
            maps += [self.head.cv2[level](x), self.head.cv3[level](x)]
        if hasattr(self.head, "cv4"):
            maps += [self.head.cv4[level](x) for level, x in enumerate(levels)]
        return tuple(maps)


def export(model, file, size):
    model = model.eval().fuse(verbose=False)  # batch normalization goes into the convolutions
    names = [f"{kind}{level}" for level in range(3) for kind in ("box", "score")]
    if hasattr(model.model[-1], "cv4"):
        names += [f"keypoints{level}" for level in range(3)]
    torch.onnx.export(RawMaps(model), torch.zeros(1, 3, size, size), file, opset_version=17, dynamo=False,
                      input_names=["images"], output_names=names)


def read(folder):
    """uint8 images [N, 3, H, W], and per image rows of class, normalized centre, size, keypoints."""
    data = json.loads((folder / "annotations.json").read_text())
    images = np.stack([np.asarray(Image.open(folder / "images" / i["file_name"])) for i in data["images"]])
    height, width = images.shape[1:3]
    index = {image["id"]: i for i, image in enumerate(data["images"])}
    rows = [[] for _ in data["images"]]
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        points = np.array(a.get("keypoints", [])).reshape(-1, 3) / [width, height, 1]
        rows[index[a["image_id"]]].append(np.concatenate([[a["category_id"] - 1, (x + w / 2) / width, (y + h / 2) / height,
                                                           w / width, h / height], points.flatten()]))
    names = data["categories"][0].get("keypoints", [])
    return torch.tensor(images).permute(0, 3, 1, 2).contiguous(), rows, len(data["categories"]), names


def make_batch(images, rows, chosen, names, rng):
    """Half of the images are mirrored, all are moved by some pixels and vary in color."""
    size = images.shape[-1]
    swap = [names.index(n.replace("left", "?").replace("right", "left").replace("?", "right")) for n in names]
    pixels, owner, targets = [], [], []
    for position, i in enumerate(chosen):
        image, objects = images[i].float() / 255, np.array(rows[i]).reshape(len(rows[i]), 5 + 3 * len(names)).copy()
        if rng.uniform() < 0.5:
            image = image.flip(2)
            objects[:, 1] = 1 - objects[:, 1]
            if names:
                points = objects[:, 5:].reshape(len(objects), len(names), 3)[:, swap]
                points[..., 0] = 1 - points[..., 0]
                objects[:, 5:] = points.reshape(len(objects), 3 * len(names))
        shift = rng.integers(-16, 17, 2)
        image = image.roll(tuple(int(s) for s in shift), (1, 2))
        if len(objects):
            objects[:, 1:3] += shift[::-1] / size
            inside = (np.abs(objects[:, 1:3] - 0.5) + objects[:, 3:5] / 2 <= 0.5).all(1)
            if not inside.all():  # what leaves the image comes in on the other side: take the image as it is
                image = image.roll(tuple(int(-s) for s in shift), (1, 2))
                objects[:, 1:3] -= shift[::-1] / size
            elif names:
                objects[:, 5::3] += shift[1] / size
                objects[:, 6::3] += shift[0] / size
        pixels.append((image * torch.tensor(rng.uniform(0.8, 1.2, (3, 1, 1)), dtype=torch.float32)).clamp(0, 1))
        owner += [position] * len(objects)
        targets.append(objects)
    targets = torch.tensor(np.concatenate(targets), dtype=torch.float32)
    return {"img": torch.stack(pixels), "batch_idx": torch.tensor(owner).float(), "cls": targets[:, 0],
            "bboxes": targets[:, 1:5], "keypoints": targets[:, 5:].reshape(len(targets), len(names), 3)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--width", type=float, default=0.0625, help="YOLO11n has 0.25")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    images, rows, classes, names = read(options.folder)
    pose = bool(names)
    configuration = pathlib.Path(ultralytics.__file__).parent / "cfg/models/11" / f"yolo11{'-pose' if pose else ''}.yaml"
    layers = yaml.safe_load(configuration.read_text())
    layers.update(scales={"n": [0.5, options.width, 1024]}, scale="n", nc=classes)
    if pose:
        layers["kpt_shape"] = [len(names), 3]
    model = (PoseModel if pose else DetectionModel)(layers, ch=3, nc=classes, verbose=False)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, pose=12.0, kobj=1.0)
    criterion = (v8PoseLoss if pose else v8DetectionLoss)(model)
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=1e-3)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995),
                                                  use_buffers=True)
    per_epoch = len(rows) // options.batch
    steps = options.epochs * per_epoch
    for step in range(steps):
        if step % per_epoch == 0:
            order, total = rng.permutation(len(rows)), 0.0
        rate = options.rate * min((step + 1) / 100, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.005)
        for group in optimizer.param_groups:
            group["lr"] = rate
        first = step % per_epoch * options.batch
        batch = make_batch(images, rows, order[first:first + options.batch], names, rng)
        model.train()
        loss, _ = criterion(model(batch["img"]), batch)
        optimizer.zero_grad()
        (loss.sum() / options.batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        average.update_parameters(model)
        total += loss.sum().item() / options.batch
        if (step + 1) % per_epoch == 0:
            print(f"epoch {step // per_epoch + 1}: loss {total / per_epoch:.3f}", flush=True)
            if (step // per_epoch + 1) % 5 == 0 or step + 1 == steps:
                export(copy.deepcopy(average.module), options.output, images.shape[-1])


if __name__ == "__main__":
    main()
