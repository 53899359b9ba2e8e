"""The problems' constants against samples, the runs against a plain loop and the bounds."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sift_trainer.measuring.theory import expected_selected_loss
from sift_trainer.reproduction.theory.bounds import p_sigma_symmetric
from sift_trainer.reproduction.theory.problems import (
    OneSided,
    Problem,
    Symmetric,
    constants,
    max_loss,
    selected_loss,
)
from sift_trainer.reproduction.theory.runs import Runs, last_crossing, run
from sift_trainer.reproduction.theory.study import PROBLEMS
from sift_trainer.reproduction.theory.tables import BEGIN, END, tables, with_tables

REPOSITORY = Path(__file__).resolve().parents[3]
EACH = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


@EACH
@pytest.mark.parametrize("offset", [0.0, 0.3, 20.0])
def test_exact_losses_against_samples(problem: Problem, offset: float) -> None:
    """Tolerance 2%: 200,000 samples leave a standard error below 0.7%.

    |a| <= 1 makes the losses 1-smooth.
    """
    features, targets = problem.draw((200_000,), torch.Generator().manual_seed(0))
    assert float(features.norm(dim=1).max()) <= 1 + 1e-12
    weights = problem.minimiser.clone()
    weights[0] += offset
    losses, residuals = (features @ weights - targets).square() / 2, problem.residuals(offset)
    for candidates in (1, 2, 4):
        sampled = expected_selected_loss(losses, losses, candidates)
        assert max_loss(residuals, candidates) == pytest.approx(sampled, rel=0.02)
    assert float(problem.mean_loss(weights)) == pytest.approx(max_loss(residuals, 1), rel=1e-9)
    for sigma in (0.3, 2.0):
        noise = torch.randn(len(losses), generator=torch.Generator().manual_seed(1))
        sampled = expected_selected_loss(losses, losses.clamp(min=1e-300).log() + sigma * noise)
        assert selected_loss(residuals, sigma) == pytest.approx(sampled, rel=0.02)


def test_constants_by_hand() -> None:
    """Symmetric: at w* a loss is 1/2 with probability 0.1: F* = 0.05 and Delta_2 = 0.19 / 2. Far
    away it is r^2 U^2 / 2, U uniform: E max(U1^2, U2^2) = 1/2 over E U^2 = 1/3; 2 for R = 4.

    One-sided: w* = 0.1 / 0.4; F* = (0.9 w*^2 / 3 + 0.1 (1 - w*)^2) / 2 = 0.0375.
    """
    for candidates, top, ratio in ((2, 0.095, 1.5), (4, (1 - 0.9**4) / 2, 2.0)):
        known = constants(Symmetric(), candidates)
        assert known["max_loss_at_minimum"] == pytest.approx(top, rel=1e-9)
        assert known["loss_ratio"] == pytest.approx(ratio, rel=1e-6)
    assert Symmetric.minimum_loss == pytest.approx(0.05, rel=1e-9)
    assert float(OneSided.minimiser) == pytest.approx(0.25)
    assert OneSided.minimum_loss == pytest.approx(0.0375, rel=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_runs_against_a_plain_loop(sigma: float) -> None:
    """Four steps on the same draws (Equations 3 and 4), and their averages.

    The approximate loss is (residual^2 / 2) * exp(sigma zeta), by Assumption 5.12.
    """
    problem = OneSided()
    found = run(problem, num_candidates=3, last=4, runs=8, sigma=sigma)
    assert found.steps == [1, 2, 3, 4]
    generator = torch.Generator().manual_seed(3)
    features, targets = problem.draw((4, 8, 3), generator)
    noise = torch.zeros(4, 8, 3, dtype=torch.float64)
    if sigma:
        noise.normal_(0, sigma, generator=generator)
    for number in range(8):
        weight, path = 0.25 + 5, []
        for step in range(4):
            path.append(weight)
            a, b = features[step, number, :, 0], targets[step, number]
            approximate = (a * weight - b) ** 2 / 2 * noise[step, number].exp()
            selected = int(approximate.argmax())
            weight -= 0.05 * float(a[selected] * (a[selected] * weight - b[selected]))
        means = [sum(path[:steps]) / steps for steps in (1, 2, 3, 4)]
        assert found.averages[:, number, 0].tolist() == pytest.approx(means, rel=1e-12)
    losses = problem.mean_loss(found.averages).mean(dim=1)
    assert found.losses == pytest.approx(losses.tolist(), rel=1e-12)


def made(losses: list[float]) -> Runs:
    return Runs([10, 20, 40], torch.zeros(3, 1, 1), losses, [0.0] * 3)


def test_crossings_between_recorded_steps() -> None:
    """Ahead by 1 at 20, behind by 3 at 40: equal at 25. From 4 to 2 between 10 and 20: 3 at 15."""
    sgd = made([6.0, 3.0, 1.0])
    assert last_crossing(made([4.0, 2.0, 4.0]), sgd) == pytest.approx(25)
    assert last_crossing(made([4.0, 2.0, 0.5]), sgd) is None
    assert last_crossing(made([7.0, 4.0, 2.0]), sgd) is None
    assert made([4.0, 2.0, 1.0]).first_below(3.0) == pytest.approx(15)
    assert made([4.0, 2.0, 1.0]).first_below(5.0) == 10
    assert made([4.0, 2.0, 1.0]).first_below(0.5) is None


def script(*flags: str) -> None:
    path = str(REPOSITORY / "scripts" / "reproduce_theory.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *flags])
        runpy.run_path(path, run_name="__main__")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the script with ``--fast``."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("docs")
    (folder / "theory.md").write_text(f"# Before\n\n{BEGIN}\nold\n{END}\nafter\n")
    script("--fast", "--output", str(folder))
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((folder / "benchmarks" / "theory.json").read_text())
    return numbers


def test_script_writes_page_and_figures(folder: Path, found: dict[str, Any]) -> None:
    page = (folder / "theory.md").read_text()
    assert page == f"# Before\n\n{BEGIN}\n\n{tables(found)}\n{END}\nafter\n"
    for name in ("runs", "noise", "selection"):
        assert (folder / f"theory_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_bounds_hold_and_greedy_is_faster_early(found: dict[str, Any]) -> None:
    """At every K, with three standard errors to spare."""
    for part in found["along_runs"]:
        sgd, *greedy = part["curves"]
        for curve in part["curves"]:
            rows = zip(curve["losses"], curve["errors"], curve["bounds"], strict=True)
            assert all(loss + 3 * error <= bound for loss, error, bound in rows)
        for curve in greedy:
            assert curve["steps_to_twice_minimum"] < 0.85 * sgd["steps_to_twice_minimum"]
            assert curve["floor_of_bound"] > curve["floor_of_runs"] > 0.999 * part["minimum_loss"]


def test_noise_costs_speed_and_raises_the_floor_of_the_bound(found: dict[str, Any]) -> None:
    part = found["over_sigma"]
    for key, sign in (("floor_of_bound", 1), ("steps_to_twice_minimum", 1), ("kept_share", -1)):
        values = [sign * row[key] for row in part["rows"]]
        assert values == sorted(values), key
    for row in part["rows"][1:]:
        bound = p_sigma_symmetric(row["sigma"])
        assert bound * part["loss_ratio"] < row["loss_ratio"] < part["loss_ratio"]
        assert bound < row["kept_share"]


def test_page_shows_the_published_numbers() -> None:
    docs = REPOSITORY / "docs"
    found = json.loads((docs / "benchmarks" / "theory.json").read_text())
    page = (docs / "theory.md").read_text(encoding="utf-8")
    assert with_tables(page, found) == page
