"""The forms of -d."""

import pytest
import torch

from furnace.engine.devices import choose_devices, parse_devices
from furnace.engine.distributed import joined
from furnace.utils.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    return lambda count: monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


def names(text):
    return [str(device) for device in parse_devices(text)]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('0', [0]), ('3', [3]), ('0,2', [0, 2]), ('2,0', [2, 0]), ('0-3', [0, 1, 2, 3]), ('0,2-3', [0, 2, 3]),
        ('1-1', [1]), ('*', [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_four_gpus(gpus, text, expected):
    gpus(4)
    assert names(text) == [f'cuda:{number}' for number in expected]


@pytest.mark.parametrize('count', [0, 4])
def test_cpu(gpus, count):
    gpus(count)
    assert names('cpu') == ['cpu']


@pytest.mark.parametrize('text', ['0', '*'])
def test_default_without_a_gpu_is_the_cpu(gpus, text):
    gpus(0)
    assert names(text) == ['cpu']


@pytest.mark.parametrize('text', ['', 'gpu', '-1', '0-', '3-1', '0,', ',0', '0,0', '0-2,1', '0--2', '1.5', '0-1-'])
def test_other_forms(gpus, text):
    gpus(4)
    with pytest.raises(UserError) as caught:
        parse_devices(text)
    assert str(caught.value) == f'-d {text}: expected GPU numbers such as 0, 0,2 or 0-3, * for all, or cpu'


@pytest.mark.parametrize(('text', 'missing'), [('4', 4), ('0-7', 4), ('0,9', 9)])
def test_a_gpu_that_is_not_there(gpus, text, missing):
    gpus(4)
    with pytest.raises(UserError) as caught:
        parse_devices(text)
    assert str(caught.value) == f'-d {text}: there is no GPU {missing}: this machine has 4 (0 … 3)'


@pytest.mark.parametrize('text', ['7', '0-3', '0,1'])
def test_numbers_without_a_gpu(gpus, text):
    gpus(0)
    with pytest.raises(UserError, match='PyTorch sees no GPU here; use -d cpu'):
        parse_devices(text)


def test_more_processes_than_gpus(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    for name, value in {'LOCAL_RANK': 0, 'RANK': 0, 'WORLD_SIZE': 4, 'LOCAL_WORLD_SIZE': 4}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match=r'^4 processes for 2 GPUs; give torchrun --nproc_per_node=2$'):
        joined(torch.device('cuda', 0)).__enter__()


def test_a_started_process_takes_the_kind_of_its_devices(gpus, monkeypatch):
    gpus(2)
    assert choose_devices('0,1') == [torch.device('cuda', 0), torch.device('cuda', 1)]
    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert choose_devices('2-3') == [torch.device('cuda')]  # renumbered for this process
    assert choose_devices('cpu') == [torch.device('cpu')]
