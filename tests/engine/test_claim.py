"""Two trainings in one folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import told

from furnace.engine.claim import claimed
from furnace.utils.errors import UserError

HOLDS = """
import sys
from pathlib import Path
from furnace.engine.claim import claimed
with claimed(Path(sys.argv[1])):
    print('claimed', flush=True)
    input()
"""


@pytest.fixture
def claim():
    """A process that claims a folder until it ends."""
    processes = []

    def start(folder):
        command = [sys.executable, '-c', HOLDS, str(folder)]
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == 'claimed\n'
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_training_changes_nothing(demo, trained, log, claim):
    assert demo.call('train.py', log, nepochs=1, niters_per_epoch=1).status == 0
    other = claim(log)
    before = sorted(log.rglob('*'))
    text = told(demo.call('train.py', log, nepochs=1, niters_per_epoch=1))
    assert text.startswith(f'{log}: a training runs there (process {other.pid} on ')
    assert sorted(log.rglob('*')) == before


def test_a_killed_process_claims_nothing(tmp_path, claim):
    other = claim(tmp_path)
    with pytest.raises(UserError), claimed(tmp_path):
        pass
    other.kill()
    other.wait()
    with claimed(tmp_path):
        assert (tmp_path / '.lock').read_text().startswith('process ')
