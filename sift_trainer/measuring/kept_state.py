"""Passes that train nothing: whatever they do to a model is undone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sift_trainer.random_state import random_state_kept


class Buffers:
    """The buffers of a model as they were when this was made."""

    def __init__(self, model: nn.Module) -> None:
        self._saved = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Give every module the same tensor again, with the same values."""
        with torch.no_grad():
            for module, name, buffer, values in self._saved:
                module._buffers[name] = buffer
                buffer.copy_(values)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Within the context passes may be made, forward and backward; afterwards modes, gradients,
    buffers and the global random states are what they were, also after an exception.

    It begins without gradients. Parameters are not looked at.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients: list[tuple[nn.Parameter, Tensor | None]] = []
    for parameter in model.parameters():
        gradients.append((parameter, parameter.grad))
        parameter.grad = None
    buffers = Buffers(model)
    try:
        with random_state_kept(parameter.device for parameter, _ in gradients):
            yield
    finally:
        buffers.restore()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in modes:
            module.training = training
