"""The networks against the released ones: names, shapes, order, logits."""

import json

import numpy as np
import pytest
import reference
import torch
from place import SmallNetwork

from furnace.base_model import DualNetwork

SIZES = json.loads((reference.GOLDEN / 'state_dict_keys.json').read_text())


@pytest.mark.parametrize('backbone', ['resnet50', 'resnet101'])
def test_state_dict_has_the_released_names_shapes_and_order(backbone):
    want = json.loads((reference.GOLDEN / f'state_dict_{backbone}_21.json').read_text())
    state = DualNetwork(21, backbone).state_dict()
    assert [[name, list(value.shape)] for name, value in state.items()] == want


@pytest.mark.parametrize('case', SIZES)
def test_sizes(case):
    backbone, num_classes = case.split('_')
    network = DualNetwork(int(num_classes), backbone)
    assert len(network.state_dict()) == SIZES[case]['n_tensors']
    assert sum(parameter.numel() for parameter in network.parameters()) == SIZES[case]['num_params']


@pytest.mark.parametrize('experiment, num_classes', reference.EXPERIMENTS.items())
def test_eval_logits_equal_the_reference(experiment, num_classes):
    figures, arrays = reference.figures(experiment)['eval'], reference.arrays(experiment)
    network = DualNetwork(num_classes).eval()
    network.load_state_dict(reference.weights(network))
    x = reference.rnd('x', (2, 3, *figures['hw']))
    for k in (1, 2):
        with torch.no_grad():
            logits = network(x, step=k)
        want = arrays[f'eval_branch{k}']
        assert logits.std().item() == pytest.approx(figures[f'branch{k}_std'], rel=1e-6)
        # The mean is small beside the values: its rounding is relative to their size.
        assert logits.mean().item() == pytest.approx(figures[f'branch{k}_mean'], abs=1e-6 * figures[f'branch{k}_std'])
        # The reference, itself float32, lies 1.1e-6 from the same network in float64, this one 0.5e-6.
        error = logits[:, :, ::8, ::8].numpy() - want
        assert np.linalg.norm(error) <= 1.5e-6 * np.linalg.norm(want)


@pytest.mark.parametrize('backbone', ['resnet18', 'resnet50'])
@pytest.mark.parametrize('size', [(64, 96), (65, 33)])
def test_logits_have_the_size_of_the_image_and_stride_16_inside(backbone, size):
    branch = DualNetwork(5, backbone).eval().branch1
    with torch.no_grad():
        low, high = branch.backbone(torch.zeros(1, 3, *size))
        assert branch(torch.zeros(1, 3, *size)).shape == (1, 5, *size)
    assert low.shape[-2:] == tuple(-(-side // 4) for side in size)
    assert high.shape[-2:] == tuple(-(-side // 16) for side in size)


def test_heads_are_drawn_independently():
    network = DualNetwork(5, 'resnet18')
    one, two = (branch.head.aspp.red_conv.weight for branch in network.branches)
    assert not torch.equal(one, two)


def test_head_initialisation_is_kaiming_normal_over_fan_in():
    torch.manual_seed(0)
    branch = DualNetwork(5, 'resnet18').branch1
    for weight in (branch.head.last_conv[0].weight, branch.classifier.weight, branch.backbone.layer2[0].conv1.weight):
        fan_in = weight[0].numel()
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
    assert torch.all(branch.head.reduce[1].weight == 1)
    assert torch.all(branch.head.reduce[1].bias == 0)


def test_batch_norm_settings_reach_every_layer():
    network = DualNetwork(5, 'resnet50', bn_eps=1e-3, bn_momentum=0.3)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.3)}


def test_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match=r'resnet34.*resnet18, resnet50, resnet101'):
        DualNetwork(5, 'resnet34')


@pytest.mark.parametrize('step', [0, -1, 3])
def test_there_are_two_branches(step):
    with pytest.raises(ValueError, match=f'step = {step}: choose branch 1 or 2'):
        SmallNetwork(3)(torch.zeros(1, 3, 8, 8), step=step)


def test_grad_checkpoint_changes_neither_gradients_nor_statistics():
    torch.manual_seed(0)
    kept = DualNetwork(4, 'resnet18').double()
    lean = DualNetwork(4, 'resnet18', grad_checkpoint=True).double()
    lean.load_state_dict(kept.state_dict())
    x, saved = torch.randn(2, 3, 65, 65, dtype=torch.float64), []
    for network in kept, lean:
        bytes_saved = 0

        def pack(tensor):
            nonlocal bytes_saved
            bytes_saved += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = network(x).square().mean()
        saved.append(bytes_saved)
        loss.backward()
    for a, b in zip(kept.branch1.parameters(), lean.branch1.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12)
    for (name, a), (_, b) in zip(kept.named_buffers(), lean.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert saved[1] < 0.8 * saved[0]
