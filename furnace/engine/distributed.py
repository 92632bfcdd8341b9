"""Several processes, one a device, that act as one: started by torchrun or by ``-d 0-3``."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from furnace.base_model import DualNetwork

# A process that waits so long for the others gives up: one of them is gone.
TIMEOUT = timedelta(minutes=15)


@dataclass(frozen=True)
class World:
    """This process among the others; by default it is alone."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, on each of them."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def most(self, *values: int) -> list[int]:
        """The greatest of each value over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values)
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
    """torchrun's name for all the attempts of one run."""
    return os.environ.get('TORCHELASTIC_RUN_ID')


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world, and this process's device: ``device`` itself where it is alone, else a GPU or the CPU for each."""
    if not launched():
        if device.type == 'cuda':
            torch.cuda.set_device(device)  # the loader pins memory for the current one
        yield ALONE, device
        return
    if device.type == 'cuda':
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
    dist.init_process_group('cpu:gloo,cuda:nccl' if device.type == 'cuda' else 'gloo', timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def launch(command: Sequence[str], devices: Sequence[torch.device]) -> int:
    """Run ``command`` (a program and its arguments) once for each device; returns the exit status.

    PyTorch's elastic launcher starts the processes, passes signals on to them, and ends all where one fails.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if devices[0].type == 'cuda':
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',') if visible else [str(i) for i in range(torch.cuda.device_count())]
        os.environ['CUDA_VISIBLE_DEVICES'] = ','.join(names[device.index] for device in devices)
    os.environ.setdefault('TORCHELASTIC_SIGNALS_TO_HANDLE', 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1')
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(devices),
        run_id=str(uuid.uuid4()),
        rdzv_backend='c10d',
        rdzv_endpoint='localhost:0',  # a free port
        max_restarts=0,
    )
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:  # it has told what was wrong
        code = error.get_first_failure()[1].exitcode
        return 128 - code if code < 0 else code
    except SignalException as stop:
        return 128 + int(stop.sigval)
    return 0


class Replicas:
    """The dual network in one of several processes: the last backward pass of a step averages a branch's gradients.

    Args:
        network: on its device; with SyncBatchNorm where that is a GPU.
    """

    def __init__(self, network: DualNetwork):
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
