import os

import pytest
from raw import lines_of, refused, snapshot

from furnace.datasets.prepare.__main__ import main


def test_link(run, src, tmp_path):
    assert run('--link')[0] == 0
    for line in lines_of(tmp_path / 'dst/config_new/train.txt'):
        image = tmp_path / 'dst' / line.split('\t')[0].lstrip('/')
        assert image.is_symlink()
        assert os.readlink(image).startswith(str(src / 'images/train/'))
    assert not (tmp_path / 'dst/segmentation/train/a_1.png').is_symlink()


def test_second_call_does_nothing(run, tmp_path):
    for link in (), ('--link',):
        run(*link, dst=f'dst{len(link)}')
        before = snapshot(tmp_path)
        status, out, _ = run(*link, dst=f'dst{len(link)}')
        assert status == 0
        assert 'nothing to do' in out
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize('options', [('--seed', '1'), ('--link',)])
def test_other_parameters_need_force(run, tmp_path, options):
    run()
    before = snapshot(tmp_path)
    status, _, error = run(*options)
    assert status == 2
    assert '--force' in error
    assert snapshot(tmp_path) == before
    assert run(*options, '--force')[0] == 0
    assert run(*options)[1].endswith('(--force makes it again)\n')


def test_classes_that_come_later_are_other_parameters(run, src):
    (src / 'classes.json').rename(src / 'later')
    run()
    (src / 'later').rename(src / 'classes.json')
    assert run()[0] == 2


def test_incomplete_result(run, tmp_path):
    run()
    (tmp_path / 'dst/images/train/a_1.png').unlink()
    status, _, error = run()
    assert status == 2
    assert 'incomplete' in error
    assert run('--force')[0] == 0
    assert (tmp_path / 'dst/images/train/a_1.png').is_file()


def test_force_replaces_only_what_was_written(run, src, tmp_path):
    run()
    (tmp_path / 'dst/notes.txt').write_text('mine')
    (src / 'images/train/b_3.png').unlink()
    assert run('--force')[0] == 0
    assert (tmp_path / 'dst/notes.txt').read_text() == 'mine'
    assert not (tmp_path / 'dst/images/train/b_3.png').exists()
    (tmp_path / 'dst/images/train/mine.png').write_text('mine')
    before = snapshot(tmp_path)
    status, _, error = run('--force')
    assert status == 2
    assert 'images/train/mine.png' in error
    assert snapshot(tmp_path) == before


def test_notes_stay_and_other_files_refuse(run, tmp_path):
    dst = tmp_path / 'dst'
    dst.mkdir()
    (dst / 'README.md').write_text('note')
    (dst / 'mine.txt').write_text('mine')
    for options in (), ('--force',):
        status, _, error = run(*options)
        assert status == 2
        assert 'mine.txt' in error
        assert sorted(p.name for p in dst.iterdir()) == ['README.md', 'mine.txt']
    (dst / 'mine.txt').unlink()
    assert run()[0] == 0
    assert (dst / 'README.md').read_text() == 'note'


@pytest.mark.parametrize('dst', ['src', 'src/out', 'no/such/dst', 'src/classes.json'])
def test_bad_destination(run, tmp_path, dst):
    before = snapshot(tmp_path)
    refused(run(dst=dst), tmp_path)
    assert snapshot(tmp_path) == before


def test_destination_is_a_file(run, tmp_path):
    (tmp_path / 'dst').write_text('mine')
    assert run()[0] == 2
    assert (tmp_path / 'dst').read_text() == 'mine'


@pytest.mark.parametrize('error, status', [(KeyboardInterrupt(), 130), (OSError('disk full'), 2)])
@pytest.mark.parametrize('place', ['shutil.copy2', 'furnace.datasets.prepare.frames.write_lists'])
def test_interrupted(run, tmp_path, monkeypatch, error, status, place):
    def stop(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, stop)
        assert run()[0] == status
    assert [path.name for path in tmp_path.iterdir()] == ['src']
    assert run()[0] == 0


@pytest.mark.parametrize('after', range(11))
@pytest.mark.parametrize('before', ['nothing', 'a note', 'a result'])
def test_interrupted_while_moving_in(run, tmp_path, monkeypatch, before, after):
    if before == 'a result':
        run('--seed', 1)
    elif before == 'a note':
        (tmp_path / 'dst').mkdir()
        (tmp_path / 'dst/README.md').write_text('note')
    found = snapshot(tmp_path)
    entries = sorted(tmp_path.iterdir())
    calls = []
    rename = os.rename

    def stop_once(source, target):
        calls.append(source)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr('os.rename', stop_once)
        status = run('--force')[0]
    if status == 130:
        assert snapshot(tmp_path) == found
        assert sorted(tmp_path.iterdir()) == entries
    else:
        assert status == 0
        assert after >= len(calls) == (10 if before == 'a result' else 5)


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit, match='0'):
        main(['folder', '--help'])
    assert '--val-share 0.2' in capsys.readouterr().out
