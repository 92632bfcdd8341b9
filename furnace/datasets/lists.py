"""List files: which images a split holds, where they lie, and whether they are there; and writing them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from furnace.utils.errors import UserError, some
from furnace.utils.files import replacing


class Item(NamedTuple):
    """One line of a list."""

    name: str
    """file name of the image without its extension"""
    image: str
    label: str | None


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines of a list, LF or CRLF, blank ones left out.

    A ``train_pseudoseg_x.txt`` that is not there is also looked for as ``pseudoseg_x.txt``, as CPS ships it.

    Raises:
        UserError: the file is missing, empty or no text.
    """
    path = found = Path(path)
    if path.name.startswith('train_pseudoseg_') and not os.path.isfile(path):
        other = path.with_name(path.name.removeprefix('train_'))
        found = other if os.path.isfile(other) else path
    try:
        lines = [line.strip() for line in found.read_text(encoding='utf-8-sig').splitlines()]
    except FileNotFoundError:
        raise UserError(f'{path}: no such list') from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a list: {error}') from None
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f'{path}: the list is empty')
    return lines


def role(list_path: str | os.PathLike) -> str:
    """What a list is for, by its name: val, test, unlabeled, labeled, train (all training images) or other."""
    stem = Path(list_path).stem
    for name in ('val', 'test'):
        if stem.startswith(name):
            return name
    for name in ('unlabeled', 'labeled'):
        if name in stem:
            return name
    return 'train' if stem in ('train', 'train_aug') else 'other'


def cityscapes_items(image_root: str, label_root: str, list_path: str | os.PathLike) -> list[Item]:
    """Lines ``/images/train/x.png<tab>/segmentation/train/x_gtFine.png``; the leading ``/`` means the root.

    The second column may be missing (images without labels).
    """
    items = []
    for number, line in enumerate(read_lines(list_path), 1):
        image, *label = [column.strip().lstrip('/') for column in line.split('\t')]
        if len(label) > 1 or not all([image, *label]):
            raise UserError(f'{list_path}: line {number}: expected "image<tab>label" or "image"')
        label_path = os.path.join(label_root, label[0]) if label else None
        items.append(Item(Path(image).stem, os.path.join(image_root, image), label_path))
    return items


def voc_items(image_root: str, label_root: str, list_path: str | os.PathLike) -> list[Item]:
    """Lines ``2007_000032``: ``{split}/image/ID.jpg`` and ``{split}/label/ID.png`` below the roots.

    The split is ``val`` or ``test`` for a list of that role, ``train_aug`` for every other list.
    """
    split = role(list_path) if role(list_path) in ('val', 'test') else 'train_aug'
    return [
        Item(
            os.path.basename(line),  # pictures are saved under it
            os.path.join(image_root, split, 'image', f'{line}.jpg'),
            os.path.join(label_root, split, 'label', f'{line}.png'),
        )
        for line in read_lines(list_path)
    ]


def require_labels(items: Sequence[Item], list_path: str | os.PathLike) -> None:
    """Raises UserError where a list of labelled images has a line without a label."""
    bare = [item.name for item in items if item.label is None]
    if bare:
        raise UserError(f'{list_path}: {len(bare)} of {len(items)} lines have no label file: {some(bare)}')


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that are not there, in their order."""
    listing: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listing:
            # One listing a folder instead of one question a file: quick on network disks too.
            try:
                listing[folder] = set(os.listdir(folder))
            except OSError:
                listing[folder] = set()
        if name not in listing[folder]:
            missing.append(path)
    return missing


def overlap_as_published(labeled_list: Path, number: int) -> bool:
    """Whether ``number`` images both labelled and unlabelled are as CPS ships them: one, in few-supervision."""
    return number <= 1 and labeled_list.name.removeprefix('train_').startswith('pseudoseg_')


def require_files(items: Iterable[Item], labels: bool, list_path: str | os.PathLike) -> None:
    """Raises UserError that counts the missing images (and labels, if asked for) and names the first few."""
    paths = [path for item in items for path in ((item.image, item.label) if labels else (item.image,))]
    missing = missing_files(paths)
    if missing:
        raise UserError(f'{list_path}: {len(missing)} of {len(paths)} files are missing: {some(missing)}')


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a list, LF on every system, in an existing folder. The file is replaced as a whole or not at all."""
    with replacing(path) as file:
        file.write(''.join(f'{line}\n' for line in lines).encode())


def place_lists(lists: Mapping[Path, Sequence[str]], force: bool) -> list[Path]:
    """Write the lists that are not there yet with these lines, and make their folders. Returns what was written.

    Raises:
        UserError: one is there with other lines, and ``force`` is not given; nothing has been written then.
    """
    new = {path: lines for path, lines in lists.items() if not _holds(path, lines)}
    there = [str(path) for path in new if path.exists()]
    if there and not force:
        raise UserError(f'{len(there)} lists are there with other lines: {some(there)}; --force replaces them')
    for path, lines in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(path, lines)
    return list(new)


def _holds(path: Path, lines: Sequence[str]) -> bool:
    try:
        return path.is_file() and read_lines(path) == list(lines)
    except UserError:  # empty or no text
        return False
