import pytest
from raw import lines_of


@pytest.fixture
def published(city, tmp_path):
    """Lists as they are published: with labels in every line, CRLF, another order."""
    city('--seed', 3, dst='drawn')
    config = tmp_path / 'drawn/config_new'
    for path in config.rglob('*.txt'):
        lines = [line if '\t' in line else f'{line}\t/segmentation/test/none.png' for line in lines_of(path)]
        path.write_bytes('\r\n'.join(reversed(lines)).encode())
    return config


def test_published_lists(city, published, tmp_path):
    status, out, _ = city('--lists', published)
    assert status == 0
    assert 'not the published' not in out
    for path in published.rglob('*.txt'):
        taken = lines_of(tmp_path / 'dst/config_new' / path.relative_to(published))
        if path.name == 'test.txt':
            assert taken == ['/images/test/bonn_000000_000019.png']  # that label was not found
        else:
            assert taken == lines_of(path)


@pytest.mark.parametrize(
    'name, line, words',
    [
        ('val.txt', '/images/val/no.png\t/segmentation/val/no_gtFine.png', ('1 of 3 images', 'images/val/no.png')),
        ('val.txt', '/images/train/aachen_000000_000019.png\t/x.png', ('another label', 'aachen_000000_000019')),
        ('train.txt', '/images/train/aachen_000000_000019.png', ('another label',)),
        ('train.txt', 'a\tb\tc', ('line 5',)),
        ('subset_train/train_aug_unlabeled_1-2.txt', None, ('2 images are in', 'labeled_1-2.txt')),
        ('subset_train/train_aug_unlabeled_1-8.txt', '/images/val/lindau_000000_000019.png', ('val.txt',)),
        ('subset_train/train_aug_labeled_1-4.txt', '', ('no such list',)),
    ],
)
def test_bad_published_lists(city, published, tmp_path, name, line, words):
    path = published / name
    if line == '':
        path.unlink()
    else:
        text = path.with_name(path.name.replace('unlabeled', 'labeled')).read_text() if line is None else f'\n{line}\n'
        path.write_text(path.read_text() + '\n' + text)
    status, _, error = city('--lists', published)
    assert status == 2
    assert str(published) in error
    assert all(word in error for word in words)
    assert not (tmp_path / 'dst').exists()
