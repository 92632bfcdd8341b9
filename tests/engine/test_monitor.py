"""What is watched while training: the figures are right, the pictures show the tensors, and neither changes the run."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import COLORS, NAMES

from furnace.datasets.classes import Classes
from furnace.datasets.normalize import Normalize
from furnace.engine import checkpoint, monitor
from furnace.engine.curves import Curves
from furnace.engine.monitor import Monitor
from furnace.engine.panel import panel
from furnace.engine.step import Taught
from furnace.seg_opr.pseudo import Target

CLASSES = Classes(NAMES, COLORS)
NORMALIZE = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CPU = torch.device('cpu')


def taught(height, width, cutmix=True):
    """Of a batch of two; of the first, each map has one class, each image one colour, confidences are 1 and 0.5."""

    def label(first):
        return torch.tensor([first, 0])[:, None, None].repeat(1, height, width)

    def image(color):
        pixels = torch.tensor([color, (1, 2, 3)], dtype=torch.uint8)[:, :, None, None].repeat(1, 1, height, width)
        return NORMALIZE(pixels)

    c1, c2 = (torch.full((2, height, width), value) for value in (1.0, 0.5))
    u0, u1, mixed = image((200, 100, 7)), image((8, 150, 250)), image((90, 91, 92))
    targets = Target('inter', label(255), c1), Target('union', label(0), c2)
    return Taught(u0, u1 if cutmix else None, mixed, label(1), label(2), c1, c2, torch.tensor([0.5, 0.2, 0.3]), targets)


@pytest.fixture
def clock(monkeypatch):
    """The time as the monitor sees it, in seconds; advanced by hand."""
    now = [100.0]
    monkeypatch.setattr(monitor, 'monotonic', lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_speed_and_data_wait(clock):
    """Waiting counts, saving does not; a line tells of the time since the last one, the summary of the whole epoch."""
    watching = Monitor(8, 0, CLASSES, CPU, NORMALIZE)

    def loading():
        for _ in range(4):
            clock(1)
            yield None

    lines = []
    for number, _ in enumerate(watching.timed(loading(), 0), 1):
        clock(3)
        if number == 2:
            watching.pause()
            clock(1000)
            watching.resume()
        if number in (1, 4):
            lines.append(watching.scalars())
            clock(0.5)
    assert [line['speed/images_per_second'] for line in lines] == pytest.approx([8 / 4, 24 / 12.5])
    assert [line['speed/data_wait'] for line in lines] == pytest.approx([1 / 4, 3 / 12.5])
    assert watching.summary() == '17 s, 1.88 images/s, data wait 24%'
    for _ in watching.timed(loading(), 4):
        clock(1)
    assert watching.summary() == '8 s, 4 images/s, data wait 50%'


def test_disagreement_by_name():
    watching = Monitor(8, 0, CLASSES, CPU, NORMALIZE)
    assert not any(tag.startswith('disagreement') for tag in watching.scalars())  # supervised: there is none
    watching.see(taught(4, 4))
    found = {tag: value for tag, value in watching.scalars().items() if tag.startswith('disagreement')}
    assert found == pytest.approx({'disagreement/left': 0.5, 'disagreement/right': 0.2, 'disagreement/below': 0.3})


@pytest.mark.parametrize(('mebibytes', 'gibibytes'), [(1536, 1.5), (None, None)])
def test_memory_of_the_process(monkeypatch, mebibytes, gibibytes):
    """Left out where the system does not tell."""
    monkeypatch.setattr(monitor, 'process_memory', {'VmRSS': mebibytes}.get)
    assert Monitor(8, 0, CLASSES, CPU, NORMALIZE).scalars().get('speed/memory_gib') == gibibytes


@pytest.mark.parametrize(('image_every', 'drawn'), [(0, []), (3, [6, 9])])
def test_panels_come_when_due_and_hold_no_tensor_else(tmp_path, monkeypatch, image_every, drawn):
    watching, seen = Monitor(8, image_every, CLASSES, CPU, NORMALIZE), []
    monkeypatch.setattr(Curves, 'add_image', lambda self, iteration, tag, picture: seen.append(iteration))
    with Curves(tmp_path, 5) as curves:
        for _ in watching.timed(range(5), 5):  # iterations 6 to 10
            batch = taught(4, 4)
            watching.see(batch)
            images = weakref.ref(batch.u0)
            del batch
            assert (images() is not None) == (watching.iteration in drawn)
            watching.draw(curves)
            assert images() is None
    assert seen == drawn


GREY = (191,) * 3  # of a mean confidence of 0.75


@pytest.mark.parametrize(
    ('size', 'cutmix', 'side'), [((33, 33), True, (231, 231)), ((300, 600), True, (100, 200)), ((64, 128), False, None)]
)
def test_panel(size, cutmix, side):
    """Everything of the first image is there, in its colours, at a bounded size."""
    picture = panel(taught(*size, cutmix), CLASSES, NORMALIZE)
    assert picture.dtype == np.uint8
    assert picture.shape[1] <= 4 * 256 + 5 * 20
    area = {color: n for n, color in Image.fromarray(picture).getcolors(picture.size)}
    images = [(200, 100, 7), (8, 150, 250), (90, 91, 92)] if cutmix else [(200, 100, 7)]
    height, width = side or (128, 256)
    assert [area.get(color, 0) for color in (*images, GREY)] == [height * width] * (len(images) + 1)
    for color in COLORS:  # union, p_1 and p_2; less where their ids stand, more in the legend
        assert 0.95 * height * width < area[color] < height * width + 900
    assert area[90, 90, 90] > 0.2 * height * width  # the intersection is void: striped


def test_normalised_pixels_come_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 1).view(2, 3, 16, 16)
    assert torch.equal(NORMALIZE.pixels(NORMALIZE(pixels)), pixels)
    outside = NORMALIZE(pixels, torch.zeros(2, 4, dtype=torch.int64))
    assert NORMALIZE.pixels(outside)[1, :, 3, 4].tolist() == [124, 116, 104]


def test_panels_change_nothing(demo, log, shallow, monkeypatch):
    """The same losses, weights, BatchNorm statistics and state of PyTorch's generator, to the last bit."""
    saved, drawn = {}, []
    monkeypatch.setattr(Curves, 'add_image', lambda self, iteration, tag, picture: drawn.append(iteration))
    monkeypatch.setattr(checkpoint, 'save_also_as', lambda path, name: None)
    for image_every in (0, 1):
        model = saved[image_every] = {}

        def save(content, path, model=model):
            model.update({name: tensor.clone() for name, tensor in content['model'].items()})

        monkeypatch.setattr(checkpoint, 'save', save)
        outcome = demo.call('train.py', log / str(image_every), nepochs=1, niters_per_epoch=3, image_every=image_every)
        assert outcome.status == 0, outcome.stderr
        model['generator'] = torch.get_rng_state()
    assert drawn == [1, 2, 3]
    assert saved[0].keys() == saved[1].keys()
    assert [name for name, tensor in saved[0].items() if not torch.equal(tensor, saved[1][name])] == []
    texts = [(log / str(every) / 'losses.jsonl').read_text() for every in (0, 1)]
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == 3
