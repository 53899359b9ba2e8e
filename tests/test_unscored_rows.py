"""Rows without a score, or with one that is no number: counted, and ranked last."""

from pathlib import Path
from typing import Any

import pytest

from sift_trainer.scoring.positions import IGNORE_INDEX
from tests.training import (
    RecordingTrainer,
    Rows,
    arguments,
    bert,
)


@pytest.mark.parametrize("changes", [{}, {"sift_masked_only_head": False}, {"sift_exit_layer": 3}])
@pytest.mark.parametrize("criterion", ["loss", "entropy"])
def test_nonfinite_samples_are_never_kept(
    criterion: str, changes: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned = {1, 8, 20, 21, 33, 47}
    data = Rows(48, poisoned=tuple(poisoned))
    args = arguments(
        tmp_path, max_steps=-1, num_train_epochs=2, sift_criterion=criterion, **changes
    )
    trainer = RecordingTrainer(bert(poisoned=True), args, train_dataset=data)
    trainer.train()
    for candidates, scores in zip(trainer.candidates, trainer.scores, strict=True):
        assert scores is not None
        bad = {row for row, score in zip(candidates, scores, strict=True) if score != score}
        assert bad == poisoned & set(candidates)
        assert len(bad) <= 4, "the rows were to leave enough finite ones in every batch"
    assert not poisoned & {row for kept in trainer.kept for row in kept}
    assert all(loss == loss for loss in trainer.losses)
    assert trainer.state.log_history[-1]["sift/nonfinite_scores"] == 2 * len(poisoned)
    warnings = [record for record in caplog.records if "not finite" in record.message]
    assert len(warnings) == 1


@pytest.mark.parametrize("accumulation", [1, 4])
def test_nonfinite_rows_do_not_mislead_about_the_model(accumulation: int, tmp_path: Path) -> None:
    """The rows with the most labels are those that the model's loss is tried on."""
    args = arguments(tmp_path, max_steps=1, gradient_accumulation_steps=accumulation)
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    clean = RecordingTrainer(bert(poisoned=True, **calm), args, train_dataset=Rows(48))
    clean.train()
    data = Rows(48)
    first = clean.candidates[0]
    counts = (data.labels[first] != IGNORE_INDEX).sum(1)
    most = tuple(first[place] for place in counts.topk(2).indices.tolist())
    poisoned = RecordingTrainer(
        bert(poisoned=True, **calm), args, train_dataset=Rows(48, poisoned=most)
    )
    poisoned.train()
    assert poisoned.candidates == clean.candidates
    for batch, found, expected in zip(clean.candidates, poisoned.scores, clean.scores, strict=True):
        assert found is not None
        assert expected is not None
        finite = [place for place, row in enumerate(batch) if row not in most]
        assert [found[place] for place in finite] == pytest.approx(
            [expected[place] for place in finite], rel=1e-4
        )
    loss = poisoned.state.log_history[0]["loss"]
    assert loss == pytest.approx(clean.state.log_history[0]["loss"], rel=0.05)


def test_first_rows_of_a_batch_without_a_finite_score(tmp_path: Path) -> None:
    data = Rows(48, poisoned=tuple(range(48)))
    args = arguments(tmp_path, max_steps=1)
    trainer = RecordingTrainer(bert(poisoned=True), args, train_dataset=data)
    trainer.train()
    assert trainer.kept == [trainer.candidates[0][:4]]
    assert trainer.state.log_history[-1]["sift/nonfinite_scores"] == 8
    assert "sift/kept_score" not in trainer.state.log_history[0]


@pytest.mark.parametrize("criterion", ["loss", "entropy"])
def test_samples_without_labels_rank_last(criterion: str, tmp_path: Path) -> None:
    """But above the non-finite: 3 labelled, 3 unlabelled and 2 poisoned rows in every batch."""
    data = Rows(8, poisoned=(0, 4))
    data.labels[1:4] = IGNORE_INDEX
    args = arguments(tmp_path, max_steps=4, sift_criterion=criterion)
    trainer = RecordingTrainer(bert(poisoned=True), args, train_dataset=data)
    trainer.train()
    for candidates, kept in zip(trainer.candidates, trainer.kept, strict=True):
        first_unlabelled = next(row for row in candidates if row in (1, 2, 3))
        assert set(kept) == {5, 6, 7, first_unlabelled}
    kept_score = trainer.state.log_history[-2]["sift/kept_score"]
    assert 0 < kept_score < 100  # the mean of real scores only
    assert trainer.state.log_history[-1]["sift/nonfinite_scores"] == 2 * 4
