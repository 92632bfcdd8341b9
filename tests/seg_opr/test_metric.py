import math

import pytest
import reference
import torch

from furnace.seg_opr.metric import confusion_matrix, labelled_iou, scores


@pytest.mark.parametrize('experiment, num_classes', reference.EXPERIMENTS.items())
def test_scores_equal_the_reference(experiment, num_classes):
    want = reference.figures(experiment)['metric']
    size = (40, 50)
    prediction = reference.ints('pr', size, 0, num_classes)
    label = reference.ints('gg', size, 0, num_classes)
    label[reference.ints('gv', size, 0, 12) == 0] = 255
    easy = reference.ints('ok', size, 0, 2) == 0
    prediction[easy] = torch.where(label == 255, 0, label)[easy]
    label[label == 3] = 255

    confusion = confusion_matrix(prediction, label, num_classes)
    assert confusion.sum().item() == want['labeled']
    assert confusion.trace().item() == want['correct']
    result = scores(confusion)
    assert result.iou == pytest.approx(want['iu'], rel=1e-12)
    assert result.mean_iou == pytest.approx(want['mean_IU'], rel=1e-12)
    assert result.mean_iou_no_background == pytest.approx(want['mean_IU_no_back'], rel=1e-12)
    assert result.pixel_accuracy == pytest.approx(want['mean_pixel_acc'], rel=1e-12)


def test_rows_are_true_classes():
    prediction, label = torch.tensor([[0, 1, 1, 2]]), torch.tensor([[0, 0, 1, 255]])
    assert confusion_matrix(prediction, label, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize('void', [-100, -2, -1, 3, 4, 255])
def test_ids_that_are_no_class_do_not_count(void):
    prediction, label = torch.tensor([[0, 1, 2, 2, 0]]), torch.tensor([[0, void, void, 2, void]])
    assert confusion_matrix(prediction, label, 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_uint8_maps_do_not_overflow():
    label = torch.full((4, 4), 20, dtype=torch.uint8)
    assert confusion_matrix(label, label, 21)[20, 20] == 16


def test_an_absent_class_is_left_out_of_the_means():
    result = scores(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert math.isnan(result.iou[2])
    assert result.mean_iou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert result.mean_iou_no_background == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    'confusion, want',
    [
        ([[3, 1, 0], [0, 4, 0], [0, 0, 0]], (3 / 4 + 4 / 5) / 2),
        ([[2, 0, 2], [0, 4, 0], [0, 0, 0]], (2 / 4 + 4 / 4) / 2),  # class 2 is predicted alone
        ([[0, 5], [0, 0]], 0),
        ([[0, 0], [0, 0]], math.nan),
    ],
)
def test_iou_of_an_image_over_its_labelled_classes(confusion, want):
    assert labelled_iou(torch.tensor(confusion)).item() == pytest.approx(want, nan_ok=True)
