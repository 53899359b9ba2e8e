"""Probes of a checkpoint: its weights, and AdamW's preconditioner."""

from pathlib import Path

import pytest
import torch

from sift_trainer import SiftTrainer
from sift_trainer.probe import probe
from sift_trainer.probe.checkpoint import adam_scales
from tests.probe.probed import FAST
from tests.training import Rows, arguments, bert

FEW = {**FAST, "batches": 3, "exits": [1], "fractions": [1.0]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After three steps of AdamW."""
    folder = tmp_path_factory.mktemp("run")
    changes = {"save_strategy": "steps", "save_steps": 3, "max_steps": 3, "weight_decay": 0.1}
    trainer = SiftTrainer(bert(), arguments(folder, **changes), train_dataset=Rows(100))
    trainer.train()
    return folder / "checkpoint-3"


def fresh(folder: Path) -> SiftTrainer:
    args = arguments(folder, weight_decay=0.1)
    return SiftTrainer(bert(seed=5), args, train_dataset=Rows(200))


def test_scales_are_those_of_adamws_own_step(checkpoint: Path, tmp_path: Path) -> None:
    """A step of torch's AdamW from the saved state, without momentum and decay and by a gradient
    that adds next to nothing to v, moves weights by -lr * scales * gradient."""
    trainer = fresh(tmp_path)
    scales = adam_scales(trainer, checkpoint)
    assert trainer.optimizer is None
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    trainer.create_optimizer()
    optimizer = torch.optim.AdamW(trainer.optimizer.param_groups)
    optimizer.load_state_dict(saved)
    parameters = [each for each in trainer.model.parameters() if each.requires_grad]
    steps, beta = 3, 0.999
    for group in optimizer.param_groups:
        group.update(lr=1e3, weight_decay=0.0, betas=(0.0, beta))
    draw = torch.Generator().manual_seed(0)
    moves = []
    for parameter in parameters:
        # The step decays v by beta_2 and counts itself: v / (1 - beta_2^4) shall be what
        # v / (1 - beta_2^3) was.
        factor = (1 - beta ** (steps + 1)) / beta / (1 - beta**steps)
        optimizer.state[parameter]["exp_avg_sq"] *= factor
        parameter.grad = 1e-9 * torch.randn(parameter.shape, generator=draw)
        moves.append((parameter.detach().clone(), parameter.grad.clone()))
    optimizer.step()
    for parameter, scale, (before, gradient) in zip(parameters, scales, moves, strict=True):
        reached = scale < 1e7  # elsewhere v is 0, and the gradient itself makes it
        expected = -1e3 * scale * gradient
        moved = parameter.detach() - before
        torch.testing.assert_close(moved[reached], expected[reached], rtol=1e-2, atol=1e-6)


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
    """Such as SGD's. Parameters without a state are those that no loss reaches."""
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        probe(fresh(tmp_path), tmp_path)
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    result = probe(fresh(tmp_path), tmp_path, **FEW)
    assert not result.by_adam
    assert "no optimizer.pt" in result.notes[0]
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    del saved["state"][saved["param_groups"][0]["params"][0]]
    torch.save(saved, tmp_path / "optimizer.pt")
    assert len([each for each in adam_scales(fresh(tmp_path), tmp_path) if not each.any()]) == 1
    saved["state"] = {0: {"momentum_buffer": torch.ones(1)}}
    torch.save(saved, tmp_path / "optimizer.pt")
    with pytest.raises(ValueError, match="no second moments"):
        adam_scales(fresh(tmp_path), tmp_path)
