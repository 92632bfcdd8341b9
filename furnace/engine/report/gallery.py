"""The images of a report that were segmented worst, as pictures in layers that the page lays over each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from furnace.datasets.eval_set import EvalSet, samples
from furnace.datasets.images import VOID
from furnace.datasets.lists import Item
from furnace.engine.evaluator import Evaluator
from furnace.engine.inference import label_map
from furnace.seg_opr.metric import confusion_matrix, labelled_iou

FOLDER = 'images'
LONGEST = 1280  # side of a picture at most, pixels
LEVELS = 10  # of confidence
HATCH = 4  # width of a stripe, pixels
MAP = 320  # side, at most, of a map on which places for names are looked for, pixels
LABELS = 10  # names written on a map at most
LEAST = 0.03  # of the shorter side: how far from its border a region must reach to be named


class Region(NamedTuple):
    """Where on a label map a class is named, in percent of width and height."""

    name: str
    x: float
    y: float


class Picture(NamedTuple):
    """One image of the gallery; its files are ``images/STEM.jpg`` and ``images/STEM-LAYER.png``."""

    name: str
    stem: str
    width: int
    height: int
    iou: float
    accuracy: float
    confidence: float
    mistake: tuple[str, str, float] | None
    """The most frequent one: labelled as, predicted as, share of the labelled pixels; None where there is none."""
    prediction: list[Region]
    truth: list[Region]


def worst(image_iou: Tensor, number: int) -> list[int]:
    """The ``number`` images of the least IoU, least first; those without a labelled pixel (nan) are left out."""
    order = torch.argsort(image_iou, stable=True).tolist()
    return [index for index in order if not image_iou[index].isnan()][:number]


def make_gallery(folder: Path, evaluator: Evaluator, branch: int, items: Sequence[Item]) -> list[Picture]:
    """Segment the items anew, so that scoring need not keep them, and save their pictures below ``folder``.

    Raises:
        OSError: a picture cannot be written.
    """
    (folder / FOLDER).mkdir(parents=True)
    infer, device = evaluator.inference(branch), evaluator.device
    data = EvalSet(items, evaluator.config.num_classes)
    gallery = []
    for sample in tqdm(samples(data, evaluator.config.num_workers), 'report', len(items), unit='image', leave=False):
        image, truth = sample.image.numpy(), sample.label.numpy()
        logits = infer(image)
        label = label_map(logits)
        confidence = logits.softmax(dim=0).amax(dim=0)
        confusion = confusion_matrix(label, sample.label.to(device), len(evaluator.classes)).cpu()
        stem, label = f'{len(gallery) + 1:04d}', label.cpu().numpy()
        palette = evaluator.classes.palette()
        save_layers(folder / FOLDER / stem, image, label, truth, confidence.cpu().numpy(), palette)
        height, width = truth.shape
        names = evaluator.classes.names
        gallery.append(
            Picture(
                name=sample.name,
                stem=stem,
                width=width,
                height=height,
                iou=labelled_iou(confusion).item(),
                accuracy=(confusion.trace() / confusion.sum()).item(),
                confidence=confidence.mean().item(),
                mistake=_mistake(confusion, names),
                prediction=regions(label, names),
                truth=regions(truth, names),
            )
        )
    return gallery


def save_layers(
    path: Path, image: np.ndarray, label: np.ndarray, truth: np.ndarray, confidence: np.ndarray, palette: np.ndarray
) -> None:
    """``PATH.jpg`` and ``PATH-prediction.png``, ``-truth``, ``-errors`` and ``-confidence``, no side above ``LONGEST``.

    Args:
        image: uint8 (H, W, 3) RGB.
        label, truth: uint8 (H, W); void is 255 in ``truth``.
        confidence: float (H, W), in 0 … 1.
        palette: uint8 (256, 3), see ``Classes.palette``.
    """
    size = _within(truth.shape, LONGEST)
    Image.fromarray(image).resize(size, Image.Resampling.BOX).save(f'{path}.jpg', quality=88)
    label, truth = (cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST) for ids in (label, truth))
    for layer, ids in (('prediction', label), ('truth', truth)):
        Image.fromarray(_outlined(ids, palette)).save(f'{path}-{layer}.png')
    _errors(label, truth).save(f'{path}-errors.png')
    levels = np.minimum(cv2.resize(confidence, size, interpolation=cv2.INTER_AREA) * LEVELS, LEVELS - 1)
    Image.fromarray(_grey(levels.astype(np.uint8))).save(f'{path}-confidence.png')


def _within(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of an image (H, W) with no side above ``longest``."""
    scale = min(1, longest / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _grey(levels: np.ndarray) -> np.ndarray:
    return (30 + levels * (220 // (LEVELS - 1))).astype(np.uint8)


def _outlined(ids: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The map in its colours, with black lines between regions: neighbours of like colours stay apart."""
    colored = palette[ids]
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    colored[edge] = 0
    return colored


def _errors(label: np.ndarray, truth: np.ndarray) -> Image.Image:
    """Wrong pixels hatched in dark and light, which shows on any image and to any eye; void veiled; the rest clear."""
    y, x = np.indices(truth.shape)
    marks = np.where(label != truth, 1 + (x + y) // HATCH % 2, 0)
    marks[truth == VOID] = 3
    picture = Image.fromarray(marks.astype(np.uint8))
    picture.putpalette([0, 0, 0, 190, 0, 90, 255, 255, 255, 128, 128, 128])
    picture.info['transparency'] = bytes([0, 255, 255, 200])
    return picture


def regions(ids: np.ndarray, names: Sequence[str]) -> list[Region]:
    """Where to write class names on a map uint8 (H, W): deep inside its widest regions, at most one a class."""
    ids = cv2.resize(ids, _within(ids.shape, MAP), interpolation=cv2.INTER_NEAREST)
    height, width = ids.shape
    found = []
    for number in np.unique(ids):
        # A border of other ids: the edge of the map is one of the region too.
        inside = np.pad((ids == number).astype(np.uint8), 1)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        if depth[y, x] >= LEAST * min(height, width):
            name = 'void' if number == VOID else names[number]
            found.append((depth[y, x], Region(name, 100 * (x - 0.5) / width, 100 * (y - 0.5) / height)))
    return [region for _, region in sorted(found, key=lambda entry: -entry[0])[:LABELS]]


def _mistake(confusion: Tensor, names: Sequence[str]) -> tuple[str, str, float] | None:
    wrong = confusion - confusion.diag().diag()
    truth, guess = divmod(wrong.argmax().item(), len(names))
    if not wrong[truth, guess]:
        return None
    return names[truth], names[guess], (wrong[truth, guess] / confusion.sum()).item()
