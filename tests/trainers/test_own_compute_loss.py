"""A loss of the user's own gets the kept rows and the count of their labels: against loops.

What chooses the rows is the model's own logits, and that is said once.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import Trainer

from sift_trainer import SiftMixin, SiftTrainer, register_exit
from sift_trainer.early_exit.registry import _REGISTERED
from tests.trainers.sentences import causal
from tests.training import Recording, RecordingTrainer, Rows, arguments, bert

RATE = 0.1
CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
EXACT = {"learning_rate": RATE, "optim": "sgd", "max_grad_norm": 0, "max_steps": 2}


class WeightedRows(Rows):
    """`Rows` with a weight for each, which the model knows nothing of."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {**super().__getitem__(row), "weight": torch.tensor(0.5 + row / 48)}


def focal_sum(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Sum over the labels: each loss by its row's weight and by how far the guess was off."""
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (weight[:, None] * (1 - torch.exp(-losses)) ** 2 * losses).sum()


class Focal(Trainer):
    """Somebody's trainer: takes what it needs out of the inputs, and divides by the count."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels, weight = inputs.pop("labels"), inputs.pop("weight")
        outputs = model(**inputs)
        loss = focal_sum(outputs.logits, labels, weight) / num_items_in_batch
        return (loss, outputs) if return_outputs else loss


class Behind(Recording, Focal):
    """The mixin in front of a trainer with a loss of its own."""


class InFront(RecordingTrainer):
    """A loss of one's own in front of the mixin."""

    compute_loss = Focal.compute_loss


def exit_scores(model: Any, data: Rows, rows: list[int]) -> list[float]:
    """Of each row alone, the mean loss of its labels with the head on block 1."""
    scores = []
    for row in rows:
        with torch.no_grad():
            ids = data[row]["input_ids"][None]
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
            logits = model.cls(hidden)[0]
        scores.append(float(functional.cross_entropy(logits, data[row]["labels"])))
    return scores


def stepped(model: Any, loss: Tensor) -> None:
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter -= RATE * gradient


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("trainer_class", [Behind, InFront])
def test_own_loss_is_trained_on_the_rows_that_the_model_ranks_highest(
    trainer_class: Any, accumulation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"gradient_accumulation_steps": accumulation, "remove_unused_columns": False}
    args = arguments(tmp_path, **EXACT, **changes)
    data = WeightedRows(48)
    trainer = trainer_class(bert(**CALM), args, train_dataset=data)
    trainer.train()
    by_hand = bert(**CALM)
    for step in range(2):
        window = slice(step * accumulation, (step + 1) * accumulation)
        kept = []
        for candidates, found in zip(trainer.candidates[window], trainer.kept[window], strict=True):
            scores = exit_scores(by_hand, data, candidates)
            ranked = sorted(zip(scores, candidates, strict=True), reverse=True)
            assert set(found) == {row for _, row in ranked[:4]}
            kept += found
        rows = [data[row] for row in kept]
        ids, labels, weight = (
            torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels", "weight")
        )
        loss = focal_sum(by_hand(input_ids=ids).logits, labels, weight) / (labels != -100).sum()
        stepped(by_hand, loss)
        logged = trainer.state.log_history[step]["loss"]
        assert logged == pytest.approx(loss.item(), rel=1e-5)
    for found, expected in zip(trainer.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    said = [r.message for r in caplog.records if "overrides compute_loss" in r.message]
    name = "Focal" if trainer_class is Behind else "InFront"
    assert said == [
        f"{name} overrides compute_loss: it gets the kept rows with all their positions; rows are "
        "chosen by sift_criterion='loss' of the model's own logits for their label, at exit layer "
        "1, which is not compared with the loss that is trained on"
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sift_criterion": "random"}, ["all their positions"]),
        ({"sift_criterion": "random", "sift_masked_only_head": False}, []),
        ({"sift_criterion": "entropy", "sift_masked_only_head": False}, ["'entropy'"]),
        ({"sift_keep_ratio": 1.0}, []),
        ({"sift_keep_ratio": 1.0, "sift_masked_only_head": True}, ["all their positions"]),
    ],
)
def test_it_is_said_where_it_matters(
    changes: dict[str, Any], says: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = arguments(tmp_path, max_steps=2, remove_unused_columns=False, **changes)
    InFront(bert(), args, train_dataset=WeightedRows(48)).train()
    said = [r.message for r in caplog.records if "overrides compute_loss" in r.message]
    assert len(said) == len(says)
    assert all(part in message for part, message in zip(says, said, strict=True))


def test_a_mean_that_says_so_is_divided_by_the_micro_batches(tmp_path: Path) -> None:
    """The Trainer's own contract for a loss that ignores the count, on the kept rows."""
    if not hasattr(Trainer, "loss_is_scaled_for_ga"):
        pytest.skip("transformers before 5.19 has no loss_is_scaled_for_ga")

    class Mean(RecordingTrainer):
        loss_is_scaled_for_ga = False

        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            logits = model(input_ids=inputs["input_ids"]).logits
            return functional.cross_entropy(logits.flatten(0, 1), inputs["labels"].flatten())

    args = arguments(tmp_path, **{**EXACT, "max_steps": 1}, gradient_accumulation_steps=3)
    trainer = Mean(bert(**CALM), args, train_dataset=Rows(48))
    trainer.train()
    by_hand, losses = bert(**CALM), []
    for kept in trainer.kept:
        rows = [Rows(48)[row] for row in kept]
        logits = by_hand(torch.stack([row["input_ids"] for row in rows])).logits
        labels = torch.stack([row["labels"] for row in rows])
        losses.append(functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    stepped(by_hand, torch.stack(losses).mean())
    for found, expected in zip(trainer.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# ---- a model whose forward knows nothing of labels ----


class Net(nn.Module):
    """Three blocks and a classifier: logits, and no loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3))
        self.classifier = nn.Linear(6, 5)

    def forward(self, features: Tensor) -> Tensor:
        for block in self.blocks:
            features = block(features)
        return self.classifier(features)


class Points(Dataset[dict[str, Tensor]]):
    """The number of a row is its last feature."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(row)
        features = torch.randn(6, generator=draw)
        return {"features": features, "labels": torch.tensor(row % 5), "row": torch.tensor(row)}


def test_model_without_a_loss(tmp_path: Path) -> None:
    class Classifying(SiftMixin, Trainer):
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            kept.append(inputs["row"].tolist())
            return functional.cross_entropy(model(inputs["features"]), inputs["labels"])

    kept: list[list[int]] = []
    args = arguments(
        tmp_path, **EXACT, train_sampling_strategy="sequential", remove_unused_columns=False
    )
    register_exit(Net, "blocks")
    try:
        trainer = Classifying(Net(), args, train_dataset=Points())
        trainer.train()
    finally:
        del _REGISTERED[Net]
    by_hand, data = Net(), Points()
    for step in range(2):
        rows = list(range(8 * step, 8 * step + 8))
        features = torch.stack([data[row]["features"] for row in rows])
        labels = torch.tensor([row % 5 for row in rows])
        with torch.no_grad():
            exits = by_hand.classifier(by_hand.blocks[0](features))
        scores = functional.cross_entropy(exits, labels, reduction="none")
        best = sorted(scores.topk(4).indices.tolist())
        assert kept[step] == [rows[place] for place in best]
        stepped(by_hand, functional.cross_entropy(by_hand(features[best]), labels[best]))
    for found, expected in zip(trainer.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


# ---- rows that belong together ----


class PairedRows(Rows):
    """Two rows of a sample: the collator puts all the first above all the second."""

    def __len__(self) -> int:
        return len(self.tokens) // 2


def collate_pairs(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    both = samples + samples[::-1]
    return {name: torch.stack([sample[name] for sample in both]) for name in both[0]}


class Stream(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    def __iter__(self) -> Any:
        return iter([PairedRows(48)[row] for row in range(24)])


class Comparing(SiftTrainer):
    """Compares a sample's rows with each other."""

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        above, below = model(**inputs).logits.mean((1, 2)).chunk(2)
        return -functional.logsigmoid(above - below).mean()


@pytest.mark.parametrize("criterion", ["loss", "entropy", "random"])
def test_samples_of_several_rows_are_refused_at_construction(
    criterion: str, tmp_path: Path
) -> None:
    args = arguments(tmp_path, sift_criterion=criterion)
    with pytest.raises(ValueError, match=r"collate_pairs, makes 2 rows of a sample.*Comparing"):
        Comparing(bert(), args, train_dataset=PairedRows(48), data_collator=collate_pairs)


def test_samples_of_several_rows_in_a_stream_are_refused_at_the_first_batch(tmp_path: Path) -> None:
    """Of a stream nothing is read beforehand."""
    args = arguments(tmp_path, sift_criterion="entropy")
    trainer = Comparing(bert(), args, train_dataset=Stream(), data_collator=collate_pairs)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=r"16 rows where 8 candidates.*tear them apart"):
        trainer.train()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_rows_of_a_sample_are_rows_where_the_models_own_loss_is_trained_on(tmp_path: Path) -> None:
    """As of a long text that a collator cuts: each has labels of its own."""
    args = arguments(tmp_path, max_steps=1)
    trainer = RecordingTrainer(
        bert(), args, train_dataset=PairedRows(48), data_collator=collate_pairs
    )
    trainer.train()
    assert [len(kept) for kept in trainer.kept] == [8]


def test_collator_that_fails_on_the_samples_as_they_are_is_asked_at_the_first_batch(
    tmp_path: Path,
) -> None:
    """The Trainer takes columns away in front of it, which have not gone at construction."""

    def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.stack([each[name] for each in samples]) for name in samples[0]}

    class WithText(Rows):
        def __getitem__(self, row: int) -> Any:
            return {**super().__getitem__(row), "text": "not a tensor"}

    class Own(RecordingTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return super().compute_loss(model, inputs, *args, **kwargs)

    trainer = Own(bert(), arguments(tmp_path), train_dataset=WithText(48), data_collator=collate)
    trainer.train()
    assert [len(kept) for kept in trainer.kept] == [4] * 4


def test_a_causal_models_own_loss_is_compared_with_the_next_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(SiftTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Small(Rows):
        def __getitem__(self, row: int) -> dict[str, Tensor]:
            ids = self.tokens[row] % 60
            return {"input_ids": ids, "labels": ids}

    Own(causal(), arguments(tmp_path, max_steps=1), train_dataset=Small(16)).train()
    assert "of the model's own logits for the next label, at exit layer 1" in caplog.text
