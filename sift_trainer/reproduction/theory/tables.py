"""The tables of docs/theory.md, from the numbers that `study` returns."""

from collections.abc import Callable, Iterable
from typing import Any

from sift_trainer.reproduction.theory.bounds import SIGMA_LIMIT, p_sigma, p_sigma_symmetric

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"

Row = dict[str, Any]
Columns = dict[str, Callable[[Row], str]]
"""The cell of a row, by the head of its column."""


def _steps(key: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        if key not in row:
            return ""
        return "not seen" if row[key] is None else f"{row[key]:,.0f}"

    return cell


def _number(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row[key]:.3f}"


def _over_minimum(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row[key] / row['minimum_loss']:.3f}"


def _choice(row: Row) -> str:
    candidates = row["num_candidates"]
    return f"greedy, R = {candidates}" if candidates > 1 else "random (SGD)"


def _p_sigma(row: Row, factor: float = 1.0) -> str:
    return f"{p_sigma(row['sigma']) * factor:.3f}" if row["sigma"] <= SIGMA_LIMIT else ""


_OF_RUNS: Columns = {
    "outliers": lambda row: row["problem"],
    "choice": _choice,
    "rho_R*": _number("loss_ratio"),
    "Delta_R / F*": _over_minimum("max_loss_at_minimum"),
    "floor of the bound / F*": _over_minimum("floor_of_bound"),
    "floor of the runs / F*": _over_minimum("floor_of_runs"),
    "least bound / loss": lambda row: (
        f"{min(bound / loss for bound, loss in zip(row['bounds'], row['losses'], strict=True)):.2f}"
    ),
    "bounds cross at K": _steps("crossing_of_bounds"),
    "runs cross at K": _steps("crossing_of_runs"),
    "runs reach 2 F* at K": _steps("steps_to_twice_minimum"),
}
_OVER_SIGMA: Columns = {
    "sigma": lambda row: f"{row['sigma']:g}",
    "p(sigma)": _p_sigma,
    "p symmetric": lambda row: f"{p_sigma_symmetric(row['sigma']):.3f}",
    "least share kept": _number("kept_share"),
    "p(sigma) rho_2*": lambda row: _p_sigma(row, row["exact_ratio"]),
    "rho_2,approx*": _number("loss_ratio"),
    "floor of the bound / F*": _over_minimum("floor_of_bound"),
    "floor of the runs / F*": _over_minimum("floor_of_runs"),
    "the same, R = 4": _over_minimum("floor_of_runs_of_4"),
    "runs reach 2 F* at K": _steps("steps_to_twice_minimum"),
}
_AGREEMENT: Columns = {
    "exit layer": lambda row: f"{row['exit_layer']} of {row['layers']}",
    "beta_j": _number("beta"),
    "p_j by theorem": _number("by_theorem"),
    "counted": _number("counted"),
    "95% interval": lambda row: f"{row['low']:.3f} to {row['high']:.3f}",
}


def _table(columns: Columns, rows: Iterable[Row]) -> str:
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[cell(row) for cell in columns.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(found: dict[str, Any]) -> str:
    """Markdown: runs and bounds, floors over sigma, agreement of exits."""
    runs, noise = found["along_runs"], found["over_sigma"]
    curves = [{**part, **curve} for part in runs for curve in part["curves"]]
    rows = [{**noise, **row, "exact_ratio": noise["loss_ratio"]} for row in noise["rows"]]
    return (
        f"Learning rate {found['learning_rate']:g} / L, D_0 = {found['initial_distance']:g}, "
        f"{found['runs']} runs of {runs[0]['steps'][-1]:,} updates for each row.\n\n"
        f"{_table(_OF_RUNS, curves)}\n"
        "Noise, one-sided outliers, R = 2 where nothing else is said:\n\n"
        f"{_table(_OVER_SIGMA, rows)}\n"
        f"Linear networks of random layers near the identity, {found['samples'] // 2:,} pairs:\n\n"
        f"{_table(_AGREEMENT, found['agreement'])}"
    )


def with_tables(page: str, found: dict[str, Any]) -> str:
    """The page with the tables of ``found`` between its markers `BEGIN` and `END`."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables(found)}\n{END}{after}"
