"""Passes without training that leave random states, modes, buffers and gradients unchanged."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def random_state_kept(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch, on the CPU and on ``devices``
    of one kind, at the end. No device is waited for."""
    accelerators = [device for device in set(devices) if device.type != "cpu"]
    kind = accelerators[0].type if accelerators else "cuda"
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(accelerators, device_type=kind):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Within the context, the model is in evaluation mode and computes no gradients. The mode of
    every submodule and the global random states are restored at the end."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), random_state_kept(each.device for each in model.parameters()):
            yield
    finally:
        for module in training:
            module.training = True


class Buffers:
    """A copy of the buffers of a model."""

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
    """For forward and backward passes: restores modes, gradients, buffers and the global random
    states at the end, but not parameters. At the start there are no gradients."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
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
