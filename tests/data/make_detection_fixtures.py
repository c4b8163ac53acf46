"""Writes tests/data/detection: what ultralytics and pycocotools compute on random cases.

    pip install ultralytics pycocotools    (used: ultralytics 8.4.190, pycocotools 2.0.11, torch 2.14.1)
    python make_detection_fixtures.py

losses_*.npz    head maps, targets, the assigner's answer, every part of the loss, gradients of the sum at the maps
nms_*.npz       decoded boxes and scores, what non-maximum suppression keeps
*.jpg, *.png    images; images.npz has their pixels, and one of them letterboxed
coco_*.json     annotations, detections and the twelve (boxes) or ten (keypoints) numbers of COCO's evaluation
"""
import contextlib
import io
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.data.augment import LetterBox
from ultralytics.utils.loss import v8DetectionLoss, v8PoseLoss
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.tal import TaskAlignedAssigner

FOLDER = pathlib.Path(__file__).parent / "detection"
STRIDES = [8, 16, 32]
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, pose=12.0, kobj=1.0)


class Head(torch.nn.Module):
    """As much of a network as the losses look at."""

    def __init__(self, classes, bins, keypoints=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stride, self.nc, self.reg_max, self.kpt_shape = torch.tensor(STRIDES).float(), classes, bins, keypoints
        self.args, self.model = GAINS, [self]


def random_targets(rng, images, objects, classes, keypoints):
    """Boxes as normalized centre, width, height; also tiny, overlapping and equal ones."""
    image = np.sort(rng.integers(0, images, objects))
    size = np.exp(rng.uniform(np.log(0.02), np.log(0.7), (objects, 2)))
    centre = size / 2 + rng.uniform(0, 1, (objects, 2)) * (1 - size)
    boxes = np.concatenate([centre, size], 1)
    if objects > 3:
        boxes[1] = boxes[0]  # the same place twice
        image[1] = image[0]
    points = np.zeros((objects, 0, 3))
    if keypoints:
        points = np.concatenate([boxes[:, None, :2] + rng.uniform(-0.5, 0.5, (objects, keypoints, 2)) * boxes[:, None, 2:],
                                 rng.integers(0, 3, (objects, keypoints, 1))], 2)
        points[-1, :, 2] = 0  # an object without visible keypoints
    return image, rng.integers(0, classes, objects), boxes, points


def aim(maps, stride, bins, image, corners):
    """Lets cells inside of an object predict its box about right, so that overlaps are as in a trained network."""
    for which, (left, top, right, bottom) in zip(image, corners):
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                centre = np.array([x + 0.5, y + 0.5])
                sides = np.concatenate([centre - np.array([left, top]) / stride, np.array([right, bottom]) / stride - centre])
                if sides.min() <= 0:
                    continue
                for side, distance in enumerate(sides):
                    nearest = int(min(round(distance), bins - 1))
                    maps[which, side * bins + nearest, y, x] += 5


def losses(name, seed, classes=5, bins=16, images=2, objects=12, width=128, height=96, keypoints=None):
    rng = np.random.default_rng(seed)
    image, label, boxes, points = random_targets(rng, images, objects, classes, keypoints and keypoints[0])
    scale = np.array([width, height, width, height])
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * scale
    model = Head(classes, bins, list(keypoints) if keypoints else None)
    criterion = (v8PoseLoss if keypoints else v8DetectionLoss)(model)
    maps = {"box": [], "class": [], "keypoint": []}
    for stride in STRIDES:
        shape = (height // stride, width // stride)
        draw = lambda channels, scale: np.round(rng.normal(0, scale, (images, channels, *shape)) * 64) / 64
        box = draw(4 * bins, 1.0)
        aim(box, stride, bins, image, corners)
        for kind, values in (("box", box), ("class", draw(classes, 2.0)),
                             ("keypoint", draw(keypoints[0] * keypoints[1] if keypoints else 0, 1.0))):
            maps[kind].append(torch.tensor(values, dtype=torch.float32, requires_grad=True))
    join = lambda kind: torch.cat([m.flatten(2) for m in maps[kind]], 2)
    batch = {"batch_idx": torch.tensor(image).float(), "cls": torch.tensor(label).float(),
             "bboxes": torch.tensor(boxes).float().reshape(-1, 4)}
    if keypoints:
        batch["keypoints"] = torch.tensor(points).float()
    recorded = {}
    forward = TaskAlignedAssigner.forward

    def record(self, *arguments, **options):
        answer = forward(self, *arguments, **options)
        # Copies: the losses rescale the boxes in place.
        recorded.update(zip(("labels", "boxes", "scores", "foreground", "object"), [a.clone() for a in answer]))
        return answer

    TaskAlignedAssigner.forward = record
    loss, _ = criterion({"boxes": join("box"), "scores": join("class"), "kpts": join("keypoint"), "feats": maps["box"]},
                        batch)
    TaskAlignedAssigner.forward = forward
    loss.sum().backward()
    names = ("box", "keypoints", "visibility", "classes", "distribution") if keypoints else ("box", "classes", "distribution")
    arrays = {"size": np.array([height, width, classes, bins, *(keypoints or (0, 0))]),
              "target_image": image.astype(np.int64), "target_label": label.astype(np.int64),
              "target_box": corners.astype(np.float32),
              "target_keypoints": (points * np.array([width, height, 1])).astype(np.float32),
              "assigned_scores": recorded["scores"].float().numpy(),
              "assigned_boxes": recorded["boxes"].float().numpy(),
              "assigned_foreground": recorded["foreground"].numpy().astype(np.uint8),
              "assigned_object": recorded["object"].numpy().astype(np.int64)}
    for key, value in zip(names, loss.detach()):
        arrays["loss_" + key] = np.float32(value)
    for kind in maps:
        for level, tensor in enumerate(maps[kind]):
            if tensor.numel():
                arrays[f"{kind}_{level}"] = tensor.detach().numpy()
                gradient = tensor.grad if tensor.grad is not None else torch.zeros_like(tensor)
                arrays[f"gradient_{kind}_{level}"] = gradient.numpy()
    np.savez_compressed(FOLDER / f"losses_{name}.npz", **arrays)
    print(name, {k: float(v) for k, v in arrays.items() if k.startswith("loss_")}, int(arrays["assigned_foreground"].sum()))


def suppression(name, seed, classes, keypoints=0, anchors=400, images=2, confidence=0.05, iou=0.7, limit=60):
    rng = np.random.default_rng(seed)
    size = rng.uniform(10, 120, (images, anchors, 2))
    centre = np.repeat(rng.uniform(60, 260, (images, anchors // 10, 2)), 10, 1) + rng.normal(0, 4, (images, anchors, 2))
    size = np.repeat(size[:, ::10], 10, 1) * rng.uniform(0.9, 1.1, (images, anchors, 2))
    scores = rng.uniform(0, 1, (images, anchors, classes)) ** 4
    points = rng.uniform(0, 320, (images, anchors, keypoints * 3))
    prediction = torch.tensor(np.concatenate([centre, size, scores, points], 2), dtype=torch.float32).permute(0, 2, 1)
    kept = non_max_suppression(prediction.clone(), confidence, iou, multi_label=True, max_det=limit, nc=classes,
                               max_time_img=100)
    arrays = {"options": np.array([confidence, iou, limit], np.float64),
              "boxes": torch.cat([prediction[:, :2] - prediction[:, 2:4] / 2, prediction[:, :2] + prediction[:, 2:4] / 2], 1)
                       .permute(0, 2, 1).contiguous().numpy(),
              "scores": prediction[:, 4:4 + classes].permute(0, 2, 1).contiguous().numpy(),
              "keypoints": points.reshape(images, anchors, keypoints, 3).astype(np.float32)}
    for image, rows in enumerate(kept):
        arrays[f"kept_{image}"] = rows.numpy()
    np.savez_compressed(FOLDER / f"nms_{name}.npz", **arrays)
    print(name, [len(k) for k in kept])


def coco(name, seed, kind, images=12, categories=3, keypoints=17, sigmas=None):
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 9)):
            size = np.exp(rng.uniform(np.log(8), np.log(300), 2))
            box = np.concatenate([rng.uniform(0, 300, 2), size])
            crowd = int(rng.uniform() < 0.1)
            points = np.concatenate([box[:2] + rng.uniform(0, 1, (keypoints, 2)) * size, rng.integers(0, 3, (keypoints, 1))], 1)
            if crowd or rng.uniform() < 0.1:
                points[:] = 0
            category = int(rng.integers(1, categories + 1))
            truth.append(dict(id=len(truth) + 1, image_id=image, category_id=category, iscrowd=crowd,
                              bbox=[round(float(v), 2) for v in box],
                              area=round(float(box[2] * box[3] * rng.uniform(0.4, 1)), 2)))
            if kind == "keypoints":
                truth[-1].update(keypoints=[round(float(v), 1) for v in points.flatten()],
                                 num_keypoints=int((points[:, 2] > 0).sum()))
            for _ in range(rng.integers(0, 4)):  # near hits, of the right or of another category
                near = box + rng.normal(0, 0.12, 4) * np.concatenate([size, size]) * rng.uniform(0, 1)
                near[2:] = np.maximum(near[2:], 1)
                jitter = points.copy()
                jitter[:, :2] += rng.normal(0, 0.04, (keypoints, 2)) * size * rng.uniform(0, 2)
                jitter[:, 2] = 1
                found.append(detection(kind, image, category if rng.uniform() < 0.85 else 1, near, jitter, rng))
        for _ in range(rng.integers(0, 30)):  # strays
            box = np.concatenate([rng.uniform(0, 300, 2), np.exp(rng.uniform(np.log(8), np.log(300), 2))])
            points = np.concatenate([box[:2] + rng.uniform(0, 1, (keypoints, 2)) * box[2:], np.ones((keypoints, 1))], 1)
            found.append(detection(kind, image, int(rng.integers(1, categories + 1)), box, points, rng))
    categories_json = [dict(id=c, name=f"c{c}") for c in range(1, categories + 1)]
    annotations = dict(info={}, images=[dict(id=i, file_name=f"{i}.png", width=640, height=640) for i in range(1, images + 1)],
                       categories=categories_json, annotations=truth)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = json.loads(json.dumps(annotations))
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(json.loads(json.dumps(found))), kind)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    sigmas = evaluation.params.kpt_oks_sigmas.tolist() if kind == "keypoints" else []
    (FOLDER / f"coco_{name}.json").write_text(json.dumps(
        dict(annotations=annotations, detections=found, sigmas=sigmas, stats=evaluation.stats.tolist()),
        separators=(",", ":")) + "\n")
    print(name, len(truth), len(found), evaluation.stats.round(4).tolist())


def detection(kind, image, category, box, points, rng):
    result = dict(image_id=image, category_id=category, score=round(float(rng.uniform()), 2))  # some scores are equal
    if kind == "keypoints":
        result["keypoints"] = [round(float(v), 1) for v in points.flatten()]
    else:
        result["bbox"] = [round(float(v), 2) for v in box]
    return result


def images():
    """Small files of every kind that data sets hold, and their pixels as Pillow reads them."""
    rng = np.random.default_rng(31)
    y, x = np.mgrid[0:30, 0:42]
    color = np.stack([x * 6, y * 8, 255 - x * 3 - y * 3], 2) + rng.integers(-4, 5, (30, 42, 1))
    color = Image.fromarray(np.clip(color, 0, 255).astype(np.uint8))
    expected = {}

    def keep(name, image, **options):
        image.save(FOLDER / name, **options)
        opened = Image.open(FOLDER / name)
        if opened.mode == "CMYK":  # the product of what ink and black leave over, as 255 - value
            inks = 255 - np.asarray(opened).astype(float)
            expected[name] = np.round(inks[..., :3] * inks[..., 3:] / 255).astype(np.uint8)
        elif opened.mode == "RGBA":
            expected[name] = np.asarray(Image.alpha_composite(Image.new("RGBA", opened.size, (0, 0, 0, 255)), opened)
                                        .convert("RGB"))
        else:
            expected[name] = np.asarray(opened.convert("RGB"))

    keep("color.jpg", color, quality=90)
    keep("full_chroma.jpg", color, quality=95, subsampling=0)
    keep("progressive.jpg", color, quality=85, progressive=True)
    keep("grey.jpg", color.convert("L"), quality=90)
    keep("inks.jpg", color.convert("CMYK"), quality=95)
    keep("color.png", color)
    keep("grey.png", color.convert("L"))
    keep("palette.png", color.quantize(16))
    transparent = color.convert("RGBA")
    transparent.putalpha(Image.fromarray(((x > 20) * 255).astype(np.uint8)))
    keep("transparent.png", transparent)
    for width, height in ((64, 64), (32, 48), (42, 30), (21, 21)):
        expected[f"letterbox_{width}x{height}"] = LetterBox((height, width))(image=np.asarray(color).copy())
    np.savez_compressed(FOLDER / "images.npz", **expected)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(0)
    losses("boxes", 1, images=3)
    losses("one_class", 2, classes=1, objects=25)
    losses("few_bins", 3, classes=3, bins=4, objects=8, width=64, height=96)
    losses("no_objects", 4, objects=0, width=32, height=32)
    losses("person", 5, classes=1, objects=7, keypoints=(17, 3), width=96)
    losses("five_points", 6, classes=2, objects=9, keypoints=(5, 3), width=96)
    losses("without_visibility", 7, classes=2, objects=6, keypoints=(4, 2), width=64)
    suppression("classes", 11, classes=4)
    suppression("pose", 12, classes=1, keypoints=3)
    coco("boxes", 21, "bbox")
    coco("many_images", 22, "bbox", images=40, categories=2)
    coco("nothing_right", 23, "bbox", images=2, categories=6)
    coco("person", 24, "keypoints", categories=1)
    coco("five_points", 25, "keypoints", categories=2, keypoints=5, sigmas=[0.1, 0.05, 0.2, 0.1, 0.08])
    images()
