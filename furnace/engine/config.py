"""config.py files: how they are read, overridden and checked.

An experiment's ``config.py`` assigns plain values to ``C = Config()``. Environment variables and ``NAME=VALUE``
arguments replace a value at the moment the file assigns it, so everything that the file derives from it follows.
"""

import ast
import difflib
import importlib.util
import math
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from easydict import EasyDict

from furnace.utils.errors import UserError

# Environment variables that CPS's scripts set, and the attribute each stands for.
ENVIRONMENT = {
    'volna': 'volna',
    'snapshot_dir': 'snapshot_dir',
    'learning_rate': 'lr',
    'batch_size': 'batch_size',
    'snapshot_iter': 'snapshot_iter',
}

# Larger values end in a lack of memory, not in a result; of ids, 8 bits hold 255 beside void.
MOST = {
    'num_classes': 255,
    'seed': 2**63 - 1,
    'image_height': 32767,
    'image_width': 32767,
    'eval_crop_size': 32767,
    'train_scale_array': 16,
    'eval_scale_array': 16,
    'cutmix_boxmask_n_boxes': 1000,
    'batch_size': 10**5,
    'momentum': 1,
    'bn_momentum': 1,
    'cutmix_mask_prop_range': 1,
    'niters_per_epoch': 10**7,
    'num_workers': 1000,
}

_overrides: ContextVar[dict[str, str] | None] = ContextVar('overrides', default=None)


class Config(EasyDict):
    """An EasyDict in which overridden names keep their override, whatever is assigned to them."""

    def __setattr__(self, name: str, value: Any) -> None:
        texts = _overrides.get() or {}
        if name in texts:
            value = parse(name, texts[name], value)
        super().__setattr__(name, value)

    __setitem__ = __setattr__


def parse(name: str, text: str, default: Any) -> Any:
    """``text`` as a value of the type of ``default``.

    Raises:
        UserError: it is not of that type.
    """
    if isinstance(default, str):
        return None if text == 'None' else text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {'true': True, 'false': False}.get(text.lower(), text)
    if default is None:
        return value
    if isinstance(default, bool) and value in (0, 1):
        return bool(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, list | tuple):
        if isinstance(value, list | tuple):
            return list(value)
    elif type(value) is type(default):
        return value
    raise UserError(f'{name}={text}: expected a value of type {type(default).__name__}, such as {default!r}')


def read_overrides(arguments: Iterable[str]) -> dict[str, str]:
    """Texts by attribute name from the environment and, above it, from ``NAME=VALUE`` arguments."""
    texts = {name: os.environ[variable] for variable, name in ENVIRONMENT.items() if os.environ.get(variable)}
    for argument in arguments:
        name, equals, text = argument.partition('=')
        if not equals or not name.isidentifier():
            raise UserError(f'{argument}: expected NAME=VALUE, such as labeled_ratio=8')
        texts[name] = text
    return texts


def _line(error: Exception, path: str | os.PathLike) -> int | None:
    """The line of the file at ``path`` in which the error arose."""
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)


@contextmanager
def overriding(texts: dict[str, str]) -> Iterator[None]:
    """Within it ``texts``, by attribute name, replace what is assigned to a Config."""
    token = _overrides.set(texts)
    try:
        yield
    finally:
        _overrides.reset(token)


def load_config(path: str | os.PathLike, arguments: Iterable[str] = (), training: bool = True) -> Config:
    """The ``config`` of a config.py, with overrides applied and checked.

    Args:
        path: the file.
        arguments: ``NAME=VALUE`` texts from the command line.
        training: also check what evaluation does without.

    Raises:
        UserError: an unknown name, a wrong type, or a value that no run can use.
    """
    texts = read_overrides(arguments)
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    with overriding(texts):
        try:
            spec.loader.exec_module(module)
        except UserError:
            raise
        except Exception as error:  # the file is the user's: whatever fails in it is told with its line
            raise UserError(f'{path}: line {_line(error, path)}: {error}') from None
    sys.modules['config'] = module
    config = module.config
    for name in texts:
        if name not in config:
            close = difflib.get_close_matches(name, config, n=1)
            hint = f'; did you mean {close[0]}?' if close else ''
            raise UserError(f'{name}: no such setting in {Path(path).parent.name}/config.py{hint}')
    try:
        check(config, training)
    except KeyError as error:
        raise UserError(f'{path}: sets no C.{error.args[0]}') from None
    return config


def plain(value: Any) -> Any:
    """A copy of plain Python values alone, as a checkpoint may hold them; anything else becomes text."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, 'tolist'):  # NumPy
        return plain(value.tolist())
    # Exact types: what is derived from one of them would be stored with its class.
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def check(config: Mapping[str, Any], training: bool = True) -> None:
    """Raises UserError for values that cannot work, before anything is read or written; see ``load_config``."""
    from furnace.base_model import BACKBONES, source_problem
    from furnace.engine.precision import AMP
    from furnace.seg_opr.pseudo import TARGETS

    def choice(name: str, options: Iterable) -> None:
        options = list(options)
        if config[name] not in options:
            raise UserError(f'{name} = {config[name]!r}: choose one of {", ".join(map(str, options))}')

    def at_least(name: str, least: float, kind: type = Real, why: str = '') -> None:
        value = config[name]
        most = MOST.get(name, math.inf)
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most or value == math.inf:
            what = 'a whole number' if kind is Integral else 'a number'
            limit = '' if most == math.inf else f' and at most {most}'
            raise UserError(f'{name} = {value!r}: must be {what} of at least {least}{limit}{why}')

    def numbers(name: str, form: str, count: int | None = None, positive: bool = True) -> None:
        values, most = plain(config[name]), MOST.get(name, sys.float_info.max)
        if (
            not isinstance(values, list)
            or not values
            or count not in (None, len(values))
            or not all(isinstance(value, Real) and abs(value) <= most for value in values)
            or (positive and min(values) <= 0)
        ):
            raise UserError(f'{name} = {config[name]!r}: must be a list of {form}')

    choice('backbone', BACKBONES)
    choice('method', [*TARGETS, 'supervised'])
    choice('background', [255])
    choice('amp', ['auto', *AMP])
    for name in ('reweight', 'cutmix', 'cutmix_boxmask_fixed_aspect_ratio', 'cutmix_boxmask_by_size',
                 'cutmix_boxmask_outside_bounds', 'cutmix_boxmask_no_invert', 'compile', 'grad_checkpoint',
                 'deterministic', 'eval_flip', 'eval_whole'):  # fmt: skip
        choice(name, [True, False])
    if 'supervision' in config:  # VOC's
        choice('supervision', ['semi', 'few', 'full'])
    if 'ohem_min_kept' in config:  # Cityscapes'
        at_least('ohem_thresh', 0)
        at_least('ohem_min_kept', 0, Integral)
    for name in ('num_train_imgs', 'max_samples'):  # a config.py may make niters_per_epoch of them
        if name in config:
            at_least(name, 1, Integral)
    if config['compile'] and config['grad_checkpoint']:
        raise UserError('compile and grad_checkpoint: do not work together; set one of them to False')
    if not isinstance(config['cache_dir'], str | os.PathLike | None):
        raise UserError(f'cache_dir = {config["cache_dir"]!r}: must be the path of a folder, or None')
    if config['keep_snapshots'] is not None:
        at_least('keep_snapshots', 1, Integral)
    for name in ('log_dir', 'snapshot_dir', 'img_root_folder', 'gt_root_folder', 'device'):
        if not isinstance(config[name], str | os.PathLike):
            raise UserError(f'{name} = {config[name]!r}: must be text')
    source = config['pretrained_model']
    if not isinstance(source, str | os.PathLike | None) or source == '':
        raise UserError(
            f'pretrained_model = {source!r}: must be the path of a file, hf:OWNER/NAME, torchvision, or None'
        )
    if source is not None and (problem := source_problem(source, config['backbone'])):
        raise UserError(f'pretrained_model = {source!r}: {problem}')
    for name in ('train_source', 'unsup_source', 'eval_source'):
        if not isinstance(config[name], str):
            raise UserError(f'{name} = {config[name]!r}: must be the path of a list')
    at_least('labeled_ratio', 1, Integral)
    if training:
        if config['nepochs'] is None:
            ratio = config['labeled_ratio']
            raise UserError(f'nepochs: none is recommended for labeled_ratio = {ratio}; set one, e.g. nepochs=100')
        at_least('nepochs', 1, Integral)
        at_least('batch_size', 2, Integral, ': BatchNorm needs the statistics of several images')
    for name in ('niters_per_epoch', 'image_height', 'image_width', 'snapshot_iter',
                 'log_every', 'eval_crop_size', 'eval_batch_size', 'cutmix_boxmask_n_boxes'):  # fmt: skip
        at_least(name, 1, Integral)
    at_least('num_classes', 2, Integral)
    for name in ('num_workers', 'seed', 'max_bad_steps', 'image_every', 'eval_every'):
        at_least(name, 0, Integral)
    for name in ('lr', 'lr_power', 'momentum', 'weight_decay', 'unsup_weight', 'warm_up_epoch', 'bn_eps', 'bn_momentum',
                 'checkpoint_minutes'):  # fmt: skip
        at_least(name, 0)
    for name in ('train_scale_array', 'eval_scale_array'):
        numbers(name, 'factors above 0 and at most 16, such as [1]')
    numbers('image_mean', '3 numbers, for R, G and B', 3, positive=False)
    numbers('image_std', '3 numbers above 0, for R, G and B', 3)
    numbers('cutmix_mask_prop_range', '2 shares above 0 and at most 1, such as [0.25, 0.5]', 2)
    if not isinstance(config['eval_stride_rate'], Real) or not 0 < config['eval_stride_rate'] <= 1:
        raise UserError(f'eval_stride_rate = {config["eval_stride_rate"]!r}: must be above 0 and at most 1')
