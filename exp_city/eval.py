"""Evaluate on Cityscapes.

python eval.py -e last                 also: -e 30, -e 20-34, -e 20-, -e FILE.pth
python eval.py -e last -s -p pictures  save pictures of the predictions
python eval.py -e last --report        write a page with scores, confusion matrix and worst images
python eval.py -i photos film.mp4      segment images and videos of your own
python eval.py --export model.onnx     or model.pt2
"""

import os
import sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [root, os.environ.get('volna') or root]  # for a copy of this folder elsewhere, volna names the checkout

from furnace.datasets.classes import CITYSCAPES
from furnace.datasets.lists import cityscapes_items
from furnace.engine.eval_command import evaluate


def classes(C):
    return CITYSCAPES


if __name__ == '__main__':
    sys.exit(evaluate(__file__, cityscapes_items, classes))
