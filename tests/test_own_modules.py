"""Modules outside Transformers: their task, and whether their forward works without labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer import register_exit, register_task
from sift_trainer.scoring.tasks import Regression
from tests.loss_runs import refused_untouched, registries, run_of
from tests.matrix import ROWS, causal
from tests.test_matrix import hardest, scored
from tests.tiny import PlainNet

__all__ = ["registries"]  # a fixture for all tests here


class Line(nn.Module):
    """Predicts a number; its loss is its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        for block in self.blocks:
            x = torch.tanh(block(x))
        numbers = self.out(x)
        if labels is None:
            return {"logits": numbers}
        return {"loss": functional.mse_loss(numbers[:, 0], labels), "logits": numbers}


def points() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {"x": torch.randn(ROWS, 4, generator=draw), "labels": torch.randn(ROWS, generator=draw)}


def test_a_module_of_ones_own_is_sifted_by_the_task_that_was_registered(tmp_path: Path) -> None:
    register_exit(Line, "blocks")
    refused_untouched(run_of(Line(), points(), tmp_path), "register_task")
    register_task(Line, Regression())
    model, batch = Line(), points()
    with torch.no_grad():
        hidden = torch.tanh(model.blocks[0](batch["x"]))
        expected = (model.out(hidden)[:, 0] - batch["labels"]).square()
    trainer = run_of(model, batch, tmp_path)
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert kept == hardest(expected)


def test_a_task_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    class Absolute(Line):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            outputs = super().forward(x)
            if labels is not None:
                outputs["loss"] = (outputs["logits"][:, 0] - labels).abs().mean()
            return outputs

    register_exit(Line, "blocks")
    register_task(Line, Regression())
    refused_untouched(run_of(Absolute(), points(), tmp_path), "Absolute: per-sample losses")


class Classifier(PlainNet):
    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        outputs = super().forward(input_ids)
        if labels is not None:
            logits = outputs["logits"].flatten(0, 1)
            outputs["loss"] = functional.cross_entropy(logits, labels.flatten())
        return outputs


class Flattened(PlainNet):
    """Its signature does not require labels, but its forward does."""

    def forward(self, input_ids: Tensor, labels: Any = None) -> dict[str, Tensor]:
        outputs = super().forward(input_ids)
        loss = functional.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten())
        return {"loss": loss, **outputs}


@pytest.mark.parametrize("kind", [Classifier, Flattened])
def test_a_module_with_class_ids_needs_no_task(kind: type[PlainNet], tmp_path: Path) -> None:
    register_exit(PlainNet, "trunk.blocks")
    batch = {"input_ids": causal()["input_ids"], "labels": causal()["labels"]}
    model = kind()
    with torch.no_grad():
        hidden = model.trunk.blocks[0](model.embedding(batch["input_ids"]))
        expected = [
            float(functional.cross_entropy(model.out(states), labels))
            for states, labels in zip(hidden, batch["labels"], strict=True)
        ]
    trainer = run_of(model, batch, tmp_path)
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert kept == hardest(torch.tensor(expected))
