"""Fault bench: runs that are killed, stopped, damaged or starved must end with the bytes of a run that never was.

    python tests/faults.py --rounds 30        one line a round, and a last one: N rounds, N identical, 0 lost

It trains exp_demo on tiny images of its own in a temporary folder. The moments are random; --seed repeats them.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from ends import difference
from tiny import Demo, wait_until

ITERATIONS = 8


class Bench:
    """One reference run, and rounds that disturb another and let it go on."""

    def __init__(self, root: Path, rng: random.Random):
        self.root, self.rng, self.demo = root, rng, Demo(root)
        self.reference = root / 'reference'
        self._finish(self.reference)

    def _finish(self, log: Path, **settings) -> None:
        outcome = self.demo.process('train.py', log, '-c', 'auto', **settings)
        if outcome.status:
            raise AssertionError(f'could not go on: {outcome.stderr.strip().splitlines()[-1:]}')

    def _run_until(self, log: Path, iteration: int, **settings) -> subprocess.Popen:
        process = self.demo.start('train.py', log, checkpoint_minutes=0.0, **settings)
        losses, last = log / 'losses.jsonl', log / 'snapshot' / 'epoch-last.pth'
        wait_until(process, lambda: last.is_file() and losses.is_file() and losses.read_text().count('\n') >= iteration)
        return process

    def _signal(self, log: Path, number: int) -> str:
        iteration = self.rng.randint(1, ITERATIONS - 1)
        process = self._run_until(log, iteration, num_workers=self.rng.choice([0, 1]))
        for _ in range(self.rng.randint(0, 2000)):  # somewhere in the next step, or in a save
            os.sched_yield()
        process.send_signal(number)
        process.communicate()
        return f'after iteration {iteration}'

    def sigkill(self, log: Path) -> str:
        return self._signal(log, signal.SIGKILL)

    def sigterm(self, log: Path) -> str:
        return self._signal(log, signal.SIGTERM)

    def truncated(self, log: Path) -> str:
        """The last checkpoint is cut; an older snapshot must be there to fall back on."""
        process = self._run_until(log, 7, snapshot_iter=1)
        process.kill()
        process.communicate()
        last = log / 'snapshot' / 'epoch-last.pth'
        size = self.rng.randrange(last.stat().st_size)
        content = last.read_bytes()[:size]
        last.unlink()  # it may be a second name of a snapshot
        last.write_bytes(content)
        return f'to {size} bytes'

    def disk_full(self, log: Path) -> str:
        """A limit on the size of files stands in for a full disk."""
        self._run_until(log, 2).kill()
        kept = (log / 'snapshot' / 'epoch-last.pth').read_bytes()
        limit = self.rng.randrange(1, len(kept) // 1024)
        command = f'ulimit -f {limit}; exec "$@"'
        outcome = self.demo.process('train.py', log, '-c', 'auto', shell=command)
        if outcome.status == 0 or 'Traceback' in outcome.stderr or 'error:' not in outcome.stderr:
            raise AssertionError(f'a full disk was not told: {outcome}')
        return f'at {limit} KiB'

    def corrupt_image(self, log: Path) -> str:
        """An image of the list cannot be read for a while."""
        image = self.rng.choice(sorted((self.demo.data / 'images' / 'train').iterdir()))
        content = image.read_bytes()
        image.write_bytes(content[: self.rng.randrange(len(content) - 100)])
        try:
            outcome = self.demo.process('train.py', log)
        finally:
            image.write_bytes(content)
        if outcome.status not in (0, 2) or 'Traceback' in outcome.stderr:
            raise AssertionError(f'a broken image was not told: {outcome}')
        return image.name

    def worker_killed(self, log: Path) -> str:
        process = self._run_until(log, 1, num_workers=1)
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        _, stderr = process.communicate()
        if 'Traceback' in stderr:
            raise AssertionError(f'a dead worker was not told: {stderr}')
        return f'{len(children)} of them'


FAULTS = (Bench.sigkill, Bench.sigterm, Bench.truncated, Bench.disk_full, Bench.corrupt_image, Bench.worker_killed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=len(FAULTS), metavar='N')
    parser.add_argument('--seed', type=int, default=None, metavar='S', help='default: another one each time')
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    print(f'seed {seed}', flush=True)
    identical = lost = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), rng)
        for number in range(args.rounds):
            fault, log = FAULTS[number % len(FAULTS)], bench.root / f'round{number}'
            try:
                moment = fault(bench, log)
                bench._finish(log)
                found = difference(log, bench.reference)
            except AssertionError as error:
                moment, found = '', str(error)
                lost += 1
            identical += found is None
            result = 'identical' if found is None else f'DIFFERENT: {found}'
            print(f'{number + 1:3d} {fault.__name__:13s} {moment:24s} {result}', flush=True)
            shutil.rmtree(log, ignore_errors=True)
    print(f'{args.rounds} rounds, {identical} identical, {lost} lost')
    return 0 if identical == args.rounds else 1


if __name__ == '__main__':
    sys.exit(main())
