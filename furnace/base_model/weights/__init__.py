"""Weights: ImageNet backbones and trained two-branch networks. Nothing is dropped silently."""

from furnace.base_model.weights.files import load_file
from furnace.base_model.weights.load import load_network, load_pretrained
from furnace.base_model.weights.sources import source_problem

__all__ = ['load_file', 'load_network', 'load_pretrained', 'source_problem']
