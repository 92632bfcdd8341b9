"""Small prepared data sets in both layouts, and a command line of one subcommand."""

import argparse

import numpy as np
from samples import save

from furnace.utils.errors import UserError

IDS = [0, 1, 2, 255]


def _pair(image, label, number):
    save(image, np.full((4, 6, 3), number, np.uint8))
    save(label, np.resize(np.array(IDS, np.uint8), (4, 6)))


def write_list(path, lines, end='\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(''.join(line + end for line in lines).encode())


def city_line(name, split='train'):
    return f'/images/{split}/{name}.png\t/segmentation/{split}/{name}_gtFine.png'


def make_city(root, number=20):
    """Frames of two sequences for train, two thirds in the first, and three for val. The names of the former."""
    names = [f'{"a" if i < number * 2 // 3 else "b"}_000000_{i:06d}' for i in range(number)]
    splits = {'train': names, 'val': [f'c_000000_{i:06d}' for i in range(3)]}
    for offset, (split, members) in zip((0, 200), splits.items(), strict=True):
        for i, name in enumerate(members):
            image, label = city_line(name, split).split('\t')
            _pair(root / image[1:], root / label[1:], offset + i)
        write_list(root / f'config_new/{split}.txt', [city_line(name, split) for name in members])
    return names


def make_voc(root, number=20):
    """The same as VOC. The images are PNG files under JPEG names, which says the same to a decoder."""
    names = [f'2007_{i:06d}' for i in range(number)]
    splits = {'train_aug': names, 'val': [f'2008_{i:06d}' for i in range(3)]}
    for offset, (split, members) in zip((0, 200), splits.items(), strict=True):
        for i, name in enumerate(members):
            image = root / f'{split}/image/{name}.jpg'
            _pair(image.with_suffix('.png'), root / f'{split}/label/{name}.png', offset + i)
            image.with_suffix('.png').rename(image)
        write_list(root / f'{split}.txt', members)
    return names


def read(path):
    return path.read_bytes().decode().splitlines()


def run(module, capsys, *arguments):
    """One call of a module's subcommand. Returns (exit status, stdout), or (2, the error)."""
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers(required=True))
    options = vars(parser.parse_args([str(argument) for argument in arguments]))
    command = options.pop('prepare')
    try:
        status = command(**options)
    except UserError as error:
        assert '\n' not in str(error)
        assert not capsys.readouterr().out
        return 2, str(error)
    return status or 0, capsys.readouterr().out
