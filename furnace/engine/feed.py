"""From samples to what a training step takes: CutMix boxes, the way to the device, normalisation."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from furnace.datasets.normalize import Normalize
from furnace.datasets.train_set import Batch, TrainSet, batches
from furnace.engine.config import Config
from furnace.engine.distributed import World
from furnace.engine.precision import training_format
from furnace.seg_opr.cutmix import draw_boxes, paint_masks


class Feed:
    """This process's part of every batch.

    Args:
        config: the experiment's configuration.
        data: the streams of samples.
        device: where the steps run.
        world: the processes that share the batches.
    """

    def __init__(self, config: Config, data: TrainSet, device: torch.device, world: World):
        self.config, self.data, self.device, self.world = config, data, device, world
        self.size = (config.image_height, config.image_width)
        self.normalize = Normalize(config.image_mean, config.image_std).to(device)
        self.memory_format = training_format(config, device)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Those of iterations ``start`` … ``stop`` - 1, on the device."""
        return on_device(self._with_boxes(start, stop), self.device)

    def _with_boxes(self, start: int, stop: int) -> Iterator[Batch]:
        C, world, pin = self.config, self.world, self.device.type == 'cuda'
        found = batches(self.data, C.batch_size, start, stop, C.num_workers, pin, world.rank, world.size)
        for iteration, batch in enumerate(found, start):
            if batch.u1 is not None:
                boxes = self._boxes(iteration).chunk(world.size)[world.rank]
                batch = replace(batch, boxes=boxes.pin_memory() if pin else boxes)
            yield batch

    def _boxes(self, iteration: int) -> Tensor:
        """Of the whole batch, from seed and iteration alone."""
        C = self.config
        return draw_boxes(
            C.batch_size,
            self.size,
            np.random.RandomState(np.random.SeedSequence([C.seed, iteration]).generate_state(4)),
            C.cutmix_mask_prop_range,
            C.cutmix_boxmask_n_boxes,
            C.cutmix_boxmask_fixed_aspect_ratio,
            C.cutmix_boxmask_by_size,
            C.cutmix_boxmask_outside_bounds,
        )

    def inputs(self, batch: Batch) -> list[Tensor]:
        """x, y and, as the method needs them, u0, u1 and the CutMix mask, normalised; see ``Step``."""
        inputs = [self._normalized(batch.x, batch.x_inside), batch.y.long()]
        if batch.u0 is not None:
            inputs.append(self._normalized(batch.u0, batch.u0_inside))
        if batch.u1 is not None:
            mask = paint_masks(batch.boxes, self.size, invert=not self.config.cutmix_boxmask_no_invert)
            inputs += [self._normalized(batch.u1, batch.u1_inside), mask]
        return inputs

    def _normalized(self, images: Tensor, inside: Tensor) -> Tensor:
        return self.normalize(images, inside).contiguous(memory_format=self.memory_format)


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on ``device``. A GPU copies one while it works on the one before."""
    if device.type != 'cuda':
        yield from (batch.to(device) for batch in batches)
        return
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for tensor in moved.tensors().values():
            tensor.record_stream(current)  # its memory is free again when that is done with it
        yield moved
