"""``eval.py --export``: a trained network as ONNX or as a program of ``torch.export``, for use without this project."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from furnace.engine.logger import make_folder
from furnace.engine.model import Segmenter
from furnace.utils.errors import UserError, write_error
from furnace.utils.files import beside

SUFFIXES = ('.onnx', '.pt2')
SMALLEST = 17  # pixels a side: below, the deep map would be a single pixel, which the program could not treat alike


def require_exportable(path: Path, force: bool) -> None:
    """Raises UserError for another suffix, a file that is there already (unless forced), or packages that do not do."""
    if path.suffix not in SUFFIXES:
        raise UserError(f'--export {path}: expected a file name that ends in {" or ".join(SUFFIXES)}')
    if path.is_dir() or (path.exists() and not force):
        raise UserError(f'{path}: is there already; --force writes over a file')
    if path.suffix == '.onnx':
        if torch.__version__ < (2, 7):
            raise UserError(f'--export {path}: needs PyTorch 2.7, this is {torch.__version__}; .pt2 does not')
        missing = [name for name in ('onnx', 'onnxscript') if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(f'--export {path}: needs {" and ".join(missing)}: pip install onnx onnxscript')


def export(model: Segmenter, path: Path) -> None:
    """Write ``model`` to ``path``, whole or not at all: float32 ``images`` (N, 3, H, W), RGB in 0 … 1, to ``logits``.

    N, H and W are free (both sides at least ``SMALLEST``); the normalisation is part of the program. Names and colours
    of the classes go with it as JSON: in the metadata of ONNX under ``classes``, in ``classes.json`` of a .pt2.

    Args:
        model: on the CPU.
        path: ends in one of ``SUFFIXES``.

    Raises:
        UserError: the file cannot be written.
        RunError: the disk is full.
    """
    size = {2: torch.export.Dim('height', min=SMALLEST), 3: torch.export.Dim('width', min=SMALLEST)}
    shapes = {'images': {0: torch.export.Dim('batch'), **size}}
    example = (torch.rand(2, 3, 64, 96),)  # a 1 would be taken as fixed
    classes = json.dumps(model.classes.plain())
    make_folder(path.parent)
    try:
        with beside(path) as temporary, _any_size():
            if path.suffix == '.onnx':
                program = torch.onnx.export(
                    model, example, dynamo=True, verbose=False, dynamic_shapes=shapes,
                    input_names=['images'], output_names=['logits'],
                )  # fmt: skip
                program.model.metadata_props['classes'] = classes
                program.save(temporary, external_data=False)
            else:
                program = torch.export.export(model, example, dynamic_shapes=shapes)
                torch.export.save(program, temporary, extra_files={'classes.json': classes})
    except OSError as error:
        raise write_error(error, path) from None


@contextmanager
def _any_size() -> Iterator[None]:
    """PyTorch before 2.13 keeps of the example whether the side of a pooled map is odd: newer ones reckon like this."""
    if torch.__version__ >= (2, 13):
        yield
        return
    with mock.patch('torch._meta_registrations.div_rtn', lambda x, y: x // y):
        yield
