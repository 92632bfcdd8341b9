"""Several processes, one a device, that act as one: started by torchrun or by ``-d 0-3``."""

import logging
import os
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from furnace.base_model import DualNetwork
from furnace.utils.errors import RunError, UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# A process that waits so long for the others gives up: one of them is gone.
TIMEOUT = timedelta(minutes=15)
# What the launcher passes on; SIGUSR1 is a cluster's notice.
SIGNALS = ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1')
TOGETHER = 20  # seconds between failures of one cause; later ones are the launcher's, which kills after 30
SAVING = 600  # seconds from a signal until the launcher kills what has not ended by itself
NCCL_CAUSE = 'Last error:'  # what follows it in NCCL's failures


_kept: list[Tensor] = []


def _keep(tensor: Tensor) -> None:
    """Until the next one, as older PyTorch (2.6) may hang else when the group ends.

    A thread of gloo's that frees the last reference waits for Python, which waits for the thread.
    """
    _kept[:] = [tensor]


@dataclass(frozen=True)
class World:
    """This process among the others; by default it is alone."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, on each of them."""
        if self.size > 1:
            tensor = tensor.clone()
            _keep(tensor)
            dist.all_reduce(tensor)
        return tensor

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give every process rank 0's values."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor, 0)

    def most(self, *values: int) -> list[int]:
        """The greatest of each value over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values)
        _keep(tensor)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()


ALONE = World()


def launched() -> bool:
    """Whether torchrun (or ``launch``) started this process."""
    return 'LOCAL_RANK' in os.environ and 'WORLD_SIZE' in os.environ


def local_place() -> tuple[int, int]:
    """This process's number among those of its machine, and how many they are."""
    return int(os.environ.get('LOCAL_RANK', 0)), int(os.environ.get('LOCAL_WORLD_SIZE', 1))


def restarted() -> bool:
    """Whether torchrun started it again, after a failure."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0


def run_id() -> str | None:
    """torchrun's name for all the attempts of one run; its process's number where it got none, on one machine."""
    name = os.environ.get('TORCHELASTIC_RUN_ID')
    if name == 'none' and os.environ.get('LOCAL_WORLD_SIZE') == os.environ.get('WORLD_SIZE'):
        return f'{name} {os.getppid()}'
    return name


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world, and this process's device: ``device`` itself where it is alone, else a GPU or the CPU for each.

    Raises:
        UserError: the port at which the processes are to meet is taken.
        RunError: another process is gone.
    """
    if not launched():
        if device.type == 'cuda':
            torch.cuda.set_device(device)  # the loader pins memory for the current one
        yield ALONE, device
        return
    if device.type == 'cuda':
        (number, processes), devices = local_place(), torch.cuda.device_count()
        if processes > devices:
            raise UserError(f'{processes} processes for {devices} GPUs; give torchrun --nproc_per_node={devices}')
        device = torch.device('cuda', number)
        torch.cuda.set_device(device)
    backend = 'cpu:gloo,cuda:nccl' if device.type == 'cuda' else 'gloo'
    try:
        store, rank, size = next(rendezvous('env://', timeout=TIMEOUT))
        store = _of_this_attempt(store, rank, size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        try:
            yield World(rank, size), device
        except (RuntimeError, RunError, UserError, OSError):
            raise  # without a farewell, which would wait for processes that may be gone
        except BaseException:
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    except RuntimeError as error:
        raise _connection_failure(error) or error from None


def _of_this_attempt(store: dist.Store, rank: int, size: int) -> dist.Store:
    """``store`` without what an earlier attempt left: torchrun keeps one for all, with the addresses of the dead.

    Rank 0 names the attempt. Its answer must not be one of an earlier attempt either, so the others ask for it by
    names of their own, which it answers until each has taken it. Restarts counted by torchrun would not do: they
    differ between machines.
    """
    name, deadline = uuid.uuid4().hex, time.monotonic() + TIMEOUT.total_seconds()
    if rank:
        store.set(f'asks {rank}', name)
        name = store.get(name).decode()
        store.set(f'{name} {rank}', '')
    else:
        for other in range(1, size):
            while not store.check([f'{name} {other}']):
                if time.monotonic() > deadline:
                    raise RunError(f'process {other} of {size} did not come within {TIMEOUT.seconds // 60} minutes')
                store.set(store.get(f'asks {other}').decode(), name)
                time.sleep(0.01)
    return dist.PrefixStore(name, store)


def _connection_failure(error: RuntimeError) -> UserError | RunError | None:
    """In words, if it is about the connection between the processes."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].split('. ')[0]
    if 'EADDRINUSE' in str(error):
        port = os.environ.get('MASTER_PORT')
        told = UserError(
            f'MASTER_PORT={port}: another program has this port; choose another one. '
            'On a single machine, -d and torchrun --standalone find a free one'
        )
    elif NCCL_CAUSE in str(error):
        cause = ' '.join(str(error).split(NCCL_CAUSE, 1)[1].split())
        told = RunError(
            f'NCCL: {cause}. Where another process was killed, this is what the others see of it; '
            'train.py -c auto goes on from the last checkpoint'
        )
    elif isinstance(error, dist.DistError) or 'gloo' in reason.lower():
        told = RunError(
            f'another process of this run is gone ({reason}). If nothing above says why, was it killed, '
            'as where memory is full? train.py -c auto goes on from the last checkpoint'
        )
    else:
        return None
    told.alone = True
    return told


def launch(command: Sequence[str], devices: Sequence[torch.device]) -> int:
    """Run ``command`` (a program and its arguments) once for each device; returns the exit status.

    PyTorch's elastic launcher starts the processes, passes signals on to them, and ends all where one fails.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if devices[0].type == 'cuda':
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',') if visible else [str(i) for i in range(torch.cuda.device_count())]
        os.environ['CUDA_VISIBLE_DEVICES'] = ','.join(names[device.index] for device in devices)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith('torch.distributed.elastic'):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they log is told below

    def pass_on(number: int, _frame: FrameType | None) -> None:
        raise SignalException(f'got {number}', sigval=signal.Signals(number))

    former = signal.signal(signal.SIGUSR1, pass_on)  # older PyTorch leaves it alone
    try:
        with TemporaryDirectory() as folder:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=len(devices),
                logs_specs=DefaultLogsSpecs(folder),
                run_id=str(uuid.uuid4()),
                rdzv_backend='c10d',
                rdzv_endpoint='localhost:0',  # a free port
                max_restarts=0,
            )
            # The newest PyTorch reads the attribute, others the variable, the oldest neither.
            config.signals_to_handle = os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'] = ','.join(
                name for name in SIGNALS if name != 'SIGHUP' or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
            )  # under nohup a closed terminal ends nothing
            config.shutdown_timeout = SAVING  # older PyTorch waits 30 s
            elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        rank, code = _cause(error.failures)
        if code >= 0:  # it has told what was wrong
            return code
        name = signal.Signals(-code).name
        print(f'error: process {rank} of {len(devices)} was ended by {name}; is memory full?', file=sys.stderr)
        return 128 - code
    except SignalException as stop:
        return 128 + int(stop.sigval)
    finally:
        signal.signal(signal.SIGUSR1, former)
    return 0


def _cause(failures: 'Mapping[int, ProcessFailure]') -> tuple[int, int]:
    """Rank and exit status of the process that failed of itself.

    A process that waits for a GPU hears no SIGTERM: it is killed later, and is not the cause. Of the others, those that
    lost another exit with 1, or are ended before; any other status is the cause.
    """
    first, follow = min(failure.timestamp for failure in failures.values()), {1: 1, -signal.SIGTERM: 2}
    rank, failure = min(
        failures.items(), key=lambda item: (item[1].timestamp - first > TOGETHER, follow.get(item[1].exitcode, 0))
    )
    return rank, failure.exitcode


class Replicas:
    """The dual network in one of several processes: the last backward pass of a step averages a branch's gradients.

    Args:
        network: on its device; with SyncBatchNorm where that is a GPU.
    """

    def __init__(self, network: DualNetwork):
        with warnings.catch_warnings():
            # Newer PyTorch warns that broadcast_buffers goes; without it, buffers would be copied at every pass.
            warnings.simplefilter('ignore', FutureWarning)
            self.branches = [DistributedDataParallel(branch, broadcast_buffers=False) for branch in network.branches]

    def __call__(self, images: Tensor, step: int = 1) -> Tensor:
        return self.branches[step - 1](images)

    def accumulate(self, step: int) -> AbstractContextManager:
        """Within it, gradients of branch ``step`` add up in this process alone."""
        return self.branches[step - 1].no_sync()


def replicate(network: DualNetwork, world: World) -> tuple[Callable, Callable[[int], AbstractContextManager]]:
    """``network`` as the step calls it, and the context in which it accumulates gradients."""
    if world.size == 1:
        return network, lambda step: nullcontext()
    replicas = Replicas(network)
    return replicas, replicas.accumulate


def synchronized(network: nn.Module, device: torch.device, world: World) -> nn.Module:
    """``network`` with BatchNorm statistics over all processes; PyTorch has that on CUDA alone."""
    if world.size > 1 and device.type == 'cuda':
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network
