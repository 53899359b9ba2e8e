"""Audited runs: numbers equal to those of a loop, and a training that audits do not change."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sift_trainer import SiftCallback, SiftTrainer, early_exit, per_sample_loss
from sift_trainer.measuring.held_out import evaluation_batches
from tests.probe.probed import (
    NO_DROPOUT,
    Images,
    OwnLoss,
    batch_of,
    gradient,
    resnet,
    rough,
    same_weights,
)
from tests.training import RecordingTrainer, Rows, arguments, bert

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


@pytest.mark.parametrize("evaluated", [None, Rows(90)])
def test_numbers_are_those_of_a_loop(evaluated: Rows | None, tmp_path: Path) -> None:
    """Of the first candidates, before the first update, by the model, autograd and its loss. Half
    of the candidates is held out, or rows of the evaluation set."""
    model = rough(bert(**NO_DROPOUT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changes = {"per_device_train_batch_size": 8, "sift_audit_steps": 4, "max_steps": 1}
    args = arguments(tmp_path, sift_selector="top_k", **changes)
    trainer = RecordingTrainer(model, args, train_dataset=Rows(400), eval_dataset=evaluated)
    trainer.train()
    (line,) = audited(trainer)
    model.load_state_dict(before)
    batch = batch_of(trainer.candidates[0])
    model.eval()
    with torch.no_grad():
        exact = per_sample_loss(model(**batch).logits, batch["labels"])
        with early_exit(model, 1):
            early = per_sample_loss(model(**batch).logits, batch["labels"])
    kept, dropped, wanted = *early.sort(descending=True).indices.split(8), exact.topk(8).indices
    pairs = [(i, j) for i in range(16) for j in range(i)]
    larger = sum(max(exact[i], exact[j]) for i, j in pairs) / len(pairs)
    chosen = sum(exact[i] if early[i] > early[j] else exact[j] for i, j in pairs) / len(pairs)

    trainer.state.global_step = 0
    draw = trainer._generator(-1)
    model.train()
    pool = torch.randperm(16, generator=draw)
    if evaluated is None:
        held_out, pool = pool.split(8)
        towards = gradient(model, batch, held_out)
    else:
        towards = gradient(model, evaluation_batches(trainer, 8)[0])
    pool = pool.sort().values
    drawn = pool[torch.randperm(len(pool), generator=draw)[: len(pool) // 2]]
    descents, equal = [], []
    for rows in (pool[early[pool].topk(len(drawn)).indices], drawn):
        update = gradient(model, batch, rows)
        descents.append(float(update @ towards))
        equal.append(float(update @ towards / update.norm()))
    price = 1 + line["scoring_share"]
    same = (exact[::2] > exact[1::2]) == (early[::2] > early[1::2])
    moved = early.argsort().argsort() - exact.argsort().argsort()
    expected = {
        "overlap": len(set(kept.tolist()) & set(wanted.tolist())) / 8,
        "agreement": float(same.float().mean()),  # of neighbours
        "spearman": 1 - 6 * float(moved.square().sum()) / (16 * (16**2 - 1)),
        "rho_2": float(larger / exact.mean()),
        "rho_2_approx": float(chosen / exact.mean()),
        "sigma": float((early / exact).double().log().std()),
        "kept_loss": float(exact[kept].mean()),
        "dropped_loss": float(exact[dropped].mean()),
        "descent_kept": descents[0],
        "descent_random": descents[1],
        "descent_ratio": descents[0] / descents[1] / price,
        "descent_ratio_at_equal_length": equal[0] / equal[1] / price,
        "descent_dropped_ratio": (2 * descents[1] - descents[0]) / descents[1],
    }
    assert {name: line[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert "adam_descent_kept" not in line  # AdamW has no moments yet


RUNS: dict[str, dict[str, Any]] = {
    "entropy, bf16, activations computed again": {
        "sift_criterion": "entropy",
        "bf16": True,
        "gradient_checkpointing": True,
    },
    "random, warm-up, compiled": {
        "sift_criterion": "random",
        "sift_warmup_steps": 3,
        "torch_compile": True,
        "torch_compile_backend": "eager",
    },
    "percentile of some labels, accumulation, label smoothing": {
        "sift_selector": "percentile",
        "sift_token_fraction": 0.5,
        "gradient_accumulation_steps": 2,
        "label_smoothing_factor": 0.1,
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_audits_is_the_one_without(name: str, tmp_path: Path) -> None:
    """With dropout, whose random numbers audits draw too, and by AdamW."""
    with_audits = train(tmp_path, bert(), sift_audit_steps=2, **RUNS[name])
    plain = train(tmp_path, bert(), **RUNS[name])
    assert same_weights(with_audits, plain)
    assert with_audits.kept == plain.kept
    lines = audited(with_audits)
    assert [line["step"] for line in lines] == [1, 3]  # audited before the next update
    assert not audited(plain)
    for line in lines:
        assert 0 <= line["overlap"] <= 1
        assert line["rho_2_approx"] <= line["rho_2"] * (1 + 1e-9)
        assert ("sigma" in line) == (RUNS[name].get("sift_criterion", "loss") == "loss")
        assert line["seconds"] > 0
    assert "adam_descent_kept" in lines[1]


def test_kept_losses_are_those_of_the_rows_that_the_step_keeps(tmp_path: Path) -> None:
    """The audit draws the same rows and labels as the step."""
    changes = {"sift_selector": "percentile", "sift_token_fraction": 0.5, "max_steps": 1}
    model = rough(bert(**NO_DROPOUT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = train(tmp_path, model, sift_audit_steps=1, **changes)
    (line,) = audited(trainer)
    model.load_state_dict(before)
    with torch.no_grad():
        losses = [float(model.eval()(**batch_of([row])).loss) for row in trainer.kept[0]]
    assert line["kept_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_running_statistics_do_not_move(tmp_path: Path) -> None:
    runs = [train(tmp_path, resnet(), Images(200), sift_audit_steps=every) for every in (1, 0)]
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


def test_without_exact_losses_descents_are_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged without the callback too. SGD has no second moments."""
    how = {"sift_criterion": "entropy", "sift_audit_steps": 2, "optim": "sgd"}
    rows = Rows(200, labelled=False)
    trainer = OwnLoss(bert(), arguments(tmp_path, **how), train_dataset=rows)
    trainer.remove_callback(SiftCallback)
    trainer.train()
    assert "no comparison with exact losses" in caplog.text
    assert not trainer.sift_callback.audits
    lines = audited(trainer)
    assert len(lines) == 2
    for line in lines:
        assert "descent_kept" in line
        assert not {"overlap", "adam_descent_kept"} & set(line)


def test_a_batch_too_small_to_hold_rows_out(tmp_path: Path) -> None:
    """Of two candidates one is held out, and nothing is left to drop."""
    changes = {"sift_audit_steps": 1, "per_device_train_batch_size": 1, "max_steps": 1}
    (line,) = audited(train(tmp_path, bert(), **changes))
    assert "overlap" in line
    assert "descent_kept" not in line
