"""Which images validate and which count as labelled, with video frames in mind; and the list files that say so."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from furnace.datasets.lists import write_lines
from furnace.utils.errors import UserError

RATIOS = (16, 8, 4, 2)

Pair = tuple[str, str | None]
T = TypeVar('T')

_FRAME = re.compile(r'(.*)[_-][A-Za-z]*\d+')


def sequence_of(name: str) -> str:
    """The video sequence of a frame: its file stem up to the last ``_`` or ``-`` before the frame number.

    ``0016E5_08061.png`` -> ``0016E5``, ``0006R0_f01290`` -> ``0006R0``, ``aachen_000000_000019`` -> ``aachen_000000``.
    All stems that end otherwise share the sequence ``''``. Folders in ``name`` do not count.
    """
    match = _FRAME.fullmatch(PurePosixPath(name).stem)
    return match[1] if match else ''


def nested_split(names: Sequence[str], ratios: Sequence[int], seed: int) -> dict[int, tuple[list[int], list[int]]]:
    """Choose the labelled images for each ratio 1/r; the others are unlabelled.

    The frames are sorted by (sequence, name) and every r-th one is labelled, so that neighbouring video frames, which
    look alike, are spread over the whole of every sequence. One offset o is drawn from
    ``numpy.random.default_rng(seed)`` in [0, max(ratios)); ratio r starts at o mod r. As each ratio divides the
    next larger one, the labelled images are nested: 1/16 ⊂ 1/8 ⊂ 1/4 ⊂ 1/2. With fewer images than max(ratios) the
    offset wraps (o mod the number of images), so that every ratio has at least one labelled image and the nesting
    holds.

    Args:
        names: file names or paths, without repetition, in any order; the choice does not depend on their order.
        ratios: positive integers r, each a divisor of the next larger one.
        seed: non-negative integer.

    Returns:
        {r: (labelled, unlabelled)}, positions in ``names``, each ascending.

    Raises:
        UserError: there is no image, a ratio is below 1, or the ratios do not divide each other.
    """
    if not names:
        raise UserError('no labelled training image: there is nothing to choose a labelled subset from')
    if min(ratios) < 1:
        raise UserError(f'ratios must be 1 or more, not {min(ratios)}')
    for r, larger in pairwise(sorted(ratios)):
        if larger % r:
            raise UserError(f'ratios {r} and {larger} cannot be nested by sequence: each must divide the next larger')
    order = _by_sequence(names)
    offset = int(np.random.default_rng(seed).integers(max(ratios))) % len(names)
    split = {}
    for r in ratios:
        labeled = set(order[offset % r :: r])
        split[r] = sorted(labeled), [i for i in range(len(names)) if i not in labeled]
    return split


def counted_split(names: Sequence[str], counts: Sequence[int], seed: int, by_sequence: bool) -> dict[int, list[int]]:
    """Choose n labelled images for each count n, nested: those of a smaller count are among those of a larger one.

    At random, they are the first n of one permutation of the sorted names from ``numpy.random.default_rng(seed)``:
    calls with one seed nest too. By sequence, the frames are sorted by (sequence, name), and of the M frames of the
    next larger count (of all, for the largest) those at (k·M + o) // n are taken for k = 0 … n-1, with o drawn from
    [0, M): they lie M/n apart, rounded.

    Args:
        names, seed: as for ``nested_split``.
        counts: positive integers, at most the number of names.

    Returns:
        {n: positions in ``names``, ascending}, in the order of ``counts``.

    Raises:
        UserError: a count is below 1 or above the number of names.
    """
    for n in counts:
        if not 1 <= n <= len(names):
            raise UserError(f'{n} labelled images cannot be chosen from {len(names)}')
    rng = np.random.default_rng(seed)
    if by_sequence:
        chosen, order = {}, _by_sequence(names)
        for n in sorted(set(counts), reverse=True):
            offset = int(rng.integers(len(order)))
            chosen[n] = order = [order[(k * len(order) + offset) // n] for k in range(n)]
    else:
        order = sorted(range(len(names)), key=names.__getitem__)
        permuted = [order[i] for i in rng.permutation(len(names))]
        chosen = {n: permuted[:n] for n in counts}
    return {n: sorted(chosen[n]) for n in counts}


def divide(lines: Sequence[T], chosen: Iterable[int]) -> tuple[list[T], list[T]]:
    """The lines at the positions ``chosen``, and the others, both in their order."""
    chosen = set(chosen)
    others = [line for i, line in enumerate(lines) if i not in chosen]
    return [line for i, line in enumerate(lines) if i in chosen], others


def _by_sequence(names: Sequence[str]) -> list[int]:
    """Positions in ``names``, sorted by (sequence, name)."""
    return sorted(range(len(names)), key=lambda i: (sequence_of(names[i]), names[i]))


def block_split(names: Sequence[str], has_label: Sequence[bool], share: float) -> tuple[list[int], list[int]]:
    """Choose validation images so that no neighbour of one, which looks alike, is trained on.

    In each sequence (``sequence_of``, and the folder), sorted by name, the last ``share`` of the labelled frames
    becomes val. The share is rounded over all sequences so far, so that many short ones still give theirs. Frames
    without a label between those of val are in neither split.

    Returns:
        (train, val): positions in ``names``.

    Raises:
        UserError: ``share`` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UserError(f'--val-share must be between 0 and 1, not {share}')
    sequences: dict[tuple[str, str], list[int]] = {}
    for i in sorted(range(len(names)), key=names.__getitem__):
        sequences.setdefault((os.path.dirname(names[i]), sequence_of(names[i])), []).append(i)
    train, val, seen = [], [], 0
    for _, frames in sorted(sequences.items()):
        labeled = [place for place, i in enumerate(frames) if has_label[i]]
        seen += len(labeled)
        take = int(seen * share + 0.5) - len(val)
        start = labeled[-take] if take else len(frames)
        train += frames[:start]
        val += [i for i in frames[start:] if has_label[i]]
    return train, val


def write_lists(
    root: Path, pairs: Mapping[str, Sequence[Pair]], seed: int, ratios: Sequence[int] = RATIOS
) -> dict[int, int]:
    """Write ``config_new/{split}.txt`` and ``config_new/subset_train/train_aug_{labeled,unlabeled}_1-{r}.txt``.

    A line is ``/images/train/x.png⇥/segmentation/train/x_gtFine.png``; the leading ``/`` means the data root, and an
    image without a label has no second column. Training images without a label are in every unlabelled list and in no
    labelled one; the ratio is one of the images that have a label, and where there are others, 1/1 (all labels) is
    written too. Both lists of a ratio are disjoint and together all of train, in its order. Each file is replaced as a
    whole or not at all; a list of no image is not written.

    Args:
        root: the data root, an existing folder.
        pairs: {'train': [(image, label or None), ...], 'val': ..., 'test': ...}; POSIX paths relative to ``root``,
            without a leading slash. Only ``train`` is required.
        seed: of ``nested_split``.
        ratios: of ``nested_split``.

    Returns:
        {r: number of labelled images}.

    Raises:
        UserError: no training image has a label.
    """
    train = pairs['train']
    with_label = [i for i, (_, label) in enumerate(train) if label is not None]
    if len(with_label) < len(train):
        ratios = *ratios, 1
    split = nested_split([train[i][0] for i in with_label], ratios, seed)

    config = Path(root) / 'config_new'
    subsets = config / 'subset_train'
    subsets.mkdir(parents=True, exist_ok=True)
    lists = {config / f'{name}.txt': lines for name, lines in pairs.items()}
    for r, (chosen, _) in split.items():
        labeled, unlabeled = divide(train, [with_label[i] for i in chosen])
        lists[subsets / f'train_aug_labeled_1-{r}.txt'] = labeled
        lists[subsets / f'train_aug_unlabeled_1-{r}.txt'] = unlabeled
    for path, lines in lists.items():
        if lines:
            write_list(path, lines)
    return {r: len(chosen) for r, (chosen, _) in split.items()}


def write_list(path: Path, pairs: Iterable[Pair]) -> None:
    """Write lines as ``write_lists`` does; the file is replaced as a whole or not at all."""
    write_lines(path, ('\t'.join(f'/{column}' for column in pair if column is not None) for pair in pairs))
