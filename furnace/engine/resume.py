"""Whether a run may go on from a checkpoint: only under settings that give the same result."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from furnace.datasets.lists import Item

# Settings that may change: they say where things lie, what is kept, and how a run is watched and evaluated, not what
# it computes. The lists are compared by their content.
_FREE = re.compile(
    r'volna|device|num_workers|num_eval_imgs|log_every|snapshot_iter|keep_snapshots|checkpoint_minutes|max_bad_steps'
    r'|pretrained_model|eval_\w+|\w+_(source|folder|dir|path)'
)


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
