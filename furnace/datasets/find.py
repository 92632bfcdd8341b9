"""Which files of a downloaded data set are images, and which label map belongs to each."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from furnace.datasets.splits import block_split
from furnace.utils.errors import UserError, some
from furnace.utils.files import files_below

IMAGE_SUFFIXES = frozenset({'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'})
LABEL_ENDINGS = ('', '_gtFine', '_label', '_labelIds', '_gtFine_labelTrainIds', '_gtFine_labelIds', '_mask', '_L')
SPLITS = ('train', 'val', 'test')


class Frame(NamedTuple):
    """An image, its label map, and its path below the split's folder, without extension."""

    image: Path
    label: Path | None
    name: str


Splits = dict[str, list[Frame]]


def find_frames(images: Path, labels: Path, val_share: float | None) -> tuple[Splits, list[str]]:
    """The images of each split with their label maps, and notes on what was left out.

    ``images`` and ``labels`` hold train and val (and perhaps test), or ``val_share`` is given and both hold the files
    themselves: then whole blocks of neighbouring frames, the last of each sequence, become val. Sub-folders may be of
    any depth and are the same on both sides. The label of ``x.jpg`` is ``x.png``, or x with one of LABEL_ENDINGS.

    Raises:
        UserError: folders are missing, or two images or two label maps answer to one name.
    """
    for folder, option in (images, '--images'), (labels, '--labels'):
        if not folder.is_dir():
            raise UserError(f'{folder}: no such folder; {option} gives another name')
    there = [split for split in SPLITS if (images / split).is_dir()]
    if there and val_share is not None:
        raise UserError(f'{images} has the folders {", ".join(there)}: --val-share is for images without them')
    if not there and val_share is None:
        raise UserError(f'{images} has no folders train and val; --val-share 0.2 makes a val split of its images')
    if not there:
        frames, unused = pair_frames(images, labels)
        splits = _split_blocks(frames, val_share, images)
        left_out = len(frames) - sum(map(len, splits.values()))
    else:
        pairs = {split: pair_frames(images / split, labels / split) for split in there}
        splits = {split: found for split, (found, _) in pairs.items() if found}
        frames = [frame for found in splits.values() for frame in found]
        unused, left_out = sum(unused for _, unused in pairs.values()), 0
        require_frames(splits, images)
    notes = []
    used = {frame.image for frame in frames}
    others = [str(path.relative_to(images)) for path in files_below(images, labels) if path not in used]
    if others:
        notes.append(f'note: {len(others)} files below {images} are no images of a split: {some(others)}')
    if unused:
        notes.append(f'note: {unused} .png files below {labels} belong to no image')
    if left_out:
        notes.append(f'note: {left_out} images without a label lie between images of val and were left out')
    return splits, notes


def pair_frames(images: Path, labels: Path) -> tuple[list[Frame], int]:
    """The frames below ``images``, by name, and the number of label maps below ``labels`` that belong to none.

    Raises:
        UserError: two images or two label maps answer to one name.
    """
    maps = {path.relative_to(labels).as_posix()[: -len('.png')]: path for path in _files(labels, {'.png'}, images)}
    unused, stems, frames = set(maps), {}, []
    for path in _files(images, IMAGE_SUFFIXES, labels):
        name = path.relative_to(images).as_posix()[: -len(path.suffix)]
        if not name.isprintable():
            raise UserError(f'{str(path)!a}: tabs, line ends and the like in a file name cannot stand in a list')
        # Predictions are saved under the stem alone, so it must be the only one in all sub-folders.
        if path.stem in stems:
            raise UserError(f'two images of one name: {stems[path.stem]} and {path}; rename one, and its label map')
        stems[path.stem] = path
        fitting = [name + ending for ending in LABEL_ENDINGS if name + ending in maps]
        if len(fitting) > 1:
            raise UserError(f'two label maps for {path}: {maps[fitting[0]]} and {maps[fitting[1]]}; move one away')
        unused.difference_update(fitting)
        frames.append(Frame(path, maps[fitting[0]] if fitting else None, name))
    return frames, len(unused)


def _files(folder: Path, suffixes: frozenset[str] | set[str], other: Path) -> list[Path]:
    """Files below ``folder`` but not below ``other``; none where there is no such folder."""
    below = files_below(folder, other) if folder.is_dir() else []
    return [path for path in below if path.suffix.lower() in suffixes]


def _split_blocks(frames: Sequence[Frame], share: float, images: Path) -> Splits:
    _require_a_label(frames, images)
    train, val = block_split(
        [frame.image.relative_to(images).as_posix() for frame in frames],
        [frame.label is not None for frame in frames],
        share,
    )
    splits = {'train': [frames[i] for i in train], 'val': [frames[i] for i in val]}
    if not val or not any(frame.label for frame in splits['train']):
        raise UserError(f'--val-share {share} leaves {len(val)} labelled images for val, and too few for either split')
    return splits


def require_frames(splits: Splits, images: Path) -> None:
    """Raises UserError where train or val, looked for below ``images``, lacks images or labels."""
    for split in ('train', 'val'):
        if not splits.get(split):
            raise UserError(f'no images for {split}: looked in {images / split}')
    bare = [str(frame.image) for frame in splits['val'] if frame.label is None]
    if bare:
        raise UserError(f'{len(bare)} of {len(splits["val"])} images of val have no label: {some(bare)}')
    _require_a_label(splits['train'], images / 'train')


def _require_a_label(frames: Sequence[Frame], folder: Path) -> None:
    if not frames:
        raise UserError(f'{folder}: no images ({", ".join(sorted(IMAGE_SUFFIXES))})')
    if not any(frame.label for frame in frames):
        endings = ', '.join(f'{frames[0].name}{ending}.png' for ending in LABEL_ENDINGS[:3])
        raise UserError(f'no image below {folder} has a label; for {frames[0].image}, {endings}, … were looked for')
