"""The plain step against the released implementation, and the fast step against the plain one."""

import numpy as np
import pytest
import reference
import torch
from torch import nn

from furnace.base_model import DualNetwork
from furnace.engine.lr import param_groups, poly_lr
from furnace.engine.step import Step
from furnace.seg_opr.cutmix import draw_boxes, paint_masks
from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, CrossEntropy, OhemCrossEntropy
from plain.step import Ohem, PlainStep, cross_entropy, disagreement, plain_sgd, pseudo_labels, pseudo_losses

# The reference's figures of single losses are float32: what its sums leave of 24 bits.
FLOAT32 = 1e-6


@pytest.fixture(params=reference.EXPERIMENTS)
def case(request):
    """Figures and arrays of the reference's cpcl section, and the teachers' mixed logits."""
    figures, arrays = reference.figures(request.param)['cpcl'], reference.arrays(request.param)
    u0, u1 = ([reference.rnd(f'{u}_{k}', figures['shape'], 2) for k in (1, 2)] for u in ('u0', 'u1'))
    for logits in (u0, u1):
        logits[1] = 0.8 * logits[0] + 0.6 * logits[1]
    mask = torch.from_numpy(arrays['masks']).bool()
    return figures, arrays, [torch.where(mask, b, a) for a, b in zip(u0, u1, strict=True)]


def test_labels_and_disagreement_equal_the_reference(case):
    figures, arrays, teachers = case
    num_classes = figures['shape'][1]
    inter, _, union, _, overlap = pseudo_labels(*teachers, num_classes)
    assert np.array_equal(inter, arrays['cpcl_label_inter'])
    assert np.array_equal(union, arrays['cpcl_label_union'])
    w, _ = disagreement(*(t.argmax(dim=1).numpy() for t in teachers), num_classes)
    assert w == pytest.approx(arrays['cpcl_disagreement'], rel=1e-12)
    assert overlap == pytest.approx(figures['overlap'], rel=1e-12)


def test_pseudo_losses_and_gradients_equal_the_reference(case):
    figures, _, teachers = case
    students = [reference.rnd(f'stu_{k}', figures['shape'], 2).requires_grad_() for k in (1, 2)]
    inter, union, _ = pseudo_losses(*students, *teachers, figures['shape'][1])
    (inter + union).backward()
    assert inter.item() == pytest.approx(figures['loss_inter'], rel=FLOAT32)
    assert union.item() == pytest.approx(figures['loss_union'], rel=FLOAT32)
    for k, logits in enumerate(students, 1):
        assert logits.grad.abs().sum().item() == pytest.approx(figures[f'grad{k}_abs_sum'], rel=FLOAT32)


SUPERVISED = [('city', 'ce', None), ('voc', 'ce', None)]
SUPERVISED += [('city', 'ohem', number) for number in range(len(reference.figures('city')['ohem']))]


@pytest.mark.parametrize('experiment, section, number', SUPERVISED)
def test_supervised_losses_and_gradients_equal_the_reference(experiment, section, number):
    want = reference.figures(experiment)[section]
    criterion = cross_entropy
    if number is not None:
        want = want[number]
        criterion = Ohem(want['thresh'], want['min_kept'], CITYSCAPES_WEIGHTS if want['class_weight'] else None)
    batch, num_classes, *size = shape = reference.figures(experiment)['cpcl']['shape']
    target = reference.ints('gt', (batch, *size), 0, num_classes)
    target[reference.ints('void', (batch, *size), 0, 10) == 0] = 255
    logits = reference.rnd('z', shape, 2).requires_grad_()
    loss = criterion(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(want['loss'], rel=FLOAT32)
    assert logits.grad.abs().sum().item() == pytest.approx(want['grad_abs_sum'], rel=FLOAT32)


@pytest.mark.parametrize('thresh, min_kept', [(0.7, 50), (0.01, 50), (0.01, 500), (0.01, 10**6), (0.1, 0)])
def test_fast_ohem_equals_the_plain_one(thresh, min_kept):
    """With a cut-off by probability and by number, with too few valid pixels, and with no least number."""
    torch.manual_seed(0)
    logits = torch.randn(2, 19, 20, 30, dtype=torch.float64)
    target = torch.randint(0, 19, (2, 20, 30))
    target[:, :3] = 255
    want = Ohem(thresh, min_kept, CITYSCAPES_WEIGHTS)(logits, target)
    assert OhemCrossEntropy(255, thresh, min_kept, CITYSCAPES_WEIGHTS)(logits, target).item() == pytest.approx(
        want.item(), rel=1e-12
    )


def batch_of_step(i, size, num_classes, batch, device):
    """Inputs of the reference's step ``i``, float64: x, y, u0, u1, mask."""
    x, u0, u1 = (reference.rnd(f'{name}{i}', (batch, 3, *size)).double() for name in ('im', 'a', 'b'))
    y = reference.ints(f'g{i}', (batch, *size), 0, num_classes)
    y[reference.ints(f'v{i}', (batch, *size), 0, 8) == 0] = 255
    mask = paint_masks(draw_boxes(batch, size, np.random.RandomState(reference.S0 + 100 + i)), size)
    return [tensor.to(device) for tensor in (x, y, u0, u1, mask)]


def hold_three_steps(experiment, device, rel):
    """Three whole steps against the reference's."""
    recipe, num_classes = reference.figures(experiment)['train'], reference.EXPERIMENTS[experiment]
    network = DualNetwork(num_classes)
    network.load_state_dict(reference.weights(network))
    network.double().train().to(device)
    criterion = Ohem(0.7, recipe['min_kept'], CITYSCAPES_WEIGHTS) if recipe['min_kept'] else cross_entropy
    optimizers = [plain_sgd(param_groups(branch, recipe['base_lr'], 1e-4)) for branch in network.branches]
    step = PlainStep(network, num_classes, criterion, recipe['unsup_weight'], optimizers)
    for i, want in enumerate(recipe['steps']):
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group['lr'] = poly_lr(recipe['base_lr'], 0.9, i, recipe['nit'])
        scalars = step(*batch_of_step(i, recipe['hw'], num_classes, recipe['batch'], device))
        for name in ('sup_1', 'sup_2', 'inter', 'union'):
            assert scalars[name] == pytest.approx(want[f'loss_{name}'], rel=rel), name
        assert scalars['loss'] == pytest.approx(want['loss'], rel=rel)
        assert scalars['overlap'] == pytest.approx(want['overlap'], rel=rel)
        norms = [torch.stack([p.grad.norm() for p in b.parameters()]).norm().item() for b in network.branches]
        assert norms == pytest.approx(want['grad_norm'], rel=rel)
    state = network.state_dict()
    for name, value in recipe['after'].items():
        assert state[name].abs().sum().item() == pytest.approx(value, rel=rel), name


# A GPU takes seconds for them, two CPU cores a minute each: there the fast step is held to the same figures (see
# tests/engine/test_step.py) and the plain one to the fast one, below. In float64 a GPU's other order of sums is far
# below 1e-7; 1e-9 holds on the CPU.
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('experiment', reference.EXPERIMENTS)
def test_three_steps_equal_the_reference(experiment):
    hold_three_steps(experiment, torch.device('cuda'), 1e-7)


class Toy(nn.Module):
    """Two small networks with BatchNorm, so that the order of the forward passes shows in its statistics."""

    def __init__(self, num_classes):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, num_classes, 1))
            for _ in (1, 2)
        )

    def forward(self, x, step=1):
        return self.branches[step - 1](x)


@pytest.mark.parametrize('experiment', reference.EXPERIMENTS)
def test_three_fast_steps_equal_three_plain_ones(experiment):
    """In float64: the order in which gradients are summed is all that differs."""
    recipe, num_classes, size = reference.figures(experiment)['train'], reference.EXPERIMENTS[experiment], (33, 33)
    torch.manual_seed(0)
    networks = [Toy(num_classes).double() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [
        [plain_sgd([{'params': branch.parameters(), 'lr': 0.1}]) for branch in network.branches] for network in networks
    ]
    plain_criterion, criterion = cross_entropy, CrossEntropy()
    if recipe['min_kept']:
        plain_criterion = Ohem(0.7, 300, CITYSCAPES_WEIGHTS)
        criterion = OhemCrossEntropy(255, 0.7, 300, CITYSCAPES_WEIGHTS)
    plain = PlainStep(networks[0], num_classes, plain_criterion, recipe['unsup_weight'], optimizers[0])
    fast = Step(networks[1], num_classes, criterion, 'cpcl', recipe['unsup_weight'])
    for i in range(3):
        inputs = batch_of_step(i, size, num_classes, 2, 'cpu')
        want = plain(*inputs)
        for optimizer in optimizers[1]:
            optimizer.zero_grad()
        losses = fast(*inputs)
        for optimizer in optimizers[1]:
            optimizer.step()
        for name in ('loss', 'sup_1', 'sup_2', 'inter', 'union', 'overlap'):
            assert losses[name].item() == pytest.approx(want[name], rel=1e-9), name
    for (name, one), two in zip(networks[0].state_dict().items(), networks[1].state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12, msg=name)
