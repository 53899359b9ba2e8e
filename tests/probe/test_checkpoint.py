"""Probes of a checkpoint: its weights, and AdamW's preconditioner."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sift_trainer import SiftTrainer
from sift_trainer.measuring.gradients import AdamScales
from sift_trainer.probe import probe
from sift_trainer.probe.checkpoint import adam_scales
from tests.probe.probed import FAST
from tests.training import Rows, arguments, bert

FEW = {**FAST, "batches": 3, "exits": [1], "fractions": [1.0]}


def fresh(folder: Path, **changes: object) -> SiftTrainer:
    args = arguments(folder, weight_decay=0.1, **changes)
    return SiftTrainer(bert(seed=5), args, train_dataset=Rows(200))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SiftTrainer:
    """With a checkpoint after three steps of AdamW."""
    folder = tmp_path_factory.mktemp("run")
    trainer = fresh(folder, save_strategy="steps", save_steps=3, max_steps=3)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def checkpoint(trained: SiftTrainer) -> Path:
    return Path(trained.args.output_dir) / "checkpoint-3"


def test_scales_are_those_of_adamws_own_step() -> None:
    """By the same gradient again and again, torch's AdamW moves by -lr * scales * gradient."""
    weight, gradient = nn.Parameter(torch.zeros(3)), torch.tensor([1.0, -2.0, 1e-7])
    optimizer = torch.optim.AdamW([weight], lr=0.5, eps=1e-7, weight_decay=0.0)
    for _ in range(4):
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
    (scales,) = AdamScales(optimizer, [weight])
    torch.testing.assert_close(weight.detach() - before, -0.5 * scales * gradient)


def test_scales_of_a_checkpoint_are_those_of_its_run(
    trained: SiftTrainer, checkpoint: Path, tmp_path: Path
) -> None:
    """Though the optimizer groups parameters with and without decay."""
    found = adam_scales(fresh(tmp_path), checkpoint)
    expected = AdamScales(trained.optimizer, [*trained.model.parameters()])
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_probe_of_a_checkpoint_looks_along_adamws_updates(
    checkpoint: Path, tmp_path: Path
) -> None:
    """At its weights, which are also those of a model that was loaded from it."""
    trainer = fresh(tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    result = probe(trainer, checkpoint, **FEW)
    assert result.by_adam
    after = trainer.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    model = type(bert()).from_pretrained(checkpoint)
    other = probe(SiftTrainer(model, arguments(tmp_path), train_dataset=Rows(200)), **FEW)
    assert not other.by_adam
    for one, two in zip(result.figures, other.figures, strict=True):
        assert one.spearman == two.spearman


def test_a_checkpoint_without_moments_is_probed_without_them(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Such as SGD's."""
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    saved["state"] = {0: {"momentum_buffer": torch.ones(1)}}
    torch.save(saved, tmp_path / "optimizer.pt")
    result = probe(fresh(tmp_path), tmp_path, **FEW)
    assert not result.by_adam
    assert "no second moments" in result.notes[0]
