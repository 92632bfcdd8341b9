"""The two ways in which a prepared data set lies on disk: as Cityscapes or as PASCAL VOC."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from furnace.datasets.classes import CITYSCAPES, PASCAL_VOC, Classes
from furnace.datasets.lists import Item, cityscapes_items, voc_items
from furnace.utils.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Paths are relative to the data root."""

    read: Callable[[str, str, str], list[Item]]
    """the items of a list, from the roots of images and labels and the list's path"""
    folder: str
    """of the lists of whole splits"""
    train: str
    """the list of all training images"""
    subsets: str
    """folder of the labelled and unlabelled lists"""
    patterns: tuple[str, ...]
    """of all lists, but for hidden files"""
    marks: tuple[str, ...]
    """files and folders of which one tells this layout"""
    classes: Classes
    """where the data set names none of its own"""

    def lists(self, root: Path) -> list[Path]:
        """The lists below ``root``, sorted."""
        paths = {path for pattern in self.patterns for path in root.glob(pattern)}
        return sorted(path for path in paths if path.is_file())

    def items(self, root: Path, list_path: Path) -> list[Item]:
        """The items of a list, all files below ``root``. Raises UserError as ``read_lines`` does."""
        return self.read(str(root), str(root), str(list_path))


CITY = Layout(
    read=cityscapes_items,
    folder='config_new',
    train='config_new/train.txt',
    subsets='config_new/subset_train',
    patterns=('config_new/**/[!.]*.txt',),
    marks=('config_new', 'images/train'),
    classes=CITYSCAPES,
)
VOC = Layout(
    read=voc_items,
    folder='',
    train='train_aug.txt',
    subsets='subset_train_aug',
    patterns=('train*.txt', 'val*.txt', 'test*.txt', 'subset_train_aug/**/[!.]*.txt'),
    marks=('train_aug.txt', 'subset_train_aug', 'train_aug/image'),
    classes=PASCAL_VOC,
)


def find_layout(root: Path) -> Layout:
    """The layout of the data set in ``root``.

    Raises:
        UserError: there is no such folder, or it shows neither layout or both.
    """
    if not root.is_dir():
        raise UserError(f'{root}: no such folder')
    shown = {layout: mark for layout in (CITY, VOC) for mark in reversed(layout.marks) if (root / mark).exists()}
    if not shown:
        raise UserError(
            f'{root} is no prepared data set: it has none of {", ".join(CITY.marks)} (as Cityscapes) '
            f'or {", ".join(VOC.marks)} (as VOC)'
        )
    if len(shown) > 1:
        raise UserError(f'{root} has {shown[CITY]}, as Cityscapes, and {shown[VOC]}, as VOC: move one of them away')
    return next(iter(shown))
