"""CPCL on CamVid: 480x360 road scenes, 11 classes, ResNet-18 from random weights, at half resolution.

A small experiment on real photographs, sized so that a CPU can do it.
Data: python -m furnace.datasets.prepare camvid SOURCE DATA/camvid
Run:  python train.py && python eval.py -e last
One run on a thread of an AMD EPYC ended with a mIoU of 37.55 % (docs/measurements/camvid_1-8_cpu.json; no time kept).
"""

import os
import sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [root, os.environ.get('volna') or root]  # for a copy of this folder elsewhere, volna names the checkout

from furnace.engine.config import Config

config = C = Config()

# What you are most likely to change
C.labeled_ratio = 8  # 1/8 of the training images have labels; the lists follow
C.method = 'cpcl'  # 'cpcl', 'cps', 'supervised', 'intersection' (both branches), 'union' (both branches)
C.backbone = 'resnet18'  # 'resnet50', 'resnet101', 'resnet18'
C.reweight = True  # weight the pseudo labels with the teachers' confidence
C.cutmix = True  # mix two unlabelled images
C.seed = 12345  # of weights, crops, flips, order and CutMix

# Where things are
C.volna = os.environ.get('volna') or root  # root of the checkout, which holds DATA
C.dataset_path = os.path.join(C.volna, 'DATA', 'camvid')  # the data set
C.img_root_folder = C.dataset_path  # a list names images below it
C.gt_root_folder = C.dataset_path  # and label maps below this
C.pretrained_model = None  # a file of ImageNet weights; 'torchvision': ResNet-18's, downloaded; None: start at random
C.log_dir = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'log')  # what runs leave
C.snapshot_dir = os.path.join(C.log_dir, 'snapshot')  # checkpoints
C.device = '0'  # as -d, which overrides it

# Lists
lists = os.path.join(C.dataset_path, 'config_new')
subset = os.path.join(lists, 'subset_train')
C.train_source = os.path.join(subset, f'train_aug_labeled_1-{C.labeled_ratio}.txt')  # labelled images
C.unsup_source = os.path.join(subset, f'train_aug_unlabeled_1-{C.labeled_ratio}.txt')  # unlabelled images
C.eval_source = os.path.join(lists, 'val.txt')  # images to score
C.test_source = os.path.join(lists, 'test.txt')  # for scripts of your own
C.demo_source = os.path.join(lists, 'demo.txt')  # for scripts of your own

# Images and classes
C.num_classes = 11  # ids 0 … num_classes - 1 in the label maps
C.background = 255  # label of void pixels
C.image_mean = [0.485, 0.456, 0.406]  # R, G, B
C.image_std = [0.229, 0.224, 0.225]  # pixels are (value / 255 - mean) / std
C.image_height = 160  # crop, pixels
C.image_width = 160  # crop, pixels
C.train_scale_array = [0.375, 0.5, 0.625, 0.75]  # factors of which one is drawn for each crop
C.num_train_imgs = 367  # labelled and unlabelled ones
C.num_eval_imgs = 101  # for scripts of your own
C.num_unsup_imgs = C.num_train_imgs - C.num_train_imgs // C.labeled_ratio  # those without a label

# CutMix
C.cutmix_mask_prop_range = [0.25, 0.5]  # a box's share of the area, before division by the number of boxes
C.cutmix_boxmask_n_boxes = 3  # boxes an image
C.cutmix_boxmask_fixed_aspect_ratio = False  # boxes have the aspect ratio of the crop
C.cutmix_boxmask_by_size = False  # the range is of a box's sides instead of its area
C.cutmix_boxmask_outside_bounds = False  # boxes may reach over the border
C.cutmix_boxmask_no_invert = False  # the boxes show u0 instead of u1

# Training
C.batch_size = 4  # labelled images, and as many of u0 and of u1
C.nepochs = 8  # enough to see that it learns
C.max_samples = max(C.num_train_imgs // C.labeled_ratio, C.num_unsup_imgs)  # samples an epoch, of each stream
C.niters_per_epoch = max(1, C.max_samples // C.batch_size)  # iterations an epoch
C.lr = 0.02  # base learning rate, of all parameters
C.lr_power = 0.9  # the rate is lr (1 - i / total)^lr_power in iteration i
C.momentum = 0.9  # SGD's
C.weight_decay = 1e-4  # of the weights of convolutions alone
C.warm_up_epoch = 0  # epochs in which the rate rises from 0
C.unsup_weight = 1.0  # λ
C.bn_eps = 1e-5  # BatchNorm's, everywhere
C.bn_momentum = 0.1  # BatchNorm's: share of a batch in the running statistics
C.num_workers = 1  # processes that make samples; 0: none
C.cache_dir = None  # folder for decoded images, so that a sample costs no decoding; None: decode each time
C.amp = 'auto'  # 'bf16', 'fp16', 'off'; auto: bf16 on a GPU that has it, else off
C.compile = False  # compile the networks with torch.compile: a slow start, then faster steps on a GPU
C.grad_checkpoint = False  # keep less of the backbone and compute it twice: memory against time
C.deterministic = False  # the same bits each time on a GPU too, from slower kernels; a CPU always gives them
C.snapshot_iter = 2  # keep a checkpoint every 2nd epoch after nepochs // 6
C.keep_snapshots = None  # newest snapshots that stay; None: all
C.checkpoint_minutes = 30.0  # at most so many between two saves of epoch-last.pth
C.log_every = 10  # iterations between two lines of log/losses.jsonl
C.image_every = 100  # iterations between two pictures in TensorBoard of what the branches teach; 0: none
C.max_bad_steps = 0  # iterations in a row whose loss may be nan or infinite; they are left out

# Evaluation
C.eval_every = 0  # epochs between scores on eval_source while training, which keep epoch-best.pth; 0: none
C.eval_scale_array = [0.5]  # factors; the logits of all are summed
C.eval_flip = False  # add the logits of the mirrored image
C.eval_crop_size = 480  # side of a window, pixels; not used with eval_whole
C.eval_stride_rate = 2 / 3  # step between windows, as a share of their side
C.eval_whole = True  # whole images instead of windows
C.eval_batch_size = 4  # windows in one forward pass
