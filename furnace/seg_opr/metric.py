"""Scores of label maps: confusion matrix, intersection over union, pixel accuracy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from furnace.seg_opr.counting import count


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Pixels by true class (row) and predicted class (column), int64 (C, C), on the tensors' device.

    Pixels whose label is not in 0 … C-1 (void) do not count. Integer tensors of one shape; predictions in 0 … C-1.
    """
    # Void pixels get a row before the first or after the last, cut off afterwards: a masked selection would wait for
    # the device, and masks cost a CPU as much as the counting.
    row = label.flatten().int().clamp(-1, num_classes)
    index = row.add_(1).mul_(num_classes).add_(prediction.flatten())
    return count(index, (num_classes + 2) * num_classes).view(-1, num_classes)[1:-1]


@dataclass(frozen=True)
class Scores:
    """All in 0 … 1; nan for a class that is neither labelled nor predicted."""

    iou: list[float]
    mean_iou: float
    mean_iou_no_background: float
    pixel_accuracy: float


def scores(confusion: Tensor) -> Scores:
    """Scores of a (C, C) confusion matrix; means leave out classes that are nan, one of them class 0 too."""
    confusion = confusion.double().cpu()
    hit = confusion.diagonal()
    iou = hit / (confusion.sum(dim=0) + confusion.sum(dim=1) - hit)
    return Scores(
        iou=iou.tolist(),
        mean_iou=iou.nanmean().item(),
        mean_iou_no_background=iou[1:].nanmean().item(),
        pixel_accuracy=(hit.sum() / confusion.sum()).item(),
    )


def labelled_iou(confusion: Tensor) -> Tensor:
    """Mean IoU of one image over the classes labelled in it, float64 () on its device; nan where there is none.

    A class that is predicted alone does not enter the mean: its pixels already cost the classes they were taken from.
    """
    confusion = confusion.double()
    labelled, hit = confusion.sum(dim=1), confusion.diagonal()
    iou = hit / (labelled + confusion.sum(dim=0) - hit)
    return torch.where(labelled > 0, iou, torch.nan).nanmean()
