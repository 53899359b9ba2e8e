"""Which samples a run keeps: by score, at random, by draw, and those without a score last."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from sift_trainer import SiftTrainer, SiftTrainingArguments, select_percentile
from sift_trainer.scoring.positions import IGNORE_INDEX
from tests.training import RecordingTrainer, Rows, arguments, bert, quick

CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def ran(folder: Path, rows: Rows | None = None, model: Any = None, **changes: Any) -> Any:
    data = Rows(48) if rows is None else rows
    model = bert() if model is None else model
    trainer = RecordingTrainer(model, arguments(folder, **changes), train_dataset=data)
    trainer.train()
    return trainer


def places_kept(trainer: Any) -> list[tuple[list[float], set[int]]]:
    """Of each micro-batch, the scores and the places of the kept samples."""
    steps = zip(trainer.scores, trainer.candidates, trainer.kept, trainer.places, strict=True)
    found = []
    for scores, candidates, kept, places in steps:
        assert [candidates[place] for place in places] == kept
        found.append((scores, set(places)))
    return found


# ---- by score and at random ----


def test_by_default_half_of_the_kept_samples_are_random(tmp_path: Path) -> None:
    """Of eight candidates four are kept: the two with the largest scores, and two of the rest.
    Two runs of one seed keep the same."""
    runs, drawn = [], Counter[int]()
    for _ in range(2):
        settings = quick(tmp_path, max_steps=12, sift_warmup_steps=0, sift_cooldown_steps=0)
        args = SiftTrainingArguments(**settings, sift_gate=None)
        runs.append(RecordingTrainer(bert(), args, train_dataset=Rows(96)))
        runs[-1].train()
    assert runs[0].kept == runs[1].kept
    for scores, places in places_kept(runs[0]):
        order = sorted(range(8), key=lambda place: -scores[place])
        assert len(places) == 4
        assert set(order[:2]) <= places
        drawn.update(order.index(place) for place in places - set(order[:2]))
    assert sum(drawn.values()) == 24
    assert len(drawn) > 4  # of six ranks


# ---- by a draw ----


def test_processes_steps_and_micro_batches_draw_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48))
    scores, rows = torch.arange(64.0), set()
    for process in range(4):
        monkeypatch.setattr(TrainingArguments, "process_index", process)
        for step in range(3):
            trainer.state.global_step = step
            for index in range(2):
                drawn = select_percentile(scores, 32, 1.0, trainer._generator(index))
                rows.add(tuple(drawn.tolist()))
    assert len(rows) == 4 * 3 * 2


def test_a_draw_disturbs_no_other_randomness(tmp_path: Path) -> None:
    """The same batches and random state as with the largest scores. Without dropout, which draws
    for as many positions as the kept samples have labels."""
    runs, states = [], []
    for selector in ("top_k", "percentile", "percentile"):
        runs.append(ran(tmp_path, model=bert(**CALM), sift_selector=selector, max_steps=8))
        states.append(torch.get_rng_state())
    greedy, first, again = runs
    assert greedy.candidates == first.candidates
    assert torch.equal(states[0], states[1])
    assert greedy.scores[0] == first.scores[0]
    assert greedy.kept != first.kept
    assert (first.kept, first.losses) == (again.kept, again.losses)


@pytest.mark.parametrize(
    "settings", [{}, {"sift_selector": "percentile", "sift_beta": 1e6}], ids=str
)
def test_the_skipped_top_counts_among_the_dropped(settings: dict[str, Any], tmp_path: Path) -> None:
    trainer = ran(tmp_path, sift_skip_top=0.25, max_steps=3, **settings)
    logs = [log for log in trainer.state.log_history if "loss" in log]
    for log, (scores, places) in zip(logs, places_kept(trainer), strict=True):
        order = sorted(range(8), key=lambda place: -scores[place])
        assert places == set(order[2:6])
        for name, chosen in (("kept", order[2:6]), ("dropped", order[:2] + order[6:])):
            mean = sum(scores[place] for place in chosen) / 4
            assert log[f"sift/{name}_score"] == pytest.approx(mean)


# ---- without a score ----


@pytest.mark.parametrize("changes", [{}, {"sift_masked_only_head": False}, {"sift_exit_layer": 3}])
@pytest.mark.parametrize("criterion", ["loss", "entropy"])
def test_samples_with_a_score_that_is_not_finite_are_not_kept(
    criterion: str, changes: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned = {1, 8, 20, 21, 33, 47}
    data = Rows(48, poisoned=tuple(poisoned))
    settings = {"max_steps": -1, "num_train_epochs": 2, "sift_criterion": criterion, **changes}
    trainer = ran(tmp_path, data, bert(poisoned=True), **settings)
    for candidates, scores in zip(trainer.candidates, trainer.scores, strict=True):
        bad = {row for row, score in zip(candidates, scores, strict=True) if score != score}
        assert bad == poisoned & set(candidates)
    assert not poisoned & {row for kept in trainer.kept for row in kept}
    assert all(loss == loss for loss in trainer.losses)
    # Two epochs draw each row twice.
    assert trainer.state.log_history[-1]["sift/nonfinite_scores"] == 4 * len(poisoned)
    assert len([record for record in caplog.records if "not finite" in record.message]) == 1


@pytest.mark.parametrize("accumulation", [1, 4])
def test_samples_whose_loss_is_not_finite_do_not_mislead_about_the_model(
    accumulation: int, tmp_path: Path
) -> None:
    """Two of the first batch have the most labels: the model is first called with those."""
    settings = {"max_steps": 1, "gradient_accumulation_steps": accumulation}
    clean = ran(tmp_path, model=bert(poisoned=True, **CALM), **settings)
    first = clean.candidates[0]
    counts = (Rows(48).labels[first] != IGNORE_INDEX).sum(1)
    most = tuple(first[place] for place in counts.topk(2).indices.tolist())
    model = bert(poisoned=True, **CALM)
    poisoned = ran(tmp_path, Rows(48, poisoned=most), model, **settings)
    assert poisoned.candidates == clean.candidates
    for batch, found, expected in zip(clean.candidates, poisoned.scores, clean.scores, strict=True):
        finite = [place for place, row in enumerate(batch) if row not in most]
        assert [found[place] for place in finite] == pytest.approx(
            [expected[place] for place in finite], rel=1e-4
        )
    loss = poisoned.state.log_history[0]["loss"]
    assert loss == pytest.approx(clean.state.log_history[0]["loss"], rel=0.05)


def test_a_batch_without_a_finite_score_keeps_its_first_samples(tmp_path: Path) -> None:
    data = Rows(48, poisoned=tuple(range(48)))
    trainer = ran(tmp_path, data, bert(poisoned=True), max_steps=1)
    assert trainer.kept == [trainer.candidates[0][:4]]
    assert trainer.state.log_history[-1]["sift/nonfinite_scores"] == 8
    assert "sift/kept_score" not in trainer.state.log_history[0]


@pytest.mark.parametrize("criterion", ["loss", "entropy"])
def test_samples_without_labels_rank_above_the_non_finite_only(
    criterion: str, tmp_path: Path
) -> None:
    """3 labelled, 3 unlabelled and 2 poisoned samples, each twice in every two batches of 8."""
    data = Rows(8, poisoned=(0, 4))
    data.labels[1:4] = IGNORE_INDEX
    trainer = ran(tmp_path, data, bert(poisoned=True), sift_criterion=criterion)
    kinds = [0 if row > 4 else 1 if row in (1, 2, 3) else 2 for row in range(8)]
    kept_kinds = Counter[int]()
    for candidates, (scores, places) in zip(trainer.candidates, places_kept(trainer), strict=True):
        ranks = [
            (kinds[row], 0.0 if kinds[row] else -scores[place], place)
            for place, row in enumerate(candidates)
        ]
        assert places == {place for _, _, place in sorted(ranks)[:4]}
        kept_kinds.update(kinds[candidates[place]] for place in places)
    assert kept_kinds[0]
    assert kept_kinds[1]
    assert 0 < trainer.state.log_history[-2]["sift/kept_score"] < 100  # of real scores only
    assert trainer.state.log_history[-1]["sift/nonfinite_scores"] == 2 * 4
