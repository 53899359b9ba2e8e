"""What AdamW multiplies a gradient by, in place of a momentum of gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def adam_scale(moments: Tensor, step: Any, beta_2: float, eps: float) -> Tensor:
    """1 / (sqrt(v / (1 - beta_2^t)) + eps), in fp32, of second moments v after t steps."""
    unbiased = 1 - float(beta_2) ** float(step)
    scale: Tensor = 1 / ((moments.float() / unbiased).sqrt() + float(eps))
    return scale


class AdamScales(Sequence[Tensor]):
    """`adam_scale` of an optimizer's parameters as it stands: each tensor is made when it is asked
    for, so that no copy of the model is held.

    A parameter that the optimizer never moved has zeros.

    Args:
        optimizer: torch's.
        parameters: those that are trained, in the model's order.
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
        """Whether the optimizer has second moments of these parameters, of their shapes."""
        states = [(each, self._state[each]) for each in self._parameters if each in self._state]
        return bool(states) and all(
            isinstance(state.get("exp_avg_sq"), Tensor)
            and state["exp_avg_sq"].shape == each.shape
            and "step" in state
            and {"betas", "eps"} <= set(self._groups.get(id(each), ()))
            for each, state in states
        )

    def __len__(self) -> int:
        return len(self._parameters)

    def __getitem__(self, number: Any) -> Any:
        parameter = self._parameters[number]
        if parameter not in self._state:
            return torch.zeros_like(parameter, dtype=torch.float32)
        state, group = self._state[parameter], self._groups[id(parameter)]
        return adam_scale(state["exp_avg_sq"], state["step"], group["betas"][1], group["eps"])
