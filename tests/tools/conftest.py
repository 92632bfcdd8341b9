"""The benchmark's recipes, networks and plan, as small as they can be."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from furnace.tools import benchmark
from furnace.tools.bench import evaluation, memory, recipes, work


class Branch(nn.Module):
    """The parts that parameter groups are made from."""

    def __init__(self, num_classes):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.classifier = nn.Conv2d(4, num_classes, 1)

    def forward(self, x):
        return self.classifier(self.head(self.backbone(x))).float()  # as the real one


class Network(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.branches = nn.ModuleList(Branch(C.num_classes) for _ in (1, 2))

    def forward(self, x, step=1):
        return self.branches[step - 1](x)


class Tiny(recipes.Recipe):
    def config(self, *overrides):
        least = dict.fromkeys(('image_height', 'image_width', 'eval_crop_size'), 32) | {'num_workers': 0}
        return super().config(*(f'{name}={value}' for name, value in least.items()), *overrides)


@pytest.fixture
def tiny(monkeypatch):
    """Both recipes and the quick plan, made tiny, in one process."""
    for name, recipe in recipes.RECIPES.items():
        small = Tiny(**{**vars(recipe), 'image_size': (36, 48), 'shrink': 1})
        monkeypatch.setitem(recipes.RECIPES, name, small)
    for module in (work, evaluation):
        monkeypatch.setattr(module, 'build_network', Network)
    monkeypatch.setattr(memory, 'ProcessPoolExecutor', lambda number, context: ThreadPoolExecutor(number))
    quick = {**benchmark.QUICK, 'memory_side': 16, 'step_side': 16, 'list_lengths': (10, 20)}
    monkeypatch.setattr(benchmark, 'QUICK', quick)
