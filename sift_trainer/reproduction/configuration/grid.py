"""A grid: every run with every combination of the values of some fields."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any


def expand(
    grid: Mapping[str, Sequence[Any]], runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Name of a run -> its overrides, all runs of a cell of the grid in a row.

    The name of a cell consists of its fields and values and precedes the run's name, as in
    ``learning_rate_0.05-seed_1/baseline``. This is the path of the run's folder. Without a grid the
    names stay as they are.

    Raises:
        ValueError: if a run sets a field that the grid varies.
    """
    for name, overrides in runs.items():
        for field in grid.keys() & overrides.keys():
            raise ValueError(
                f"runs.{name} sets {field}={overrides[field]!r}, which the grid varies; remove it "
                "in one of the two places"
            )
    return {
        "/".join([*_cell(grid, values), name]): {**dict(zip(grid, values, strict=True)), **run}
        for values in product(*grid.values())
        for name, run in runs.items()
    }


def _cell(grid: Mapping[str, Any], values: Sequence[Any]) -> list[str]:
    parts = [f"{field}_{value}" for field, value in zip(grid, values, strict=True)]
    return ["-".join(parts)] if parts else []


def is_chosen(name: str, wanted: str) -> bool:
    """Whether ``wanted`` names this run, its cell, or the runs of this name in all cells."""
    return wanted in (name, *name.split("/"))
