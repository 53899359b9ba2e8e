"""Variants of sifting that the study tries, against choices worked out by hand."""

from dataclasses import replace

import pytest
import torch
from study.data import Rows, StudyData
from study.grids import AXES
from study.kinds import KINDS, Regime, arguments, build_trainer
from study.methods import AXES as CHANGES
from study.methods import METHODS, scored_by
from study.results import Results
from study.runs import share_of
from study.variants import ExcessOverUnigram, OverExitZero, OverLastSeen
from transformers import default_data_collator

from sift_trainer.selection.choosing import Selection, select_top_k


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


def test_over_exit_zero_ranks_by_what_the_first_block_adds(tmp_path):
    """Against GPT-2's modules called by hand."""
    ids = torch.randint(50, (8, 6), generator=torch.Generator().manual_seed(0))
    rows = Rows(ids, ids)
    data = StudyData(rows, rows, rows, default_data_collator, 50)
    shape = {"hidden_size": 32, "num_hidden_layers": 2}
    regime = Regime("made up", "causal", {}, shape, 1, 1e-3, batch_size=4)
    sift = {"sift_warmup_steps": 0, "sift_cooldown_steps": 0, "sift_exit_layer": 1}
    args = arguments(regime, tmp_path, max_steps=1, seed=0, use_cpu=True, **sift)
    model = KINDS["causal"].build(shape, 50).eval()
    chosen = {}

    class Noted(KINDS["causal"].trainer):
        def _choose(self, scores, generator):
            chosen["ranked by"] = scores
            return super()._choose(scores, generator)

        def _sift_window(self, *args):
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            batch = self._window[0]["input_ids"].clone()
            super()._sift_window(*args)
            model.load_state_dict(weights)
            chosen["batch"], chosen["rows"] = batch, self.selections[0].rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "causal", replace(KINDS["causal"], trainer=Noted))
        build_trainer(regime, data, args, OverExitZero).train()

    batch = chosen["batch"]
    with torch.no_grad():
        core = model.transformer
        hidden = core.wte(batch) + core.wpe(torch.arange(6))
        excess = torch.zeros(8)
        for sign, state in ((-1, hidden), (1, core.h[0](hidden))):
            logits = model.lm_head(core.ln_f(state))[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), batch[:, 1:], reduction="none"
            )
            excess += sign * losses.mean(1)
    torch.testing.assert_close(chosen["ranked by"], excess, atol=1e-5, rtol=1e-4)
    assert sorted(chosen["rows"].tolist()) == sorted(excess.topk(4).indices.tolist())


def test_each_scoring_of_a_step_is_charged(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    method = METHODS["loss_quarter_over_exit_zero"]
    results.add("cost", regime="made_up", **scored_by(method.sift), share=0.2)
    assert share_of(results, "made_up", method) == pytest.approx(0.4)
    assert share_of(results, "made_up", METHODS["loss_quarter"]) == pytest.approx(0.2)


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
