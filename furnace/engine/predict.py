"""``eval.py -i``: images and videos without labels to label maps, overlays and confidence maps."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from furnace.datasets.inputs import Source, ahead, count, read
from furnace.engine.logger import make_folder, tell
from furnace.engine.model import Segmenter
from furnace.utils.errors import RunError, UserError, write_error
from furnace.utils.pictures import save_segmentation


def require_free(folder: Path, force: bool) -> None:
    """Raises UserError where ``folder`` holds something already, unless forced."""
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f'{folder}: is not empty; -p names another folder, --force writes into this one')


def predict(model: Segmenter, sources: Sequence[Source], folder: Path, every: int = 1) -> None:
    """Segment the sources and save what comes out below ``folder``, see ``save_segmentation``.

    Args:
        every: of the frames of a video, every which one.

    Raises:
        UserError: the pictures cannot be written.
        RunError: the disk is full.
        RunError: some sources are broken; the others were segmented.
    """
    make_folder(folder)
    palette, broken, done = model.classes.palette(), [], 0
    saving = Future()
    saving.set_result(None)
    with ThreadPoolExecutor(1) as pool, tqdm(total=count(sources, every), unit='image', leave=False) as bar:
        for picture in ahead(read(sources, every)):
            bar.update()
            if isinstance(picture, UserError):
                broken.append(str(picture))
                continue
            label, confidence = model.predict(picture.image)
            _finish(saving, folder)
            saving = pool.submit(save_segmentation, folder, *picture, label, confidence, palette)
            done += 1
        _finish(saving, folder)
    tell(f'{done} images segmented; label maps, overlays and confidence maps: {folder}')
    if broken:
        raise RunError(f'{len(broken)} of {len(sources)} inputs could not be read: {"; ".join(broken)}')


def _finish(saving: Future, folder: Path) -> None:
    """Wait until the last picture is on the disk: one is saved while the next is segmented."""
    try:
        saving.result()
    except OSError as error:
        raise write_error(error, folder, 'the pictures cannot be written') from None
