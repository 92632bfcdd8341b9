"""Damage to files: bytes, text, pictures, checkpoints, and other things in their place; all drawn from ``rng``."""

import io
import random
import shutil
import struct
import zlib
from pathlib import Path

import torch
from PIL import Image
from place import Place

ODD = (
    '', ' ', '\t', '.', '..', '../', '-', '--', '-1',
    '0', '1', '2', '3', '1.5', '1e-9', '1e9', '1e999', '-1e999', 'nan', '9' * 20, '9' * 300, '9' * 5000, str(2**31),
    str(2**63), str(2**64), 'None', 'True', 'false', '[]', '[1', '[1, 2, 3]', '[0.5]', '[1e-9]', '[1e9]', '[1e999]',
    '["a"]', '[[1]]', '(1,)', '{}', '{1: 2}', '{[]: 1}', '(' * 300, '-' * 20_000, "__import__('os').mkdir('x')",
    'x' * 300, 'x' * 5000, 'a/' * 3000, 'a b', 'a\tb', 'a\nb', 'a\rb', '\u2028', '\x85', '\x1b[31m', 'é', 'e\u0301',
    '東京', '🙂', '\u202e', '\ufeff', '\udcff', '%s', '%', '{0}', '$HOME', '`touch x`', '; touch x', '*', '?', '\\',
    '"', "'", '#', '=', 'a=b',
)  # fmt: skip


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flipped, cut, inserted, removed, repeated or exchanged bytes."""
    first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    before, middle, after = content[:first], content[first:second], content[second:]
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 2, 50])):
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return rng.choice(
        [
            bytes(flipped), bytes(flipped), before, before + after, before + rng.randbytes(rng.choice([1, 9])) + after,
            before + 2 * middle + after, after + middle + before, bytes(reversed(content)), b'', content + content,
            before + bytes(second - first) + after,
        ]
    )  # fmt: skip


def damaged_text(rng: random.Random, text: str) -> bytes:
    """Lines or words exchanged, repeated, removed or replaced; another encoding or line end; bytes."""
    lines = text.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    way = rng.randrange(8)
    if way == 0:
        rng.shuffle(lines)
    elif way == 1:
        lines.insert(number, rng.choice(lines) * rng.choice([1, 20]))
    elif way == 2:
        del lines[number]
    elif way == 3:
        lines[number] = rng.choice(ODD) + '\n'
    elif way == 4:
        at = rng.randrange(len(lines[number]))
        lines[number] = lines[number][:at] + rng.choice(ODD) + lines[number][at + rng.randrange(3) :]
    elif way == 5:
        lines = [
            line.replace(rng.choice('/\t_.0"[,'), rng.choice(['', '/', '\t', '//', '../', '0', '\0'])) for line in lines
        ]
    elif way == 6:
        lines = [line.replace('\n', rng.choice(['\r\n', '\r', '\n\n', '\x0b', ' '])) for line in lines]
    else:
        return damaged_bytes(rng, text.encode())
    encoding = rng.choice(['utf-8'] * 6 + ['utf-8-sig', 'utf-16', 'utf-32', 'cp500', 'latin-1'])
    return ''.join(lines).encode(encoding, 'surrogatepass' if encoding.startswith('utf') else 'replace')


def picture(rng: random.Random, path: Path) -> bytes:
    """The picture in ``path`` in another form: mode, size, format, turned, or with another header."""
    with Image.open(path) as image:
        image.load()
    way = rng.randrange(4)
    if way == 0:  # a header that does not fit, under its right checksum
        content = bytearray(path.read_bytes())
        width, height = rng.choice([(0, 48), (64, 0), (65, 48), (64, 49), (2**31 - 1, 1), (1, 10**6), (2**31, 2**31)])
        depth, kind = rng.choice([(8, 0), (8, 2), (8, 3), (16, 0), (1, 0), (2, 0), (4, 3), (8, 6), (3, 9)])
        content[16:29] = struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, rng.choice([0, 0, 1]))
        content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
        return bytes(content)
    if way == 1:
        image = image.convert(
            rng.choice(['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'I', 'I;16' if image.mode == 'L' else 'L'])
        )
    elif way == 2:
        image = image.resize(rng.choice([(1, 1), (1, 48), (64, 1), (3000, 1), (65, 48), (48, 64), (128, 96)]), 0)
    elif way == 3 and image.mode == 'L':
        image = image.point(lambda v: rng.choice([v, v, v, 254, 3, 255]))
    stream = io.BytesIO()
    for kind in (rng.choice(['PNG', 'PNG', 'GIF', 'BMP', 'TIFF', 'JPEG', 'WEBP', 'PPM', 'ICO', 'TGA', 'SGI']), 'PNG'):
        try:
            image.save(
                stream,
                kind,
                **(
                    {'exif': b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\6\0\0\0'}
                    if way == 3 and kind in ('JPEG', 'PNG', 'WEBP')
                    else {}
                ),
            )
            break
        except (OSError, ValueError):  # a mode that this format does not have
            stream = io.BytesIO()
    return stream.getvalue()


def other_thing(rng: random.Random, path: Path, place: Place) -> None:
    """In the place of ``path``: nothing, a folder, a link, or another file."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    way = rng.randrange(7)
    if way == 1:
        path.mkdir(parents=True)
    elif way == 2:
        path.mkdir(parents=True)
        (path / 'x').touch()
    elif way == 3:
        path.symlink_to(rng.choice([path.name, 'none', '..', '.']))
    elif way == 4:
        path.write_bytes(b'')
    elif way > 4:
        others = [p for p in (*place.data.rglob('*'), *place.files.iterdir()) if p.is_file() and p != path]
        shutil.copy(rng.choice(sorted(others)), path)


def damaged_content(rng: random.Random, content: dict) -> dict:
    """A checkpoint in which one value, at any depth, is another or missing or has another name."""
    inner = content
    while True:
        name = rng.choice(list(inner))
        if not (isinstance(inner[name], dict) and inner[name]) or rng.random() < 0.25:
            break
        inner = inner[name]
    values = [
        None, -1, 0, 3, 10**30, -(10**30), 0.5, float('nan'), float('inf'), '', 'x', '3', [], [1], {}, {'a': 1}, True,
        b'x', torch.ones(3), torch.tensor(3), torch.tensor(float('nan')), torch.ones(4, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(0), torch.eye(4).to_sparse(), torch.ones(4, device='meta'), torch.Size([1]), torch.float16, {1: 2},
    ]  # fmt: skip
    way = rng.randrange(4)
    old = inner[name]
    if way == 0:
        del inner[name]
    elif way == 1:
        inner[rng.choice([*ODD, 0, None, (1, 2), f'module.{name}'])] = inner.pop(name)
    elif way == 2 and isinstance(old, torch.Tensor):
        dtype = rng.choice([torch.float64, torch.int8, torch.bool, torch.complex64, torch.bfloat16])
        inner[name] = rng.choice(
            [old.to(dtype), old[None], old.flatten(), old.clone().fill_(0), old.to_sparse(), old.to('meta')]
        )
    else:
        inner[name] = rng.choice(values)
    return content


def damage_weights(rng: random.Random, path: Path, place: Place) -> None:
    if (way := rng.randrange(5)) == 0:
        other_thing(rng, path, place)
    elif way == 1:
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    else:
        content = damaged_content(rng, torch.load(path, weights_only=True))
        torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.8)
