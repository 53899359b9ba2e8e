"""Probes of a checkpoint: its weights, and AdamW's preconditioner."""

from pathlib import Path

import pytest
import torch

from sift_trainer import SiftTrainer
from sift_trainer.probe import probe
from sift_trainer.probe.checkpoint import adam_scales
from tests.training import Rows, arguments, bert


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After three steps of AdamW."""
    folder = tmp_path_factory.mktemp("run")
    changes = {"save_strategy": "steps", "save_steps": 3, "max_steps": 3, "weight_decay": 0.1}
    trainer = SiftTrainer(bert(), arguments(folder, **changes), train_dataset=Rows(100))
    trainer.train()
    return folder / "checkpoint-3"


def fresh(folder: Path, **changes: object) -> SiftTrainer:
    return SiftTrainer(bert(seed=5), arguments(folder, **changes), train_dataset=Rows(200))


def test_scales_are_those_of_adamws_own_step(checkpoint: Path, tmp_path: Path) -> None:
    """A step of torch's AdamW from the saved state, without momentum and decay and by a gradient
    that adds next to nothing to v, moves weights by -lr * scales * gradient."""
    trainer = fresh(tmp_path, weight_decay=0.1)
    scales = adam_scales(trainer, checkpoint)
    assert trainer.optimizer is None
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    trainer.create_optimizer()
    optimizer = torch.optim.AdamW(trainer.optimizer.param_groups)
    optimizer.load_state_dict(saved)
    parameters = [each for each in trainer.model.parameters() if each.requires_grad]
    steps = 3
    for group in optimizer.param_groups:
        unbiased = 1 - group["betas"][1] ** steps
        group.update(lr=1e-3, weight_decay=0.0, betas=(0.0, group["betas"][1]))
    draw = torch.Generator().manual_seed(0)
    moves = []
    for parameter in parameters:
        state = optimizer.state[parameter]
        # The step decays v by beta_2 and counts itself: v / (1 - beta_2^4) shall be what
        # v / (1 - beta_2^3) was.
        beta = 0.999
        state["exp_avg_sq"] *= (1 - beta ** (steps + 1)) / beta / unbiased
        parameter.grad = 1e-9 * torch.randn(parameter.shape, generator=draw)
        moves.append((parameter.detach().clone(), parameter.grad.clone()))
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 1e3
    optimizer.step()
    for parameter, scale, (before, gradient) in zip(parameters, scales, moves, strict=True):
        reached = scale < 1e7  # elsewhere v is 0, and the gradient itself makes it
        expected = -1e3 * scale * gradient
        moved = parameter.detach() - before
        torch.testing.assert_close(moved[reached], expected[reached], rtol=1e-2, atol=1e-6)


def test_a_probe_of_a_checkpoint_looks_along_adamws_updates(
    checkpoint: Path, tmp_path: Path
) -> None:
    trainer = fresh(tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    few = {"batches": 3, "gradient_batches": 2, "norm_batches": 0, "rounds": 1}
    result = probe(trainer, checkpoint, exits=[1], fractions=[1.0], **few)
    assert result.checkpoint == str(checkpoint)
    for figures in result.figures:
        assert figures.adam_descent is not None
        assert figures.gradient_norms is None
    after = trainer.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    # The same weights, as a model of one's own.
    model = type(bert()).from_pretrained(checkpoint)
    own = SiftTrainer(model, arguments(tmp_path), train_dataset=Rows(200))
    other = probe(own, exits=[1], fractions=[1.0], **few)
    for one, two in zip(result.figures, other.figures, strict=True):
        assert one.spearman == two.spearman
        assert two.adam_descent is None


def test_a_checkpoint_without_moments_is_probed_without_them(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    few = {"batches": 2, "gradient_batches": 2, "norm_batches": 0, "rounds": 1}
    result = probe(fresh(tmp_path), tmp_path, exits=[1], criteria=["loss"], **few)
    assert result.figures[0].adam_descent is None
    assert any("no optimizer.pt" in note for note in result.notes)


def test_a_checkpoint_of_another_model(checkpoint: Path, tmp_path: Path) -> None:
    model = bert(hidden_size=16)
    trainer = SiftTrainer(model, arguments(tmp_path), train_dataset=Rows(100))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        probe(trainer, checkpoint)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"optimizer\.pt"):
        adam_scales(trainer, checkpoint)
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        probe(trainer, tmp_path)


def test_an_optimizer_without_moments(checkpoint: Path, tmp_path: Path) -> None:
    """Such as SGD's. Parameters without a state are those that no loss reaches."""
    trainer = fresh(tmp_path, weight_decay=0.1)
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    number = saved["param_groups"][0]["params"][0]
    del saved["state"][number]
    torch.save(saved, tmp_path / "optimizer.pt")
    zeros = [scale for scale in adam_scales(trainer, tmp_path) if not scale.any()]
    assert len(zeros) == 1
    saved["state"] = {0: {"momentum_buffer": torch.ones(1)}}
    torch.save(saved, tmp_path / "optimizer.pt")
    with pytest.raises(ValueError, match="no second moments"):
        adam_scales(trainer, tmp_path)
