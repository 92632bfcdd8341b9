"""Going on from a checkpoint: what it holds, and whether a run may, only under settings that give the same result."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from furnace.base_model import load_network
from furnace.datasets.lists import Item
from furnace.engine.config import plain
from furnace.engine.distributed import run_id
from furnace.utils.errors import UserError

if TYPE_CHECKING:
    from furnace.engine.trainer import Trainer

# Settings that may change: they say where things lie, what is kept, and how a run is watched and evaluated, not what
# it computes. The lists are compared by their content.
_FREE = re.compile(
    r'volna|device|num_workers|num_eval_imgs|log_every|image_every|snapshot_iter|keep_snapshots|checkpoint_minutes'
    r'|max_bad_steps|pretrained_model|eval_\w+|\w+_(source|folder|dir|path)'
)


def gather(trainer: Trainer) -> dict:
    """Tensors and plain values. No generator has a state: what is drawn follows from seed and place alone."""
    classes, validation = trainer.classes, trainer.validation
    return {
        'model': trainer.network.state_dict(),
        **trainer.optimizers.state_dict(),
        'epoch': (trainer.iteration - 1) // trainer.config.niters_per_epoch,
        'iteration': trainer.iteration,
        'bad_steps': trainer.bad_steps,
        'config': plain(trainer.config),
        'classes': classes.plain(),
        'lists': _lists(trainer),
        'processes': trainer.world.size,
        'validation': validation.state_dict() if validation else trainer.unused_scores,
        'amp': trainer.amp,
        'run': run_id(),
    }


def restore(trainer: Trainer, content: dict, source: Path, force: bool = False) -> list[str]:
    """Take up what ``gather`` gave in an earlier run.

    Args:
        content: of the file ``source``.
        force: also where the settings have changed.

    Returns:
        What the user should know of.

    Raises:
        UserError: it does not fit this network, only evaluation can use it, or the settings have changed or are
            not told.
    """
    load_network(trainer.network, content, source)
    trainer.optimizers.load(content, source)
    if 'config' not in content:
        return [_restore_released(trainer, content, source, force)]
    try:
        trainer.iteration, trainer.bad_steps = int(content['iteration']), int(content['bad_steps'])
        if not 0 <= trainer.iteration < 2**63:
            raise ValueError(f'iteration {trainer.iteration}')
        changed = changed_settings(content['config'], plain(trainer.config))
        lists = _lists(trainer)
        changed += [f'the {name} list' for name, value in content['lists'].items() if value != lists[name]]
        processes = int(content['processes'])
        trainer.unused_scores = content['validation']
        last = trainer.unused_scores and trainer.unused_scores['last']
        trainer.scored = int(last['iteration']) if last else 0
        if trainer.validation and trainer.unused_scores:
            trainer.validation.load_state_dict(trainer.unused_scores)
        amp = str(content['amp'])
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f'{source}: holds no state that training can go on from ({error!r})') from None
    if changed and not force:
        raise UserError(f'{source}: comes from a run with other settings ({"; ".join(changed)}); --force goes on')
    pairs = (('processes', processes, trainer.world.size), ('amp', amp, trainer.amp))
    return [
        f'the run began with {name} = {before} and goes on with {now}: not to the same bytes'
        for name, before, now in pairs
        if before != now
    ]


def _restore_released(trainer: Trainer, content: dict, source: Path, force: bool) -> str:
    """Go on after the epoch at whose end CPCL's own code wrote ``content``, which tells no settings."""
    epoch = content.get('epoch')
    if not isinstance(epoch, int) or not 0 <= epoch < 2**31:
        raise UserError(f'{source}: tells no epoch that training can go on from; eval.py takes it')
    if not force:
        raise UserError(
            f'{source}: tells neither settings nor lists, like those that CPCL released; eval.py takes it, '
            f'and --force goes on after its epoch {epoch} with the settings of config.py'
        )
    trainer.iteration = (epoch + 1) * trainer.config.niters_per_epoch
    return f'{source} tells no settings: going on after its epoch {epoch} with those of config.py'


def _lists(trainer: Trainer) -> dict[str, str | None]:
    data = trainer.data
    return {'labelled': list_digest(data.labeled), 'unlabelled': list_digest(data.unlabeled)}


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ and matter, each as ``name: was …, is …``."""
    missing = object()
    pairs = {name: (saved.get(name, missing), now.get(name, missing)) for name in {**saved, **now}}
    return [
        f'{name}: was {_text(before, missing)}, is {_text(after, missing)}'
        for name, (before, after) in pairs.items()
        if before != after and not _FREE.fullmatch(name)
    ]


def _text(value: Any, missing: object) -> str:
    return 'not set' if value is missing else repr(value)


def list_digest(items: Iterable[Item] | None) -> str | None:
    """A hash of the images' names in their order; where they lie does not matter."""
    if items is None:
        return None
    return hashlib.sha256('\n'.join(item.name for item in items).encode()).hexdigest()
