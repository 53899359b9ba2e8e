"""Whole probes of tiny models, tested against closed forms and hand-written loops."""

import copy
import itertools
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sift_trainer import SiftTrainer, early_exit, per_sample_loss
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.probe import probe, probing
from sift_trainer.selection.rules import select_mixed
from tests.probe.probed import (
    FAST,
    NO_DROPOUT,
    Images,
    OwnLoss,
    gradient,
    resnet,
    rough,
    same_weights,
    trainer_of,
)
from tests.training import Rows, Stream, arguments, bert


def test_every_choice_beside_exact_losses(tmp_path: Path) -> None:
    """The last exit agrees with exact losses, the first less, and the control by chance."""
    criteria = ["loss", "entropy", "random"]
    result = probe(trainer_of(tmp_path), criteria=criteria, **{**FAST, "batches": 24})
    by_name: dict[str, Any] = {str(figures.choice): figures for figures in result.figures}
    expected = [
        f"{criterion}, exit {k}{share}"
        for criterion in ("loss", "entropy")
        for k in (1, 2, 3)
        for share in ("", ", 0.25 of the labels")
    ]
    assert list(by_name) == [*expected, "random"]
    assert (result.candidates, result.kept, result.batches) == (8, 4, 24)
    assert result.gradient_batches == 2
    exact, early, control = (by_name[each] for each in ("loss, exit 3", "loss, exit 1", "random"))
    assert (1 - early.break_even) * (1 + early.scoring_share.value) == pytest.approx(1)
    assert (exact.overlap.low, exact.agreement.share, exact.noise.sigma) == (1, 1, 0)
    assert exact.spearman.value == pytest.approx(1)
    assert exact.approximate_loss_ratio == pytest.approx(result.loss_ratio)
    assert 0.5 < early.overlap.value < 1
    assert early.noise.sigma > 0
    assert 1 < early.approximate_loss_ratio < result.loss_ratio
    assert control.overlap.low <= 0.5 <= control.overlap.high
    assert control.agreement.low <= 0.5 <= control.agreement.high
    assert control.noise is None


def with_two_at_random(scores: Tensor, draw: torch.Generator) -> Tensor:
    return select_mixed(scores, 4, 0.5, draw)


def largest(scores: Tensor, draw: torch.Generator) -> Tensor:
    return scores.topk(4).indices


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"sift_selector": "top_k", "sift_held_out": "evaluation"}, largest),
        ({"sift_selector": "mixed"}, with_two_at_random),
    ],
)
def test_figures_are_those_of_a_loop(changes: dict[str, Any], trained: Any, tmp_path: Path) -> None:
    """By the model, autograd and its loss. Overlap is of the largest scores, descent of the rows
    that training would choose."""
    model = rough(bert(**NO_DROPOUT))
    sets = {"train_dataset": Rows(400), "eval_dataset": None}
    towards_evaluation = "sift_held_out" in changes
    if towards_evaluation:
        sets["eval_dataset"] = Rows(60)
    trainer = SiftTrainer(model, arguments(tmp_path, **changes), **sets)
    found = probe(trainer, exits=[1], criteria=["loss"], fractions=[1.0], **{**FAST, "batches": 2})
    (figures,) = found.figures
    torch.manual_seed(trainer.args.seed)
    loader = itertools.islice(trainer.get_train_dataloader(), 4)
    if towards_evaluation:
        held_out = evaluation_batches(trainer, trainer.args.eval_batch_size, 2)
        pairs = [*zip(loader, held_out, strict=False)]
    else:  # a batch, the one held out for it, and so on
        pairs = [*zip(loader, loader, strict=True)]
    overlaps, kept_descents, random_descents = [], [], []
    for number, (batch, towards) in enumerate(pairs):
        model.eval()
        with torch.no_grad():
            exact = per_sample_loss(model(**batch).logits, batch["labels"])
            with early_exit(model, 1):
                early = per_sample_loss(model(**batch).logits, batch["labels"])
        kept, wanted = early.topk(4).indices, exact.topk(4).indices
        overlaps.append(len(set(kept.tolist()) & set(wanted.tolist())) / 4)
        model.train()
        target = gradient(model, towards)
        chosen = trained(early, trainer._generator(number))
        kept_descents.append(float(gradient(model, batch, chosen) @ target))
        draw = torch.Generator().manual_seed(number)
        at_random = torch.randperm(8, generator=draw)[:4]
        random_descents.append(float(gradient(model, batch, at_random) @ target))
    seconds, price = found.step_seconds.value, 1 + figures.scoring_share.value
    descent, kept_sum, random_sum = figures.descent, sum(kept_descents), sum(random_descents)
    assert found.held_out == ("evaluation" if towards_evaluation else "candidates")
    assert figures.overlap.value == pytest.approx(sum(overlaps) / 2)
    assert descent.kept.value == pytest.approx(kept_sum / 2 / (seconds * price), rel=1e-4)
    assert descent.random.value == pytest.approx(random_sum / 2 / seconds, rel=1e-4)
    if descent.ratio is not None:
        assert descent.ratio.value == pytest.approx(kept_sum / random_sum / price, rel=1e-4)
        by_dropped = (2 - kept_sum / random_sum, descent.dropped_ratio.value)
        assert by_dropped[1] == pytest.approx(by_dropped[0], rel=1e-3)


def test_everything_stays_as_it_was(tmp_path: Path) -> None:
    """Running statistics of a ResNet, modes, gradients, random states and the trainer."""
    model = resnet()
    trainer = trainer_of(tmp_path, model, Images(200))
    model.train()
    next(model.children()).eval()  # a mode of its own
    first = next(model.parameters())
    first.grad = own = torch.randn_like(first)
    values = copy.deepcopy(model.state_dict())
    tensors = {name: id(tensor) for name, tensor in model.named_buffers()}
    modes = [module.training for module in model.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    accepts = trainer.model_accepts_loss_kwargs
    loaders = trainer.accelerator.gradient_state.dataloader_references
    result = probe(trainer, **FAST)
    assert [figures.choice.exit_layer for figures in result.figures] == [1, 2, 1, 2, 1, 2]
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert {name: id(tensor) for name, tensor in model.named_buffers()} == tensors
    assert [module.training for module in model.modules()] == modes
    assert all(each.grad is (own if each is first else None) for each in model.parameters())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert trainer.optimizer is None
    assert trainer.model_accepts_loss_kwargs is accepts
    assert trainer.accelerator.gradient_state.dataloader_references == loaders


def test_training_after_a_probe_is_training_without_one(tmp_path: Path) -> None:
    """And a second probe finds the same."""
    trainers, results = [], []
    for probes in (0, 2):
        trainer = trainer_of(tmp_path / str(probes))
        few = {"exits": [1], "fractions": [0.25], **FAST, "batches": 2}
        results += [probe(trainer, **few) for _ in range(probes)]
        trainer.train()
        trainers.append(trainer)
    assert same_weights(*trainers)
    for before, after in zip(results[0].figures, results[1].figures, strict=True):
        assert before.overlap == after.overlap
        assert before.agreement == after.agreement


def test_without_labels_entropy_is_compared_with_nothing(tmp_path: Path) -> None:
    sifting = arguments(tmp_path, sift_criterion="entropy")
    trainer = OwnLoss(bert(), sifting, train_dataset=Rows(100, labelled=False))
    result = probe(trainer, exits=[1], fractions=[1.0], **FAST)
    (figures,) = result.figures
    assert figures.choice.criterion == "entropy"
    assert (figures.overlap, figures.agreement, result.loss_ratio) == (None, None, None)
    assert figures.descent is not None
    assert any(note.startswith("exact losses") for note in result.notes)


def test_it_ends_with_the_time_or_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short last batch, here of 4 candidates, is left out. Streams are read too."""
    few = {"exits": [1], "criteria": ["loss"], "fractions": [1.0], **FAST, "batches": 50}
    for data in (Rows(22), Stream(22)):
        assert probe(trainer_of(tmp_path, data=data), **few).batches == 3  # 2 of 5 held out
    with pytest.raises(ValueError, match="max_seconds=1e-06 and the data were enough for 1 batch"):
        probe(trainer_of(tmp_path), max_seconds=1e-6, **few)
    seconds = itertools.count()  # each look at the clock takes a second
    monkeypatch.setattr(probing, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    assert probe(trainer_of(tmp_path), max_seconds=4.0, **few).batches == 4
