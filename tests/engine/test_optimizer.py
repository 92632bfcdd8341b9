"""Steps that are skipped without the host knowing, and the scaling of fp16."""

import copy

import pytest
import torch
from torch import nn

from furnace.engine.lr import param_groups
from furnace.engine.optimizer import Optimizers
from furnace.utils.errors import RunError, UserError


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head, self.classifier = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.classifier(self.head(self.backbone(x)))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.branches = nn.ModuleList([Branch(), Branch()])


def gradients(optimizers, network, rate=0.1, seed=1):
    optimizers.begin(rate)
    torch.manual_seed(seed)
    for branch in network.branches:
        optimizers.backward(branch(torch.randn(2, 2, 3, 3)).square().mean())
    return optimizers.norms()


def values(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_steps_are_those_of_sgd():
    network, plain = Pair(), Pair()
    optimizers = Optimizers(network, 0.1, 0.9, 1e-2)
    each = [torch.optim.SGD(param_groups(b, 0.1, 1e-2), momentum=0.9, foreach=False) for b in plain.branches]
    for i in range(3):
        norms = gradients(optimizers, network, 0.1 / (i + 1), seed=i)
        optimizers.step(torch.tensor(False))
        torch.manual_seed(i)
        for branch, optimizer, norm in zip(plain.branches, each, norms, strict=True):
            optimizer.zero_grad()
            branch(torch.randn(2, 2, 3, 3)).square().mean().backward()
            assert norm == pytest.approx(torch.cat([p.grad.flatten() for p in branch.parameters()]).norm().item())
            for group in optimizer.param_groups:
                group['lr'] = 0.1 / (i + 1)
            optimizer.step()
    assert torch.allclose(values(network), values(plain), rtol=1e-5, atol=1e-7)


def test_a_skipped_step_changes_nothing_even_if_it_is_the_first():
    network, other = Pair(), Pair()
    optimizers, others = Optimizers(network, 0.1, 0.9, 1e-2), Optimizers(other, 0.1, 0.9, 1e-2)
    gradients(optimizers, network)
    for parameter in network.parameters():
        parameter.grad.fill_(float('nan'))
    optimizers.step(torch.tensor(True))
    assert torch.equal(values(network), values(other))
    for seed in 2, 3:
        for o, n in (optimizers, network), (others, other):
            gradients(o, n, seed=seed)
            o.step(torch.tensor(False))
    assert torch.equal(values(network), values(other))


def test_fp16_gradients_are_scaled_and_unscaled():
    network, other = Pair(), Pair()
    optimizers, others = Optimizers(network, 0.1, 0.9, 0, scale_losses=True), Optimizers(other, 0.1, 0.9, 0)
    for scaled, plain in zip(gradients(optimizers, network), gradients(others, other), strict=True):
        assert scaled.item() == pytest.approx(plain.item(), rel=1e-5)
    state = optimizers.state_dict()['scaler']
    assert state['scale'] == 2.0**16
    assert others.state_dict()['scaler'] == {}


def test_fp16_looks_for_a_scale_without_overflow_and_tells_when_there_is_none():
    network = Pair()
    optimizers = Optimizers(network, 0.1, 0.9, 0, scale_losses=True)
    before = values(network)
    for _ in range(17):
        optimizers.require_scale()
        optimizers.begin(0.1)
        for branch in network.branches:
            optimizers.backward(branch(torch.randn(2, 2, 3, 3)).mean() * float('inf'))
        norms = torch.stack(optimizers.norms())
        optimizers.step(~norms.isfinite().all())
    assert torch.equal(values(network), before)
    with pytest.raises(RunError, match='overflow at every scale') as caught:
        optimizers.require_scale()
    assert not caught.value.alone  # rank 0 tells it for all
    resumed = Optimizers(Pair(), 0.1, 0.9, 0, scale_losses=True)
    resumed.load(optimizers.state_dict(), 'x.pth')
    assert resumed.state_dict()['scaler'] == optimizers.state_dict()['scaler']


def test_a_state_of_another_form_is_refused():
    state = Optimizers(Pair(), 0.1, 0.9, 0).state_dict()
    state['optimizer_2']['param_groups'].pop()
    with pytest.raises(UserError, match=r'^x\.pth: holds no state that training can go on from'):
        Optimizers(Pair(), 0.1, 0.9, 0).load(state, 'x.pth')


def test_going_on_with_momenta_of_another_memory_format():
    """As those of a network that was not channels last: the same numbers, each for its own weight."""
    networks = [Pair().to(memory_format=torch.channels_last) for _ in range(2)]
    each = [Optimizers(network, 0.1, 0.9, 0) for network in networks]
    gradients(each[0], networks[0])
    each[0].step(torch.tensor(False))
    networks[1].load_state_dict(networks[0].state_dict())
    state = copy.deepcopy(each[0].state_dict())
    for number in 1, 2:
        for momentum in state[f'optimizer_{number}']['state'].values():
            momentum['momentum_buffer'] = momentum['momentum_buffer'].contiguous()
    each[1].load(state, 'x.pth')
    for optimizers, network in zip(each, networks, strict=True):
        gradients(optimizers, network, seed=2)
        optimizers.step(torch.tensor(False))
    assert torch.equal(values(networks[0]), values(networks[1]))
