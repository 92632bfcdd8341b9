"""eval.py --report: what the page says and shows; that it works in a browser is in test_report_browser.py."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from full import full_disk
from PIL import Image
from tiny import COLORS

from furnace.engine import eval_command
from furnace.engine.report import gallery

LAYERS = ('.jpg', '-prediction.png', '-truth.png', '-errors.png', '-confidence.png')


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text without scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.inside, self.text = [], None, ''
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag if tag in ('script', 'style') else None
        self.text += ' '

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if not self.inside:
            self.text += data


@pytest.fixture(scope='module')
def page(reported):
    return Page((reported.log / 'report/index.html').read_text())


@pytest.fixture(scope='module')
def results(reported):
    return json.loads((reported.log / 'val_last.json').read_text())['results']


def maps(reported, epoch, branch):
    """Predictions, from the pictures of -s, and labels, by the image's name."""
    folder = reported.log / f'pred_imgs/epoch-{epoch}-branch{branch}/raw'
    predictions = {path.stem: np.array(Image.open(path)) for path in sorted(folder.iterdir())}
    pairs = (line.split('\t') for line in (reported.data / 'config_new/val.txt').read_text().splitlines())
    labels = {image.split('/')[-1][:-4]: np.array(Image.open(f'{reported.data}{label}')) for image, label in pairs}
    return predictions, labels


def image_iou(prediction, label):
    valid = label != 255
    ious = [
        ((prediction == c) & (label == c)).sum() / (((prediction == c) | (label == c)) & valid).sum()
        for c in np.unique(label[valid])
    ]
    return np.mean(ious)


def best(results):
    return max(results, key=lambda result: result['mean_iou'])


def test_scores_of_the_page(page, results):
    text = ' '.join(page.text.split())
    top = best(results)
    assert f'Mean IoU {100 * top["mean_iou"]:.2f} %' in text
    assert f'Pixel accuracy {100 * top["pixel_accuracy"]:.2f} %' in text
    for result in results:
        cells = [f'{100 * result[name]:.2f}' for name in ('mean_iou', 'mean_iou_no_background', 'pixel_accuracy')]
        tag = ' best' if result is top else ''
        name = result['checkpoint'].split('/')[-1]
        assert ' '.join([f'{name}{tag}', str(result['branch']), *cells, f'{100 * result["agreement"]:.2f}']) in text


def test_cells_of_the_matrix(page, results):
    cells = [attributes['data-pixels'] for tag, attributes in page.elements if 'data-pixels' in attributes]
    detailed = [result for result in results if result['checkpoint'] == best(results)['checkpoint']]
    assert cells == [f'{count:,}' for result in detailed for row in result['confusion'] for count in row]


def test_what_was_evaluated(page, reported, results):
    facts = ' '.join(page.text.split())
    top = best(results)
    assert f'Checkpoint {top["checkpoint"]} SHA-256' in facts
    assert re.search(r'SHA-256 [0-9a-f]{64} ', facts)
    assert f'Epoch {top["epoch"]} Iteration {top["iteration"]} ' in facts
    assert f'Data list {reported.data}/config_new/val.txt Images 3 Labelled pixels {3 * 46 * 64:,} ' in facts
    assert f'PyTorch {torch.__version__}' in facts
    assert 'eval_crop_size 48 ' in facts


def test_nothing_but_its_own_files_is_asked_for(page, reported):
    folder = reported.log / 'report'
    sources = [a[name] for _, a in page.elements for name in ('src', 'href') if name in a]
    files = {unquote(source) for source in sources if not source.startswith(('#', 'data:'))}
    assert files == {'images/0001.jpg', 'images/0002.jpg'}
    assert {path.name for path in (folder / 'images').iterdir()} == {f'000{i}{end}' for i in (1, 2) for end in LAYERS}
    assert not re.search(r'https?://|@import|url\(', (folder / 'index.html').read_text())
    assert all(a['loading'] == 'lazy' for tag, a in page.elements if tag == 'img')


def test_names_are_text(page):
    """Names of classes and files that look like HTML, or like a template."""
    tags = [tag for tag, _ in page.elements]
    assert tags.count('script') == 1
    assert tags.count('img') == 4
    assert not any(name.startswith('on') for _, attributes in page.elements for name in attributes)
    assert '<script>alert(1)</script>' in page.text
    assert '"below" onload=\'alert(2)\' & {{ 7 * 7 }}' in page.text
    assert all(name.startswith('"><img src=x onerror=alert(3)>') and name in page.text for name in shown(page))


def shown(page):
    """Names of the images in the gallery."""
    return [attributes['alt'] for tag, attributes in page.elements if tag == 'img' and attributes['alt']]


def test_worst_images_come_first(page, reported, results):
    top = best(results)
    predictions, labels = maps(reported, top['epoch'], top['branch'])
    ious = {name: image_iou(predictions[name], labels[name]) for name in labels}
    assert shown(page) == sorted(ious, key=ious.get)[:2]
    for name in shown(page):
        assert f'Mean IoU {100 * ious[name]:.1f} ' in ' '.join(page.text.split())


def test_pictures_are_of_the_best_checkpoint(page, reported, results):
    top = best(results)
    assert top['epoch'] == 0  # not the one that was evaluated last
    predictions, _ = maps(reported, top['epoch'], top['branch'])
    for i, name in enumerate(shown(page), 1):
        picture = np.array(Image.open(reported.log / f'report/images/000{i}-prediction.png'))
        inside = (picture != 0).any(axis=2)  # not an outline
        np.testing.assert_array_equal(picture[inside], np.array(COLORS)[predictions[name]][inside])


def test_agreement(reported, results):
    for epoch in (0, 1):
        first, second = (maps(reported, epoch, branch)[0] for branch in (1, 2))
        share = np.mean([first[name] == second[name] for name in first])
        assert 0 < share < 1
        assert [r['agreement'] for r in results if r['epoch'] == epoch] == [pytest.approx(share)] * 2
        assert f'one class on {100 * share:.2f} % of all pixels' in reported.stdout


def test_both_branches_at_once_score_as_each_alone(demo, shallow, log):
    alone = []
    for branch in ('1', '2', 'both'):
        assert demo.call('eval.py', log, '-e', shallow, '--branch', branch).status == 0
        alone += json.loads((log / 'val_last.json').read_text())['results']
    assert [r['confusion'] for r in alone[:2]] == [r['confusion'] for r in alone[2:]]
    assert [r['agreement'] is None for r in alone] == [True, True, False, False]
    assert not (log / 'report').exists()


def test_each_image_is_scored_alone(demo, shallow, log, monkeypatch):
    given = []
    monkeypatch.setattr(eval_command, 'write_report', lambda *arguments: given.extend(arguments))
    assert demo.call('eval.py', log, '-e', shallow, '--report', '-s').status == 0
    (values,) = (value for value in given if isinstance(value, torch.Tensor))
    files = [
        (log / f'pred_imgs/raw/val_0{i}.png', demo.data / f'segmentation/val/val_0{i}_gtFine.png') for i in range(3)
    ]
    assert values.tolist() == pytest.approx(
        [image_iou(*(np.array(Image.open(file)) for file in pair)) for pair in files]
    )


def test_a_former_report_is_kept(demo, shallow, log):
    for last in ('report', 'report_1'):
        outcome = demo.call('eval.py', log, '-e', shallow, '--report', '--report-images', '0')
        assert outcome.status == 0, outcome.stderr
        assert (log / last / 'index.html').is_file()
    assert f'the former report is now {log}/report_1\n' in outcome.stdout
    assert outcome.stdout.endswith(f'report: {log}/report/index.html\n')
    text = (log / 'report/index.html').read_text()
    assert 'id="images"' not in text  # 0 images were asked for
    assert 'id="checkpoints"' not in text  # and one checkpoint, one branch
    assert not (log / 'report/images').exists()


def test_a_full_disk(demo, shallow, log, monkeypatch):
    monkeypatch.setattr(gallery, 'save_layers', full_disk)
    outcome = demo.call('eval.py', log, '-e', shallow, '--report')
    assert outcome.status == 1
    says = f'{log}/report: the report cannot be written: No space left on device; make room on the disk'
    assert outcome.stderr.splitlines()[-1].startswith(f'error: {says}')
    assert (log / 'val_last.json').is_file()


def test_a_negative_number_of_images(demo, shallow, log):
    outcome = demo.call('eval.py', log, '-e', shallow, '--report', '--report-images', '-1')
    assert (outcome.status, outcome.stderr) == (2, 'error: --report-images -1: must be at least 0\n')
    assert not log.exists()
