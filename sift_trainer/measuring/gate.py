"""Sift only while it pays, as audits tell: the rule, and what it remembers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

WINDOW = 10
"""Audits that are looked back on."""

LEAST = 5
"""Audits before which nothing is decided, and nothing sifted."""

BEYOND = 2.0
"""Standard errors by which the mean advantage of kept rows must exceed nothing."""

_BY_ADAM, _PLAIN = "adam_descent", "descent"


@dataclass
class DescentGate:
    """Open while kept rows descend faster than random ones, per second and to first order.

    An audit measures by how much a held-out loss falls by an update of the kept samples, of as many
    random ones, and of the dropped ones (`Auditor`). The gate is open if kept samples win in the
    mean over the last `WINDOW` audits, by more than `BEYOND` of its standard errors, although their
    step pays for scoring, both as they are and with updates of equal length. So a run in which they
    are no better than random ones does not sift most of the time. Towards held-out candidates the
    dropped samples must not increase the loss, as in the probe's recommendation; towards the
    evaluation set that is a reason to drop them. AdamW's updates count as soon as it has moments.

    Attributes:
        audits: the last ones, the oldest first.
        scoring_shares: scoring over forward and backward, of the first `LEAST` audits: their median
            is the price from then on, so that a resumed run decides as the whole one does.
    """

    audits: list[dict[str, float]] = field(default_factory=list)
    scoring_shares: list[float] = field(default_factory=list)

    def add(self, audit: Mapping[str, float]) -> None:
        """Remember an audit; one without gradients (a batch too small) is not counted."""
        if f"{_PLAIN}_kept" not in audit:
            return
        self.audits = [*self.audits, dict(audit)][-WINDOW:]
        if len(self.scoring_shares) < LEAST:
            self.scoring_shares.append(audit["scoring_share"])

    def is_open(self, towards_evaluation: bool) -> bool:
        """Whether the next steps are to sift.

        Args:
            towards_evaluation: whether audits look towards the evaluation set.
        """
        if len(self.audits) < LEAST:
            return False
        by_adam = [each for each in self.audits if f"{_BY_ADAM}_kept" in each]
        if len(by_adam) >= LEAST:
            return _pays(by_adam, _BY_ADAM, self._price, towards_evaluation)
        return _pays(self.audits, _PLAIN, self._price, towards_evaluation)

    @property
    def _price(self) -> float:
        return 1 + statistics.median(self.scoring_shares)

    def state(self) -> dict[str, Any]:
        """As plain data, for a checkpoint."""
        return asdict(self)


def _pays(
    audits: Sequence[Mapping[str, float]], kind: str, price: float, towards_evaluation: bool
) -> bool:
    def wins(at: str) -> bool:
        """Whether kept rows descend, and faster than random ones by the price."""
        kept = [each[f"{kind}_kept{at}"] / price for each in audits]
        random = [each[f"{kind}_random{at}"] for each in audits]
        return _above_zero(kept) and _above_zero(
            [own - other for own, other in zip(kept, random, strict=True)]
        )

    dropped = statistics.fmean(each[f"{kind}_dropped"] for each in audits)
    return wins("") and wins("_at_equal_length") and (towards_evaluation or dropped >= 0)


def _above_zero(values: Sequence[float]) -> bool:
    """Whether the mean is, beyond what values of this spread come to by chance."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) > BEYOND * error
