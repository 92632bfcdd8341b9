"""Train on PASCAL VOC 2012: data, loss and method as config.py says.

python train.py                        one GPU, or the CPU where there is none
python train.py labeled_ratio=4        another value for a setting of config.py
python train.py -c auto                go on from the last checkpoint
"""

import os
import sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [root, os.environ.get('volna') or root]  # for a copy of this folder elsewhere, volna names the checkout

from furnace.datasets.classes import PASCAL_VOC
from furnace.datasets.lists import voc_items
from furnace.engine.train_command import train
from furnace.seg_opr.loss import CrossEntropy


def classes(C):
    return PASCAL_VOC


def criterion(C):
    return CrossEntropy(C.background)


if __name__ == '__main__':
    sys.exit(train(__file__, voc_items, classes, criterion))
