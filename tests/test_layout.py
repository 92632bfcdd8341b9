"""Which part of furnace may know which: arrows point down only."""

import ast
from pathlib import Path

import pytest

FURNACE = Path(__file__).resolve().parents[1] / 'furnace'
BELOW = {
    'utils': set(),
    'datasets': {'utils'},
    'base_model': {'utils'},
    'seg_opr': {'utils'},
    'engine': {'utils', 'datasets', 'base_model', 'seg_opr'},
    'tools': {'utils', 'datasets', 'base_model', 'seg_opr', 'engine'},
}


def imported(path: Path) -> set[str]:
    """The first two names of all modules that the file imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: a relative import'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {'.'.join(name.split('.')[:2]) for name in names}


@pytest.mark.parametrize('part', BELOW)
def test_imports(part):
    allowed = {f'furnace.{name}' for name in BELOW[part] | {part}}
    files = list((FURNACE / part).rglob('*.py'))
    assert files
    for path in files:
        found = imported(path)
        assert {name for name in found if name.startswith('furnace')} <= allowed, path
        assert not {name for name in found if name.startswith('exp_')}, path
