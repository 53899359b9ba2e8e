"""A context for passes whose effects on the model are undone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sift_trainer.sifted_model.no_trace import random_state_kept


class Buffers:
    """The buffers of a model at the time of construction."""

    def __init__(self, model: nn.Module) -> None:
        self._saved = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Give every module its tensors back, with their values."""
        with torch.no_grad():
            for module, name, buffer, values in self._saved:
                module._buffers[name] = buffer
                buffer.copy_(values)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore modes, gradients, buffers and the global random states at the end of the context.

    This also happens after an exception. The context begins without gradients. It does not restore
    parameters.
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
