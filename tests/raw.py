"""Data sets as they are downloaded, small; and what the preparation of one leaves."""

import os
import tarfile
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat

COLORS = [[9, 9, 9], [200, 0, 0], [0, 200, 0]]


def make_image(path, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (10, 20, 30)).save(path)


def make_label(path, ids=(0, 1, 2, 255), size=(8, 6), mode='L'):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.array(ids, np.uint8), size[::-1]))
    if mode == 'P':
        image.putpalette(np.arange(768)[::-1].astype(np.uint8).tobytes())
    elif mode != 'L':
        image = image.convert(mode)
    image.save(path)


def make_city(root):
    """leftImg8bit and gtFine with four images for train, two for val and one for test."""
    names = {'train': ('aachen_000000_000019', 'aachen_000001_000019', 'ulm_000000_000019', 'ulm_000001_000019')}
    names |= {'val': ('lindau_000000_000019', 'lindau_000001_000019'), 'test': ('bonn_000000_000019',)}
    for split, stems in names.items():
        for number, stem in enumerate(stems):
            place = f'{split}/{stem.split("_")[0]}/{stem}'
            make_image(root / f'leftImg8bit/{place}_leftImg8bit.png')
            make_label(root / f'gtFine/{place}_gtFine_labelIds.png', range(number, 34))
            make_label(root / f'gtFine/{place}_gtFine_instanceIds.png')
    return root


def make_voc(root):
    """VOCdevkit with three images for train, two for val and three more; and their augmented labels.

    Those are the PNGs of SegmentationClassAug, and the same as SBD's cls/*.mat, which has one image of VOC's val too.
    """
    voc, sbd = root / 'VOCdevkit/VOC2012', root / 'benchmark_RELEASE/dataset'
    names = {'train': ('2007_000001', '2007_000002', '2008_000003'), 'val': ('2007_000004', '2008_000005')}
    more = '2008_000006', '2009_000007', '2011_000008'
    for number, name in enumerate((*names['train'], *names['val'], *more)):
        make_image(voc / f'JPEGImages/{name}.jpg')
        if name not in more:
            make_label(voc / f'SegmentationClass/{name}.png', (number, 20, 255), mode='P')
        make_label(root / f'SegmentationClassAug/{name}.png', (number, 20, 255 if name not in more else 1))
    for split, ids in names.items():
        (voc / 'ImageSets/Segmentation').mkdir(parents=True, exist_ok=True)
        (voc / f'ImageSets/Segmentation/{split}.txt').write_text('\r\n'.join(ids))
    for name in ('2008_000003', '2008_000005', *more):
        make_mat(sbd / f'cls/{name}.mat', np.array(Image.open(root / f'SegmentationClassAug/{name}.png')) % 255)
        make_image(sbd / f'img/{name}.jpg')
    return root


def make_mat(path, ids):
    """One of SBD's label maps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cls = np.zeros((1, 1), [('Boundaries', object), ('Segmentation', object), ('CategoriesPresent', object)])
    cls[0, 0] = np.zeros((20, 1)), ids, np.unique(ids)
    savemat(path, {'GTcls': cls}, do_compression=True)


def pack(folder, archive):
    """The folder as the one thing in a .zip, .tar or .tgz."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob('*')):
                file.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, 'w:gz' if archive.suffix == '.tgz' else 'w') as file:
            file.add(folder, folder.name)
    return archive


def voc_archives(raw, folder):
    """What ``make_voc`` made, packed as VOC and SBD are."""
    return [
        pack(raw / 'VOCdevkit', folder / 'VOCtrainval_11-May-2012.tar'),
        pack(raw / 'benchmark_RELEASE', folder / 'benchmark.tgz'),
    ]


def contents(folder):
    """What a result holds, but for the record, which names the source."""
    return {name: content for name, (content, *_) in snapshot(folder).items() if name != 'prepared.json'}


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns, path.is_symlink())
        for path in folder.rglob('*')
        if path.is_file()
    }


def lines_of(path):
    return path.read_bytes().decode().splitlines()


def refused(result, tmp_path, *words):
    """One line, status 2, and nothing beside the source."""
    status, out, error = result
    assert status == 2
    assert out == ''
    assert error.startswith('error: ')
    for word in words:
        assert word in error
    assert [path.name for path in tmp_path.iterdir()] == ['src']


def stop_renaming(patch, after):
    """Ctrl-C at the rename that follows the first ``after``, once. Returns the calls, which fill as they come."""
    rename, calls = os.rename, []

    def stop_once(source, target):
        calls.append(source)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        rename(source, target)

    patch.setattr('os.rename', stop_once)
    return calls
