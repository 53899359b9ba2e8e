"""Variants of sifting that only `time_to_accuracy.py` knows, which are no fields unless they win.

Each changes how rows are ranked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sift_trainer import register_criterion
from sift_trainer.scoring.criteria import CRITERIA, cross_entropy
from sift_trainer.selection.window import Selection
from sift_trainer.sifted_model.no_trace import inference


class ExcessOverUnigram:
    """Cross-entropy less the surprisal of the word piece by its frequency alone: rare words do not
    make a row hard.

    Attributes:
        surprisal: of each word piece in nats, of the regime's training rows.
    """

    surprisal: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert self.surprisal is not None
        return cross_entropy(logits, targets) - self.surprisal.to(logits.device)[targets]

    def learn(self, rows: Iterable[Mapping[str, Tensor]], vocabulary: int) -> None:
        """Count the word pieces of rows; each counts once more than it comes."""
        counts = torch.ones(vocabulary)
        for row in rows:
            counts += torch.bincount(row["input_ids"].flatten(), minlength=vocabulary)
        self.surprisal = (counts.sum() / counts).log()


_EXCESS = ExcessOverUnigram()


def learn_surprisals(rows: Iterable[Mapping[str, Tensor]], vocabulary: int) -> None:
    """Make ``excess_unigram`` a criterion, of these rows' word pieces."""
    _EXCESS.learn(rows, vocabulary)
    if "excess_unigram" not in CRITERIA:
        register_criterion("excess_unigram", _EXCESS)


class LessAReference:
    """A trainer that ranks rows by their scores less what a reference expects of them."""

    def _select(self, batch: Any, index: int) -> Selection:
        selection = super()._select(batch, index)
        if selection.scores is None:
            return selection
        scores = selection.scores.float()
        excess = scores - self._reference(batch, index, scores)
        kept = self._choose(excess, self._generator(index))
        return Selection(kept, selection.candidates, selection.scores)

    def _reference(self, batch: Any, index: int, scores: Tensor) -> Tensor:
        """What is taken off the scores (B,) of a batch's rows."""
        raise NotImplementedError


class OverLastSeen(LessAReference):
    """Scores less what they were when the same row was last scored: what is hard and stays so does
    not come first, what was forgotten does. Rows that are new count as if nothing had changed."""

    def _reference(self, batch: Any, index: int, scores: Tensor) -> Tensor:
        seen: dict[bytes, float] = self.__dict__.setdefault("_last_seen", {})
        rows = [row.numpy().tobytes() for row in batch["input_ids"].cpu()]
        now = scores.tolist()
        before = [seen.get(row, score) for row, score in zip(rows, now, strict=True)]
        seen.update(zip(rows, now, strict=True))
        return torch.tensor(before, device=scores.device)


class OverExitZero(LessAReference):
    """Scores less those of the same head on the same labels at exit 0, which sees the word pieces
    one by one: what no context tells does not make a row hard."""

    def _reference(self, batch: Any, index: int, scores: Tensor) -> Tensor:
        scorer = self._sifter.scorer_for(self.sift)
        scorer.exit_layer = 0
        with self.accelerator.autocast(), inference(self._sifter.model):
            inputs, generator = self._prepare_inputs(batch), self._generator(index)
            return scorer(self._sifter.forward, inputs, generator).float()
