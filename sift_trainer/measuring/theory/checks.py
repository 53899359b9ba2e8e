"""Checks of the arguments of the paper's formulas."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Values = Tensor | Sequence[float]
"""One number per sample: a tensor of any floating type and device, or a sequence."""


def require(holds: bool, name: str, value: float, wanted: str) -> None:
    """Raise `ValueError` unless ``holds`` is true and ``value`` is a number (not NaN)."""
    if not holds or math.isnan(value):
        raise ValueError(f"{name}={value:g} must be {wanted}")


def sample_values(name: str, values: Values, least: int) -> Tensor:
    """``values`` as an fp64 tensor (n,) on the CPU.

    Raises:
        ValueError: if the shape is not (n,) with n >= ``least``, or a value is not finite.
    """
    found = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if found.dim() != 1 or len(found) < least:
        raise ValueError(
            f"{name} has shape {tuple(found.shape)}; it must be (n,) with n of at least {least}"
        )
    _refuse(name, found, ~found.isfinite(), "finite: leave out samples without a loss")
    return found


def sample_losses(name: str, values: Values, least: int, *, positive: bool = False) -> Tensor:
    """`sample_values` that are at least 0, or above 0 if ``positive``."""
    found = sample_values(name, values, least)
    if positive:
        _refuse(name, found, found <= 0, "above 0, because its logarithm is taken; such as 0.7")
    else:
        _refuse(name, found, found < 0, "at least 0, such as 0.7")
    return found


def _refuse(name: str, values: Tensor, wrong: Tensor, wanted: str) -> None:
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise ValueError(f"{name}[{index}]={float(values[index]):g} must be {wanted}")


def same_shape(name: str, values: Tensor, other_name: str, other: Tensor) -> None:
    """Raise `ValueError` if the two tensors have different shapes."""
    if values.shape != other.shape:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, {other_name} has {tuple(other.shape)}: "
            "pass both for the same samples, in the same order"
        )


def groups_of_equal(values: Tensor) -> tuple[Tensor, Tensor]:
    """Group number (n,) of each value, in ascending order of the values, and the group sizes."""
    unique: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.unique
    _, group, sizes = unique(values, return_inverse=True, return_counts=True)
    return group, sizes
