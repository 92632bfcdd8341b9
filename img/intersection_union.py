"""Draws what CPCL's teachers say of a mixed image of exp_demo, and what its students learn from that.

    python -m furnace.datasets.scenes DATA/demo
    (cd exp_demo && python train.py)
    python img/intersection_union.py exp_demo/log/snapshot/epoch-last.pth --number 3

The image is from the batch with which training would go on from the checkpoint: the same crops, the same CutMix boxes,
and batch statistics as in training. ``--number`` shows another of its images; ``NAME=VALUE`` replaces a setting.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from furnace.base_model import DualNetwork, load_file, load_network
from furnace.datasets.classes import Classes, read_classes
from furnace.datasets.lists import cityscapes_items
from furnace.datasets.train_set import Batch, TrainSet
from furnace.engine.command import build_network, run_command
from furnace.engine.config import Config, load_config
from furnace.engine.distributed import ALONE
from furnace.engine.feed import Feed
from furnace.seg_opr.cutmix import mix
from furnace.seg_opr.pseudo import co_occurrence, cpcl_targets, disagreement, predict
from furnace.utils.errors import UserError
from furnace.utils.panels import class_legend, compose, enlarged, hatched, save, shown


def next_batch(C: Config, iteration: int) -> tuple[Batch, list[torch.Tensor]]:
    """What training sees in an iteration: the batch, and x, y, u0, u1 and the CutMix mask of ``Feed.inputs``."""
    labeled, unlabeled = (
        cityscapes_items(C.img_root_folder, C.gt_root_folder, source) for source in (C.train_source, C.unsup_source)
    )
    length, size = C.niters_per_epoch * C.batch_size, (C.image_height, C.image_width)
    data = TrainSet(labeled, unlabeled, C.num_classes, size, C.train_scale_array, length, C.seed)
    feed = Feed(C, data, torch.device('cpu'), ALONE)
    batch = next(feed.batches(iteration, iteration + 1))
    return batch, feed.inputs(batch)


@torch.no_grad()
def teach(network: DualNetwork, u0: torch.Tensor, u1: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the teachers say of a batch, and what the students learn from it: (B, H, W) each.

    Returns the labels ``p1``, ``p2``, ``inter`` and ``union``, int64, and ``inter_weight`` and ``union_weight``.
    """
    teachers = [[predict(network(u, step=k)) for u in (u0, u1)] for k in (1, 2)]
    (p1, c1), (p2, c2) = ([mix(a, b, mask[:, 0]) for a, b in zip(*pair, strict=True)] for pair in teachers)
    w, _ = disagreement(co_occurrence(p1, p2, len(network.branch1.classifier.weight)))
    inter, union = cpcl_targets(p1, p2, c1, c2, w)
    labels = {'p1': p1, 'p2': p2, 'inter': inter.label, 'union': union.label}
    return {**labels, 'inter_weight': inter.weight, 'union_weight': union.weight}


def draw(found: dict[str, np.ndarray], classes: Classes) -> Image.Image:
    """The figure of one image.

    Args:
        found: what ``teach`` gives, (H, W) each; ``image``, mixed, uint8 (3, H, W); ``m``, bool (H, W).
        classes: names and colours.
    """
    palette = classes.palette()
    scale = max(1, 384 // found['m'].shape[1])
    differ = enlarged(found['p1'] != found['p2'], scale)
    image = enlarged(found['image'].transpose(1, 2, 0), scale)
    edges, _ = cv2.findContours(enlarged(found['m'], scale).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for color, width in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        image = cv2.drawContours(image.copy(), edges, -1, color, width)

    def grey(weight):
        return np.rint(255 * enlarged(weight, scale)).astype(np.uint8)[..., None].repeat(3, axis=2)

    def labels(name):
        return shown(found[name], palette, scale)

    rows = [
        [
            ('mixed image', image),
            ('p_1, of branch 1', labels('p1')),
            ('p_2, of branch 2', labels('p2')),
            (f'they agree: {1 - differ.mean():.0%}', hatched(np.full_like(image, 200), differ)),
        ],
        [
            ('intersection, for branch 1', labels('inter')),
            ('weight (c_1 + c_2) / 2', hatched(grey(found['inter_weight']), differ)),
            ('union, for branch 2', labels('union')),
            ('weight', grey(found['union_weight'])),
        ],
    ]
    ramp = np.broadcast_to(np.linspace(0, 255, 120)[:, None], (30, 120, 3)).astype(np.uint8)
    frame = np.zeros((30, 30, 3), np.uint8)
    frame[2:-2, 2:-2] = 255
    legend = class_legend(classes.names, palette, void='void; they differ')
    return compose(rows, [*legend, (ramp, 'weight, 0 to 1'), (frame, 'border of u_0 and u_1')])


def command(arguments: argparse.Namespace) -> int:
    C = load_config(ROOT / 'exp_demo' / 'config.py', [*arguments.overrides, 'num_workers=0'])
    if not 0 <= arguments.number < C.batch_size:
        raise UserError(f'--number {arguments.number}: the batch has images 0 to {C.batch_size - 1}')
    classes = read_classes(Path(C.dataset_path, 'classes.json'))
    classes.require(C.num_classes)
    content = load_file(arguments.checkpoint)
    network = build_network(C)
    load_network(network, content, arguments.checkpoint)
    batch, (_, _, u0, u1, mask) = next_batch(C, content.get('iteration', 0))
    found = {'image': mix(batch.u0, batch.u1, mask), 'm': mask[:, 0], **teach(network.train(), u0, u1, mask)}
    one = {name: tensor[arguments.number].numpy() for name, tensor in found.items()}
    save(draw(one, classes), arguments.output)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog='intersection_union.py', description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, metavar='FILE.pth', help='of exp_demo')
    parser.add_argument('overrides', nargs='*', metavar='NAME=VALUE', help='set a value of exp_demo/config.py')
    parser.add_argument('--number', type=int, default=0, metavar='N', help='of the image in the batch; default: 0')
    parser.add_argument('-o', '--output', type=Path, default=Path(__file__).with_suffix('.png'), metavar='FILE.png')
    return run_command(parser, command)


if __name__ == '__main__':
    sys.exit(main())
