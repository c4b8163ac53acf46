"""A MobileNetV2 that learns to read characters, and a function-preserving way to break it.

Trained here, on rendered characters over photographs, in some minutes on one core: the network that docs/accuracy.md breaks on purpose.
"""
import numpy as np
import torch
from torch import nn

CHARACTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789'
SIDE = 32
# expansion, channels, blocks, stride: those of the paper, but for strides that fit small pictures, at a third of its width
STAGES = [(1, 8, 1, 1), (6, 8, 2, 1), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 56, 3, 1), (6, 112, 1, 1)]


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project (linear)."""
    def __init__(self, inputs, outputs, expansion, stride, activation):
        super().__init__()
        inner = inputs * expansion
        self.expand = layer(inputs, inner, 1, activation=activation) if expansion > 1 else nn.Sequential()
        self.depthwise = layer(inner, inner, 3, stride, inner, activation)
        self.project = layer(inner, outputs, 1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def layer(inputs, outputs, kernel, stride=1, groups=1, activation=None):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs),
                         *([activation()] if activation else []))


class MobileNetV2(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.stem, blocks, width = layer(3, 16, 3, 2, activation=activation), [], 16
        for expansion, channels, count, stride in STAGES:
            for number in range(count):
                blocks.append(Block(width, channels, expansion, 1 if number else stride, activation))
                width = channels
        self.blocks, self.last = nn.Sequential(*blocks), layer(width, 448, 1, activation=activation)
        self.classify = nn.Linear(448, len(CHARACTERS))

    def forward(self, x): return self.classify(self.last(self.blocks(self.stem(x))).mean((2, 3)))


def pictures(grounds, fonts, count, seed):
    """Characters of any colour, turned and moved, over crops of photographs: bytes [N, H, W, 3] and what they show."""
    from PIL import Image, ImageDraw, ImageFont
    rng, drawn = np.random.default_rng(seed), []
    shown = rng.integers(0, len(CHARACTERS), count)
    for label in shown:
        ground = grounds[rng.integers(len(grounds))].astype(np.float32)
        paper, share = rng.integers(0, 256, 3), rng.uniform(.3, .8)
        ink = (paper + 128 + rng.integers(-40, 41, 3)) % 256
        font = ImageFont.truetype(str(fonts[rng.integers(len(fonts))]), int(rng.integers(20, 30)))
        mask = Image.new('L', (SIDE, SIDE))
        middle = tuple(SIDE / 2 + rng.uniform(-3, 3, 2))
        ImageDraw.Draw(mask).text(middle, CHARACTERS[label], font=font, fill=255, anchor='mm')
        covered = np.asarray(mask.rotate(float(rng.uniform(-15, 15)), Image.BILINEAR))[..., None] / 255
        picture = (paper * (1 - share) + ground * share) * (1 - covered) + ink * covered + rng.normal(0, 12, (SIDE, SIDE, 1))
        drawn.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(drawn), shown


def fused(network):
    """Normalizations go into their convolutions."""
    network = network.eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            module[0] = nn.utils.fusion.fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return network


def train(activation, pixels, labels, epochs=12, batch=64):
    """Adam, a rate that falls along a cosine; one thread, so that a machine makes the same weights again."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = MobileNetV2(activation)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-5)
    steps = len(pixels) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    x, y, order = torch.from_numpy(pixels), torch.from_numpy(labels), np.random.default_rng(0)
    for epoch in range(epochs):
        wrong = 0.
        for chosen in order.permutation(len(pixels))[:steps * batch].reshape(steps, batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            wrong += float(loss.detach())
        print(f'mobilenet_v2, epoch {epoch + 1} of {epochs}: loss {wrong / steps:.3f}', flush=True)
    return fused(network)


@torch.no_grad()
def scale(conv, factors=None, inputs=None):
    """Multiply the channels that come out, divide the weights of those that come in."""
    if factors is not None:
        conv.weight.mul_(factors.view(-1, *[1] * (conv.weight.dim() - 1)))
        conv.bias.mul_(factors)
    if inputs is not None: conv.weight.div_(inputs.view((-1, 1, 1, 1) if getattr(conv, 'groups', 1) > 1 else (1, -1, *[1] * (conv.weight.dim() - 2))))


def rescaled(network, through_activations, seed):
    """Channels change in size by factors drawn log-uniformly over 1:100; the function stays, but for float rounding.

    Through Relu, any channel between two layers may: stem, expanded, filtered and the last ones do. ReLU6 has a size of its own:
    with it, the channels of the linear bottlenecks do, all along their residual additions."""
    rng = np.random.default_rng(seed)
    def draw(count): return torch.from_numpy(np.exp(rng.uniform(np.log(.1), np.log(10), count)).astype(np.float32))
    stem, last, behind = network.stem[0], network.last[0], network.classify
    bottleneck = None    # factors of the tensor between blocks
    for block in network.blocks:
        expand, depthwise, project = (part[0] if len(part) else None for part in (block.expand, block.depthwise, block.project))
        if through_activations:
            inner, filtered = draw(depthwise.out_channels), draw(depthwise.out_channels)
            scale(expand if expand is not None else stem, inner)    # without an expansion the block filters what the stem made
            scale(depthwise, filtered, inputs=inner)
            scale(project, inputs=filtered)
        else:
            if bottleneck is not None: scale(expand, inputs=bottleneck)
            if not block.residual: bottleneck = draw(project.out_channels)
            scale(project, bottleneck)
    if through_activations:
        ends = draw(last.out_channels)
        scale(last, ends)
        scale(behind, inputs=ends)
    else: scale(last, inputs=bottleneck)
    return network
