"""torch.compile for training, with a way out where it does not work."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from furnace.utils.memory import out_of_memory


def compile_training(module: nn.Module, warn: Callable[[str], None] | None) -> None:
    """Compile ``module``'s forward (of one image batch) and backward in train mode; names and tensors stay as they are.

    Where that fails in a forward pass (no compiler on the machine, say) the module goes on as it was.

    Args:
        warn: told once why; None lets the error through, as several processes must not part ways.
    """
    eager, compiled = module.forward, torch.compile(module.forward)

    def forward(x: Tensor) -> Tensor:
        nonlocal compiled
        if module.training and compiled is not None:
            try:
                return compiled(x)
            except Exception as error:  # of the compiler, whatever it uses; one of the module's own comes again below
                if warn is None or out_of_memory(error):
                    raise
                compiled = None
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                warn(f'compile = True: does not work here, training goes on without it: {reason}')
        return eager(x)

    module.forward = forward
