"""The result of a probe, as plain data."""

from dataclasses import dataclass
from typing import Any

from sift_trainer.measuring.theory import Agreement, NoiseFit
from sift_trainer.probe.measurements import Estimate


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
    per unit of the learning rate. A step takes forward and backward and, for kept rows, scoring.

    Attributes:
        kept: per second, by updates on the rows that the choice keeps.
        random: per second, by updates on as many random rows, without scoring.
        ratio: kept over random; None if random rows bring nothing measurable.
        ratio_at_equal_length: the ratio for updates divided by their Euclidean norms. Rows with
            large losses have large gradients. The long updates that follow are no gain: a smaller
            learning rate or AdamW's normalisation undoes them.
        dropped_ratio: what updates on the rows that are *not* kept would bring, over random ones;
            per step, not per second. With a keep ratio r, random rows mix both, so this is
            (1 - r * kept) / (1 - r). It is 0 if the kept rows have all there is to gain. Below 0
            the two pull against each other: the gain is a level that the dropped rows undo.
    """

    kept: Estimate
    random: Estimate
    ratio: Estimate | None
    ratio_at_equal_length: Estimate | None
    dropped_ratio: Estimate | None = None


@dataclass(frozen=True)
class GradientNorms:
    """Mean Euclidean norm of the gradients of single rows, in evaluation mode.

    Attributes:
        kept: of the rows that the choice keeps.
        dropped: of the others.
        ratio: kept over dropped.
    """

    kept: float
    dropped: float
    ratio: Estimate | None


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
        beta: beta_j as the correlation of margins, see `theory.beta_from_margins`.
        agreement_by_theorem: p_j of Theorem 6.2 for that beta_j.
        noise: sigma of Assumption 5.12.
        noise_is_small: whether sigma is below sigma_max (Corollary 5.16).
        approximate_loss_ratio: rho_{2,approx} (Definition 5.13) at these weights.
        gradient_norms: of kept and dropped rows.
        descent: by updates along the gradient.
        adam_descent: by updates along AdamW's preconditioned gradient.
    """

    choice: Choice
    scoring_share: Estimate
    break_even: float
    overlap: Estimate | None = None
    spearman: Estimate | None = None
    agreement: Agreement | None = None
    beta: float | None = None
    agreement_by_theorem: float | None = None
    noise: NoiseFit | None = None
    noise_is_small: bool | None = None
    approximate_loss_ratio: float | None = None
    gradient_norms: GradientNorms | None = None
    descent: Descent | None = None
    adam_descent: Descent | None = None


@dataclass(frozen=True)
class ProbeResult:
    """What `probe` measured, at one model's weights.

    Attributes:
        model: name of its class.
        checkpoint: whose weights; None for those that the model had.
        candidates: rows of a batch.
        kept: how many of them a step trains on.
        batches: how many were scored.
        gradient_batches: on how many gradients were taken, of kept, random and held-out rows.
        norm_batches: on how many gradients of single rows were taken.
        rounds: of timing.
        held_out: whose loss the updates should lower, a ``sift_held_out``.
        seconds: duration of the probe.
        ended_by: why there are no more batches.
        step_seconds: forward and backward of the kept rows.
        loss_ratio: rho_2 (Definition 5.6) at these weights.
        sigma_max: Corollary 5.16 for that ratio. An upper bound, as rho_2* is an infimum.
        figures: one entry for each choice.
        notes: why something is missing.
        recommendation: one sentence.
        machine: what it was measured on.
    """

    model: str
    checkpoint: str | None
    candidates: int
    kept: int
    batches: int
    gradient_batches: int
    norm_batches: int
    rounds: int
    held_out: str
    seconds: float
    ended_by: str
    step_seconds: Estimate
    loss_ratio: float | None
    sigma_max: float | None
    figures: tuple[Figures, ...]
    notes: tuple[str, ...]
    recommendation: str
    machine: dict[str, Any]
