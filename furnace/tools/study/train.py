"""Training the runs of a study, and adding them to its results."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from furnace.engine.curves import LOSSES, SCORES
from furnace.tools.bench.measure import machine
from furnace.tools.same_losses import read_losses
from furnace.tools.study.plan import Plan, Run
from furnace.tools.study.tables import best, last
from furnace.utils.errors import RunError

DIGITS = 5  # significant ones of a loss in the results
SPENT = 'seconds.txt'  # of every attempt


class Processes:
    """The processes that train."""

    def __init__(self):
        self.started: list[subprocess.Popen] = []
        self.stopped = False

    def run(self, command: list[str], **options) -> int:
        """The exit status of ``command``; the options are Popen's."""
        # In a session of its own, a Ctrl-C at the terminal does not reach it beside the signal of ``stop``.
        process = subprocess.Popen(command, start_new_session=True, **options)
        self.started.append(process)
        if self.stopped:  # meanwhile
            process.terminate()
        return process.wait()

    def stop(self) -> None:
        """Have all of them save and end, those too that another thread is about to start."""
        self.stopped = True
        for process in self.started:
            process.terminate()


def train(plan: Plan, run: Run, folder: Path, device: torch.device, threads: int, processes: Processes) -> dict:
    """Train one run in a process of its own, going on where an earlier one was stopped.

    Raises:
        RunError: it failed.
    """
    log = folder / run.folder
    log.mkdir(parents=True, exist_ok=True)
    which = 'cpu' if device.type == 'cpu' else str(device.index)
    command = [sys.executable, 'train.py', '-c', 'auto', '-d', which, *plan.overrides(run), f'log_dir={log}']
    begin = time.monotonic()
    with open(log / 'output.txt', 'ab') as output:
        environment = os.environ | {'OMP_NUM_THREADS': str(threads)}
        status = processes.run(command, cwd=plan.experiment, stdout=output, stderr=output, env=environment)
    with open(log / SPENT, 'a', encoding='utf-8') as file:
        file.write(f'{time.monotonic() - begin}\n')
    if status:
        *_, said = ['', *(log / 'output.txt').read_text(encoding='utf-8', errors='replace').splitlines()]
        raise RunError(f'train.py ended with status {status}: {said} (all of it: {log / "output.txt"})')
    seconds = sum(map(float, (log / SPENT).read_text(encoding='utf-8').split()))
    losses = [{name: float(f'{value:.{DIGITS}g}') for name, value in row.items()} for row in read_losses(log / LOSSES)]
    return {
        **run._asdict(),
        'overrides': plan.overrides(run),
        'seconds': round(seconds, 1),
        'machine': machine(device) | {'torch_threads': threads},
        'scores': [json.loads(line) for line in (log / SCORES).read_text(encoding='utf-8').splitlines()],
        'losses': losses,
    }


def train_all(plan: Plan, runs: list[Run], folder: Path, device: torch.device, jobs: int, keep: bool) -> list[str]:
    """Train ``runs``, ``jobs`` side by side, and append each to the results when it is done.

    An exception that a signal raises stops them: they save and end.

    Returns:
        What is to be said of those that failed.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failures, processes = [], Processes()
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(train, plan, run, folder, device, threads, processes): run for run in runs}
        for done, future in enumerate(as_completed(futures), 1):
            run = futures[future]
            try:
                row = future.result()
                _append(plan.results, row)
                (folder / run.folder / SPENT).unlink(missing_ok=True)  # another training in this folder counts anew
                if not keep:
                    shutil.rmtree(folder / run.folder / 'snapshot')
            except (RunError, OSError) as error:
                failures.append(f'{run}: {error}')
                print(f'{done}/{len(runs)} {run}: {error}', flush=True)
                continue
            print(
                f'{done}/{len(runs)} {run}: mean IoU {100 * last(row):.2f}, best {100 * best(row):.2f}, '
                f'{row["seconds"]:.0f} s',
                flush=True,
            )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        processes.stop()
        pool.shutdown()
    return failures


def _append(path: Path, row: dict) -> None:
    """``row`` as a line of its own, or nothing of it where the disk is full."""
    line = f'{json.dumps(row)}\n'.encode()
    with open(path, 'ab', buffering=0) as file:
        end = file.tell()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(end)
            raise
