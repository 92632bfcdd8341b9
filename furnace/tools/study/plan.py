"""What a study compares, and which of its runs are done."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from furnace.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
KEYS = {'experiment': str, 'settings': dict, 'variants': dict, 'ratios': list, 'seeds': list}


class Run(NamedTuple):
    """One training of a plan."""

    variant: str
    ratio: int
    seed: int

    def __str__(self) -> str:
        return f'{self.variant}, 1/{self.ratio}, seed {self.seed}'

    @property
    def folder(self) -> str:
        """The name of its log folder."""
        return f'{self.variant.replace(" ", "_")}_1-{self.ratio}_{self.seed}'


class Plan:
    """What is to be compared, as a JSON file says it, and the results beside it (``.jsonl``: one run a line).

    ``experiment`` names the folder with ``config.py`` and ``train.py``, ``settings`` what all runs change in it,
    ``variants`` what each of the compared methods changes besides; each is trained for all ``ratios`` and ``seeds``.

    Raises:
        UserError: the file is not of this form.
    """

    def __init__(self, path: Path):
        self.path, self.results = path, path.with_suffix('.jsonl')
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise UserError(f'{path}: cannot be read as a plan: {error}') from None
        for key, kind in KEYS.items():
            if not isinstance(content, dict) or not isinstance(content.get(key), kind) or not content[key]:
                raise UserError(f'{path}: a plan has "experiment", "settings", "variants", "ratios" and "seeds"')
        self.experiment = ROOT / content['experiment']
        self.settings: dict[str, Any] = content['settings']
        self.variants: dict[str, dict[str, Any]] = content['variants']
        self.ratios: list[int] = content['ratios']
        # One seed of everything comes before the next seed, so that a study that is cut short compares all of it.
        self.runs = [Run(v, r, s) for s, r, v in product(content['seeds'], self.ratios, self.variants)]
        folders = Counter(run.folder for run in self.runs)
        twice = next((folder for folder, count in folders.items() if count > 1), None)
        if twice:
            raise UserError(f'{path}: several runs would have the folder {twice}; name each variant, ratio, seed once')
        if slashed := next((variant for variant in self.variants if '/' in variant), None):
            raise UserError(f'{path}: {slashed}: the variants name folders; without "/"')

    def require(self, variants: Iterable[str], ratios: Iterable[int] = ()) -> None:
        """Raises UserError where one of them is not in the plan."""
        for names, kind, known in ((variants, 'variants', self.variants), (ratios, 'ratios', self.ratios)):
            for name in names:
                if name not in known:
                    raise UserError(f'{name}: {self.path} has the {kind} {", ".join(map(str, known))}')

    def overrides(self, run: Run) -> list[str]:
        """The ``NAME=VALUE`` arguments of a run's train.py."""
        settings = self.settings | self.variants[run.variant] | {'labeled_ratio': run.ratio, 'seed': run.seed}
        return [f'{name}={value}' for name, value in settings.items()]

    def read(self) -> dict[Run, dict]:
        """The runs that are done, in the order of the plan.

        Raises:
            UserError: a line is not what ``run`` writes, or its settings are not those of the plan.
        """
        rows = {}
        lines = self.results.read_text(encoding='utf-8').splitlines() if self.results.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                run = Run(row['variant'], row['ratio'], row['seed'])
                rows[run] = row
                same = run not in self.runs or row['overrides'] == self.overrides(run)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f'{self.results}: line {number} is no run of a study ({error!r})') from None
            if not same:
                raise UserError(
                    f'{self.results}: {run} was trained with {" ".join(row["overrides"])}, the plan says '
                    f'{" ".join(self.overrides(run))}; give the plan a new name'
                )
        return {run: rows[run] for run in self.runs if run in rows}
