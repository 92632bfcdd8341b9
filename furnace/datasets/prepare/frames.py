"""From images with label maps, split by split, to this project's layout. All is checked before anything is written."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from furnace.datasets.classes import Classes, voc_colormap
from furnace.datasets.find import Frame, Splits
from furnace.datasets.images import VOID, read_image, require_one_size
from furnace.datasets.prepare.result import RECORD, build, write_json
from furnace.datasets.splits import Pair, write_lists
from furnace.utils.errors import UserError, some

WRITTEN = ('images', 'segmentation', 'config_new', 'classes.json', RECORD)

Reader = Callable[[Path], np.ndarray]


def make_layout(
    dst: Path,
    splits: Splits,
    known: Classes | None,
    ignore_index: int,
    read: Reader,
    parameters: Mapping,
    force: bool,
) -> None:
    """Write images, label maps, ``classes.json``, lists and a record to ``dst``, and print what they hold.

    Args:
        dst: as ``already_there`` allows it.
        known: None: "class 0", "class 1", … up to the highest id met, in PASCAL VOC's colours.
        ignore_index: the id that becomes void (255).
        read: the ids of a label map, uint8 (H, W).
        parameters: for the record; 'seed' of the lists, and 'link' (links to the images instead of copies).
        force: an earlier result is to be replaced.

    Raises:
        UserError: what is wrong with the data; nothing has been written then.
    """
    pixels = _check(splits, known, ignore_index, read)
    classes = known or _default_classes(pixels)
    labeled = {}

    def write(root: Path) -> dict:
        pairs = _write_frames(root, splits, ignore_index, read, parameters['link'])
        labeled.update(write_lists(root, pairs, parameters['seed']))
        write_json(root / 'classes.json', {'names': classes.names, 'colors': classes.colors, 'ignore_index': VOID})
        return {'counts': {'images': {split: len(frames) for split, frames in splits.items()}, 'labeled': labeled}}

    build(dst, WRITTEN, parameters, write, force=force)
    print('\n'.join(_report(dst, splits, labeled, classes, pixels)))


def _default_classes(pixels: Mapping[str, np.ndarray]) -> Classes:
    """Numbered classes up to the highest id met in any split."""
    met = np.flatnonzero(sum(pixels.values())[:VOID])
    if met.size == 0 or met[-1] == 0:
        raise UserError('the label maps hold fewer than two classes; are they masks with 255 (here void) for a class?')
    number = int(met[-1]) + 1
    return Classes(tuple(f'class {i}' for i in range(number)), voc_colormap(number))


def _check(splits: Splits, classes: Classes | None, ignore_index: int, read: Reader) -> dict[str, np.ndarray]:
    """Decode every image and label map. Returns int64 (256,) for each split: pixels of each id, void 255."""
    allowed = np.arange(256) < (len(classes) if classes else VOID)
    allowed[ignore_index] = True
    pixels = {split: np.zeros(256, np.int64) for split in splits}
    look = partial(_count_ids, allowed=allowed, read=read)
    with tqdm(total=sum(map(len, splits.values())), desc='checking', unit='image') as bar, ThreadPoolExecutor() as pool:
        for split, frames in splits.items():
            for counts in pool.map(look, frames):
                pixels[split] += counts
                bar.update()
    for counts in pixels.values():  # as they will be written
        counts[[ignore_index, VOID]] = counts[[VOID, ignore_index]]
    return pixels


def _count_ids(frame: Frame, allowed: np.ndarray, read: Reader) -> np.ndarray:
    """int64 (256,): pixels of each id; none without a label map."""
    image = read_image(frame.image)
    if frame.label is None:
        return np.zeros(256, np.int64)
    ids = read(frame.label)
    require_one_size(image, ids, str(frame.image), str(frame.label))
    counts = np.bincount(ids.ravel(), minlength=256)
    wrong = np.flatnonzero((counts > 0) & ~allowed)
    if wrong.size:
        raise UserError(
            f'{frame.label}: ids {some([*map(str, wrong)], 8)} are neither classes nor the ignore index: '
            'label ids instead of train ids?'
        )
    return counts


def _write_frames(root: Path, splits: Splits, ignore_index: int, read: Reader, link: bool) -> dict[str, list[Pair]]:
    """Images and label maps below ``root``. Returns their paths as ``write_lists`` takes them."""
    pairs = {}
    with tqdm(total=sum(map(len, splits.values())), desc='writing', unit='image') as bar:
        for split, frames in splits.items():
            pairs[split] = []
            for image, label, name in frames:
                to_image = f'images/{split}/{name}{image.suffix}'
                to_label = f'segmentation/{split}/{name}.png' if label else None
                (root / to_image).parent.mkdir(parents=True, exist_ok=True)
                if link:
                    (root / to_image).symlink_to(image.resolve())
                else:
                    shutil.copy2(image, root / to_image)
                if label and to_label:
                    (root / to_label).parent.mkdir(parents=True, exist_ok=True)
                    ids = read(label)
                    ids[ids == ignore_index] = VOID
                    Image.fromarray(ids).save(root / to_label)
                pairs[split].append((to_image, to_label))
                bar.update()
    return pairs


def _report(
    dst: Path, splits: Splits, labeled: Mapping[int, int], classes: Classes, pixels: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """The lines printed at the end."""
    yield f'{dst}: ' + ', '.join(f'{len(frames)} images for {split}' for split, frames in splits.items())
    bare = sum(frame.label is None for frame in splits['train'])
    yield (
        'labelled images of train: '
        + ', '.join(f'1/{r} {n}' for r, n in labeled.items())
        + (f' ({bare} have no label and are only in the unlabelled lists)' if bare else '')
    )
    width = max(map(len, (*classes.names, 'pixels of')))
    yield f'{"pixels of":{width + 5}}' + ''.join(f'{split:>9}' for split in pixels)
    for i, name in [*enumerate(classes.names), (VOID, 'void')]:
        shares = (counts[i] / max(counts.sum(), 1) for counts in pixels.values())
        yield f'{i:>3}  {name:{width}}' + ''.join(f'{share:>9.2%}' for share in shares)
    yield 'for config.py:'
    yield f'C.num_classes = {len(classes)}'
    yield f'C.num_train_imgs = {len(splits["train"])}'
    yield f'C.num_eval_imgs = {len(splits["val"])}'
