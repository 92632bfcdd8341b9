import pytest
import reference
import torch
import torch.nn.functional as F

from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, CrossEntropy, OhemCrossEntropy, pixel_losses


def inputs(experiment):
    shape = reference.figures(experiment)['cpcl']['shape']
    batch, num_classes, *size = shape
    target = reference.ints('gt', (batch, *size), 0, num_classes)
    target[reference.ints('void', (batch, *size), 0, 10) == 0] = 255
    return reference.rnd('z', shape, 2).requires_grad_(), target


def check(criterion, experiment, figures):
    logits, target = inputs(experiment)
    loss = criterion(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(figures['loss'], rel=1e-6)
    assert logits.grad.abs().sum().item() == pytest.approx(figures['grad_abs_sum'], rel=1e-6)


@pytest.mark.parametrize('experiment', reference.EXPERIMENTS)
def test_cross_entropy_equals_the_reference(experiment):
    check(CrossEntropy(), experiment, reference.figures(experiment)['ce'])


@pytest.mark.parametrize('figures', reference.figures('city')['ohem'], ids=str)
def test_ohem_equals_the_reference(figures):
    weights = CITYSCAPES_WEIGHTS if figures['class_weight'] else None
    check(OhemCrossEntropy(255, figures['thresh'], figures['min_kept'], weights), 'city', figures)


def hard_and_easy():
    """Ten pixels of two classes, the probability of the true class (0) rising from 0.05 to 0.95; the last is void."""
    probability = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    logits = torch.stack([probability, 1 - probability]).log()[None, :, None]
    target = torch.zeros(1, 1, 10, dtype=torch.int64)
    target[..., 9] = 255
    return logits, target


@pytest.mark.parametrize(
    'thresh, min_kept, kept',
    [
        (0.3, 1, 3),  # 0.05, 0.15, 0.25 are at most 0.3
        (0.3, 5, 5),  # at least five are kept
        (0.3, 9, 9),  # every valid pixel
        (0.3, 10, 9),  # more than there are: all valid ones
        (0.3, 0, 3),
    ],
)
def test_ohem_keeps_the_hard_pixels(thresh, min_kept, kept):
    logits, target = hard_and_easy()
    selected = OhemCrossEntropy(255, thresh, min_kept).select(logits, target)[0, 0]
    assert (selected == 0).tolist() == [i < kept for i in range(10)]
    loss = OhemCrossEntropy(255, thresh, min_kept)(logits, target)
    assert loss.item() == pytest.approx(F.cross_entropy(logits[..., :kept], target[..., :kept]).item(), rel=1e-12)


def test_each_of_three_processes_keeps_its_share_of_the_hard_pixels():
    criterion = OhemCrossEntropy(255, 0.3, 15)
    criterion.share(3)
    assert (criterion.select(*hard_and_easy()) == 0).sum() == 5


@pytest.mark.parametrize('criterion', [CrossEntropy(), OhemCrossEntropy(min_kept=5), CrossEntropy(255, [1.0, 2.0])])
def test_a_batch_of_void_has_no_loss_and_no_gradient(criterion):
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = criterion(logits, torch.full((1, 3, 3), 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_class_weights_make_a_weighted_mean():
    logits, target = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randint(0, 3, (2, 4, 4))
    weights = [0.5, 1.0, 4.0]
    want = F.cross_entropy(logits, target, torch.tensor(weights, dtype=torch.float64))
    assert CrossEntropy(255, weights)(logits, target).item() == pytest.approx(want.item(), rel=1e-12)


def test_deterministic_kernels_give_the_same_losses():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 5, 6, 7, dtype=torch.float64), torch.randint(0, 5, (2, 6, 7))
    target[0, :2] = 255
    weights = torch.rand(5, dtype=torch.float64)
    want = pixel_losses(logits, target, 255, weights)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.allclose(pixel_losses(logits, target, 255, weights), want, rtol=1e-12)
    finally:
        torch.use_deterministic_algorithms(False)
