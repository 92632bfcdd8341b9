"""``eval.py --report``: a page with scores, confusion matrix and the worst images, for a browser, without a network."""

import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from furnace.base_model.weights.files import sha256
from furnace.datasets.lists import Item
from furnace.engine.config import plain
from furnace.engine.evaluator import Evaluator
from furnace.engine.logger import make_folder
from furnace.engine.report.gallery import make_gallery, worst
from furnace.engine.report.page import render
from furnace.utils.errors import write_error

PAGE = 'index.html'


def write_report(
    folder: Path,
    title: str,
    evaluator: Evaluator,
    items: Sequence[Item],
    results: Sequence[dict],
    top: dict,
    image_iou: Tensor,
    number: int,
) -> Path:
    """The report on an evaluation, in a new folder; returns the path of its page.

    Args:
        folder: for the page and the pictures; not there yet, or empty.
        title: of the experiment.
        evaluator: with the weights of ``top``.
        items: all that was evaluated.
        results: as ``evaluator.record`` makes them, in the order of evaluation.
        top: the one of them that is shown in detail.
        image_iou: of ``top``, for each item.
        number: of images in the gallery at most.

    Raises:
        UserError: it cannot be written.
        RunError: the disk is full.
    """
    make_folder(folder)
    try:
        chosen = [items[index] for index in worst(image_iou, number)]
        gallery = make_gallery(folder, evaluator, top['branch'], chosen) if chosen else []
        page = render(title, results, top, evaluator.classes, gallery, _facts(top, evaluator), plain(evaluator.config))
        path = folder / PAGE
        # Names of files may hold what UTF-8 cannot.
        path.write_text(page, encoding='utf-8', errors='backslashreplace')
    except OSError as error:
        raise write_error(error, folder, 'the report cannot be written') from None
    return path


def _facts(top: dict, evaluator: Evaluator) -> dict[str, str]:
    """What was evaluated with what."""
    C, trained = evaluator.config, top['trained']
    known = {
        'Checkpoint': top['checkpoint'],
        'SHA-256': sha256(top['checkpoint']),
        'Epoch': top['epoch'],
        'Iteration': top['iteration'],
        'Trained with': ', '.join(f'{name} {value}' for name, value in trained.items() if value is not None)
        or 'not told by the checkpoint',
        'Data list': C.eval_source,
        'Images': f'{top["images"]:,}',
        'Labelled pixels': f'{np.sum(top["confusion"]):,}',
        'Device': _device(evaluator.device),
        'Processes': evaluator.world.size,
        'Versions': f'Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}',
        'Date': f'{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}',
    }
    return {name: value for name, value in known.items() if value is not None}


def _device(device: torch.device) -> str:
    if device.type == 'cuda':
        return f'{torch.cuda.get_device_name(device)} ({device})'
    return f'CPU, threads: {torch.get_num_threads()}'
