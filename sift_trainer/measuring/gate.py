"""The gate: sift only while audits show that it pays."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sift_trainer.measuring.audit_numbers import ADAM, PLAIN

WINDOW = 10  # last audits that decide
LEAST = 5  # audits before the first decision; until then nothing is sifted
BEYOND = 2.0  # standard errors by which a mean must exceed 0


@dataclass
class DescentGate:
    """Open if all of this holds in the mean over the last `WINDOW` audits (`Auditor`):

    - Kept rows descend, and faster than random rows, although their step also takes scoring. Both
      means exceed 0 by more than `BEYOND` standard errors.
    - The same holds for updates divided by their norms.
    - The dropped rows do not ascend. This is not required if the evaluation set is held out: rows
      that harm it are rows to drop.

    Descents by AdamW's updates decide as soon as there are `LEAST` audits with its moments.

    Attributes:
        audits: the last ones, the oldest first.
        scoring_shares: scoring over forward and backward in the first `LEAST` audits. Their median
            is the price in all decisions, so that a resumed run decides as the uninterrupted one.
    """

    audits: list[dict[str, float]] = field(default_factory=list)
    scoring_shares: list[float] = field(default_factory=list)

    def add(self, audit: Mapping[str, float]) -> None:
        if f"{PLAIN}_kept" not in audit:  # the batch is too small for gradients
            return
        self.audits = [*self.audits, dict(audit)][-WINDOW:]
        if len(self.scoring_shares) < LEAST:
            self.scoring_shares.append(audit["scoring_share"])

    def is_open(self, towards_evaluation: bool) -> bool:
        """Whether the next steps sift. ``towards_evaluation``: audits hold out evaluation rows."""
        if len(self.audits) < LEAST:
            return False
        price = 1 + statistics.median(self.scoring_shares)
        by_adam = [each for each in self.audits if f"{ADAM}_kept" in each]
        if len(by_adam) >= LEAST:
            return _pays(by_adam, ADAM, price, towards_evaluation)
        return _pays(self.audits, PLAIN, price, towards_evaluation)

    def state(self) -> dict[str, Any]:
        return asdict(self)


def _pays(
    audits: Sequence[Mapping[str, float]], kind: str, price: float, towards_evaluation: bool
) -> bool:
    def wins(suffix: str) -> bool:
        kept = [each[f"{kind}_kept{suffix}"] / price for each in audits]
        random = [each[f"{kind}_random{suffix}"] for each in audits]
        gains = [own - other for own, other in zip(kept, random, strict=True)]
        return _exceeds_zero(kept) and _exceeds_zero(gains)

    dropped = statistics.fmean(each[f"{kind}_dropped"] for each in audits)
    return wins("") and wins("_at_equal_length") and (towards_evaluation or dropped >= 0)


def _exceeds_zero(values: Sequence[float]) -> bool:
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) > BEYOND * error
