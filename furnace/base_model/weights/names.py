"""The names of backbone tensors in the files of other projects, and in this one."""

# timm ("resnet50s"), PyTorch-Encoding and, for its plain stem, torchvision name every tensor as this project does.
# OpenMMLab (mmcv, mmsegmentation: ResNetV1c) keeps the deep stem's last BatchNorm with its convolutions.
OPENMMLAB_STEM = {
    'stem.0': 'conv1.0',
    'stem.1': 'conv1.1',
    'stem.3': 'conv1.3',
    'stem.4': 'conv1.4',
    'stem.6': 'conv1.6',
    'stem.7': 'bn1',
}
HEADS = ('fc', 'head', 'decode_head', 'auxiliary_head')  # what stands on a backbone


def strip_module(name: object) -> str:
    """The name without the ``module.`` that a DataParallel wrapper puts before it."""
    return str(name).removeprefix('module.')


def backbone_name(name: object) -> tuple[str, str | None]:
    """The name of a tensor here, and the head that it belongs to, or None where it is of the backbone."""
    name = strip_module(name).removeprefix('backbone.')
    head = name.split('.')[0]
    if head in HEADS:
        return name, head
    layer, dot, tensor = name.rpartition('.')
    return f'{OPENMMLAB_STEM.get(layer, layer)}{dot}{tensor}', None
