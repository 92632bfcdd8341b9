"""What is measured: the recipes of the experiments, images for them, and how much of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from furnace.datasets.lists import Item, cityscapes_items, voc_items
from furnace.datasets.scenes import draw_scene
from furnace.engine.config import Config, load_config
from furnace.tools.bench.plain import CHECKOUT
from furnace.utils.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """An experiment, and what its photographs are like."""

    name: str
    experiment: str
    image_size: tuple[int, int]
    """height and width"""
    suffix: str
    shrink: int
    """the scenes are drawn smaller by this factor and enlarged, as photographs are smoother than drawings"""
    noise: float
    """standard deviation, grey levels; with it the files have about the size of real ones"""
    layout: Callable[[str, str, Path], list[Item]]
    train_list: str

    def config(self, *overrides: str) -> Config:
        return load_config(CHECKOUT / self.experiment / 'config.py', overrides)


CITY = Recipe('city', 'exp_city', (1024, 2048), '.png', 4, 1.6, cityscapes_items, 'config_new/train.txt')
VOC = Recipe('voc', 'exp_voc', (375, 500), '.jpg', 1, 6.0, voc_items, 'train_aug.txt')
RECIPES = {recipe.name: recipe for recipe in (CITY, VOC)}


@dataclass(frozen=True)
class Plan:
    """How much is measured, and where."""

    recipes: tuple[Recipe, ...]
    device: torch.device
    folder: Path
    """for images"""
    data: Path | None = None
    """data root of the user's own images, in the layout of the one recipe"""
    rounds: int = 5
    images: int = 2
    list_lengths: tuple[int, ...] = (100, 10_000, 1_000_000)
    quick: bool = False
    """small networks and crops on a GPU too, and nothing of what fits"""
    backbone: str = 'resnet50'
    """of small measurements, as the sides"""
    memory_side: int = 256
    step_side: int = 129
    waits: int = 3
    """iterations with loader workers"""

    def items(self, recipe: Recipe) -> list[Item]:
        """Labelled images of the recipe, made once or the user's own.

        Raises:
            UserError: the user's list cannot be used.
        """
        if self.data is None:
            return make_images(self.folder / recipe.name, recipe, self.images)
        path = self.data / recipe.train_list
        items = [item for item in recipe.layout(str(self.data), str(self.data), path) if item.label]
        if not items:
            raise UserError(f'{path}: has no images with labels to measure with')
        return items[: self.images]

    @property
    def small(self) -> bool:
        """Whether networks and crops are small; else they are those of the recipes."""
        return self.quick or self.device.type != 'cuda'

    @property
    def described(self) -> str:
        """Where the images come from."""
        return f'images of {self.data}' if self.data else 'drawn images with noise'


def make_images(folder: Path, recipe: Recipe, count: int) -> list[Item]:
    """Drawn scenes that take as long to decode as photographs: smoothed, enlarged, with noise; and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for i in range(count):
        item = Item(str(i), str(folder / f'{i}{recipe.suffix}'), str(folder / f'{i}_label.png'))
        items.append(item)
        if Path(item.label).exists():
            continue
        rng = np.random.default_rng(i)
        height, width = recipe.image_size
        image, label = draw_scene(rng, height // recipe.shrink, width // recipe.shrink)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        if recipe.shrink > 1:
            image = cv2.GaussianBlur(image, (0, 0), recipe.shrink)
        # Grain of a sensor after demosaicing: alike in the channels and in neighbours.
        grain = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 0.8)
        image = np.clip(np.rint(image + recipe.noise / grain.std() * grain[..., None]), 0, 255).astype(np.uint8)
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(item.image, image)
        cv2.imwrite(item.label, label)
    return items
