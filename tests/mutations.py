"""Mutations: each damages something that its random generator chooses, runs a script and returns its outcome."""

import json
import shutil

from damage import ODD, damage_weights, damaged_bytes, damaged_text, other_thing, picture
from tiny import DEMO, SETTINGS

from furnace.engine.config import load_config

SUBSET = 'config_new/subset_train'
LISTS = {
    'train.py': (f'{SUBSET}/train_aug_labeled_1-2.txt', f'{SUBSET}/train_aug_unlabeled_1-2.txt'),
    'eval.py': ('config_new/val.txt',),
}
SCRIPTS = tuple(LISTS)


def lists(rng, place):
    script = rng.choice(SCRIPTS)
    path = place.data / rng.choice(LISTS[script])
    if rng.random() < 0.2:
        other_thing(rng, path, place)
    else:
        path.write_bytes(damaged_text(rng, path.read_text()))
    return place.call(script, *(['-s'] if script == 'eval.py' else []))


def pictures(rng, place, kind):
    script, split = rng.choice([('train.py', 'train'), ('eval.py', 'val')])
    path = rng.choice(sorted((place.data / kind / split).iterdir()))
    if (way := rng.randrange(6)) == 0:
        other_thing(rng, path, place)
    elif way < 3:
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    else:
        path.write_bytes(picture(rng, path))
        if way == 5:
            path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    return place.call(script, *(['-s'] if script == 'eval.py' else []), labeled_ratio=2)


def images(rng, place):
    return pictures(rng, place, 'images')


def labels(rng, place):
    return pictures(rng, place, 'segmentation')


def checkpoints(rng, place):
    damage_weights(rng, place.checkpoint, place)
    if place.checkpoint.is_file() and rng.random() < 0.3:
        snapshots = place.log / 'snapshot'
        snapshots.mkdir(parents=True)
        shutil.copy(place.checkpoint, snapshots / rng.choice(['epoch-last.pth', 'epoch-0.pth']))
        return place.call(*rng.choice([('train.py', '-c', 'auto'), ('eval.py', '-e', 'last'), ('eval.py', '-e', '0-')]))
    force = ['--force'] if rng.random() < 0.5 else []
    return place.call(*rng.choice([('eval.py', '-e', place.checkpoint), ('train.py', '-c', place.checkpoint, *force)]))


def weights(rng, place):
    damage_weights(rng, place.weights, place)
    return place.call('train.py', pretrained_model=place.weights)


def classes(rng, place):
    path = place.data / 'classes.json'
    content = json.loads(path.read_text())
    if (way := rng.randrange(5)) == 0:
        other_thing(rng, path, place)
    elif way == 1:
        path.write_bytes(damaged_text(rng, json.dumps(content, indent=1)))
    elif way == 2:
        path.write_text(rng.choice(['[' * 100_000, '{"names":' * 9999, 'null', '{}', '9' * 5000]))
    else:
        values = [*ODD, None, -1, 256, 2**64, 1e999, 0.5, True, [], {}, ['a', 'b', 'c'], [[1, 2, 3]] * 3, [0] * 300]
        value, name = rng.choice(values), rng.choice(list(content))
        if way == 3:
            content[name] = value
        else:
            content[name][rng.randrange(3)] = value
        path.write_text(json.dumps(content))
    return place.call('eval.py', *rng.choice([(), ('-s',), ('-v', '--branch', 'both')]))


def overrides(rng, place):
    """Any value for any setting that is no path: often near its own, or another setting's."""
    config = load_config(DEMO / 'config.py')
    names = [name for name in config if not name.endswith(('_dir', '_path', '_folder', '_source'))]
    settings = {}
    for name in rng.sample(names, rng.choice([1, 1, 2])):
        value = SETTINGS.get(name, config[name])
        near = [value]
        if isinstance(value, bool):
            near = [not value]
        elif isinstance(value, int | float):
            near = [value + 1, value - 1, value * 2, value / 3, -value, 1, 0, 1e-9, [value]]
        elif isinstance(value, list):
            near = [value[:-1], value[::-1], value * 2, [v * 3 for v in value], [0.01], value[0]]
        values = (rng.choice(near), rng.choice(near), config[rng.choice(names)], rng.choice(ODD))
        settings[name] = rng.choice(values)
    return place.call(rng.choice(SCRIPTS), **{'num_workers': 0, **settings})


def paths(rng, place):
    """Other ways to a place, and places that cannot be."""
    script = rng.choice(SCRIPTS)
    file = place.root / 'log' / 'file'
    file.touch()
    good = [
        f'{place.log}/../x/./y',
        f'{place.log}//',
        '.',
        '../x',
        'a/../../b',
        './' * 1000,
        f'{file.parent}/é 東京',
        '🙂',
    ]
    bad = [file, file / 'x', 'x' * 300, 'a/' * 3000, f'{place.log}/{"x" * 300}/y', '\udcff', 'a\nb', '']
    taken = [
        '/dev/null',
        '/etc/passwd',
        '/proc',
        place.data,
        place.root,
        place.data / 'images' / '..',
        '..',
        '../..',
        file,
    ]
    way, name = rng.randrange(6), rng.choice(['log_dir', 'snapshot_dir'])
    if way < 2:
        return place.call(script, **{name: rng.choice([*good, *bad])})
    if way == 2:
        return place.call('train.py', *rng.choice([(), ('-c', 'auto')]), snapshot_dir=rng.choice(taken))
    if way == 3:
        return place.call('eval.py', '-s', '-p', rng.choice([*good, *bad]))
    name = rng.choice(
        ['dataset_path', 'img_root_folder', 'gt_root_folder', 'train_source', 'eval_source', 'pretrained_model']
    )
    return place.call(script, **{name: rng.choice([*good, *bad, *taken, *ODD])})


def arguments(rng, place):
    script = rng.choice(SCRIPTS)
    options = [
        '-c',
        '-e',
        '-d',
        '-h',
        '-v',
        '-s',
        '--branch',
        '--force',
        '--devices',
        '--epochs',
        '--x',
        '-cauto',
        '--',
    ]
    words = ['auto', 'last', '0-', '2-1', '0-9999999999999', '0,0', 'cpu', '٣', '²', 'none.pth', 'lr=1', 'lr']
    words += [f'{"x" * 300}.pth', f'{place.checkpoint}']
    chosen = [rng.choice([*options, *options, *ODD, *words]) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.5:
        option = rng.choice(['-c', '-d'] if script == 'train.py' else ['-e', '-d', '--branch'])
        chosen = [f'{option}{chosen[0]}'] if rng.random() < 0.5 else [option, chosen[0]]
    return place.call(script, *chosen)


def leftovers(rng, place):
    """What an earlier run left in the log folder, damaged."""
    assert place.call('train.py').status == 0
    assert place.call('eval.py', '-s').status == 0
    path = rng.choice(sorted(p for p in place.log.rglob('*') if p.suffix != '.png'))
    if path.is_file() and not path.is_symlink() and rng.random() < 0.6:
        damage = damaged_text if path.suffix in ('.jsonl', '.json', '.log') else damaged_bytes
        path.write_bytes(damage(rng, path.read_text() if damage is damaged_text else path.read_bytes()))
    else:
        other_thing(rng, path, place)
    return place.call(
        *rng.choice([('train.py',), ('train.py', '-c', 'auto'), ('eval.py', '-e', 'last', '-s')]), nepochs=3
    )


KINDS = (lists, images, labels, checkpoints, weights, classes, overrides, paths, arguments, leftovers)
