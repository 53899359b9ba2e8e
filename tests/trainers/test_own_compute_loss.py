"""A user's own loss gets the kept rows and the count of their labels: compared with plain loops.

The rows are chosen by the model's own logits, and a warning says so once.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset
from transformers import Trainer

from sift_trainer import SiftMixin, SiftTrainer, register_exit
from tests.loss_runs import registries
from tests.training import Recording, RecordingTrainer, Rows, arguments, as_drawn, bert

__all__ = ["registries"]

RATE = 0.1
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
EXACT = {"learning_rate": RATE, "optim": "sgd", "max_grad_norm": 0, "max_steps": 2}


class WeightedRows(Rows):
    """`Rows` with a weight for each, a field that the model's forward does not take."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {**super().__getitem__(row), "weight": torch.tensor(0.5 + row / 48)}


def focal_sum(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Sum over the labels of the focal loss, times the weight of each row."""
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (weight[:, None] * (1 - torch.exp(-losses)) ** 2 * losses).sum()


class Focal(Trainer):
    """Takes what it needs out of the inputs, and divides by the count."""

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
    """The mean loss of each row's labels, with the head on block 1."""
    scores = []
    for row in rows:
        with torch.no_grad():
            ids = data[row]["input_ids"][None]
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
            logits = model.cls(hidden)[0]
        scores.append(float(functional.cross_entropy(logits, data[row]["labels"])))
    return scores


def take_step(model: Any, loss: Tensor) -> None:
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter -= RATE * gradient


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    for each, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(each, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("trainer_class", "accumulation"), [(Behind, 3), (InFront, 1)])
def test_own_loss_is_trained_on_the_rows_that_the_model_ranks_highest(
    trainer_class: Any, accumulation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"gradient_accumulation_steps": accumulation, "remove_unused_columns": False}
    args = arguments(tmp_path, **EXACT, **changes)
    data = WeightedRows(48)
    trainer = trainer_class(bert(**NO_DROPOUT), args, train_dataset=data)
    trainer.train()
    by_hand = bert(**NO_DROPOUT)
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
        take_step(by_hand, loss)
        logged = trainer.state.log_history[step]["loss"]
        assert logged == pytest.approx(loss.item(), rel=1e-5)
    assert_same(trainer.model, by_hand)
    warnings = [r.message for r in caplog.records if "overrides compute_loss" in r.message]
    assert len(warnings) == 1
    name = "Focal" if trainer_class is Behind else "InFront"
    assert name in warnings[0]


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
    changes = {"train_sampling_strategy": "sequential", "remove_unused_columns": False}
    register_exit(Net, "blocks")
    args = arguments(tmp_path, **EXACT, **changes)
    trainer = Classifying(Net(), args, train_dataset=as_drawn(Points(), 4))
    trainer.train()
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
        take_step(by_hand, functional.cross_entropy(by_hand(features[best]), labels[best]))
    assert_same(trainer.model, by_hand)


# ---- rows that belong together ----


class PairedRows(Rows):
    """Two rows of a sample: the collator puts all the first above all the second."""

    def __len__(self) -> int:
        return len(self.tokens) // 2


def collate_pairs(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    both = samples + samples[::-1]
    return {name: torch.stack([sample[name] for sample in both]) for name in both[0]}


class Stream(IterableDataset[dict[str, Tensor]]):
    def __iter__(self) -> Any:
        return iter([PairedRows(48)[row] for row in range(24)])


class Comparing(SiftTrainer):
    """Compares a sample's rows with each other."""

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        above, below = model(**inputs).logits.mean((1, 2)).chunk(2)
        return -functional.logsigmoid(above - below).mean()


@pytest.mark.parametrize("data", [PairedRows(48), Stream()])
def test_samples_of_several_rows_are_refused_before_the_first_update(
    data: Any, tmp_path: Path
) -> None:
    model, args = bert(), arguments(tmp_path, sift_criterion="entropy")
    with pytest.raises(ValueError, match="rows"):
        Comparing(model, args, train_dataset=data, data_collator=collate_pairs).train()
    for name, value in bert().state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
