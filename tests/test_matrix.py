"""Every family and task of the table: the scores, the exit, and the rows that are trained on.

A sample's loss is compared with the model's own loss of a batch of that sample alone; an exit with
a model that was made with fewer blocks.
"""

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from sift_trainer import SiftTrainer, early_exit
from tests.matrix import MATRIX, ROWS, Batch, Entry, next_tokens
from tests.training import arguments

EARLY = [name for name in MATRIX if MATRIX[name].depth is not None]
KEPT = ROWS // 2


@functools.cache
def built(name: str) -> Any:
    """A model that no test changes."""
    return MATRIX[name].build()


def test_the_readme_says_how_many_models_and_tasks_there_are() -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    assert f" {len(MATRIX)} models and tasks are tested " in readme


def rows_of(batch: Batch) -> list[Batch]:
    return [{field: value[row] for field, value in batch.items()} for row in range(ROWS)]


@torch.no_grad()
def alone(entry: Entry, model: Any) -> Tensor:
    """The loss of each row, of a batch of it alone."""
    batch, losses = entry.batch(), []
    for row in range(ROWS):
        one = {field: value[row : row + 1] for field, value in batch.items()}
        losses.append(float(model(**one).loss) - entry.rest(model, one))
    return torch.tensor(losses)


def trainer_of(
    name: str, folder: Path, exit_layer: int, model: Any = None, **changes: Any
) -> SiftTrainer:
    """A trainer that drew all rows and trained on half of them, for one step."""
    args = arguments(
        folder,
        max_steps=1,
        per_device_train_batch_size=KEPT,
        train_sampling_strategy="sequential",
        sift_selector="top_k",
        sift_exit_layer=exit_layer,
        **changes,
    )
    return SiftTrainer(
        MATRIX[name].build() if model is None else model,
        args,
        train_dataset=rows_of(MATRIX[name].batch()),
        data_collator=default_collate,
    )


def scored(trainer: SiftTrainer) -> tuple[Tensor, list[int]]:
    (selection,) = trainer.selections
    assert selection.scores is not None
    return selection.scores, selection.rows.tolist()


def hardest(losses: Tensor) -> list[int]:
    """The KEPT rows of the largest losses; a row without a loss comes last."""
    values = [-math.inf if math.isnan(loss) else loss for loss in losses.tolist()]
    return sorted(sorted(range(ROWS), key=lambda row: -values[row])[:KEPT])


@pytest.mark.parametrize("name", MATRIX)
def test_exact_losses_are_those_of_rows_alone_and_make_the_models_own(
    name: str, tmp_path: Path
) -> None:
    entry = MATRIX[name]
    losses = alone(entry, built(name))
    trainer = trainer_of(name, tmp_path, exit_layer=-1)
    trainer.train()
    found, kept = scored(trainer)
    known = ~losses.isnan()
    assert known.sum() >= ROWS - 1
    torch.testing.assert_close(found[known], losses[known], rtol=1e-4, atol=1e-5)
    assert kept == hardest(losses)
    batch = entry.batch()
    with torch.no_grad():
        own = float(built(name)(**batch).loss) - entry.rest(built(name), batch)
    weights = torch.ones(ROWS) if entry.total else entry.scale(batch) / entry.scale(batch).sum()
    assert float((found * weights)[known].sum()) == pytest.approx(own, rel=1e-4)
    # The loss of the step is the model's own loss of the kept rows, with all its terms.
    narrowed = {field: value[kept] for field, value in batch.items()}
    with torch.no_grad():
        expected = float(entry.build().train()(**narrowed).loss)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", EARLY)
def test_early_losses_are_those_of_a_model_that_was_made_shorter(name: str, tmp_path: Path) -> None:
    entry = MATRIX[name]
    losses = alone(entry, entry.shorter(built(name), 1))
    trainer = trainer_of(name, tmp_path, exit_layer=1)
    trainer.train()
    found, kept = scored(trainer)
    known = ~losses.isnan()
    torch.testing.assert_close(found[known], losses[known], rtol=1e-4, atol=1e-5)
    assert (losses - alone(entry, built(name)))[known].abs().max() > 0.01
    assert kept == hardest(losses)


@pytest.mark.parametrize("name", ["bert", "llama, tied", "t5", "vit"])
def test_a_trained_model_scores_the_same_after_saving_and_loading(
    name: str, tmp_path: Path
) -> None:
    entry = MATRIX[name]
    trainer = trainer_of(name, tmp_path, exit_layer=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "trained"))
    losses = alone(entry, entry.shorter(trainer.model, 1))
    model = entry.model.from_pretrained(tmp_path / "trained")
    loaded = trainer_of(name, tmp_path, exit_layer=1, model=model)
    loaded.train()
    known = ~losses.isnan()
    torch.testing.assert_close(scored(loaded)[0][known], losses[known], rtol=1e-4, atol=1e-5)
    assert (losses - scored(trainer)[0])[known].abs().max() > 1e-3


@torch.no_grad()
def entropies(name: str, model: Any) -> list[float]:
    """The mean entropy of each row's labelled predictions, one distribution after the other."""
    entry = MATRIX[name]
    batch = entry.batch()
    outputs = model(**batch)
    if "start_positions" in batch:
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=1)
        labelled = entry.scale(batch).bool()[:, None].expand(-1, 2)
    elif batch["labels"].is_floating_point():
        logits = torch.stack([outputs.logits, torch.zeros_like(outputs.logits)], dim=-1)
        labelled = torch.ones_like(batch["labels"]).bool()
    else:
        model.sparse_prediction = False  # ModernBERT's: it would leave positions out
        outputs = model(**batch)
        logits = outputs["prediction_logits" if "prediction_logits" in outputs else "logits"]
        labelled = entry.batch()["labels"] != -100
        if entry.scale is next_tokens:
            logits, labelled = logits[:, :-1], labelled[:, 1:]
    if logits.dim() == 2:
        logits, labelled = logits[:, None], labelled[:, None]
    values = torch.distributions.Categorical(logits=logits).entropy()
    return [float(row[mask].mean()) for row, mask in zip(values, labelled, strict=True)]


@pytest.mark.parametrize("name", MATRIX)
def test_entropies_are_those_of_the_predictions_or_refused(name: str, tmp_path: Path) -> None:
    if not MATRIX[name].entropy:
        with pytest.raises(
            ValueError, match=r"sift_criterion='entropy'.*use sift_criterion='loss'"
        ):
            trainer_of(name, tmp_path, exit_layer=-1, sift_criterion="entropy")
        return
    trainer = trainer_of(name, tmp_path, exit_layer=-1, sift_criterion="entropy")
    trainer.train()
    found, kept = scored(trainer)
    expected = torch.tensor(entropies(name, MATRIX[name].build()))
    known = ~expected.isnan()
    assert known.sum() >= ROWS - 1
    torch.testing.assert_close(found[known], expected[known], rtol=1e-4, atol=1e-5)
    assert kept == hardest(expected)


@torch.no_grad()
@pytest.mark.parametrize("name", MATRIX)
def test_the_last_exit_is_the_model(name: str) -> None:
    model, batch = built(name), MATRIX[name].batch()
    whole = model(**batch)
    with early_exit(model, -1):
        last = model(**batch)
    assert list(whole) == list(last)
    for field in whole:
        if isinstance(whole[field], Tensor):
            assert torch.equal(whole[field], last[field]), field
