import errno
import json
import os

import pytest
from raw import contents, lines_of, make_image, refused, snapshot, stop_renaming

from furnace.datasets import splits
from furnace.datasets.prepare import frames
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


@pytest.mark.parametrize('error, status', [(KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, 'full'), 1)])
@pytest.mark.parametrize('place', ['shutil.copy2', 'furnace.datasets.prepare.frames.write_lists'])
def test_interrupted(run, tmp_path, monkeypatch, error, status, place):
    def stop(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, stop)
        assert run()[0] == status
    assert [path.name for path in tmp_path.iterdir()] == ['src']
    assert run()[0] == 0


@pytest.mark.parametrize('after', range(12))
@pytest.mark.parametrize('before', ['nothing', 'a note', 'a result'])
def test_interrupted_while_moving_in(run, tmp_path, monkeypatch, before, after):
    if before == 'a result':
        run('--seed', 1)
    elif before == 'a note':
        (tmp_path / 'dst').mkdir()
        (tmp_path / 'dst/README.md').write_text('note')
    found = snapshot(tmp_path)
    entries = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        calls = stop_renaming(patch, after)
        status = run('--force')[0]
    if status == 130:
        assert snapshot(tmp_path) == found
        assert sorted(tmp_path.iterdir()) == entries
    else:
        assert status == 0
        assert after >= len(calls) == (11 if before == 'a result' else 6)


@pytest.mark.parametrize('options', [(), ('--force',)])
@pytest.mark.parametrize(
    'before, after',
    [('nothing', 0), ('nothing', 1), ('nothing', 5), *(('a result', after) for after in (2, 5, 6, 9, 10, 11))],
)
def test_killed_while_moving_in(run, tmp_path, monkeypatch, before, after, options):
    """A process that is killed puts nothing back: the next call finishes what it began, or puts back what was there."""
    if before == 'a result':
        run('--seed', 1)
    rename, renames = os.rename, iter(range(after))

    def rename_or_die(source, target):
        if next(renames, None) is None:
            os._exit(9)
        rename(source, target)

    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr('os.rename', rename_or_die)
            os._exit(run('--force')[0])
        finally:
            os._exit(1)
    total = 11 if before == 'a result' else 6
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if after < total else 0)
    replaced = after > (5 if before == 'a result' else 0)  # as soon as all is out of the way
    status, out, error = run(*options)
    if replaced and not options:
        assert (status, 'nothing to do' in out) == (0, True)
    elif before == 'a result' and not options:
        assert (status, 'with other parameters' in error) == (2, True)
    else:
        assert status == 0
    run(dst='whole') if status == 0 else run('--seed', 1, dst='whole')
    visible = {name: made for name, made in contents(tmp_path / 'dst').items() if not name.startswith('.')}
    assert visible == contents(tmp_path / 'whole')
    assert status == 2 or not list((tmp_path / 'dst').glob('.*'))


def test_one_writer_at_a_time(run, tmp_path, monkeypatch):
    replies = []

    def write_lists(*arguments):
        replies.append(run())
        replies.append(run('--seed', 1, '--force'))
        return splits.write_lists(*arguments)

    monkeypatch.setattr('furnace.datasets.prepare.frames.write_lists', write_lists)
    assert run()[0] == 0
    assert len(replies) == 2
    for status, _, error in replies:
        assert status == 2
        assert f'another command writes to {tmp_path / "dst"}' in error
    assert not list((tmp_path / 'dst').glob('.*'))


def test_what_another_command_made_meanwhile_stays(run, tmp_path, monkeypatch):
    check, made = frames._check, []

    def slow_check(*arguments):
        if not made:
            made.append(1)
            run('--seed', 1)
        return check(*arguments)

    monkeypatch.setattr(frames, '_check', slow_check)
    status, _, error = run()
    assert (status, 'with other parameters' in error) == (2, True)
    assert json.loads((tmp_path / 'dst/prepared.json').read_text())['seed'] == 1


def test_what_a_killed_call_left_goes(run, tmp_path):
    make_image(tmp_path / 'dst/.partial/new/images/train/x.png')
    (tmp_path / 'dst/lost+found').mkdir()
    (tmp_path / 'dst/.nfs0001').touch()
    assert run()[0] == 0
    assert not list((tmp_path / 'dst').rglob('x.png'))
    assert not (tmp_path / 'dst/.partial').exists()


@pytest.mark.parametrize('option', ['--images', '--labels'])
def test_other_folders_are_only_read_too(run, tmp_path, option):
    (tmp_path / 'elsewhere/dst').mkdir(parents=True)
    assert 'is inside' in run(option, tmp_path / 'elsewhere', dst='elsewhere/dst')[2]


@pytest.mark.parametrize('kind', ['folder', 'camvid'])
@pytest.mark.parametrize('name, words', [('none', 'none: no such folder'), ('file', 'file: is a file, give a folder')])
def test_no_source(command, tmp_path, kind, name, words):
    (tmp_path / 'file').touch()
    assert words in command(kind, tmp_path / name, tmp_path / 'dst')[2]


def test_a_path_that_is_not_utf8(command, src, tmp_path):
    odd = src.rename(tmp_path / 's\udcff')
    assert command('folder', odd, tmp_path / 'dst')[0] == 0
    assert 'nothing to do' in command('folder', odd, tmp_path / 'dst')[1].encode(errors='replace').decode()


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit, match='0'):
        main(['folder', '--help'])
    assert '--val-share 0.2' in capsys.readouterr().out
