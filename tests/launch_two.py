"""What ``-d 0,1`` does, on two CPU devices. Run by tests.

python launch_two.py SCRIPT ARGUMENTS…
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from furnace.engine.distributed import launch

if __name__ == '__main__':
    sys.exit(launch([sys.executable, *sys.argv[1:]], [torch.device('cpu')] * 2))
