"""The tables of docs/theory.md, from what `study` returns."""

from collections.abc import Sequence
from typing import Any

from sift_trainer.theory import SIGMA_LIMIT, p_sigma, p_sigma_symmetric

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _steps(value: float | None) -> str:
    return "not seen" if value is None else f"{value:,.0f}"


def _of_runs(found: dict[str, Any]) -> str:
    rows = []
    for part in found["along_runs"]:
        least = part["minimum_loss"]
        for curve in part["curves"]:
            greedy = curve["num_candidates"] > 1
            room = min(
                bound / loss for bound, loss in zip(curve["bounds"], curve["losses"], strict=True)
            )
            rows.append(
                [
                    part["problem"],
                    f"greedy, R = {curve['num_candidates']}" if greedy else "random (SGD)",
                    f"{curve['loss_ratio']:.3f}",
                    f"{curve['max_loss_at_minimum'] / least:.3f}",
                    f"{curve['floor_of_bound'] / least:.3f}",
                    f"{curve['floor_of_runs'] / least:.3f}",
                    f"{room:.2f}",
                    _steps(curve["crossing_of_bounds"]) if greedy else "",
                    _steps(curve["crossing_of_runs"]) if greedy else "",
                    _steps(curve["steps_to_twice_minimum"]),
                ]
            )
    head = [
        "outliers",
        "choice",
        "rho_R*",
        "Delta_R / F*",
        "floor of the bound / F*",
        "floor of the runs / F*",
        "least bound / loss",
        "bounds cross at K",
        "runs cross at K",
        "runs reach 2 F* at K",
    ]
    return _table(head, rows)


def _over_sigma(found: dict[str, Any]) -> str:
    part = found["over_sigma"]
    least, exact = part["minimum_loss"], part["loss_ratio"]
    rows = []
    for row in part["rows"]:
        sigma = row["sigma"]
        covered = sigma <= SIGMA_LIMIT
        rows.append(
            [
                f"{sigma:g}",
                f"{p_sigma(sigma):.3f}" if covered else "",
                f"{p_sigma_symmetric(sigma):.3f}",
                f"{row['kept_share']:.3f}",
                f"{p_sigma(sigma) * exact:.3f}" if covered else "",
                f"{row['loss_ratio']:.3f}",
                f"{row['floor_of_bound'] / least:.3f}",
                f"{row['floor_of_runs'] / least:.3f}",
                f"{row['floor_of_runs_of_4'] / least:.3f}",
                _steps(row["steps_to_twice_minimum"]),
            ]
        )
    head = [
        "sigma",
        "p(sigma)",
        "p symmetric",
        "least share kept",
        "p(sigma) rho_2*",
        "rho_2,approx*",
        "floor of the bound / F*",
        "floor of the runs / F*",
        "the same, R = 4",
        "runs reach 2 F* at K",
    ]
    return _table(head, rows)


def _agreement(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{point['exit_layer']} of {point['layers']}",
            f"{point['beta']:.3f}",
            f"{point['by_theorem']:.3f}",
            f"{point['counted']:.3f}",
            f"{point['low']:.3f} to {point['high']:.3f}",
        ]
        for point in found["agreement"]
    ]
    return _table(["exit layer", "beta_j", "p_j by theorem", "counted", "95% interval"], rows)


def tables(found: dict[str, Any]) -> str:
    """Markdown: runs beside bounds, floors over sigma, agreement of exits."""
    first = found["along_runs"][0]
    return (
        f"Learning rate {found['learning_rate']:g} / L, D_0 = {found['initial_distance']:g}, "
        f"{found['runs']} runs of {first['steps'][-1]:,} updates for each row.\n\n"
        f"{_of_runs(found)}\n"
        "Noise, one-sided outliers, R = 2 where nothing else is said:\n\n"
        f"{_over_sigma(found)}\n"
        f"Linear networks of random layers near the identity, {found['samples'] // 2:,} pairs:\n\n"
        f"{_agreement(found)}"
    )


def with_tables(page: str, found: dict[str, Any]) -> str:
    """The page with the tables of ``found`` between its markers.

    Raises:
        ValueError: if the page has not both markers once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page must have one line {BEGIN} and one line {END}")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables(found)}\n{END}{after}"
