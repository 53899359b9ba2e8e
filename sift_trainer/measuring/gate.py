"""The gate: sift only while audits show that it pays."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

WINDOW = 10
"""Number of the last audits that decide."""

LEAST = 5
"""Number of audits before the first decision. Until then nothing is sifted."""

BEYOND = 2.0
"""Number of standard errors by which a mean must exceed 0."""

_BY_ADAM, _PLAIN = "adam_descent", "descent"


@dataclass
class DescentGate:
    """Open while kept rows descend faster than random ones, per second and to first order.

    An audit (`Auditor`) measures by how much a held-out loss falls by an update on the
    kept rows, on as many random rows, and on the dropped rows. The gate is open if all of this
    holds in the mean over the last `WINDOW` audits:

    - Kept rows descend, and faster than random rows, although their step also takes scoring. Both
      means exceed 0 by more than `BEYOND` standard errors.
    - The same holds for updates divided by their norms.
    - The dropped rows do not ascend. This is not required if the evaluation set is held out: rows
      that harm it are rows to drop.

    Descents by AdamW's updates decide as soon as there are `LEAST` audits with its moments.

    Attributes:
        audits: the last ones, the oldest first.
        scoring_shares: scoring over forward and backward in the first `LEAST` audits. Their median
            is the price of scoring in all later decisions, so that a resumed run decides as the
            uninterrupted one.
    """

    audits: list[dict[str, float]] = field(default_factory=list)
    scoring_shares: list[float] = field(default_factory=list)

    def add(self, audit: Mapping[str, float]) -> None:
        """Remember an audit. One without gradients (the batch is too small) does not count."""
        if f"{_PLAIN}_kept" not in audit:
            return
        self.audits = [*self.audits, dict(audit)][-WINDOW:]
        if len(self.scoring_shares) < LEAST:
            self.scoring_shares.append(audit["scoring_share"])

    def is_open(self, towards_evaluation: bool) -> bool:
        """Whether the next steps sift. Audits may hold out rows of the evaluation set."""
        if len(self.audits) < LEAST:
            return False
        price = 1 + statistics.median(self.scoring_shares)
        by_adam = [each for each in self.audits if f"{_BY_ADAM}_kept" in each]
        if len(by_adam) >= LEAST:
            return _pays(by_adam, _BY_ADAM, price, towards_evaluation)
        return _pays(self.audits, _PLAIN, price, towards_evaluation)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return asdict(self)


def _pays(
    audits: Sequence[Mapping[str, float]], kind: str, price: float, towards_evaluation: bool
) -> bool:
    def wins(suffix: str) -> bool:
        """Whether kept rows descend, and faster than random rows after paying the price."""
        kept = [each[f"{kind}_kept{suffix}"] / price for each in audits]
        random = [each[f"{kind}_random{suffix}"] for each in audits]
        gains = [own - other for own, other in zip(kept, random, strict=True)]
        return _exceeds_zero(kept) and _exceeds_zero(gains)

    dropped = statistics.fmean(each[f"{kind}_dropped"] for each in audits)
    return wins("") and wins("_at_equal_length") and (towards_evaluation or dropped >= 0)


def _exceeds_zero(values: Sequence[float]) -> bool:
    """Whether the mean exceeds 0 by more than `BEYOND` standard errors."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) > BEYOND * error
