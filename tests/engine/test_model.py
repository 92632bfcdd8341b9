"""furnace.load: a trained network in Python."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import COLORS, NAMES

import furnace
from furnace.base_model import load_file
from furnace.datasets.classes import Classes
from furnace.utils.errors import RunError, UserError

README = Path(__file__).resolve().parents[2] / 'README.md'


@pytest.fixture
def image():
    blocks = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def batch(image):
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


def test_forward(shallow, image):
    """uint8 and float agree; the normalisation is the one of the recipe, the branch the one asked for."""
    pixels = batch(image)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    found = {}
    for branch in (1, 2):
        model = furnace.load(shallow, branch=branch)
        assert not any(module.training for module in model.modules())
        with torch.inference_mode():
            logits = model(pixels)
            want = model.network((pixels / 255 - mean) / std)
            torch.testing.assert_close(model(pixels / 255), logits, rtol=1e-4, atol=1e-4)
        assert logits.shape == (1, 3, 40, 56)
        torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-4)
        state = load_file(shallow)['model']
        torch.testing.assert_close(model.network.classifier.bias, state[f'branch{branch}.classifier.bias'])
        torch.testing.assert_close(model.network.classifier.weight, state[f'branch{branch}.classifier.weight'])
        found[branch] = logits
    assert not torch.allclose(found[1], found[2])


def test_predict(shallow, image):
    model = furnace.load(shallow)
    model.settings['eval_whole'] = True
    label, confidence = model.predict(image)
    with torch.inference_mode():
        probability = model(batch(image))[0].softmax(dim=0).numpy()
    assert (label.dtype, confidence.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(label, probability.argmax(axis=0))
    np.testing.assert_allclose(confidence, probability.max(axis=0), rtol=1e-4)
    assert len(np.unique(label)) > 1


def test_settings_reach_predict(shallow, image):
    config = load_file(shallow)['config']
    usual = furnace.load(shallow).predict(image)[1]
    for name, value in {
        'eval_scale_array': [0.5], 'eval_flip': True, 'eval_crop_size': 33, 'eval_whole': True, 'eval_stride_rate': 0.1,
        'image_mean': [0.4, 0.4, 0.4], 'amp': 'bf16',
    }.items():  # fmt: skip
        other = furnace.load(shallow, config={**config, name: value}).predict(image)[1]
        assert not np.array_equal(other, usual), name


def test_what_it_carries(shallow):
    model = furnace.load(shallow)
    assert model.classes == Classes(NAMES, COLORS)
    assert model.settings == {
        'image_mean': [0.485, 0.456, 0.406],
        'image_std': [0.229, 0.224, 0.225],
        'eval_crop_size': 48,
        'eval_stride_rate': 2 / 3,
        'eval_scale_array': [1],
        'eval_flip': False,
        'eval_whole': False,
        'eval_batch_size': 4,
        'amp': 'auto',
    }


def test_settings_and_classes_given(shallow, tmp_path):
    content = load_file(shallow)
    path = tmp_path / 'x.pth'
    torch.save({'model': content['model']}, path)
    with pytest.raises(UserError, match=f'{path}: carries no configuration'):
        furnace.load(path)
    with pytest.raises(UserError, match=f'{path}: carries no class names'):
        furnace.load(path, config=content['config'])
    classes = Classes(('a', 'b', 'c'), COLORS)
    model = furnace.load(path, config={**content['config'], 'eval_crop_size': 99}, classes=classes)
    assert (model.classes, model.settings['eval_crop_size']) == (classes, 99)
    with pytest.raises(UserError, match='num_classes = 3, but there are names for 2 classes'):
        furnace.load(shallow, classes=Classes(('a', 'b'), COLORS[:2]))
    torch.save({**content, 'config': {'num_classes': 3}}, path)
    with pytest.raises(UserError, match=f'{path}: its configuration has no backbone, bn_eps'):
        furnace.load(path)
    torch.save({**content, 'classes': {'names': ['a']}}, path)
    with pytest.raises(UserError, match=f"{path}: its classes: expected .*KeyError: 'colors'"):
        furnace.load(path)


@pytest.mark.parametrize('setting', [{'image_mean': 'x'}, {'backbone': 'resnet9'}, {'image_std': ['a', 'b', 'c']}])
def test_settings_of_a_wrong_type(shallow, setting):
    with pytest.raises(UserError, match=f'{shallow}: its settings make no network'):
        furnace.load(shallow, config={**load_file(shallow)['config'], **setting})


def test_logits_that_are_not_finite(shallow, image):
    model = furnace.load(shallow)
    model.network.classifier.bias.data[1] = float('nan')
    with pytest.raises(RunError, match='not finite'):
        model.predict(image)


def test_other_images_are_refused(shallow):
    model = furnace.load(shallow)
    for images in (torch.rand(3, 32, 32), torch.rand(1, 32, 32, 3), torch.zeros(1, 3, 32, 32, dtype=torch.int64)):
        with pytest.raises(ValueError, match='expected'):
            model(images)
    for image in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))):
        with pytest.raises(ValueError, match='expected an image uint8'):
            model.predict(image)
    with pytest.raises(ValueError, match='choose 1 or 2'):
        furnace.load('x.pth', branch=3)


def test_example_of_the_readme(shallow, image, tmp_path, monkeypatch):
    (example,) = (
        code for code in re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL) if 'furnace.load' in code
    )
    path = tmp_path / 'exp_voc/log/snapshot/epoch-last.pth'
    path.parent.mkdir(parents=True)
    path.symlink_to(shallow)
    Image.fromarray(image).save(tmp_path / 'photo.png')
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example.replace('photo.jpg', 'photo.png'), names)
    label, confidence = furnace.load(shallow).predict(image)
    np.testing.assert_array_equal(names['label'], label)
    np.testing.assert_array_equal(names['confidence'], confidence)
    assert names['logits'].shape == (1, 3, 40, 56)
