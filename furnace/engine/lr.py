"""Learning rate and the optimiser's parameter groups."""

from torch import nn


def poly_lr(base: float, power: float, iteration: int, total: int, warmup: int = 0) -> float:
    """base · (1 - i/total)^power, the "poly" of DeepLab (Chen et al., TPAMI 2018); CPCL's power is 0.9.

    During warm-up base · i/warmup. After it the curve counts from iteration 0.
    """
    if iteration < warmup:
        return base * iteration / warmup
    return base * (1 - iteration / total) ** power


def param_groups(branch: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """SGD groups of one branch: backbone, head and classifier, each convolution weights first, then the rest.

    Only convolution weights decay; BatchNorm parameters and biases do not.
    """
    groups = []
    for part in (branch.backbone, branch.head, branch.classifier):
        decay = [module.weight for module in part.modules() if isinstance(module, nn.Conv2d)]
        chosen = {id(weight) for weight in decay}
        rest = [parameter for parameter in part.parameters() if id(parameter) not in chosen]
        groups.append({'params': decay, 'lr': lr, 'weight_decay': weight_decay})
        groups.append({'params': rest, 'lr': lr, 'weight_decay': 0.0})
    return groups
