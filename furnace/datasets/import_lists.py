"""Published lists in this project's form: those of CPS, and of projects that name the files of the downloads."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from furnace.datasets.layout import CITY, VOC, Layout
from furnace.datasets.lists import overlap_as_published, read_lines, role
from furnace.utils.errors import UserError, some

# What a line may look like, and what it becomes. The label is never looked at: its place follows from the image's.
FORMS = {
    CITY: (
        (r'/?(images/\S.*)', '/{0}'),
        (r'/?leftImg8bit/(train|val)/\S+?/(\S+)_leftImg8bit\.png(?:\s+\S+)?',
         '/images/{0}/{1}.png\t/segmentation/{0}/{1}_gtFine.png'),
        (r'/?leftImg8bit/test/\S+?/(\S+)_leftImg8bit\.png(?:\s+\S+)?', '/images/test/{0}.png'),
    ),
    VOC: (
        (r'([^\s/.]+)', '{0}'),
        (r'/?JPEGImages/(\S+)\.jpg(?:\s+\S+)?', '{0}'),
    ),
}  # fmt: skip


def published_lists(source: Path, layout: Layout, root: Path) -> tuple[dict[Path, list[str]], list[str]]:
    """The lists below ``source`` as the data set in ``root`` needs them.

    Labelled and unlabelled lists keep their names (``train_aug_labeled_1-16.txt``); ``1_16/labeled.txt``, whose folder
    tells which it is, becomes ``train_aug_labeled_1-16.txt``. Their lines become those of the same images in the
    training list of ``root`` where it has them. Lists of whole splits (train, val, test) are taken only where ``root``
    has none.

    Args:
        source: a folder; sub-folders may be of any depth.
        layout: of the data set in ``root``.
        root: the data root.

    Returns:
        {path below ``root``: lines}, and notes on what was left out.

    Raises:
        UserError: there is no labelled list, two answer to one name, a line is in no known form, or the
            lists are of another data set.
    """
    if not source.is_dir():
        raise UserError(f'{source}: no such folder')
    train = root / layout.train
    found: dict[Path, Path] = {}
    left_out = []
    for path in sorted(source.rglob('[!.]*.txt')):  # not macOS's ._x.txt
        target = _target(path, layout, root)
        if target is None or (target.parent == train.parent and target.exists()):
            left_out.append(str(path.relative_to(source)))
        elif target in found:
            raise UserError(f'{found[target]} and {path} both become {target}: give --from the folder of one data set')
        else:
            found[target] = path
    if not any(role(target) == 'labeled' for target in found):
        raise UserError(f'{source}: holds no labelled lists (train_aug_labeled_1-8.txt, 1_8/labeled.txt and the like)')
    lists = {target: _translate(path, layout) for target, path in found.items()}
    own = read_lines(train) if train.is_file() else lists.get(train, [])
    # By path first: images in different folders may have one name.
    known = {_image(line): line for line in own} | {line.split('\t')[0]: line for line in own}
    for target, lines in lists.items():
        if own and role(target) in ('labeled', 'unlabeled'):
            lists[target] = [known.get(line.split('\t')[0]) or known.get(_image(line), line) for line in lines]
            if not set(lists[target]) & set(own):
                raise UserError(f'{found[target]}: none of its images is in {train}; are the lists of other data?')
    notes = [f'note: {len(left_out)} other lists were left out: {some(left_out)}'] if left_out else []
    return lists, notes


def require_disjoint(lists: Mapping[Path, Sequence[str]], layout: Layout, root: Path) -> None:
    """Raises UserError where lists for ``root`` have an image labelled and unlabelled, or of val in one for training.

    Lists that are in ``root`` alone count too. Few-supervision as CPS ships it passes, see ``overlap_as_published``.
    """

    def images(path: Path) -> set[str]:
        lines = lists[path] if path in lists else read_lines(path) if path.is_file() else []
        return {line.split('\t')[0] for line in lines}

    val = root / layout.folder / 'val.txt'
    for path in lists:
        others = [val] if role(path) in ('labeled', 'unlabeled', 'train') else []
        if role(path) == 'labeled':
            others.append(path.with_name(path.name.replace('labeled', 'unlabeled')))
        for other in others:
            both = images(path) & images(other)
            if both and not (other != val and overlap_as_published(path, len(both))):
                raise UserError(
                    f'{len(both)} images would be in {path.name} and in {other.name}: {some(sorted(both))}; '
                    'mend the lists, or --force imports them as they are'
                )


def _target(path: Path, layout: Layout, root: Path) -> Path | None:
    """Where a list belongs, or None."""
    kind = role(path)
    if kind in ('labeled', 'unlabeled'):
        share = path.resolve().parent.name.replace('_', '-')
        name = f'train_aug_{kind}_{share}.txt' if path.stem == kind else path.name
        return root / layout.subsets / name
    return root / layout.folder / path.name if path.stem in ('train', 'train_aug', 'val', 'test') else None


def _image(line: str) -> str:
    """The name by which an image is the same in lists of different form."""
    name = os.path.basename(line.split('\t')[0])
    return os.path.splitext(name)[0].removesuffix('_leftImg8bit')


def _translate(path: Path, layout: Layout) -> list[str]:
    translated = []
    for number, line in enumerate(read_lines(path), 1):
        matches = ((re.fullmatch(pattern, line), form) for pattern, form in FORMS[layout])
        translated.append(next((form.format(*match.groups()) for match, form in matches if match), None))
        if translated[-1] is None:
            kind = 'Cityscapes' if layout is CITY else 'VOC'
            raise UserError(f'{path}: line {number} is not of a list as {kind} has them: {line[:80]}')
    return translated
