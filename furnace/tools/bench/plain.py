"""The plain version that everything is compared with: ``tests/plain`` of the checkout, no part of the library."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from furnace.utils.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[3]
FOLDER = CHECKOUT / 'tests' / 'plain'


def load(module: str) -> ModuleType:
    """``data``, ``step`` or ``evaluation`` of the plain version.

    Raises:
        UserError: the checkout has no tests/plain.
    """
    if 'plain' not in sys.modules:
        path = FOLDER / '__init__.py'
        if not path.is_file():
            raise UserError(f'{FOLDER}: the plain version is not there; the benchmark needs a checkout with its tests')
        spec = importlib.util.spec_from_file_location('plain', path, submodule_search_locations=[str(FOLDER)])
        sys.modules['plain'] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules['plain'])
    return importlib.import_module(f'plain.{module}')
