import copy
import json
import math

import pytest
import torch
from torch import nn

from furnace.base_model import DualNetwork, load_file
from furnace.engine import train_command
from furnace.engine.compiling import compile_training
from furnace.engine.precision import autocast, choose_amp, kernels_tried_out, set_up

CPU = torch.device('cpu')


def losses(log):
    return [json.loads(line) for line in (log / 'losses.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('setting, chosen', [('auto', 'off'), ('off', 'off'), ('bf16', 'bf16'), ('fp16', 'fp16')])
def test_choice_on_the_cpu(setting, chosen):
    assert choose_amp(setting, CPU) == chosen


@pytest.mark.parametrize('has, chosen', [(True, 'bf16'), (False, 'off')])
def test_choice_on_a_gpu(monkeypatch, has, chosen):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: has)
    assert choose_amp('auto', torch.device('cuda')) == chosen


@pytest.mark.parametrize(
    ('deterministic', 'one_size', 'tried'), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_kernels_are_tried_out_where_sizes_repeat(monkeypatch, deterministic, one_size, tried):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', not tried)
    monkeypatch.setattr(torch, 'set_float32_matmul_precision', lambda precision: None)
    chosen = []
    monkeypatch.setattr(torch, 'use_deterministic_algorithms', chosen.append)
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', '')
    set_up(torch.device('cuda'), deterministic, one_size)
    assert (torch.backends.cudnn.benchmark, chosen) == (tried, [deterministic])


@pytest.mark.parametrize(
    ('set_up', 'one_size', 'tried'), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_kernels_are_tried_out_for_a_while(monkeypatch, set_up, one_size, tried):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', set_up)
    with pytest.raises(KeyboardInterrupt), kernels_tried_out(one_size):
        assert torch.backends.cudnn.benchmark == tried
        raise KeyboardInterrupt
    assert torch.backends.cudnn.benchmark == set_up


def test_logits_and_statistics_are_float32_and_convolutions_are_not():
    torch.manual_seed(0)
    network = DualNetwork(4, 'resnet18')
    seen = []
    network.branch1.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    x = torch.randn(2, 3, 33, 33)
    full = network(x)
    half = autocast(network, 'bf16', CPU)(x, step=1)
    assert seen == [torch.float32, torch.bfloat16]
    assert full.dtype == half.dtype == torch.float32
    assert 0 < (half - full).norm() < 0.2 * full.norm()
    assert network.branch1.backbone.bn1.running_mean.dtype == torch.float32


def test_a_pass_without_gradients_leaves_those_of_the_next_alone():
    network = DualNetwork(4, 'resnet18')
    forward, x = autocast(network, 'bf16', CPU), torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        forward(x)
    forward(x).sum().backward()
    assert all(parameter.grad is not None for parameter in network.branch1.parameters())


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_training_in_half_precision(demo, log, small, amp):
    """Near the full precision, and not the same."""
    for name in amp, 'off':
        outcome = demo.call('train.py', log / name, amp=name, nepochs=1, niters_per_epoch=1)
        assert outcome.status == 0, outcome.stderr
    half, full = losses(log / amp)[0], losses(log / 'off')[0]
    for name in 'sup_1', 'sup_2':
        assert half[name] == pytest.approx(full[name], rel=0.02)
        assert half[name] != full[name]
    scaler = load_file(log / amp / 'snapshot' / 'epoch-last.pth')['scaler']
    assert (scaler.get('scale', math.inf) < math.inf) == (amp == 'fp16')


@pytest.mark.parametrize(
    'arguments',
    [{'amp': 'half'}, {'compile': 'perhaps'}, {'cache_dir': '[1]'}, {'compile': True, 'grad_checkpoint': True}],
)
def test_settings_that_cannot_be(demo, log, arguments):
    outcome = demo.call('train.py', log, **arguments)
    assert outcome.status == 2
    assert next(iter(arguments)) in outcome.stderr.splitlines()[-1]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x)


def test_compiled_in_train_mode_alone(monkeypatch):
    calls = []

    def compile(forward):
        return lambda x: calls.append(None) or forward(x)

    monkeypatch.setattr(torch, 'compile', compile)
    module, warnings, x = Small(), [], torch.randn(1, 3, 4, 4)
    names, want = list(module.state_dict()), module(x)
    compile_training(module, warnings.append)
    assert torch.equal(module(x), want) and len(calls) == 1
    assert torch.equal(module.eval()(x), want) and len(calls) == 1
    assert list(module.state_dict()) == names and warnings == []


def test_a_compiler_that_does_not_work_is_told_once(monkeypatch):
    def broken(x):
        raise RuntimeError('no compiler\nand much more')

    monkeypatch.setattr(torch, 'compile', lambda forward: broken)
    module, warnings = Small(), []
    compile_training(module, warnings.append)
    for _ in range(2):
        module(torch.randn(1, 3, 4, 4)).sum().backward()
    assert warnings == ['compile = True: does not work here, training goes on without it: no compiler']


def test_memory_that_runs_out_is_not_taken_for_it(monkeypatch):
    def full(x):
        raise torch.OutOfMemoryError('8 GB')

    monkeypatch.setattr(torch, 'compile', lambda forward: full)
    module = Small()
    compile_training(module, pytest.fail)
    with pytest.raises(torch.OutOfMemoryError):
        module(torch.randn(1, 3, 4, 4))


def test_of_several_processes_none_goes_on_alone_without_the_compiler(monkeypatch):
    def broken(x):
        raise RuntimeError('no compiler')

    monkeypatch.setattr(torch, 'compile', lambda forward: broken)
    module = Small()
    compile_training(module, None)
    with pytest.raises(RuntimeError, match='no compiler'):
        module(torch.randn(1, 3, 4, 4))


def test_what_is_compiled_is_the_whole_network_and_learns_the_same(shallow, monkeypatch):
    """With the compiler's first half alone: the second needs minutes, and a compiler for C++ or CUDA."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend('aot_eager')(graph, inputs)

    compile = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda forward: compile(forward, backend=backend, fullgraph=True))
    torch.manual_seed(0)
    plain = DualNetwork(3, 'resnet18')
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    for branch in compiled.branches:
        compile_training(branch, None)
    found, x = [], torch.randn(2, 3, 33, 33)
    for network in plain, compiled:
        for step in (1, 2):
            for images in (x, x.flip(0)):  # no second graph for other images
                network(images, step=step).square().mean().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    assert len(graphs) in (1, 2)  # PyTorch may use one for both branches
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_training_compiles_both_branches(demo, log, monkeypatch, no_work):
    compiled = []
    monkeypatch.setattr(train_command, 'compile_training', lambda branch, warn: compiled.append(branch))
    assert demo.call('train.py', log, compile=True).status == 0
    assert len(compiled) == 2


def test_the_cache_changes_no_loss(demo, trained, log):
    folder = log / 'cache'
    outcome = demo.call('train.py', log, cache_dir=folder, nepochs=1)
    assert outcome.status == 0, outcome.stderr
    assert f'decoding 18 files into {folder}, 0.00 GB' in outcome.stdout
    assert len(list(folder.glob('*.npy'))) == 12 + 6
    assert [row['sup_1'] for row in losses(log)] == [row['sup_1'] for row in losses(trained)[:2]]
