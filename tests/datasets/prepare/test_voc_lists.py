import pytest
from raw import lines_of


@pytest.fixture
def published(voc, tmp_path):
    voc('--seed', 3, dst='drawn')
    lists = tmp_path / 'drawn/subset_train_aug'
    (lists / 'pseudoseg_labeled_1-16.txt').write_bytes(b'2007_000002\r\n2007_000001\r\n')
    for path in lists.iterdir():
        path.write_text('\r\n'.join(reversed(lines_of(path))))
    return lists


def test_published_lists(voc, published, tmp_path):
    (published / 'notes.txt').write_text('mine')
    status, out, _ = voc('--lists', published)
    assert status == 0
    assert 'not the published' not in out
    taken = tmp_path / 'dst/subset_train_aug'
    assert {path.name for path in published.iterdir()} - {path.name for path in taken.iterdir()} == {'notes.txt'}
    for path in taken.iterdir():
        assert lines_of(path) == lines_of(published / path.name)


@pytest.mark.parametrize(
    'name, line, words',
    [
        ('train_aug_labeled_1-4.txt', '2007_000004', ('images are not in train_aug', '2007_000004')),
        ('train_aug_unlabeled_1-2.txt', None, ('labelled and unlabelled for 1/2', '3 images')),
        ('pseudoseg_labeled_1-16.txt', '2011_999999', ('2011_999999',)),
        ('train_aug_labeled_1-16.txt', '', ('no such list',)),
    ],
)
def test_bad_published_lists(voc, published, tmp_path, name, line, words):
    path = published / name
    if line == '':
        path.unlink()
    else:
        text = path.with_name(name.replace('unlabeled', 'labeled')).read_text() if line is None else line
        path.write_text(f'{path.read_text()}\n{text}\n')
    status, _, error = voc('--lists', published)
    assert status == 2
    assert str(published) in error
    assert all(word in error for word in words)
    assert not (tmp_path / 'dst').exists()
