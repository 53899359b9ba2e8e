"""Registered selectors with weights, and criteria with a state: against loops, and resumed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification

from sift_trainer import (
    SiftTrainer,
    StatefulCriterion,
    register_criterion,
    register_selector,
)
from sift_trainer.checkpoints.criterion_state import load_criterion, save_criterion
from sift_trainer.scoring.criteria import CRITERIA, Samples
from sift_trainer.selection.choosing import SELECTORS
from tests.training import RecordingTrainer, Rows, arguments, bert

CLASSES = 4
CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    before = [(registry, dict(registry)) for registry in (CRITERIA, SELECTORS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def every_second(scores: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Candidates 0, 2, 4, ... with weights that differ and do not sum to their number."""
    rows = torch.arange(0, 2 * k, 2)
    return rows.flip(0), torch.linspace(0.5, 2.0, k)


WEIGHTS = torch.linspace(0.5, 2.0, 4).flip(0)  # in ascending order of index


class Numbered(Rows):
    """`Rows` with their number in a column that the model does not know."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {**super().__getitem__(row), "number": torch.tensor(row)}


class Classified(Rows):
    """One class per row."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        fields = super().__getitem__(row)
        return {**fields, "labels": fields["input_ids"][2] % CLASSES}


@pytest.mark.parametrize(("masked_only", "accumulation"), [(None, 1), (False, 1), (None, 2)])
def test_weights_multiply_the_losses_of_tokens(
    masked_only: bool | None, accumulation: int, tmp_path: Path
) -> None:
    """By hand: sum of weight times token loss over the number of labelled tokens, times the
    micro-batches' average that the Trainer takes; plain SGD."""
    register_selector("every_second", every_second, weighted=True)
    args = arguments(
        tmp_path,
        sift_selector="every_second",
        sift_masked_only_head=masked_only,
        gradient_accumulation_steps=accumulation,
        max_steps=2,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
    )
    trainer = RecordingTrainer(bert(**CALM), args, train_dataset=Rows(64))
    trainer.train()
    model, rows = bert(**CALM), Rows(64)
    for step in range(2):
        model.zero_grad()
        for drawn in trainer.candidates[step * accumulation : (step + 1) * accumulation]:
            kept = [rows[row] for row in drawn[::2]]
            fields = {name: torch.stack([row[name] for row in kept]) for name in kept[0]}
            labels = fields.pop("labels")
            logits = model(**fields).logits
            losses = nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="none"
            ).view(labels.shape)
            loss = (losses * WEIGHTS[:, None]).sum() / (labels != -100).sum()
            (loss / accumulation).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad if parameter.grad is not None else 0
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_weights_of_one_change_nothing(tmp_path: Path) -> None:
    """Of a classifier, whose loss is over whole samples."""
    ones = torch.ones(4)
    register_selector("plain", lambda scores, k, generator: torch.arange(k))
    register_selector("ones", lambda scores, k, generator: (torch.arange(k), ones), weighted=True)
    states = []
    for name in ("plain", "ones"):
        torch.manual_seed(0)
        model = BertForSequenceClassification(bert(num_labels=CLASSES).config)
        args = arguments(tmp_path, sift_selector=name, max_steps=3)
        trainer = SiftTrainer(model, args, train_dataset=Classified(64))
        trainer.train()
        states.append(trainer.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("found", [torch.arange(3), (torch.arange(4), torch.ones(3))])
def test_what_a_selector_returns_must_fit(found: Any, tmp_path: Path) -> None:
    register_selector("wrong", lambda scores, k, generator: found, weighted=True)
    args = arguments(tmp_path, sift_selector="wrong")
    with pytest.raises(ValueError, match="sift_selector='wrong'"):
        SiftTrainer(bert(), args, train_dataset=Rows(64)).train()


class OwnLoss(SiftTrainer):
    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_weights_need_the_losses_of_samples(tmp_path: Path) -> None:
    register_selector("every_second", every_second, weighted=True)
    args = arguments(tmp_path, sift_selector="every_second")
    with pytest.raises(ValueError, match="OwnLoss overrides compute_loss"):
        OwnLoss(bert(), args, train_dataset=Rows(64)).train()


class SinceLastSeen(StatefulCriterion):
    """The loss minus what it was when the sample was last trained on; unseen samples first."""

    columns = ("number",)

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[int, float] = {}

    def scores(self, candidates: Samples) -> Tensor:
        numbers = candidates.fields["number"].tolist()
        last = [self.seen.get(number, -1e3) for number in numbers]
        return candidates.values - torch.tensor(last)

    def learn(self, trained: Samples) -> None:
        self.seen.update(
            zip(trained.fields["number"].tolist(), trained.values.tolist(), strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def test_history_prefers_unseen_samples_and_knows_the_trained_losses(tmp_path: Path) -> None:
    """In order, four steps draw each of 32 rows once: in the next four the other half wins."""
    register_criterion("since_last_seen", SinceLastSeen)
    in_order = {"max_steps": 8, "train_sampling_strategy": "sequential"}
    args = arguments(tmp_path, sift_criterion="since_last_seen", **in_order)
    trainer = RecordingTrainer(bert(), args, train_dataset=Numbered(32), eval_dataset=Numbered(8))
    trainer.train()
    kept = [row for rows in trainer.kept for row in rows]
    assert len(set(kept[:16])) == 16
    seen_by_then = set(kept[:16])
    for candidates, rows in zip(trainer.candidates[4:], trainer.kept[4:], strict=True):
        unseen = [row for row in candidates if row not in seen_by_then]
        assert sorted(unseen) == sorted(rows)
        seen_by_then.update(rows)
    assert trainer.evaluate()["eval_loss"] > 0  # the column is of the training data alone
    last = trainer.kept[-1]
    losses = [trainer._criterion.seen[row] for row in last]
    labels = trainer.train_dataset.labels[last]
    counts = (labels != -100).sum(dim=1)
    mean = (torch.tensor(losses) * counts).sum() / counts.sum()
    assert mean.item() == pytest.approx(trainer.losses[-1], rel=1e-5)


class Predictor(StatefulCriterion):
    """A linear prediction of the loss from the token counts, trained beside the model."""

    scored_by = "random"

    def __init__(self, model: nn.Module) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(7)
            self.net = nn.Linear(100, 1)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)

    def _predicted(self, fields: Any) -> Tensor:
        return self.net(nn.functional.one_hot(fields["input_ids"], 100).float().mean(1)).squeeze(1)

    def scores(self, candidates: Samples) -> Tensor:
        return self._predicted(candidates.fields)

    def learn(self, trained: Samples) -> None:
        self.optimizer.zero_grad()
        nn.functional.mse_loss(self._predicted(trained.fields), trained.values).backward()
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


@pytest.mark.parametrize(
    ("name", "criterion"), [("since_last_seen", SinceLastSeen), ("predictor", Predictor)]
)
def test_a_criterion_resumes_bit_for_bit(name: str, criterion: Any, tmp_path: Path) -> None:
    register_criterion(name, criterion)
    settings = {"sift_criterion": name, "max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    whole = RecordingTrainer(bert(), arguments(tmp_path, **settings), train_dataset=Numbered(48))
    whole.train()
    resumed = RecordingTrainer(bert(1), arguments(tmp_path, **settings), train_dataset=Numbered(48))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.kept == whole.kept[4:]
    assert resumed.scores == whole.scores[4:]
    for parameter, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[parameter], value)
    first = torch.load(tmp_path / "checkpoint-8" / "sift_criterion_0.pt", weights_only=True)
    assert first.keys() == whole._criterion.state_dict().keys()


def test_a_checkpoint_without_the_state_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_criterion("since_last_seen", SinceLastSeen)
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    args = arguments(tmp_path, **settings)
    RecordingTrainer(bert(), args, train_dataset=Numbered(48)).train()
    args = arguments(tmp_path, sift_criterion="since_last_seen", **settings)
    trainer = RecordingTrainer(bert(), args, train_dataset=Numbered(48))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "SinceLastSeen starts without a state" in caplog.text


class Strict(nn.Module):
    """A model whose forward takes no other field than its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = bert()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
        return self.inner(input_ids, attention_mask=attention_mask, labels=labels)


def test_the_model_does_not_get_the_columns(tmp_path: Path) -> None:
    register_criterion("since_last_seen", SinceLastSeen)
    args = arguments(tmp_path, sift_criterion="since_last_seen", sift_exit_layer=-1)
    trainer = RecordingTrainer(Strict(), args, train_dataset=Numbered(48))
    trainer.train()
    assert set(trainer._criterion.seen) == {row for rows in trainer.kept for row in rows}
    trainer.args.sift_criterion = "loss"  # as a hyperparameter search may set it
    trainer.train()
    assert trainer._criterion is None


def test_weights_are_declared(tmp_path: Path) -> None:
    register_selector("undeclared", every_second)
    register_selector("missing", lambda scores, k, generator: torch.arange(k), weighted=True)
    for name in ("undeclared", "missing"):
        args = arguments(tmp_path, sift_selector=name)
        with pytest.raises(ValueError, match="registered with weighted=True"):
            SiftTrainer(bert(), args, train_dataset=Rows(64)).train()


def test_audits_of_states_and_weights_are_refused(tmp_path: Path) -> None:
    register_criterion("since_last_seen", SinceLastSeen)
    with pytest.raises(ValueError, match=r"sift_audit_steps=2 .* use 0"):
        arguments(tmp_path, sift_criterion="since_last_seen", sift_audit_steps=2)


def test_a_state_is_written_before_another_process_makes_the_folder(tmp_path: Path) -> None:
    criterion = SinceLastSeen(bert())
    criterion.seen = {3: 0.5}
    save_criterion(criterion, str(tmp_path / "checkpoint-2"), 1)
    again = SinceLastSeen(bert())
    load_criterion(again, str(tmp_path / "checkpoint-2"), 1)
    assert again.seen == {3: 0.5}
