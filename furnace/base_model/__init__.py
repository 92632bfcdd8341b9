"""The networks and their weights."""

from furnace.base_model.dual import DualNetwork
from furnace.base_model.resnet import BACKBONES
from furnace.base_model.weights import load_file, load_network, load_pretrained, source_problem

__all__ = [
    'BACKBONES',
    'DualNetwork',
    'load_file',
    'load_network',
    'load_pretrained',
    'source_problem',
]
