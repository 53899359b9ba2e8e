"""Variants of sifting that the study tries, against choices worked out by hand."""

import pytest
import torch
from study.grids import AXES
from study.methods import AXES as CHANGES
from study.methods import METHODS
from study.variants import ExcessOverUnigram, OverLastSeen

from sift_trainer.callback import Selection
from sift_trainer.selection import select_top_k


def test_excess_is_the_loss_less_the_surprisal_of_a_guess_by_frequency():
    """Of 6 word pieces 0 comes three times and 1 twice, each counted once more: 4, 3, 1 of 8."""
    excess = ExcessOverUnigram()
    excess.learn([{"input_ids": torch.tensor([0, 0, 1])}, {"input_ids": torch.tensor([1, 0])}], 3)
    assert excess.surprisal.exp().tolist() == pytest.approx([8 / 4, 8 / 3, 8 / 1])
    logits = torch.tensor([[4.0, 3.0, 1.0]]).log().repeat(3, 1)  # predicts what they come to
    assert excess(logits, torch.arange(3)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    certain = torch.tensor([[50.0, 0.0, 0.0]])
    assert excess(certain, torch.tensor([0])).item() == pytest.approx(-torch.tensor(2).log().item())


class Scored:
    """What of a trainer the variant asks: scores that are told."""

    def __init__(self, scores):
        self.told = iter(scores)

    def _select(self, batch, index):
        scores = next(self.told)
        rows = torch.arange(2) if scores is None else select_top_k(torch.tensor(scores), 2)
        return Selection(rows, 4, None if scores is None else torch.tensor(scores))

    def _generator(self, index):
        return torch.Generator()

    def _choose(self, scores, generator):
        return select_top_k(scores, 2)


def test_what_was_forgotten_comes_first_and_what_stays_hard_does_not():
    made = type("Made", (OverLastSeen, Scored), {})
    trainer = made([[9.0, 5.0, 1.0, 2.0], None, [9.0, 4.0, 3.0, 2.5]])
    ids = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
    first = trainer._select({"input_ids": ids}, 0)
    assert first.rows.tolist() == [0, 1]  # all are new
    assert trainer._select({"input_ids": ids}, 0).scores is None
    order = torch.tensor([1, 3, 0, 2])  # rows are known by what they are, not by their place
    again = trainer._select({"input_ids": ids[order]}, 0)
    # 9 - 5, 4 - 2, 3 - 9, 2.5 - 1
    assert again.rows.tolist() == [0, 1]
    assert again.scores.tolist() == [9.0, 4.0, 3.0, 2.5]


@pytest.mark.parametrize(("regime", "base", "changes"), [(n, *each) for n, each in AXES.items()])
def test_an_axis_changes_one_thing(regime, base, changes):
    usual = METHODS[base]
    for change in changes:
        method = METHODS[f"{base}_{change}"]
        fields = {
            name
            for name in {**usual.sift, **method.sift}
            if usual.sift.get(name) != method.sift.get(name)
        }
        assert len(fields) + (method.mixin is not None) == 1, (change, fields)
        if change in CHANGES:
            assert fields == set(CHANGES[change][1])
