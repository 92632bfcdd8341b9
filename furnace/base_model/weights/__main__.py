"""Turn the weights of another project into a file of this one.

python -m furnace.base_model.weights convert SRC DST.pth [--backbone resnet50]
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from furnace.base_model.resnet import BACKBONES
from furnace.base_model.weights.load import load_pretrained
from furnace.utils.errors import RunError, UserError, print_error, write_error
from furnace.utils.files import replacing


def convert(src: str, dst: Path, backbone: str, force: bool = False) -> str:
    """Write the weights of ``src`` to ``dst``: tensors alone, in this project's names, without heads.

    Args:
        src: what ``fetch`` takes.
        dst: the .pth file to write; a file of this name is always whole.
        backbone: one of BACKBONES.
        force: replace ``dst``.

    Returns:
        a line about what was done.

    Raises:
        UserError: ``src`` is no weights of this backbone, or ``dst`` is there already.
        UserError, RunError: ``dst`` cannot be written.
    """
    if dst.is_dir():
        raise UserError(f'{dst}: is a folder; give the name of a file in it')
    if dst.suffix != '.pth':
        raise UserError(f'{dst}: the name must end in .pth')
    if not dst.parent.is_dir():
        raise UserError(f'{dst.parent}: no such folder; make it first')
    if os.path.lexists(dst) and not force:
        raise UserError(f'{dst}: is there already; --force replaces it')
    network = BACKBONES[backbone]()
    loaded = load_pretrained([network], src, backbone)
    content = io.BytesIO()
    torch.save(dict(network.state_dict()), content)
    try:
        with replacing(dst) as file:
            file.write(content.getbuffer())
    except OSError as error:
        raise write_error(error, dst) from None
    return f'{dst}: {backbone} from {loaded}'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m furnace.base_model.weights', description='Tools for weights.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    command = commands.add_parser(
        'convert',
        help="bring another project's weights into this one's names",
        description='Bring ImageNet weights of timm, PyTorch-Encoding or OpenMMLab, or the backbone of an '
        "mmsegmentation network, into this project's names. Every tensor must have the shape that it has here.",
    )
    command.add_argument('src', metavar='SRC', help='a .pth or .safetensors file, hf:OWNER/NAME, or torchvision')
    command.add_argument('dst', type=Path, metavar='DST', help='the .pth file to write')
    command.add_argument('--backbone', choices=BACKBONES, default='resnet50', help='(default: resnet50)')
    command.add_argument('--force', action='store_true', help='replace DST')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0, 2 or 1 after a mistake or failure, 130 after Ctrl-C."""
    try:
        print(convert(**vars(_parser().parse_args(argv))))
    except (UserError, RunError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        print('interrupted: nothing was written', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
