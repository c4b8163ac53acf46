"""MTCNN's three networks as TorchScript and torch.export archives, to compare with the ONNX files of mtcnn-runtime.

Usage: make_mtcnn.py FACENET_DATA OUT, with the folder facenet_pytorch/data of PyPI's facenet-pytorch 2.6.0.
Quantize OUT/pnet.pt, OUT/pnet.pt2 and mtcnn-runtime's weights/pnet.onnx with OUT/pnet as calibration data and compare the
results with `espq diff`: all three are equal. The modules compute what the ONNX files compute, in their order of axes.
"""

import pathlib
import sys

import numpy
import torch
from torch import nn

data, out = map(pathlib.Path, sys.argv[1:3])


class Network(nn.Module):
    def add(self, kind, *layers):
        for number, layer in enumerate(layers, 1):
            setattr(self, f"{kind}{number}", layer)

    def prelus(self, *channels):
        self.add("prelu", *[nn.PReLU(count) for count in channels])


class PNet(Network):
    def __init__(self):
        super().__init__()
        self.add("conv", nn.Conv2d(3, 10, 3), nn.Conv2d(10, 16, 3), nn.Conv2d(16, 32, 3))
        self.prelus(10, 16, 32)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, input):
        x = self.pool1(self.prelu1(self.conv1(input)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        scores, boxes = self.conv4_1(x), self.conv4_2(x)
        return {"output1": boxes, "output2": scores.permute(0, 3, 2, 1).softmax(3).permute(0, 3, 2, 1)}


class RNet(Network):
    def __init__(self):
        super().__init__()
        self.add("conv", nn.Conv2d(3, 28, 3), nn.Conv2d(28, 48, 3), nn.Conv2d(48, 64, 2))
        self.prelus(28, 48, 64, 128)
        self.add("pool", *[nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(2)])
        self.dense4 = nn.Linear(576, 128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, input):
        x = self.pool1(self.prelu1(self.conv1(input)))
        x = self.prelu3(self.conv3(self.pool2(self.prelu2(self.conv2(x)))))
        x = x.transpose(3, 2).contiguous()
        x = self.prelu4(self.dense4(x.view(x.shape[0], -1)))
        scores, boxes = self.dense5_1(x), self.dense5_2(x)
        return {"output1": boxes, "output2": scores.softmax(1)}


class ONet(Network):
    def __init__(self):
        super().__init__()
        self.add("conv", nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 128, 2))
        self.prelus(32, 64, 64, 128, 256)
        self.add("pool", *[nn.MaxPool2d(size, 2, ceil_mode=True) for size in (3, 3, 2)])
        self.dense5 = nn.Linear(1152, 256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, input):
        x = self.pool1(self.prelu1(self.conv1(input)))
        x = self.pool3(self.prelu3(self.conv3(self.pool2(self.prelu2(self.conv2(x))))))
        x = self.prelu4(self.conv4(x)).transpose(3, 2).contiguous()
        x = self.prelu5(self.dense5(x.view(x.shape[0], -1)))
        scores, boxes, marks = self.dense6_1(x), self.dense6_2(x), self.dense6_3(x)
        return {"output1": marks, "output2": boxes, "output3": scores.softmax(1)}


torch.manual_seed(0)
for name, network, size in [("pnet", PNet(), 24), ("rnet", RNet(), 24), ("onet", ONet(), 48)]:
    network.load_state_dict(torch.load(data / f"{name}.pt"))
    network.eval()
    dense = getattr(network, "dense4", getattr(network, "dense5", None))
    if dense is not None:  # facenet-pytorch flattens width, height, channels; the ONNX files channels, width, height
        weight = dense.weight.data
        dense.weight.data = weight.view(len(weight), 3, 3, -1).permute(0, 3, 1, 2).reshape(len(weight), -1)
    image = torch.randn(1, 3, size, size)
    (out / name).mkdir(parents=True, exist_ok=True)
    for batch in range(8):
        numpy.save(out / name / f"{batch}.npy", torch.randn(1, 3, size, size).numpy())
    torch.jit.trace(network, image, strict=False).save(str(out / f"{name}.pt"))
    torch.export.save(torch.export.export(network, (image,)), out / f"{name}.pt2")
