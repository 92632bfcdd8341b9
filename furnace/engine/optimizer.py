"""The optimisers of the two branches, as one."""

import os

import torch
from torch import Tensor

from furnace.base_model import DualNetwork
from furnace.engine.lr import param_groups
from furnace.utils.errors import RunError, UserError


class Optimizers:
    """SGD for each branch; a step can be skipped by a tensor, without waiting for the device to know it.

    Args:
        network: on its device.
        lr, momentum, weight_decay: see ``param_groups``.
        scale_losses: for gradients in fp16, which vanish or overflow unscaled.
    """

    def __init__(
        self, network: DualNetwork, lr: float, momentum: float, weight_decay: float, scale_losses: bool = False
    ):
        self.each = [
            torch.optim.SGD(param_groups(branch, lr, weight_decay), momentum=momentum, fused=True)
            for branch in network.branches
        ]
        device = next(network.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=scale_losses)
        self._begin_momentum()

    def _begin_momentum(self) -> None:
        """Zeros, as a first step that is skipped would leave PyTorch's own buffers unset."""
        for optimizer in self.each:
            for group in optimizer.param_groups:
                for parameter in group['params'] if group['momentum'] else ():
                    state = optimizer.state[parameter]
                    if state.get('momentum_buffer') is None:
                        state['momentum_buffer'] = torch.zeros_like(parameter)

    def begin(self, rate: float) -> None:
        """No gradients, and the learning rate of the iteration."""
        for optimizer in self.each:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group['lr'] = rate

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` (0-d) to the parameters', scaled where fp16 needs it."""
        self.scaler.scale(loss).backward()

    def norms(self) -> list[Tensor]:
        """Of the gradient of each branch, 0-d, on the device; once, after the last ``backward``."""
        if self.scaler.is_enabled():
            for optimizer in self.each:
                self.scaler.unscale_(optimizer)
        parameters = ([p.grad for group in o.param_groups for p in group['params']] for o in self.each)
        return [torch.nn.utils.get_total_norm(gradients) for gradients in parameters]

    def step(self, skip: Tensor) -> None:
        """Update the weights, unless ``skip`` (0-d bool, on the device) is true; only ``norms`` may come before."""
        for optimizer in self.each:
            optimizer.found_inf = skip.float()  # the fused kernel reads it on the device
            optimizer.step()
            del optimizer.found_inf
        if self.scaler.is_enabled():
            self.scaler.update()

    def require_scale(self) -> None:
        """Raises RunError where fp16 has no room for the gradients; waits for the device."""
        if self.scaler.get_scale() < 1:
            error = RunError("amp = 'fp16': the gradients overflow at every scale; amp='bf16' or amp='off' has room")
            error.alone = False  # all processes have this scale
            raise error

    def state_dict(self) -> dict:
        """``optimizer_1`` and ``optimizer_2``, and the ``scaler`` where there is one."""
        states = {f'optimizer_{number}': optimizer.state_dict() for number, optimizer in enumerate(self.each, 1)}
        return {**states, 'scaler': self.scaler.state_dict()}

    def load(self, content: dict, source: str | os.PathLike) -> None:
        """Take up what ``state_dict`` gave.

        Raises:
            UserError: it does not fit.
        """
        try:
            for number, optimizer in enumerate(self.each, 1):
                # The configuration's, which --force lets differ, not those of the checkpoint.
                own = [
                    {name: value for name, value in group.items() if name != 'params'}
                    for group in optimizer.param_groups
                ]
                optimizer.load_state_dict(content[f'optimizer_{number}'])
                for group, settings in zip(optimizer.param_groups, own, strict=True):
                    group.update(settings)
                # In the parameter's memory format, which the fused kernel takes for granted. What could not take part
                # in a step (another shape, no data) shows here, before anything is written.
                for parameter, state in optimizer.state.items():
                    if (buffer := state.get('momentum_buffer')) is not None:
                        state['momentum_buffer'] = torch.empty_like(parameter).copy_(buffer.view_as(parameter))
            self._begin_momentum()
            if self.scaler.is_enabled() and content.get('scaler'):
                self.scaler.load_state_dict(content['scaler'])
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f'{source}: holds no state that training can go on from ({error!r})') from None
