"""The three streams of a training step (labelled, u0, u1), one set of workers for all of them."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from furnace.datasets.augment import train_crop
from furnace.datasets.cache import Cache
from furnace.datasets.images import read_image, read_pair
from furnace.datasets.lists import Item
from furnace.datasets.sampling import LABELED, U0, U1, epoch_order, generator, unlabeled_orders
from furnace.utils.errors import RunError, UserError

# seconds for a batch, after which a worker counts as dead
TIMEOUT = 600


@dataclass(frozen=True)
class Batch:
    """What one step sees. Images are uint8 (B, 3, H, W) RGB, channels last; ``inside`` (B, 4) tells padding."""

    x: Tensor
    x_inside: Tensor
    y: Tensor
    """uint8 (B, H, W), void 255"""
    u0: Tensor | None = None
    u0_inside: Tensor | None = None
    u1: Tensor | None = None
    u1_inside: Tensor | None = None
    boxes: Tensor | None = None
    """for CutMix, see ``furnace.seg_opr.cutmix.draw_boxes``"""

    def tensors(self) -> dict[str, Tensor]:
        """Those that the method has, by their names."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def to(self, device: torch.device) -> 'Batch':
        """The same on ``device``; does not wait for the copies of pinned memory."""
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors().items()})


class TrainSet(Dataset):
    """Samples by their position in the run: number ``p`` is sample ``p % length`` of epoch ``p // length``.

    A sample's randomness comes from (seed, epoch, stream, position) alone, whichever worker makes it.

    Args:
        labeled: images with labels.
        unlabeled: images whose labels are never opened; None for supervised training.
        num_classes: ids in the label maps, void aside.
        size: height and width of a crop.
        scales: factors of which one is drawn for each image.
        length: samples an epoch.
        seed: of everything drawn.
        second: draw u1 too, for CutMix.
        cache: where decoded files are looked for first.
    """

    def __init__(
        self,
        labeled: Sequence[Item],
        unlabeled: Sequence[Item] | None,
        num_classes: int,
        size: tuple[int, int],
        scales: Sequence[float],
        length: int,
        seed: int,
        second: bool = True,
        cache: Cache | None = None,
    ):
        self.labeled, self.unlabeled = labeled, unlabeled
        self.num_classes, self.size, self.scales = num_classes, size, scales
        self.length, self.seed, self.second = length, seed, second
        self.cache = cache
        self.epoch, self.orders = -1, {}

    def _set_epoch(self, epoch: int) -> None:
        if epoch == self.epoch:
            return
        self.orders = {LABELED: epoch_order(len(self.labeled), self.length, self.seed, epoch, LABELED)}
        if self.unlabeled is not None:
            u0, u1 = unlabeled_orders(len(self.unlabeled), self.length, self.seed, epoch)
            self.orders |= {U0: u0, U1: u1} if self.second else {U0: u0}
        self.epoch = epoch

    def item(self, stream: int, position: int) -> Item:
        """The image that ``stream`` shows at ``position``."""
        epoch, position = divmod(position, self.length)
        self._set_epoch(epoch)
        items = self.labeled if stream == LABELED else self.unlabeled
        return items[self.orders[stream][position]]

    def names(self, positions: Sequence[int]) -> dict[str, list[str]]:
        """The images at ``positions`` of one epoch, by stream."""
        self._set_epoch(positions[0] // self.length)
        streams = {name: stream for name, stream in (('x', LABELED), ('u0', U0), ('u1', U1)) if stream in self.orders}
        return {name: [self.item(stream, p).name for p in positions] for name, stream in streams.items()}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Tensor] | UserError:
        """Tensors by name; images uint8 (H, W, 3)."""
        try:
            sample = self._sample(LABELED, position, 'x')
            if self.unlabeled is not None:
                sample |= self._sample(U0, position, 'u0')
                if self.second:
                    sample |= self._sample(U1, position, 'u1')
        except UserError as error:
            # Returned, not raised: a worker's exception would reach the user wrapped in its traceback.
            return error
        return sample

    def _sample(self, stream: int, position: int, name: str) -> dict[str, Tensor]:
        image, label = self._read(self.item(stream, position), stream == LABELED)
        epoch, place = divmod(position, self.length)
        crop = train_crop(image, label, self.size, self.scales, generator(self.seed, epoch, stream, place))
        sample = {name: _tensor(crop.image), f'{name}_inside': torch.tensor(crop.inside)}
        if label is not None:
            sample['y'] = _tensor(crop.label)
        return sample

    def _read(self, item: Item, labeled: bool) -> tuple[np.ndarray, np.ndarray | None]:
        if not labeled:
            return (self.cache.image(item.image) if self.cache else read_image(item.image)), None
        if self.cache:
            return self.cache.pair(item.image, item.label)
        return read_pair(item.image, item.label, self.num_classes)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(array, requirements='W'))  # a copy of what the cache lends


def collate(samples: list[dict[str, Tensor] | UserError]) -> dict[str, Tensor] | UserError:
    """A batch, or the first error among the samples."""
    return next((sample for sample in samples if isinstance(sample, UserError)), None) or default_collate(samples)


def set_up_worker(_worker: int) -> None:
    """Keeps OpenCV's threads out of a loader worker, and signals to all processes: the run decides on them."""
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """Kills those that are left when a run ends: Python's exit would send them SIGTERM, which they ignore, and wait."""
    former = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the loader's takes their end for another failure
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    signal.signal(signal.SIGCHLD, former)


def loader_failure(error: Exception) -> RunError | None:
    """In words, if it is PyTorch's or the system's about a worker; it can arise wherever the main process is."""
    if isinstance(error, RuntimeError) and 'DataLoader' not in str(error):
        return None
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return RunError(
        f'a loader worker failed: {reason}. Is memory or /dev/shm full (df -h /dev/shm)? '
        'A smaller num_workers needs less; num_workers=0 does without them'
    )


def loaded(loader: DataLoader) -> Iterator:
    """What the loader gives, its failures in words.

    Raises:
        UserError: a file of the list cannot be used.
        RunError: a worker died.
    """
    try:
        for samples in loader:
            if isinstance(samples, UserError):
                raise samples
            yield samples
    except (RuntimeError, OSError, EOFError) as error:
        # A dead worker shows as any of them: in the loader's watch, or in a connection that broke.
        raise loader_failure(error) or error from None


def batches(
    dataset: TrainSet,
    batch_size: int,
    start: int,
    stop: int,
    num_workers: int,
    pin: bool = False,
    rank: int = 0,
    size: int = 1,
) -> Iterator[Batch]:
    """The batches of iterations ``start`` … ``stop`` - 1 of the run.

    Args:
        batch_size: of all processes together.
        num_workers: loader processes, the same ones over all epochs; 0 loads in this one.
        pin: into memory from which a GPU can copy while it works.
        rank, size: this process and their number; each gets its part of every batch.

    Raises:
        UserError: a file of the list cannot be used.
    """
    share = batch_size // size
    loader = DataLoader(
        dataset,
        share,
        sampler=_Positions(range(start * batch_size + rank * share, stop * batch_size, batch_size), share),
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=set_up_worker,
        timeout=TIMEOUT if num_workers else 0,
    )
    for samples in loaded(loader):
        for name in samples.keys() & {'x', 'u0', 'u1'}:
            samples[name] = samples[name].permute(0, 3, 1, 2)
        yield Batch(**samples)


@dataclass(frozen=True)
class _Positions(Sampler):
    """``share`` positions from each of ``firsts`` on, made as they are needed: a run has millions."""

    firsts: range
    share: int

    def __len__(self) -> int:
        return len(self.firsts) * self.share

    def __iter__(self) -> Iterator[int]:
        return (first + i for first in self.firsts for i in range(self.share))
