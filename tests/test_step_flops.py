"""The whole sifted step as the Trainer runs it, counted: a step that has become dearer fails here
on any machine, where no clock could tell.

Products are counted by torch, attention as plain ones, along every axis that a step grows with. No
row has more labels than another, so the formula leaves out no more than the sentence head of a
scoring pass, 2e-5 of a step.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining

import sift_trainer.trainer
from sift_trainer import SiftTrainer
from sift_trainer.flops import BertShape, forward_backward, sifted_step
from tests.training import arguments

KEPT = 6
TOLERANCE = 0.001


@dataclass(frozen=True)
class Step:
    """A step of a BERT in which blocks and head weigh about what they do in BERT-base."""

    keep_ratio: float = 0.5
    length: int = 64
    labels: int = 8
    vocabulary: int = 4000
    blocks: int = 4
    exit_layer: int = 1
    criterion: str = "loss"
    token_fraction: float = 1.0
    accumulation: int = 1
    masked_only: bool | None = None

    @property
    def shape(self) -> BertShape:
        share = self.labels / self.length
        return BertShape(128, 512, self.blocks, self.vocabulary, self.length, share)

    def expected(self) -> float:
        """Operations per token trained on, by formula."""
        computed = "everywhere" if self.masked_only is False else "labelled_block"
        if self.criterion == "random":
            return forward_backward(self.shape, computed)
        return sifted_step(
            self.shape, self.exit_layer, self.keep_ratio, computed, self.token_fraction
        )


def row(step: Step, number: int) -> dict[str, Any]:
    """As many labels as any other, none of them at the first position."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(5, step.vocabulary, (step.length,), generator=generator)
    places = 1 + torch.randperm(step.length - 1, generator=generator)[: step.labels]
    labels = torch.full_like(ids, -100).index_copy(0, places, ids[places])
    return {"input_ids": ids, "labels": labels, "next_sentence_label": number % 2}


def trainer_of(step: Step, folder: Any) -> SiftTrainer:
    """That has taken one step: at the first batch a model is asked what its loss does."""
    torch.manual_seed(0)
    model = BertForPreTraining(
        BertConfig(
            hidden_size=step.shape.hidden_size,
            intermediate_size=step.shape.intermediate_size,
            num_hidden_layers=step.blocks,
            num_attention_heads=2,
            vocab_size=step.vocabulary,
            max_position_embeddings=step.length,
        )
    )
    args = arguments(
        folder,
        max_steps=10,
        per_device_train_batch_size=KEPT,
        gradient_accumulation_steps=step.accumulation,
        sift_keep_ratio=step.keep_ratio,
        sift_exit_layer=step.exit_layer,
        sift_criterion=step.criterion,
        sift_token_fraction=step.token_fraction,
        sift_masked_only_head=step.masked_only,
    )
    data = [row(step, number) for number in range(2 * round(KEPT / step.keep_ratio))]
    trainer = SiftTrainer(model, args, train_dataset=data)
    trainer.state.max_steps = args.max_steps
    trainer.current_gradient_accumulation_steps = step.accumulation
    take(trainer)
    return trainer


def take(trainer: SiftTrainer) -> None:
    """Draw a window of candidates, score, select, forward, backward."""
    args, batches = trainer.args, iter(trainer.get_train_dataloader())
    accumulation = args.gradient_accumulation_steps
    window, number = trainer.get_batch_samples(batches, accumulation, args.device)
    assert len(window) == accumulation
    for batch in window:
        trainer.training_step(trainer.model, batch, number)


def counted(trainer: SiftTrainer, step: Step) -> float:
    """Operations of one step, per token trained on."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        take(trainer)
    return counter.get_total_flops() / (KEPT * step.accumulation * step.length)


BASE = Step()
POINTS = {
    "as is": BASE,
    "keep a quarter": replace(BASE, keep_ratio=0.25),
    "keep three quarters": replace(BASE, keep_ratio=0.75),
    "length 32": replace(BASE, length=32, labels=4),
    "length 128": replace(BASE, length=128, labels=16),
    "twice the labels": replace(BASE, labels=16),
    "vocabulary 1000": replace(BASE, vocabulary=1000),
    "vocabulary 8000": replace(BASE, vocabulary=8000),
    "2 blocks": replace(BASE, blocks=2),
    "6 blocks": replace(BASE, blocks=6),
    "exit 2": replace(BASE, exit_layer=2),
    "exit 3, keep a quarter": replace(BASE, exit_layer=3, keep_ratio=0.25),
    "exit 4": replace(BASE, exit_layer=4),
    "entropy": replace(BASE, criterion="entropy"),
    "random": replace(BASE, criterion="random"),
    "half of the labels": replace(BASE, token_fraction=0.5),
    "a quarter of the labels": replace(BASE, token_fraction=0.25, criterion="entropy"),
    "two micro-batches": replace(BASE, accumulation=2),
    "naive": replace(BASE, masked_only=False),
    "naive, exit 3, keep a quarter": replace(
        BASE, masked_only=False, exit_layer=3, keep_ratio=0.25
    ),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_step_costs_what_the_formula_says(point, tmp_path):
    step = POINTS[point]
    found = counted(trainer_of(step, tmp_path), step)
    assert found == pytest.approx(step.expected(), rel=TOLERANCE)


# ---- that the test above would notice ----


@pytest.mark.parametrize(
    ("dearer", "at_least"),
    [
        pytest.param({"masked_only": False}, 2.0, id="head and exit block everywhere"),
        pytest.param({"exit_layer": 4}, 1.45, id="scoring runs the whole model"),
        pytest.param({"exit_layer": 2}, 1.15, id="scoring runs a block more"),
        pytest.param({"keep_ratio": 0.25}, 1.08, id="twice the candidates"),
    ],
)
def test_a_setting_that_costs_more_is_not_mistaken_for_the_default(dearer, at_least, tmp_path):
    step = replace(BASE, **dearer)
    assert counted(trainer_of(step, tmp_path), step) > at_least * BASE.expected()


def test_training_on_all_candidates_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(sift_trainer.trainer, "take_rows", lambda batch, rows: batch)
    trained_twice = BASE.expected() + forward_backward(BASE.shape, "labelled_block")
    found = counted(trainer_of(BASE, tmp_path), BASE)
    assert found == pytest.approx(trained_twice, rel=TOLERANCE)


def test_scoring_each_micro_batch_of_a_window_anew_is_noticed(tmp_path, monkeypatch):
    step = replace(BASE, accumulation=2)
    trainer = trainer_of(step, tmp_path)
    select = trainer._select

    def twice(*args: Any) -> Any:
        select(*args)
        return select(*args)

    monkeypatch.setattr(trainer, "_select", twice)
    scored_again = step.expected() - forward_backward(step.shape, "labelled_block")
    found = counted(trainer, step)
    assert found == pytest.approx(step.expected() + scored_again, rel=TOLERANCE)
    assert found > 1.05 * step.expected()
