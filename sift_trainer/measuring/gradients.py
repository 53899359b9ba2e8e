"""What an update brings to first order: inner products of gradients, AdamW's preconditioner."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Gradient = list[Tensor | None]  # of each trained parameter; None if the loss does not reach it


class UpdateDescent(NamedTuple):
    """By how much a held-out loss falls per unit of the learning rate, to first order."""

    plain: float
    at_equal_length: float  # for the update divided by its Euclidean norm


def descent_of(
    held_out: Gradient, gradient: Gradient, scales: Sequence[Tensor] | None = None
) -> UpdateDescent:
    """Descent of the loss with gradient ``held_out`` by an update along ``gradient``, or along
    ``scales * gradient`` for AdamW's scales."""
    products, squares = [], []
    for number, (one, other) in enumerate(zip(held_out, gradient, strict=True)):
        if other is None:
            continue
        update = other.float() * (1.0 if scales is None else scales[number])
        squares.append(update.square().sum().double())
        if one is not None:
            products.append((one.float() * update).sum().double())
    plain, norm = float(sum(products)), float(sum(squares)) ** 0.5
    return UpdateDescent(plain, plain / norm if norm else 0.0)


def dropped_descent(kept: float, random: float, keep_ratio: float) -> float:
    """Descent by the dropped rows. Random rows mix kept and dropped ones by the keep ratio."""
    return (random - keep_ratio * kept) / (1 - keep_ratio)


class AdamScales(Sequence[Tensor]):
    """1 / (sqrt(v / (1 - beta_2^t)) + eps) for each parameter, by an optimizer's current state.

    A tensor in fp32 is computed at each access, so that no copy of the model is kept. It is zeros
    for a parameter that the optimizer never moved.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        self._state, self._parameters = optimizer.state, parameters
        self._groups = {
            id(parameter): group
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    @property
    def known(self) -> bool:
        """Whether the optimizer has second moments of these parameters, in their shapes."""
        states = [(each, self._state[each]) for each in self._parameters if each in self._state]
        return bool(states) and all(
            {"step", "exp_avg_sq"} <= set(state)
            and state["exp_avg_sq"].shape == each.shape
            and {"betas", "eps"} <= set(self._groups[id(each)])
            for each, state in states
        )

    def __len__(self) -> int:
        return len(self._parameters)

    def __getitem__(self, number: Any) -> Any:
        parameter = self._parameters[number]
        if parameter not in self._state:
            return torch.zeros_like(parameter, dtype=torch.float32)
        state, group = self._state[parameter], self._groups[id(parameter)]
        unbiased = 1 - float(group["betas"][1]) ** float(state["step"])
        return 1 / ((state["exp_avg_sq"].float() / unbiased).sqrt() + float(group["eps"]))
