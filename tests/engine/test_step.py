"""Training steps of both recipes against the released implementation, in float64."""

import numpy as np
import pytest
import reference
import torch
from torch import nn

from furnace.base_model import DualNetwork
from furnace.engine.lr import param_groups, poly_lr
from furnace.engine.step import Step
from furnace.seg_opr.cutmix import draw_boxes, mix, paint_masks
from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, CrossEntropy, OhemCrossEntropy
from furnace.seg_opr.pseudo import co_occurrence, cpcl_targets, disagreement, predict, pseudo_loss


@pytest.mark.parametrize('experiment, num_classes', reference.EXPERIMENTS.items())
def test_three_steps_equal_the_reference(experiment, num_classes):
    recipe = reference.figures(experiment)['train']
    size, batch = recipe['hw'], recipe['batch']
    network = DualNetwork(num_classes)
    network.load_state_dict(reference.weights(network))
    network.double().train()
    criterion = CrossEntropy()
    if recipe['min_kept']:
        criterion = OhemCrossEntropy(255, 0.7, recipe['min_kept'], CITYSCAPES_WEIGHTS)
    step = Step(network, num_classes, criterion, 'cpcl', recipe['unsup_weight'])
    optimizers = [torch.optim.SGD(param_groups(b, recipe['base_lr'], 1e-4), momentum=0.9) for b in network.branches]

    for i, want in enumerate(recipe['steps']):
        rate = poly_lr(recipe['base_lr'], 0.9, i, recipe['nit'])
        assert rate == pytest.approx(want['lr'], rel=1e-12)
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group['lr'] = rate
        x, u0, u1 = (reference.rnd(f'{name}{i}', (batch, 3, *size)).double() for name in ('im', 'a', 'b'))
        y = reference.ints(f'g{i}', (batch, *size), 0, num_classes)
        y[reference.ints(f'v{i}', (batch, *size), 0, 8) == 0] = 255
        boxes = draw_boxes(batch, size, np.random.RandomState(reference.S0 + 100 + i))
        losses = step(x, y, u0, u1, paint_masks(boxes, size))
        # Processors round differently, in the last of 16 digits; so small a batch makes a thousand times that of it in
        # each step.
        near = 1e-12 * 1000**i
        for name in ('sup_1', 'sup_2', 'inter', 'union'):
            assert losses[name].item() == pytest.approx(want[f'loss_{name}'], rel=near), (i, name)
        assert losses['loss'].item() == pytest.approx(want['loss'], rel=near)
        assert losses['overlap'].item() == pytest.approx(want['overlap'], rel=1e-9)
        norms = [torch.stack([p.grad.norm() for p in b.parameters()]).norm().item() for b in network.branches]
        assert norms == pytest.approx(want['grad_norm'], rel=10 * near)
        for optimizer in optimizers:
            optimizer.step()

    state = network.state_dict()
    for name, value in recipe['after'].items():
        assert state[name].abs().sum().item() == pytest.approx(value, rel=near), name
    assert state['branch1.backbone.bn1.num_batches_tracked'] == recipe['num_batches_tracked']


@pytest.mark.parametrize('experiment, num_classes', reference.EXPERIMENTS.items())
def test_parameter_groups_equal_the_reference(experiment, num_classes):
    for branch in DualNetwork(num_classes).branches:
        groups = param_groups(branch, 0.01, 1e-4)
        found = [[len(g['params']), sum(p.numel() for p in g['params']), g['weight_decay']] for g in groups]
        assert found == reference.figures(experiment)['param_groups']


def test_rates_equal_the_reference():
    want = reference.figures('city')['lr']
    base, power, total, warmup = want['args']
    for iteration, rate in want['at'].items():
        assert poly_lr(base, power, int(iteration), total, warmup) == pytest.approx(rate, rel=1e-12)


class Toy(nn.Module):
    """Two 1x1 convolutions that note the order of the forward passes."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.branch1, self.branch2 = nn.Conv2d(3, num_classes, 1), nn.Conv2d(3, num_classes, 1)
        self.seen = []

    def forward(self, x, step=1):
        self.seen.append((step, x, torch.is_grad_enabled()))
        return (self.branch1, self.branch2)[step - 1](x)


def toy_batch():
    torch.manual_seed(1)
    x, u0, u1 = (torch.randn(2, 3, 6, 6) for _ in range(3))
    y = torch.randint(0, 4, (2, 6, 6))
    mask = paint_masks(draw_boxes(2, (6, 6), np.random.RandomState(0)), (6, 6))
    return x, y, u0, u1, mask


def gradients(network):
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def test_losses_backpropagated_one_by_one_add_up_to_the_gradient_of_their_sum():
    torch.manual_seed(0)
    network, (x, y, u0, u1, mask) = Toy(), toy_batch()
    Step(network, 4, CrossEntropy(), 'cpcl', 1.5)(x, y, u0, u1, mask)
    lean = gradients(network)

    network.zero_grad()
    with torch.no_grad():
        teachers = [predict(torch.where(mask, network(u1, k), network(u0, k))) for k in (1, 2)]
        (p1, c1), (p2, c2) = teachers
        w, _ = disagreement(co_occurrence(p1, p2, 4))
    mixed = mix(u0, u1, mask)
    loss = sum(CrossEntropy()(network(x, k), y) for k in (1, 2))
    for k, target in enumerate(cpcl_targets(p1, p2, c1, c2, w), 1):
        loss = loss + 1.5 * pseudo_loss(network(mixed, k), target)
    loss.backward()
    assert torch.allclose(lean, gradients(network), rtol=1e-5, atol=1e-7)


def test_forward_passes_come_in_the_order_of_the_method():
    network, (x, y, u0, u1, mask) = Toy(), toy_batch()
    Step(network, 4, CrossEntropy(), 'cpcl', 1)(x, y, u0, u1, mask)
    mixed = torch.where(mask, u1, u0)
    for k in (1, 2):
        images = [(image, grad) for step, image, grad in network.seen if step == k]
        assert [grad for _, grad in images] == [True, False, False, True]
        for (image, _), want in zip(images, (x, u0, u1, mixed), strict=True):
            assert torch.equal(image, want)


def test_labelled_images_that_are_all_void_teach_nothing():
    network, (x, y, u0, u1, mask) = Toy(), toy_batch()
    losses = Step(network, 4, CrossEntropy(), 'cpcl', 1)(x, torch.full_like(y, 255), u0, u1, mask)
    assert losses['sup_1'] == losses['sup_2'] == 0
    assert losses['loss'] == losses['inter'] + losses['union']
    assert gradients(network).isfinite().all() and gradients(network).any()


def test_without_cutmix_the_students_see_u0_itself():
    network, (x, y, u0, _, _) = Toy(), toy_batch()
    losses = Step(network, 4, CrossEntropy(), 'cps', 1)(x, y, u0)
    assert set(losses) == {'loss', 'sup_1', 'sup_2', 'overlap', 'cps_1', 'cps_2'}
    assert len(network.seen) == 6
    assert torch.equal(network.seen[-1][1], u0)


def test_supervised_alone():
    network, (x, y, *_) = Toy(), toy_batch()
    losses = Step(network, 4, CrossEntropy(), 'supervised', 1)(x, y)
    assert losses['loss'] == losses['sup_1'] + losses['sup_2']
    assert len(network.seen) == 2
