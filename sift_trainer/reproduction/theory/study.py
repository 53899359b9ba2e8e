"""The numbers of docs/theory.md: bounds and runs, noise, agreement."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sift_trainer.measuring.theory import pairwise_agreement
from sift_trainer.reproduction.theory.bounds import (
    argmax_agreement,
    beta_from_weights,
    crossing_step,
    greedy_sgd_bound,
    greedy_sgd_floor,
)
from sift_trainer.reproduction.theory.problems import (
    SMOOTHNESS,
    OneSided,
    Problem,
    Symmetric,
    constants,
    infimum,
    max_loss,
    selected_loss,
)
from sift_trainer.reproduction.theory.runs import DISTANCE, LEARNING_RATE, last_crossing, run

PROBLEMS: dict[str, Problem] = {"one-sided": OneSided(), "symmetric": Symmetric()}


@dataclass(frozen=True)
class Size:
    """How much is computed: updates of a run, runs per curve, noise levels, samples."""

    steps: int = 32768
    runs: int = 512
    sigmas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    samples: int = 20_000


FAST = Size(steps=1024, runs=64, sigmas=(0.0, 0.35, 2.0), samples=2_000)


def along_runs(name: str, size: Size) -> dict[str, Any]:
    """Losses over updates, the bounds of Theorems 5.7 and 5.8, and where both cross."""
    problem = PROBLEMS[name]
    start: dict[str, float] = {"initial_distance": DISTANCE, "learning_rate": LEARNING_RATE}
    sgd, curves = run(problem, 1, size.steps, size.runs), []
    for num_candidates in (1, 2, 4):
        greedy = num_candidates > 1
        found = run(problem, num_candidates, size.steps, size.runs) if greedy else sgd
        pair = constants(problem, num_candidates)  # for SGD 1 and F*

        def bound(steps: float, pair: dict[str, float] = pair) -> float:
            return greedy_sgd_bound(steps, smoothness=SMOOTHNESS, **start, **pair)

        curve: dict[str, Any] = {"num_candidates": num_candidates, **pair}
        if greedy:
            crossing = crossing_step(minimum_loss=problem.minimum_loss, **start, **pair)
            curve["crossing_of_bounds"] = crossing
            curve["loss_at_crossing"] = bound(crossing)
            curve["crossing_of_runs"] = last_crossing(found, sgd)
        curve |= {
            "floor_of_bound": greedy_sgd_floor(**pair),
            "floor_of_runs": float(problem.mean_loss(found.tail())),
            "losses": found.losses,
            "errors": found.errors,
            "bounds": [bound(steps) for steps in found.steps],
            "steps_to_twice_minimum": found.first_below(2 * problem.minimum_loss),
        }
        curves.append(curve)
    top = {"problem": name, "minimum_loss": problem.minimum_loss, "steps": sgd.steps}
    return {**top, "curves": curves}


def over_sigma(size: Size) -> dict[str, Any]:
    """Floors and speed of greedy SGD (R = 2) by approximate losses with normal noise."""
    problem, rows = PROBLEMS["one-sided"], []
    for sigma in size.sigmas:
        noisy = constants(problem, 2, sigma)
        found, of_four = (run(problem, count, size.steps, size.runs, sigma) for count in (2, 4))

        def kept(offset: float, sigma: float = sigma) -> float:
            residuals = problem.residuals(offset)
            return selected_loss(residuals, sigma) / max_loss(residuals, 2)

        rows.append(
            {
                "sigma": sigma,
                "loss_ratio": noisy["loss_ratio"],
                "kept_share": infimum(kept),
                "floor_of_bound": greedy_sgd_floor(**noisy),
                "floor_of_runs": float(problem.mean_loss(found.tail())),
                "floor_of_runs_of_4": float(problem.mean_loss(of_four.tail())),
                "steps_to_twice_minimum": found.first_below(2 * problem.minimum_loss),
            }
        )
    exact = constants(problem, 2)
    return {
        "problem": "one-sided",
        "minimum_loss": problem.minimum_loss,
        "max_loss_at_minimum": exact["max_loss_at_minimum"],
        "loss_ratio": exact["loss_ratio"],
        "rows": rows,
    }


def agreement_of_networks(samples: int) -> list[dict[str, float]]:
    """p_j of linear networks near the identity, counted, and by Theorem 6.2 from beta_j."""
    layers, width, generator = 6, 16, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = []
    for spread in (0.03, 0.12, 0.22):
        identity = torch.eye(width, dtype=torch.float64)
        weights = [identity + spread * normal(width, width) for _ in range(layers)]
        head, hidden = normal(width), normal(samples, width)  # rows: label * input
        losses = []
        for weight in weights:
            hidden = hidden @ weight.T
            losses.append(softplus(-(hidden @ head)))
        for exit_layer in (1, 3, 5):
            beta = beta_from_weights(weights, head, exit_layer)
            counted = pairwise_agreement(losses[-1], losses[exit_layer - 1])
            found.append(
                {
                    "exit_layer": exit_layer,
                    "layers": layers,
                    "beta": beta,
                    "by_theorem": argmax_agreement(beta),
                    "counted": counted.share,
                    "low": counted.low,
                    "high": counted.high,
                }
            )
    return found


def study(size: Size) -> dict[str, Any]:
    """All numbers, to six significant digits; the digits after those differ between machines."""
    found = {
        "learning_rate": LEARNING_RATE,
        "initial_distance": DISTANCE,
        "runs": size.runs,
        "samples": size.samples,
        "along_runs": [along_runs(name, size) for name in PROBLEMS],
        "over_sigma": over_sigma(size),
        "agreement": agreement_of_networks(size.samples),
    }
    text = json.dumps(found)
    return dict(json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}")))
