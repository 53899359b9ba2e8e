"""What the paper's formulas may be asked: every refusal names field, value and one that works."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Values = Tensor | Sequence[float]
"""Numbers of samples: a tensor of any floating type and device, or a sequence."""


def require(holds: bool, name: str, value: float, wanted: str) -> None:
    """Raise `ValueError`, which ``wanted`` ends, unless ``holds`` and ``value`` is a number."""
    if not holds or math.isnan(value):
        raise ValueError(f"{name}={value:g} must be {wanted}")


def positive(name: str, value: float, example: float) -> None:
    """Refuse what is not a finite number above 0."""
    require(0 < value < math.inf, name, value, f"finite and above 0, such as {example:g}")


def not_negative(name: str, value: float, example: float) -> None:
    """Refuse what is not a finite number of 0 or more."""
    require(0 <= value < math.inf, name, value, f"finite and at least 0, such as {example:g}")


def whole(name: str, value: int, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def sample_values(name: str, values: Values, least: int) -> Tensor:
    """``values`` (n,) in fp64 on the CPU.

    Raises:
        ValueError: if they are not one row of at least ``least`` finite numbers.
    """
    if isinstance(values, Tensor):
        found = values.detach().to(device="cpu", dtype=torch.float64)
    else:
        found = torch.tensor(values, dtype=torch.float64)
    if found.dim() != 1 or len(found) < least:
        raise ValueError(
            f"{name} has shape {tuple(found.shape)}; it must be (n,) with n of at least {least}"
        )
    if not bool(found.isfinite().all()):
        bad = int((~found.isfinite()).nonzero()[0])
        raise ValueError(
            f"{name}[{bad}]={float(found[bad])} must be finite: leave such samples out"
        )
    return found


def sample_losses(name: str, values: Values, least: int, zero: bool = True) -> Tensor:
    """As `sample_values`, and not below 0, nor 0 unless ``zero`` may be (Assumption 5.4)."""
    found = sample_values(name, values, least)
    wrong = (found < 0) if zero else (found <= 0)
    if bool(wrong.any()):
        bad = int(wrong.nonzero()[0])
        wanted = "at least 0" if zero else "above 0, as its logarithm is taken"
        raise ValueError(f"{name}[{bad}]={float(found[bad]):g} must be {wanted}, such as 0.7")
    return found


def like(name: str, values: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse two rows of numbers that are not of the same samples."""
    if values.shape != other.shape:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, {other_name} {tuple(other.shape)}: "
            "they must be of the same samples, in the same order"
        )


def groups_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Number (n,) of each element's value among the different ones, ascending; their counts."""
    unique: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.unique
    _, group, sizes = unique(values, return_inverse=True, return_counts=True)
    return group, sizes
