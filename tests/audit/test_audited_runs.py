"""Runs with audits: figures as a loop by hand has them, and a training that knows nothing of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.trainer_utils import get_last_checkpoint

from sift_trainer import SiftCallback, SiftTrainer, early_exit, per_sample_loss
from sift_trainer.measuring.gradients import AdamScales
from sift_trainer.models import EarlyExitResNetConfig, EarlyExitResNetForImageClassification
from sift_trainer.probe.checkpoint import adam_scales
from tests.probe.probed import rough
from tests.probe.test_probe import Images
from tests.training import RecordingTrainer, Rows, arguments, bert

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TIMES = ("seconds", "share", "break_even", "ratio", "ratio_at_equal_length")


def audited(trainer: Any) -> list[dict[str, float]]:
    """The audit entries of the log lines that have any, with their steps."""
    lines = []
    for line in trainer.state.log_history:
        found = {name[11:]: line[name] for name in line if name.startswith("sift_audit/")}
        if found:
            lines.append({"step": line["step"], **found})
    return lines


def train(folder: Path, model: Any, data: Any = None, **changes: Any) -> SiftTrainer:
    kind = SiftTrainer if data is not None else RecordingTrainer
    rows = Rows(400) if data is None else data
    trainer = kind(model, arguments(folder, **changes), train_dataset=rows)
    trainer.train(resume_from_checkpoint=changes.get("resume_from_checkpoint"))
    return trainer


def same_weights(one: SiftTrainer, other: SiftTrainer) -> bool:
    weights = other.model.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.model.state_dict().items())


def test_figures_are_those_of_a_loop(tmp_path: Path) -> None:
    """Of the first candidates, before the first update, with the model, autograd and its loss."""
    model = rough(bert(**NO_DROPOUT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = train(tmp_path, model, per_device_train_batch_size=8, sift_audit_steps=4, max_steps=1)
    (line,) = audited(trainer)
    model.load_state_dict(before)
    candidates = [Rows(400)[row] for row in trainer.candidates[0]]
    batch = {name: torch.stack([row[name] for row in candidates]) for name in candidates[0]}
    model.eval()
    with torch.no_grad():
        exact = per_sample_loss(model(**batch).logits, batch["labels"])
        with early_exit(model, 1):
            early = per_sample_loss(model(**batch).logits, batch["labels"])
    kept, wanted = early.topk(8).indices, exact.topk(8).indices
    assert line["overlap"] == len(set(kept.tolist()) & set(wanted.tolist())) / 8
    pairs = [(i, j) for i in range(16) for j in range(i)]
    larger = sum(max(exact[i], exact[j]) for i, j in pairs) / len(pairs)
    assert line["rho_2"] == pytest.approx(float(larger / exact.mean()), rel=1e-5)
    chosen = sum(exact[i] if early[i] > early[j] else exact[j] for i, j in pairs) / len(pairs)
    assert line["rho_2_approx"] == pytest.approx(float(chosen / exact.mean()), rel=1e-5)
    assert line["sigma"] == pytest.approx(float((early / exact).double().log().std()), rel=1e-4)
    assert line["kept_loss"] == pytest.approx(float(exact[kept].mean()), rel=1e-5)
    dropped = early.topk(8, largest=False).indices
    assert line["dropped_loss"] == pytest.approx(float(exact[dropped].mean()), rel=1e-5)

    parameters = list(model.parameters())

    def gradient(rows: Tensor) -> Tensor:
        loss = model(**{name: value[rows] for name, value in batch.items()}).loss
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat([each.flatten() for each in found if each is not None])

    trainer.state.global_step = 0
    draw = trainer._generator(-1)
    held_out, pool = torch.randperm(16, generator=draw).split(8)
    pool = pool.sort().values
    drawn = pool[torch.randperm(8, generator=draw)[:4]]
    towards, descents, equal = gradient(held_out), [], []
    for rows in (pool[early[pool].topk(4).indices], drawn):
        update = gradient(rows)
        descents.append(float(update @ towards))
        equal.append(float(update @ towards / update.norm()))
    assert line["descent_kept"] == pytest.approx(descents[0], rel=1e-4)
    assert line["descent_random"] == pytest.approx(descents[1], rel=1e-4)
    dearer = 1 + line["scoring_share"]
    assert line["descent_ratio"] == pytest.approx(descents[0] / descents[1] / dearer, rel=1e-4)
    of_length = equal[0] / equal[1] / dearer
    assert line["descent_ratio_at_equal_length"] == pytest.approx(of_length, rel=1e-4)
    bring = 2 * descents[1] - descents[0]
    assert line["descent_dropped_ratio"] == pytest.approx(bring / descents[1], rel=1e-4)
    assert "adam_descent_kept" not in line  # AdamW has not moved yet


RUNS: dict[str, dict[str, Any]] = {
    "loss": {},
    "entropy": {"sift_criterion": "entropy"},
    "random": {"sift_criterion": "random"},
    "percentile, of some labels": {"sift_selector": "percentile", "sift_token_fraction": 0.5},
    "accumulation": {"gradient_accumulation_steps": 2},
    "warm-up": {"sift_warmup_steps": 3},
    "head everywhere": {"sift_masked_only_head": False},
    "compiled": {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    "activations computed again": {"gradient_checkpointing": True},
    "bf16": {"bf16": True},
    "label smoothing": {"label_smoothing_factor": 0.1},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_audits_is_the_one_without(name: str, tmp_path: Path) -> None:
    """With dropout, whose random numbers audits draw too, and by AdamW."""
    with_audits = train(tmp_path, bert(), sift_audit_steps=2, **RUNS[name])
    plain = train(tmp_path, bert(), **RUNS[name])
    assert same_weights(with_audits, plain)
    assert with_audits.kept == plain.kept
    lines = audited(with_audits)
    assert [line["step"] for line in lines] == [1, 3]  # audited in front of the next update
    assert not audited(plain)
    for line in lines:
        assert 0 <= line["overlap"] <= 1
        assert line["rho_2_approx"] <= line["rho_2"] * (1 + 1e-9)
        assert ("sigma" in line) == (RUNS[name].get("sift_criterion", "loss") == "loss")
        assert line["seconds"] > 0
    assert "adam_descent_kept" in lines[1]


def test_kept_losses_are_those_of_the_rows_that_the_step_keeps(tmp_path: Path) -> None:
    """By a draw, of a share of the labels: the audit draws what the step does."""
    changes = {"sift_selector": "percentile", "sift_token_fraction": 0.5, "max_steps": 1}
    model = rough(bert(**NO_DROPOUT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = train(tmp_path, model, sift_audit_steps=1, **changes)
    (line,) = audited(trainer)
    model.load_state_dict(before)
    rows = [Rows(400)[row] for row in trainer.kept[0]]
    with torch.no_grad():
        losses = [model.eval()(**{k: v[None] for k, v in row.items()}).loss for row in rows]
    assert line["kept_loss"] == pytest.approx(float(sum(losses) / len(losses)), rel=1e-5)


def test_running_statistics_do_not_move(tmp_path: Path) -> None:
    config = EarlyExitResNetConfig(
        stem="cifar", depths=[1, 1, 1], hidden_sizes=[8, 16, 24], embedding_size=4, num_labels=3
    )
    runs = []
    for every in (1, 0):
        torch.manual_seed(0)
        model = EarlyExitResNetForImageClassification(config)
        runs.append(train(tmp_path, model, Images(200), sift_audit_steps=every))
    assert same_weights(*runs)
    assert len(audited(runs[0])) == 4


def test_a_resumed_run_logs_the_audits_of_the_whole_one(tmp_path: Path) -> None:
    """Saved between an audit and its log line."""
    changes: dict[str, Any] = {"sift_audit_steps": 2, "logging_steps": 4, "max_steps": 8}
    changes |= {"save_strategy": "steps", "save_steps": 3}
    whole = train(tmp_path / "whole", bert(), **changes)
    changes |= {"resume_from_checkpoint": str(tmp_path / "whole" / "checkpoint-3")}
    resumed = train(tmp_path / "resumed", bert(seed=1), **changes)
    assert same_weights(whole, resumed)
    for one, other in zip(audited(whole), audited(resumed), strict=True):
        compared = [name for name in one if not name.endswith(TIMES)]
        assert {"descent_kept", "spearman"} <= set(compared)
        assert {name: one[name] for name in compared} == {name: other[name] for name in compared}


def test_turning_audits_off_is_no_other_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    train(tmp_path, bert(), sift_audit_steps=1, **changes)
    changes |= {"max_steps": 4, "resume_from_checkpoint": get_last_checkpoint(str(tmp_path))}
    resumed = train(tmp_path, bert(), **changes)
    assert len(audited(resumed)) == 2
    assert "resuming with" not in caplog.text


def test_scales_are_those_of_a_checkpoint(tmp_path: Path) -> None:
    """One parameter after the other from the living optimizer, as from its file."""
    trainer = train(tmp_path, bert(), save_strategy="steps", save_steps=4)
    living = AdamScales(trainer.optimizer, [*trainer.model.parameters()])
    assert living.known
    saved = adam_scales(trainer, tmp_path / "checkpoint-4")
    assert len(living) == len(saved)
    for one, other in zip(living, saved, strict=True):
        assert torch.equal(one, other)


def test_without_moments_there_are_no_adam_figures(tmp_path: Path) -> None:
    lines = audited(train(tmp_path, bert(), sift_audit_steps=2, optim="sgd", learning_rate=0.1))
    assert all("descent_kept" in line for line in lines)
    assert not any("adam_descent_kept" in line for line in lines)


class OwnLoss(SiftTrainer):
    """Trains on no labels."""

    def compute_loss(self, model: Any, inputs: Any, **more: Any) -> Tensor:
        return model(**inputs).logits.square().mean()


def test_without_exact_losses_updates_are_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = arguments(tmp_path, sift_criterion="entropy", sift_audit_steps=2)
    trainer = OwnLoss(bert(), args, train_dataset=Rows(200, labelled=False))
    trainer.train()
    assert "no comparison with exact losses" in caplog.text
    lines = audited(trainer)
    assert len(lines) == 2
    for line in lines:
        assert "overlap" not in line
        assert "descent_kept" in line


def test_nothing_is_audited_where_nothing_is_chosen(tmp_path: Path) -> None:
    assert not audited(train(tmp_path, bert(), sift_audit_steps=1, sift_keep_ratio=1.0))


def test_a_batch_too_small_to_hold_rows_out(tmp_path: Path) -> None:
    """Of two candidates one is held out, and of the other nothing is left to drop."""
    lines = audited(train(tmp_path, bert(), sift_audit_steps=1, per_device_train_batch_size=1))
    assert all("overlap" in line and "descent_kept" not in line for line in lines)


def test_activations_that_audits_cannot_look_through_are_refused(tmp_path: Path) -> None:
    how: dict[str, Any] = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
    args = arguments(tmp_path, sift_audit_steps=2, gradient_checkpointing=True, **how)
    with pytest.raises(ValueError, match=r"sift_audit_steps=2 .*'use_reentrant': False"):
        SiftTrainer(bert(), args, train_dataset=Rows(40))


def test_audits_are_logged_without_the_callback(tmp_path: Path) -> None:
    args = arguments(tmp_path, sift_audit_steps=2)
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(400))
    trainer.remove_callback(SiftCallback)
    trainer.train()
    assert len(audited(trainer)) == 2
    assert not trainer.sift_callback.audits
