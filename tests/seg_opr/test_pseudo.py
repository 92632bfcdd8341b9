import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F

from furnace.seg_opr.cutmix import mix
from furnace.seg_opr.pseudo import (
    IGNORE,
    TARGETS,
    co_occurrence,
    cpcl_targets,
    cps_targets,
    disagreement,
    predict,
    pseudo_loss,
)


@pytest.fixture(params=reference.EXPERIMENTS)
def case(request):
    """Teachers' labels and confidences of the reference's cpcl section, its figures and arrays."""
    figures, arrays = reference.figures(request.param)['cpcl'], reference.arrays(request.param)
    shape = figures['shape']
    logits = {name: reference.rnd(name, shape, 2) for name in ('u0_1', 'u1_1', 'u0_2', 'u1_2')}
    for stream in ('u0', 'u1'):
        logits[f'{stream}_2'] = 0.8 * logits[f'{stream}_1'] + 0.6 * logits[f'{stream}_2']
    mask = torch.from_numpy(arrays['masks'])[:, 0].bool()
    p, c = [], []
    for k in (1, 2):
        (p0, c0), (p1, c1) = predict(logits[f'u0_{k}']), predict(logits[f'u1_{k}'])
        p.append(mix(p0, p1, mask))
        c.append(mix(c0, c1, mask))
    return figures, arrays, p, c


def test_confidences_equal_the_reference(case):
    _, arrays, _, c = case
    for k in (1, 2):
        assert c[k - 1].numpy() == pytest.approx(arrays[f'cpcl_conf_{k}'], rel=1e-6)


def test_disagreement_equals_the_reference(case):
    figures, arrays, p, _ = case
    w, overlap = disagreement(co_occurrence(*p, figures['shape'][1]))
    assert w.dtype == torch.float64
    assert w.numpy() == pytest.approx(arrays['cpcl_disagreement'], rel=1e-12)
    assert overlap.item() == pytest.approx(figures['overlap'], rel=1e-12)
    assert (p[0] == p[1]).double().mean().item() == pytest.approx(figures['agree'], rel=1e-6)


def test_labels_losses_and_gradients_equal_the_reference(case):
    figures, arrays, p, c = case
    w, _ = disagreement(co_occurrence(*p, figures['shape'][1]))
    for k, target in enumerate(cpcl_targets(*p, *c, w), 1):
        assert np.array_equal(target.label.numpy(), arrays[f'cpcl_label_{target.name}'])
        logits = reference.rnd(f'stu_{k}', figures['shape'], 2).requires_grad_()
        loss = pseudo_loss(logits, target)
        loss.backward()
        assert loss.item() == pytest.approx(figures[f'loss_{target.name}'], rel=1e-6)
        assert logits.grad.abs().sum().item() == pytest.approx(figures[f'grad{k}_abs_sum'], rel=1e-6)


def test_disagreement_by_hand():
    # Branch 1 says 0 0 1 1, branch 2 says 0 1 1 1; one pseudo-count a class on the diagonal.
    N = co_occurrence(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 2)
    assert N.tolist() == [[1, 1], [0, 2]]
    w, overlap = disagreement(N)
    d = np.array([0 / 2 + 1 / 3, 1 / 4 + 0 / 3])
    assert w.numpy() == pytest.approx(d / (d.sum() + 1e-6), rel=1e-12)
    assert overlap.item() == pytest.approx(5 / 6)


def test_disagreement_of_equal_branches_is_zero():
    p = torch.randint(0, 4, (2, 5, 5))
    w, overlap = disagreement(co_occurrence(p, p, 4))
    assert not w.any()
    assert overlap == 1


def tiny():
    """Agreement on 2, then differences 0|1, 1|0 and a tie 0|2."""
    p1, p2 = torch.tensor([[[2, 0, 1, 0]]]), torch.tensor([[[2, 1, 0, 2]]])
    c1, c2 = torch.tensor([[[0.9, 0.8, 0.7, 0.6]]]), torch.tensor([[[0.5, 0.4, 0.3, 0.2]]])
    return p1, p2, c1, c2, torch.tensor([0.5, 0.2, 0.5], dtype=torch.float64)


def test_union_takes_the_class_of_greater_disagreement_and_p2_on_a_tie():
    inter, union = cpcl_targets(*tiny())
    assert inter.label.tolist() == [[[2, IGNORE, IGNORE, IGNORE]]]
    assert union.label.tolist() == [[[2, 0, 0, 2]]]
    assert union.weight[0, 0].tolist() == pytest.approx([0.7, 0.8, 0.3, 0.2])
    assert inter.weight[0, 0, 0].item() == pytest.approx(0.7)


def test_void_counts_in_the_mean_over_all_pixels():
    inter, _ = cpcl_targets(*tiny())
    logits = torch.randn(1, 3, 1, 4)
    first = F.cross_entropy(logits[..., 0], torch.tensor([[2]])) * 0.7
    assert pseudo_loss(logits, inter).item() == pytest.approx(first.item() / 4, rel=1e-6)


def test_without_reweighting_every_pixel_weighs_one():
    _, union = cpcl_targets(*tiny(), reweight=False)
    assert union.weight is None
    logits = torch.randn(1, 3, 1, 4)
    assert pseudo_loss(logits, union).item() == pytest.approx(F.cross_entropy(logits, union.label).item(), rel=1e-6)


def test_cps_trains_each_branch_on_the_other():
    p1, p2, *_ = tiny()
    one, two = cps_targets(p1, p2)
    assert torch.equal(one.label, p2)
    assert torch.equal(two.label, p1)
    assert one.weight is None and two.weight is None


@pytest.mark.parametrize('method', ['intersection', 'union'])
def test_ablations_give_both_branches_the_same_labels(method):
    one, two = TARGETS[method](*tiny())
    assert torch.equal(one.label, two.label)
    assert torch.equal(one.label, cpcl_targets(*tiny())[method == 'union'].label)
    assert one.name != two.name


def test_no_gradient_reaches_the_teachers():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    with torch.no_grad():
        p, c = predict(logits)
    _, union = cpcl_targets(p, p, c, c, torch.zeros(3, dtype=torch.float64))
    pseudo_loss(torch.randn(1, 3, 2, 2, requires_grad=True), union).backward()
    assert logits.grad is None


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_dtypes(dtype):
    p, c = predict(torch.randn(2, 4, 3, 3, dtype=dtype))
    assert p.dtype == torch.int64
    assert c.dtype == dtype
    assert 0.25 <= c.min() <= c.max() <= 1
