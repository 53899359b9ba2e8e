"""Every run with every combination of some fields' values, as the paper's tables are laid out."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any


def expand(
    grid: Mapping[str, Sequence[Any]], runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Name of a run -> its overrides, one run after another within a cell of the grid.

    A cell is named after its fields and values and goes in front of the run's name, as in
    ``learning_rate_0.05-seed_1/baseline``, which is the path of its folder. Without a grid the
    names stay as they are.

    Raises:
        ValueError: a run sets a field that the grid varies, naming it.
    """
    for name, overrides in runs.items():
        for field in grid:
            if field in overrides:
                raise ValueError(
                    f"runs.{name} sets {field}={overrides[field]!r}, which the grid varies; remove "
                    "it in one of the two places"
                )
    if not grid:
        return {name: dict(overrides) for name, overrides in runs.items()}
    return {
        f"{_cell(grid, values)}/{name}": {**dict(zip(grid, values, strict=True)), **overrides}
        for values in product(*grid.values())
        for name, overrides in runs.items()
    }


def _cell(grid: Mapping[str, Any], values: Sequence[Any]) -> str:
    return "-".join(f"{field}_{value}" for field, value in zip(grid, values, strict=True))


def is_chosen(name: str, wanted: str) -> bool:
    """Whether ``wanted`` names this run, its cell, or the runs of this name in all cells."""
    return wanted in (name, *name.split("/"))
