"""The plain evaluation against the released implementation, and the fast one against the plain one."""

import numpy as np
import pytest
import reference
import torch

from furnace.datasets.normalize import Normalize
from furnace.engine.inference import Inference
from furnace.seg_opr import metric
from plain.evaluation import PlainEvaluation, confusion_matrix

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CASES = [(e, i) for e in reference.EXPERIMENTS for i in range(len(reference.figures(e)['sliding']))]


@pytest.mark.parametrize('experiment, number', CASES)
def test_predictions_equal_the_reference_and_logits_the_fast_ones(experiment, number):
    case, num_classes = reference.figures(experiment)['sliding'][number], reference.EXPERIMENTS[experiment]
    network = reference.toy_network(num_classes)
    image = reference.ints(f'img{number}', (*case['hw'], 3), 0, 256).numpy().astype(np.uint8)
    options = case['crop'], 2 / 3, case['scales'], case['flip']
    plain = PlainEvaluation(network, num_classes, MEAN, STD, *options)
    assert np.array_equal(plain(image), reference.arrays(experiment)[f'sliding_pred_{number}'])
    fast = Inference(network, Normalize(MEAN, STD), *options)(image).permute(1, 2, 0).numpy()
    logits = plain.logits(image)
    # Both resize in float32, where a place near column 100 is known to 1e-5 pixels, and neighbours differ by the range.
    assert np.abs(fast - logits).max() <= 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize('experiment, num_classes', reference.EXPERIMENTS.items())
def test_counts_equal_the_reference_and_the_fast_ones(experiment, num_classes):
    want, size = reference.figures(experiment)['metric'], (40, 50)
    prediction, label = reference.ints('pr', size, 0, num_classes), reference.ints('gg', size, 0, num_classes)
    label[reference.ints('gv', size, 0, 12) == 0] = 255
    easy = reference.ints('ok', size, 0, 2) == 0
    prediction[easy] = torch.where(label == 255, 0, label)[easy]
    label[label == 3] = 255
    confusion = confusion_matrix(prediction.numpy(), label.numpy(), num_classes)
    assert (confusion.sum(), confusion.trace()) == (want['labeled'], want['correct'])
    assert np.array_equal(confusion, metric.confusion_matrix(prediction, label, num_classes))
