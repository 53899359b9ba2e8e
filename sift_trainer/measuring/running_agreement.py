"""How scores and losses of the trained samples agree during a run, and whether choosing pays."""

import math
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor

from sift_trainer.scoring.criteria import UNLABELLED

MEMORY = 0.9984  # weight of the past, for each measured sample
MIN_SAMPLES = 160  # of one process, measured between two decisions
MIN_UPDATES = 5  # with measured samples, between two decisions: each waits for the device
MIN_LIFT = 1.03  # of the losses of chosen samples, beside what pays for the scoring
HYSTERESIS = 0.02  # by so much less the lift may fall before choosing stops
LARGEST_LOSS = 20  # times the mean; larger losses count as this
MAX_SHARE = 0.02  # of the operations of a run, for passes in steps that do not sift
MIN_INTERVAL = 2  # steps that do not sift between two such passes


class RunningAgreement:
    """Spearman's rank correlation of scores and losses, and the lift, over the last updates.

    The lift is the mean loss of the chosen samples over that of all candidates: 1 if scores say
    nothing, or if all losses are equal. Only losses of trained samples are known. So the losses of
    the others are estimated by linear regression of the loss on x = -log(1 - percentile of the
    score), a straight line if losses are distributed exponentially. Nothing is computed for it but
    these losses. All processes have the same means.

    Attributes:
        scoring_share: operations of scoring over those of forward and backward, in a step that
            sifts; None until the model is known.
        pays: whether the lift was high enough at the last decision; True before it.
    """

    def __init__(self) -> None:
        self.scoring_share: float | None = None
        self._noted: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._totals: Tensor | None = None  # on the device between decisions
        self._samples = self._updates = 0  # since the last decision
        self.pays = True

    def set_scoring_share(self, share: float | None) -> None:
        """Set `scoring_share`, unless it is known: a resumed run goes on with the first one."""
        if self.scoring_share is None:
            self.scoring_share = share

    def add(self, scores: Tensor, rows: Tensor, losses: Tensor, chosen: Tensor) -> None:
        """Note a micro-batch of this update.

        Args:
            scores: (B,) of the candidates.
            rows: indices (k,) of the trained candidates.
            losses: (k,) of these.
            chosen: indices (m,) of the candidates that the selector chooses, trained or not.
        """
        x = exponential_quantiles(scores)
        means = torch.stack([x[chosen].mean(), x.mean()])
        self._noted.append((scores[rows], x[rows], losses.detach(), means))

    def end_update(self, decides: bool = True) -> bool:
        """Add what was noted since the last update; whether `pays` has just changed. If it
        ``decides``, it waits for the device now and then."""
        noted, self._noted = self._noted, []
        if not noted:
            return False
        scores, x, losses = (torch.cat([e[part] for e in noted]).float() for part in range(3))
        losses = losses.to(scores.device)
        means = torch.stack([means for *_, means in noted]).mean(dim=0)
        sums = regression_sums(x, self._capped(losses), means)
        found = reduce(torch.cat([rank_correlation(scores, losses), sums]), "sum")
        if self._totals is None:
            self._totals = found
        else:
            self._totals = found + MEMORY ** found[_COUNT] * self._totals
        self._samples, self._updates = self._samples + len(losses), self._updates + 1
        if not decides or self._samples < MIN_SAMPLES or self._updates < MIN_UPDATES:
            return False
        self._samples = self._updates = 0
        if (lift := self.lift) is None:
            return False
        before, self.pays = self.pays, lift >= self.required_lift
        return self.pays != before

    def _capped(self, losses: Tensor) -> Tensor:
        """Losses (k,) of at most `LARGEST_LOSS` times the mean: one sample must not decide."""
        if self._totals is None:
            return losses
        mean = self._totals[_LOSS] / self._totals[_COUNT].clamp(min=1)
        return torch.where(mean > 0, losses.minimum(LARGEST_LOSS * mean), losses)

    @property
    def required_lift(self) -> float:
        """The lift from which on choosing pays for the scoring."""
        needed = MIN_LIFT + (self.scoring_share or 0)
        return needed - HYSTERESIS if self.pays else needed

    @property
    def interval(self) -> int:
        """Every so many steps that do not sift, one scores its candidates."""
        return max(MIN_INTERVAL, math.ceil((self.scoring_share or 0) / MAX_SHARE))

    @property
    def correlation(self) -> float | None:
        """The mean correlation in [-1, 1]; None before the first one. Waits for the device."""
        if self._totals is None:
            return None
        total, weight = self._totals[:2].tolist()
        return total / weight if weight else None

    @property
    def lift(self) -> float | None:
        """The lift, at least 0; None before the first loss, and if the mean loss is not positive.
        Waits for the device."""
        if self._totals is None:
            return None
        count, *sums = self._totals[_COUNT:].tolist()
        if not count:
            return None
        x_chosen, x_candidates, x, loss, xx, x_loss = (each / count for each in sums)
        if loss <= 0:
            return None
        variance = xx - x * x
        slope = (x_loss - x * loss) / variance if variance > 1e-6 else 0.0
        of_chosen, of_candidates = (loss + slope * (at - x) for at in (x_chosen, x_candidates))
        # A straight line can be negative where nearly all of the loss is of few samples.
        return float(max(0.0, of_chosen) / max(of_candidates, loss / 2))

    def state(self) -> dict[str, Any]:
        totals = None if self._totals is None else self._totals.tolist()
        since = {"samples": self._samples, "updates": self._updates}
        return {"totals": totals, **since, "scoring_share": self.scoring_share, "pays": self.pays}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> "RunningAgreement":
        """The agreement with the `state` of a checkpoint; a new one without it."""
        found = cls()
        if "pays" in state:
            totals = state["totals"]
            found._totals = None if totals is None else torch.tensor(totals, device=device)
            found._samples, found._updates = state["samples"], state["updates"]
            found.scoring_share, found.pays = state["scoring_share"], state["pays"]
        return found


_COUNT, _LOSS = 2, 6  # places in the sums: after the correlation and its weight, `regression_sums`


def exponential_quantiles(scores: Tensor) -> Tensor:
    """The values -log(1 - percentile) of scores (B,): (B,). Percentiles in (0, 1) are among the
    scores that are finite and of labelled samples; the others have 1, the mean of the distribution.
    """
    known = (scores.isfinite() & (scores > UNLABELLED)).float()
    ranks = _ranks(scores.where(known > 0, 0)[None], known)[0]
    percentiles = (ranks / known.sum().clamp(min=1)).where(known > 0, 0.0)
    return (-(-percentiles).log1p()).where(known > 0, 1.0)


def regression_sums(x: Tensor, losses: Tensor, means: Tensor) -> Tensor:
    """Number of samples with a finite loss, and sums over them: of the ``means`` (2,), of x (k,),
    the losses (k,), the squares of x and the products."""
    known = (losses.isfinite() & (losses > UNLABELLED)).float()
    losses = losses.where(known > 0, 0)
    sums = torch.stack([x, losses, x.square(), x * losses]) @ known
    return torch.cat([known.sum()[None], means * known.sum(), sums])


def rank_correlation(scores: Tensor, losses: Tensor) -> Tensor:
    """Spearman's correlation of scores (k,) and losses (k,), and its weight 1: (2,) in fp32. Equal
    values have the mean of their ranks. Samples without a finite score and loss, or without a
    label, do not count. Both are 0 with fewer than three others, or if all are equal.

    It does not wait for the device.
    """
    both = torch.stack([scores, losses])
    known = (both.isfinite() & (both > UNLABELLED)).all(dim=0).float()
    both = both.where(known > 0, 0)
    ranks = _ranks(both, known)
    ranks = ranks - (ranks * known).sum(dim=1, keepdim=True) / known.sum().clamp(min=1)
    moments = (ranks * known) @ ranks.T
    spread = moments[0, 0] * moments[1, 1]
    usable = (known.sum() >= 3) & (spread > 0)
    correlation = moments[0, 1] / spread.clamp(min=1e-12).sqrt()
    return torch.stack([correlation, torch.ones_like(correlation)]).where(usable, 0.0)


def _ranks(values: Tensor, known: Tensor) -> Tensor:
    """The ranks (n, B) of each row of values (n, B) among the ``known`` (B,), from 0 on, plus 1/2.
    Equal values have the mean of their ranks."""
    below = (values[:, None] < values[:, :, None]).float() @ known
    equal = (values[:, None] == values[:, :, None]).float() @ known
    return below + equal / 2
