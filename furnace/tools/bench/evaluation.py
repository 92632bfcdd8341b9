"""Seconds an image beside the network: a stub returns stored logits, so that all that is left is overhead."""

from collections.abc import Iterator

import numpy as np
import torch

from furnace.base_model.deeplabv3plus import upsample
from furnace.datasets.images import read_pair
from furnace.datasets.normalize import Normalize
from furnace.engine.command import build_network
from furnace.engine.config import Config
from furnace.engine.inference import Inference
from furnace.engine.precision import autocast, place
from furnace.seg_opr.metric import confusion_matrix
from furnace.tools.bench import plain
from furnace.tools.bench.measure import MIB, Row, Spread, in_turns
from furnace.tools.bench.recipes import Plan, Recipe
from furnace.utils.memory import process_memory


def rows(plan: Plan) -> Iterator[Row]:
    """An evaluation's cost, by recipe."""
    for recipe in plan.recipes:
        yield from _evaluations(plan, recipe)


class _Stub:
    """A network in no time: the same logits for every batch of windows, in its memory format."""

    def __init__(self, C: Config, device: torch.device, memory_format: torch.memory_format):
        coarse = torch.randn(C.eval_batch_size, C.num_classes, *[C.eval_crop_size // 16] * 2, device=device)
        logits = upsample(coarse, [C.eval_crop_size] * 2)  # smooth, as a network's
        self.logits = logits.contiguous(memory_format=memory_format)

    def __call__(self, images):
        return self.logits[: len(images)]


def _evaluations(plan: Plan, recipe: Recipe) -> list[Row]:
    C, device = recipe.config(), plan.device
    item = plan.items(recipe)[0]
    image, label = read_pair(item.image, item.label, C.num_classes)
    title = f'{recipe.name}: {image.shape[1]}x{image.shape[0]}, crop {C.eval_crop_size}, {C.num_classes} classes'
    stubs = _Stub(C, device, torch.channels_last), _Stub(C, device, torch.contiguous_format)
    calls = _calls(C, *stubs, image, label, device)
    seconds = in_turns(calls, plan.rounds, device)
    spreads = (Spread.of(1e3 * value for value in seconds[kind]) for kind in ('ours', 'plain'))
    found = [Row('eval', f'overhead an image, {title}', 'ms', *spreads, note='a stub stands for the network')]
    found += _growth(plan, calls['ours'], title)
    if device.type == 'cuda':
        found += [_with_network(plan, C, image, label, title, amp) for amp in ('off', 'bf16')]
    return found


def _calls(C: Config, forward, plain_forward, image: np.ndarray, label: np.ndarray, device: torch.device) -> dict:
    """From the image in memory to its confusion matrix, in both versions, each with its own network."""
    # What the evaluator does around them (decoding ahead, channels) belongs here too.
    options = C.eval_crop_size, C.eval_stride_rate, C.eval_scale_array, C.eval_flip
    normalize = Normalize(C.image_mean, C.image_std).to(device)
    infer = Inference(forward, normalize, *options, batch_size=C.eval_batch_size)
    evaluation = plain.load('evaluation')
    reference = evaluation.PlainEvaluation(
        plain_forward, C.num_classes, C.image_mean, C.image_std, *options, device=device
    )

    def ours():
        prediction = infer.labels(image)
        return confusion_matrix(prediction, torch.from_numpy(label).to(device), C.num_classes)

    return {
        'ours': ours,
        'plain': lambda: evaluation.confusion_matrix(reference(image), label, C.num_classes),
    }


def _growth(plan: Plan, ours, title: str) -> list[Row]:
    """Memory that stays with every further image."""

    def now() -> float | None:
        if plan.device.type == 'cuda':
            return torch.cuda.memory_allocated(plan.device) / MIB
        return process_memory('VmRSS')

    images = 2 * plan.rounds
    ours()
    before = now()
    for _ in range(images):
        ours()
    after = now()
    if before is None:
        return []
    note = f'{before:.0f} MiB before, {after:.0f} MiB after {images} images'
    return [Row('eval', f'memory kept an image, {title}', 'MiB', Spread.of([(after - before) / images]), note=note)]


def _with_network(plan: Plan, C: Config, image, label, title: str, amp: str) -> Row:
    """Images a second of a real network, and of its forward passes alone."""
    device = plan.device
    networks = place(build_network(C), device).eval(), build_network(C).to(device).eval()
    forward, plain_forward = (torch.inference_mode()(autocast(network, amp, device)) for network in networks)
    # The same windows, ready on the device.
    sizes = []
    Inference(
        lambda images: sizes.append(len(images)) or torch.zeros(len(images), 1, *images.shape[-2:], device=device),
        Normalize(C.image_mean, C.image_std).to(device),
        C.eval_crop_size,
        C.eval_stride_rate,
        batch_size=C.eval_batch_size,
    )(image)
    windows = [torch.randn(size, 3, C.eval_crop_size, C.eval_crop_size, device=device) for size in sizes]
    calls = _calls(C, forward, plain_forward, image, label, device)
    calls['forward'] = lambda: [forward(batch) for batch in windows]
    seconds = in_turns(calls, plan.rounds, device)
    spreads = {kind: Spread.of(1 / value for value in values) for kind, values in seconds.items()}
    beside = {'forward passes alone': spreads.pop('forward')}
    kind = {'bf16': 'bfloat16', 'off': 'float32'}[amp]
    return Row('eval', f'{C.backbone} in {kind}, {title}', 'images/s', spreads['ours'], spreads['plain'], beside)
