import io
import lzma
import tarfile
import zipfile

import pytest
from raw import pack

from furnace.datasets.prepare.sources import open_sources
from furnace.utils.errors import UserError

FILES = {'a/x.txt': b'x' * 3000, 'a/b/y.txt': b'y', 'z.txt': b''}


@pytest.fixture
def folder(tmp_path):
    for name, content in {**FILES, 'a/.x.txt': b'hidden', '.git/x.txt': b'hidden', '__MACOSX/x.txt': b'hidden'}.items():
        (tmp_path / 'data' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'data' / name).write_bytes(content)
    return tmp_path / 'data'


def _read(*paths, archives=()):
    with open_sources(paths, archives) as entries:
        return {name: entry.read() for name, entry in entries.items()}


def test_folder(folder):
    assert _read(folder) == {f'data/{name}': content for name, content in FILES.items()}


@pytest.mark.parametrize('name', ['p.zip', 'p.tar', 'p.tgz', 'P.TAR.GZ'])
def test_archives_are_as_folders(folder, tmp_path, name):
    archive = pack(folder, tmp_path / ('p.tgz' if name.endswith('GZ') else name))
    archive = archive.rename(tmp_path / name)
    assert _read(archive) == {f'{name[0]}/data/{file}': content for file, content in FILES.items()}


def test_archives_in_a_folder(folder, tmp_path):
    pack(folder, tmp_path / 'in/p.zip')
    pack(folder, tmp_path / 'in/other.zip')
    assert set(_read(tmp_path / 'in', archives=['p.zip', 'q.zip'])) == {
        'in/p.zip', 'in/other.zip', *(f'p/data/{name}' for name in FILES)
    }  # fmt: skip


def test_the_first_of_two_counts(folder, tmp_path):
    archive = pack(folder, tmp_path / 'data.zip')
    (folder / 'z.txt').rename(folder / 'data')
    (folder / 'data').rename(folder / 'q')
    for path in folder.rglob('x.txt'):
        path.write_bytes(b'newer')
    (tmp_path / 'new/data').mkdir(parents=True)
    folder.rename(tmp_path / 'new/data/data')
    assert _read(tmp_path / 'new/data', archive)['data/data/a/x.txt'] == b'newer'
    assert _read(archive, tmp_path / 'new/data')['data/data/a/x.txt'] == b'x' * 3000


def _add(archive, name, link):
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive, 'a') as file:
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if link else 0o100644) << 16
            file.writestr(info, 'target')
    else:
        with tarfile.open(archive, 'a') as file:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = (link or tarfile.REGTYPE), 'target' * bool(link), 0
            file.addfile(info, io.BytesIO())


@pytest.mark.parametrize('suffix', ['.zip', '.tar'])
@pytest.mark.parametrize(
    'name, link',
    [
        ('../x.png', None),
        ('a/../../x.png', None),
        ('/tmp/x.png', None),
        ('C:/x.png', None),
        ('a/link.png', tarfile.SYMTYPE),
        ('a/hard.png', tarfile.LNKTYPE),
    ],
)
def test_members_outside_and_links_are_refused(folder, tmp_path, suffix, name, link):
    archive = pack(folder, tmp_path / f'p{suffix}')
    _add(archive, name, link)
    with pytest.raises(UserError) as error:
        _read(archive)
    assert str(archive) in str(error.value)
    assert repr(name) in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['p.zip', 'p.tar', 'p.tgz'])
@pytest.mark.parametrize('share', [0.0, 0.3, 0.7, 0.97])
def test_truncated(folder, tmp_path, name, share):
    archive = pack(folder, tmp_path / name)
    # What tar fills up its last 10 KiB with is no part of it.
    whole = archive.read_bytes().rstrip(b'\0') if name == 'p.tar' else archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match='truncated or damaged') as error:
        _read(archive)
    assert str(error.value).startswith(f'{archive}: ')
    assert '\n' not in str(error.value)


def test_cut_off_between_two_members(folder, tmp_path):
    archive = pack(folder, tmp_path / 'p.tar')
    with tarfile.open(archive) as file:
        last = file.getmembers()[-1]
    archive.write_bytes(archive.read_bytes()[: last.offset])
    with pytest.raises(UserError, match='truncated or damaged'):
        _read(archive)


@pytest.mark.parametrize('name', ['p.zip', 'p.tgz'])
def test_damaged_inside(folder, tmp_path, name):
    archive = pack(folder, tmp_path / name)
    content = bytearray(archive.read_bytes())
    place = content.index(b'a/x.txt') + 60 if name == 'p.zip' else len(content) // 2
    content[place - 20 : place] = bytes(20)
    archive.write_bytes(content)
    with pytest.raises(UserError, match='truncated or damaged'):
        _read(archive)


@pytest.mark.parametrize(
    'error, words',
    [
        (lzma.LZMAError('Corrupt input data'), 'truncated or damaged'),
        (PermissionError(13, 'Permission denied'), 'p.zip: cannot be read: Permission denied'),
        (RuntimeError('File is encrypted'), 'is encrypted or compressed in an unknown way'),
        (NotImplementedError('That compression method is not supported'), 'is encrypted or compressed in an unknown'),
    ],
)
def test_each_failure_has_its_words(folder, tmp_path, monkeypatch, error, words):
    archive = pack(folder, tmp_path / 'p.zip')

    def fail(*_):
        raise error

    monkeypatch.setattr(zipfile.ZipFile, 'read', fail)
    with pytest.raises(UserError, match=words):
        _read(archive)


@pytest.mark.parametrize('name, words', [('no', 'no such file'), ('no.zip', 'no such file'), ('x.rar', 'an archive')])
def test_no_archive(tmp_path, name, words):
    (tmp_path / 'x.rar').write_bytes(b'')
    with pytest.raises(UserError, match=words):
        _read(tmp_path / name)
