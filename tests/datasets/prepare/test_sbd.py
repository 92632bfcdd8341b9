import shutil
import sys
import urllib.error

import numpy as np
import pytest
from raw import lines_of, make_mat, voc_archives

DOWNLOAD = 'torchvision.datasets.utils.download_url'


def _damage(path):
    path.write_bytes(path.read_bytes()[:150])


def _no_mat(path):
    path.write_bytes(b'nonsense')


def _other_ids(path):
    make_mat(path, np.full((6, 8), 21, np.uint8))


def _other_type(path):
    make_mat(path, np.zeros((6, 8)))


@pytest.mark.parametrize('spoil', [_damage, _no_mat, _other_ids, _other_type])
def test_bad_mat(voc, raw_voc, spoil):
    path = raw_voc / 'benchmark_RELEASE/dataset/cls/2009_000007.mat'
    spoil(path)
    status, _, error = voc(src=(raw_voc / 'VOCdevkit', raw_voc / 'benchmark_RELEASE'))
    assert status == 2
    assert f"{path}: is not one of SBD's label maps" in error


def test_scipy_is_optional(voc, raw_voc, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    status, _, error = voc(src=(raw_voc / 'VOCdevkit', raw_voc / 'benchmark_RELEASE'))
    assert status == 2
    assert 'pip install scipy' in error
    assert not (tmp_path / 'dst').exists()
    assert voc()[0] == 0


@pytest.mark.parametrize('error', [urllib.error.URLError('no network'), RuntimeError('File not found\nor corrupted.')])
def test_download_without_network(command, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(DOWNLOAD, fail)
    status, _, line = command('voc', '--download', tmp_path, tmp_path.parent / 'never')
    assert status == 1
    for word in 'VOCtrainval_11-May-2012.tar', 'benchmark.tgz', f'into {tmp_path}', 'without --download':
        assert word in line


def test_download(voc, raw_voc, tmp_path, monkeypatch):
    served = {path.name: path for path in voc_archives(raw_voc, tmp_path / 'served')}
    (tmp_path / 'in').mkdir()

    def serve(url, root, name, md5):
        assert url.endswith(name)
        assert len(md5) == 32
        shutil.copy(served[name], root)

    monkeypatch.setattr(DOWNLOAD, serve)
    assert voc('--download', src=(tmp_path / 'in',))[0] == 0
    assert len(lines_of(tmp_path / 'dst/train_aug.txt')) == 6
    served.clear()
    assert 'nothing to do' in voc('--download', src=(tmp_path / 'in',))[1]
    assert 'one SRC' in voc('--download', src=(tmp_path / 'in', raw_voc), dst='other')[2]
