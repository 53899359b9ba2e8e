"""The result of a probe, as plain data; ``probe.json`` has the same fields."""

from dataclasses import dataclass
from typing import Any

from sift_trainer.measuring.theory import Agreement, NoiseFit


@dataclass(frozen=True)
class Estimate:
    """A number with an interval.

    Attributes:
        value: mean or ratio of means over all batches; for seconds, the median over rounds.
        low, high: ends of the 95% bootstrap interval over batches; for seconds, the lowest and
            the highest round.
    """

    value: float
    low: float
    high: float

    def __truediv__(self, divisor: float) -> "Estimate":
        return Estimate(self.value / divisor, self.low / divisor, self.high / divisor)


@dataclass(frozen=True)
class Choice:
    """One way to score.

    Attributes:
        criterion: a `sift_criterion`.
        exit_layer: block number in 1..L; None for the random control, which needs no model.
        token_fraction: a `sift_token_fraction`.
    """

    criterion: str
    exit_layer: int | None
    token_fraction: float = 1.0

    def __str__(self) -> str:
        where = "" if self.exit_layer is None else f", exit {self.exit_layer}"
        share = "" if self.token_fraction == 1 else f", {self.token_fraction:g} of the labels"
        return f"{self.criterion}{where}{share}"


@dataclass(frozen=True)
class Descent:
    """How fast a held-out loss falls, to first order.

    The inner product of a held-out batch's gradient with an update is what the held-out loss loses
    per unit of the learning rate. Updates are AdamW's if the checkpoint has its second moments,
    otherwise along the gradient. A step takes forward and backward and, for kept rows, scoring.

    Attributes:
        kept: per second, by updates on the rows that the choice keeps.
        random: per second, by updates on as many random rows, without scoring.
        ratio: kept over random; None if random rows bring nothing measurable.
        ratio_at_equal_length: the ratio for updates divided by their Euclidean norms: rows with
            large losses have large gradients, and a longer update is not a better one.
        dropped_ratio: what updates on the rows that are *not* kept would bring, over random ones,
            per step: (1 - r * kept) / (1 - r) for a keep ratio r. Below 0 the two pull against
            each other.
    """

    kept: Estimate
    random: Estimate
    ratio: Estimate | None
    ratio_at_equal_length: Estimate | None
    dropped_ratio: Estimate | None = None


@dataclass(frozen=True)
class Figures:
    """What was measured of one choice. None: undefined for it, or not measured.

    Attributes:
        scoring_share: seconds of scoring all candidates over those of forward and backward of the
            kept ones.
        break_even: share of the steps that sifting must save to pay for its scoring.
        overlap: share of the kept rows that exact losses keep too.
        spearman: rank correlation with exact losses within a batch.
        agreement: p_j (Equation 12) by counting pairs.
        noise: sigma of Assumption 5.12.
        approximate_loss_ratio: rho_{2,approx} (Definition 5.13) at these weights.
        descent: of a held-out loss.
    """

    choice: Choice
    scoring_share: Estimate
    break_even: float
    overlap: Estimate | None = None
    spearman: Estimate | None = None
    agreement: Agreement | None = None
    noise: NoiseFit | None = None
    approximate_loss_ratio: float | None = None
    descent: Descent | None = None


@dataclass(frozen=True)
class ProbeResult:
    """What `probe` measured, at one model's weights.

    Attributes:
        checkpoint: whose weights; None for those that the model had.
        candidates, kept: rows of a batch, and how many of them a step trains on.
        batches, gradient_batches: how many were scored, and how many of them had gradients taken.
        rounds: of timing.
        held_out: whose loss the updates should lower, a ``sift_held_out``.
        by_adam: whether updates are AdamW's.
        seconds: duration of the probe.
        step_seconds: forward and backward of the kept rows.
        loss_ratio: rho_2 (Definition 5.6) at these weights.
        sigma_max: Corollary 5.16 for that ratio. An upper bound, as rho_2* is an infimum.
        notes: why something is missing.
    """

    model: str
    checkpoint: str | None
    candidates: int
    kept: int
    batches: int
    gradient_batches: int
    rounds: int
    held_out: str
    by_adam: bool
    seconds: float
    step_seconds: Estimate
    loss_ratio: float | None
    sigma_max: float | None
    figures: tuple[Figures, ...]
    notes: tuple[str, ...]
    recommendation: str
    machine: dict[str, Any]
