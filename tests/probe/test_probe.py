"""Whole probes of tiny models, held to closed forms and to loops written by hand."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

from sift_trainer import SiftTrainer, early_exit, per_sample_loss
from sift_trainer.measuring.theory import argmax_agreement
from sift_trainer.models import EarlyExitResNetConfig, EarlyExitResNetForImageClassification
from sift_trainer.probe import ProbeResult, probe
from sift_trainer.probe.figures import of_dropped
from sift_trainer.probe.measurements import Estimate
from sift_trainer.selection.choosing import add_random, select_percentile, select_top_k
from tests.probe.probed import FAST, rough, trainer_of
from tests.training import Rows, arguments, bert


def by_name(result: ProbeResult) -> dict[str, Any]:
    return {str(figures.choice): figures for figures in result.figures}


class Classes(Dataset[dict[str, Tensor]]):
    """Sentences of two classes."""

    def __init__(self, count: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(5, 100, (count, 8), generator=draw)
        self.labels = torch.randint(2, (count,), generator=draw)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[row], "labels": self.labels[row]}


class Images(Dataset[dict[str, Tensor]]):
    def __init__(self, count: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(count, 3, 16, 16, generator=draw)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels[row], "labels": torch.tensor(row % 3)}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ProbeResult:
    trainer = trainer_of(tmp_path_factory.mktemp("out"))
    criteria = ["loss", "entropy", "random"]
    return probe(trainer, criteria=criteria, **{**FAST, "batches": 40})


def test_every_exit_criterion_and_fraction_is_there(result: ProbeResult) -> None:
    expected = [
        f"{criterion}, exit {k}{share}"
        for criterion in ("loss", "entropy")
        for k in (1, 2, 3)
        for share in ("", ", 0.25 of the labels")
    ]
    assert list(by_name(result)) == [*expected, "random"]
    assert (result.candidates, result.kept, result.batches) == (8, 4, 40)
    assert (result.gradient_batches, result.norm_batches) == (2, 1)
    assert result.ended_by == "batches=40"


def test_exact_losses_choose_as_exact_losses_do(result: ProbeResult) -> None:
    exact = by_name(result)["loss, exit 3"]
    assert (exact.overlap.low, exact.overlap.value) == (1, 1)
    assert exact.spearman.value == pytest.approx(1)
    assert exact.agreement.share == 1
    assert exact.noise.sigma == 0
    assert exact.noise_is_small
    assert exact.approximate_loss_ratio == pytest.approx(result.loss_ratio)


def test_the_random_control_overlaps_by_the_keep_ratio(result: ProbeResult) -> None:
    control = by_name(result)["random"]
    assert control.overlap.low <= 0.5 <= control.overlap.high
    assert control.spearman.low <= 0 <= control.spearman.high
    assert control.agreement.low <= 0.5 <= control.agreement.high
    assert control.noise is None
    assert control.beta is None
    assert control.approximate_loss_ratio == pytest.approx(1, abs=0.05)


def test_an_early_exit_is_in_between(result: ProbeResult) -> None:
    early = by_name(result)["loss, exit 1"]
    assert 0.5 < early.overlap.value < 1
    assert 0 < early.spearman.value < 1
    assert early.noise.sigma > 0
    assert 1 < early.approximate_loss_ratio < result.loss_ratio


def test_shares_and_break_even_belong_together(result: ProbeResult) -> None:
    for figures in result.figures:
        share = figures.scoring_share.value
        assert share > 0
        assert (1 - figures.break_even) * (1 + share) == pytest.approx(1)


def test_what_has_no_meaning_is_said(result: ProbeResult) -> None:
    assert all(figures.beta is None for figures in result.figures)
    assert any(note.startswith("beta: Theorem 6.2") for note in result.notes)
    assert any(note.startswith("sigma: ") for note in result.notes)


def with_two_at_random(scores: Tensor, draw: torch.Generator) -> Tensor:
    return add_random(scores, select_top_k(scores, 2), 4, draw)


def by_percentile(scores: Tensor, draw: torch.Generator) -> Tensor:
    return select_percentile(scores, 4, 1.0, draw)


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, lambda scores, draw: scores.topk(4).indices),
        ({"sift_random_share": 0.5}, with_two_at_random),
        ({"sift_selector": "percentile"}, by_percentile),
    ],
)
def test_figures_are_those_of_a_loop_over_the_trainers_batches(
    changes: dict[str, Any], trained: Any, tmp_path: Path
) -> None:
    """Scores, kept rows and gradients with nothing but the model, autograd and its loss; overlaps
    are of the largest scores, descents of what training would choose."""
    model = rough(bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    trainer = trainer_of(tmp_path, model, **changes)
    found = probe(trainer, exits=[1], criteria=["loss"], fractions=[1.0], **{**FAST, "batches": 2})
    (figures,) = found.figures
    torch.manual_seed(trainer.args.seed)
    # The first batch, one held out for it, the second, and the one held out for that.
    batches = [batch for batch, _ in zip(trainer.get_train_dataloader(), range(4), strict=False)]
    parameters = list(model.parameters())

    def gradient(batch: dict[str, Tensor], rows: Any = slice(None)) -> Tensor:
        loss = model(**{name: value[rows] for name, value in batch.items()}).loss
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat([each.flatten() for each in found if each is not None])

    overlaps, kept_descents, random_descents, norms = [], [], [], []
    for number, (batch, held_out) in enumerate([batches[:2], batches[2:]]):
        model.eval()
        with torch.no_grad():
            exact = per_sample_loss(model(**batch).logits, batch["labels"])
            with early_exit(model, 1):
                early = per_sample_loss(model(**batch).logits, batch["labels"])
        kept, wanted = early.topk(4).indices, exact.topk(4).indices
        overlaps.append(len(set(kept.tolist()) & set(wanted.tolist())) / 4)
        if number == 0:
            dropped = early.topk(4, largest=False).indices
            norms = [
                sum(float(gradient(batch, [row]).norm()) for row in rows.tolist()) / 4
                for rows in (kept, dropped)
            ]
        model.train()
        target = gradient(held_out)
        chosen = trained(early, trainer._generator(number))
        kept_descents.append(float(gradient(batch, chosen) @ target))
        draw = torch.Generator().manual_seed(number)
        at_random = torch.randperm(8, generator=draw)[:4]
        random_descents.append(float(gradient(batch, at_random) @ target))
    seconds, dearer = found.step_seconds.value, 1 + figures.scoring_share.value
    assert figures.overlap.value == pytest.approx(sum(overlaps) / 2)
    assert figures.gradient_norms.kept == pytest.approx(norms[0], rel=1e-4)
    assert figures.gradient_norms.dropped == pytest.approx(norms[1], rel=1e-4)
    expected = sum(kept_descents) / 2 / (seconds * dearer)
    assert figures.descent.kept.value == pytest.approx(expected, rel=1e-4)
    assert figures.descent.random.value == pytest.approx(
        sum(random_descents) / 2 / seconds, rel=1e-4
    )
    assert figures.descent.ratio.value == pytest.approx(
        sum(kept_descents) / sum(random_descents) / dearer, rel=1e-4
    )


def test_what_dropped_rows_would_bring_by_hand() -> None:
    """Of descents 3 and -1 of two halves random rows have the mean, 1: kept 3, dropped -1."""
    found = of_dropped(Estimate(3.0, 2.0, 4.0), keep_ratio=0.5)
    assert (found.value, found.low, found.high) == (-1.0, -2.0, 0.0)
    quarter = of_dropped(Estimate(2.5, 2.5, 2.5), keep_ratio=0.25)
    assert 0.25 * 2.5 + 0.75 * quarter.value == pytest.approx(1)


def test_theorem_6_2_stands_beside_classification_by_a_linear_head(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=16, num_labels=2,
    )  # fmt: skip
    model = rough(BertForSequenceClassification(config))
    trainer = trainer_of(tmp_path, model, Classes(400))
    result = probe(trainer, criteria=["loss"], **{**FAST, "batches": 40})
    early, exact = result.figures  # no token fractions where a sample has one label
    assert exact.beta == pytest.approx(1)
    assert exact.agreement_by_theorem == pytest.approx(1, abs=1e-3)
    assert -1 < early.beta < 1
    assert early.agreement_by_theorem == pytest.approx(argmax_agreement(early.beta))
    assert any(note.startswith("token fractions") for note in result.notes)


def test_a_resnet_is_probed_and_its_statistics_stay(tmp_path: Path) -> None:
    config = EarlyExitResNetConfig(
        stem="cifar", depths=[1, 1, 1], hidden_sizes=[8, 16, 24], embedding_size=4, num_labels=3
    )
    model = EarlyExitResNetForImageClassification(config)
    before = copy.deepcopy(model.state_dict())
    result = probe(trainer_of(tmp_path, model, Images(200)), **FAST)
    assert [figures.choice.exit_layer for figures in result.figures] == [1, 2, 1, 2]
    assert all(figures.descent is not None for figures in result.figures)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_everything_stays_as_it_was(tmp_path: Path) -> None:
    model = rough(bert())
    trainer = trainer_of(tmp_path, model)
    model.train()
    model.bert.encoder.layer[1].eval()  # a mode of its own
    gradient = torch.randn_like(model.bert.embeddings.word_embeddings.weight)
    model.bert.embeddings.word_embeddings.weight.grad = gradient
    values = copy.deepcopy(model.state_dict())
    tensors = {name: id(tensor) for name, tensor in model.named_buffers()}
    modes = [module.training for module in model.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    optimizer, accepts = trainer.optimizer, trainer.model_accepts_loss_kwargs
    loaders = trainer.accelerator.gradient_state.dataloader_references
    probe(trainer, **FAST)
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert {name: id(tensor) for name, tensor in model.named_buffers()} == tensors
    assert [module.training for module in model.modules()] == modes
    for parameter in model.parameters():
        expected = gradient if parameter.shape == gradient.shape else None
        assert parameter.grad is expected
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert trainer.optimizer is optimizer
    assert trainer.model_accepts_loss_kwargs is accepts
    assert trainer.accelerator.gradient_state.dataloader_references == loaders


def test_training_after_a_probe_is_training_without_one(tmp_path: Path) -> None:
    weights = []
    for probed in (False, True):
        trainer = trainer_of(tmp_path / str(probed))
        if probed:
            probe(trainer, exits=[1], **{**FAST, "batches": 2})
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_probe_is_repeated_by_its_seed(tmp_path: Path) -> None:
    one, other = (probe(trainer_of(tmp_path), exits=[1], **FAST).figures for _ in range(2))
    for before, after in zip(one, other, strict=True):
        assert before.overlap == after.overlap
        assert before.gradient_norms == after.gradient_norms


def test_without_labels_entropy_has_nothing_beside_it(tmp_path: Path) -> None:
    class OwnLoss(SiftTrainer):
        def compute_loss(self, model: Any, inputs: Any, **more: Any) -> Tensor:
            return model(**inputs).logits.square().mean()

    rows = Rows(100, labelled=False)
    sifting = arguments(tmp_path, sift_criterion="entropy")
    trainer = OwnLoss(bert(), sifting, train_dataset=rows)
    result = probe(trainer, exits=[1], fractions=[1.0], **FAST)
    (figures,) = result.figures
    assert figures.choice.criterion == "entropy"
    assert (figures.overlap, figures.agreement, result.loss_ratio) == (None, None, None)
    assert figures.descent is not None
    assert any(note.startswith("exact losses") for note in result.notes)
