"""Operations: the counts for BERT-base against hand calculations, the Trainer's steps against both.

A step that becomes more expensive fails here on any machine, where no clock could tell.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from sift_trainer import SiftTrainer
from sift_trainer.reproduction.bert.flops import BertShape, flops_of, forward_backward, scoring
from tests.training import arguments

BASE = BertShape(768, 3072, 12, 30522, length=512, label_share=0.15)
# Per token, in MFLOP. Keys and values: 4 x 768^2. Rest of a block: 20 x 768^2 for the products with
# weights, 4 x 512 x 768 for attention. Head: 2 x 768^2 for its transform, 2 x 768 x 30522.
KEYS_AND_VALUES, REST, TRANSFORM, VOCABULARY = 2.3593, 13.3693, 1.1796, 46.8818
BLOCK, HEAD = KEYS_AND_VALUES + REST, TRANSFORM + VOCABULARY
PAIRS = 0.0023  # pooler and next-sentence head, once for each row
READ = 0.15 + 1 / 512  # the labelled tokens, and the pooler's first


@pytest.mark.parametrize(
    ("computed", "forward"),
    [
        ("everywhere", 12 * BLOCK + HEAD + PAIRS),
        ("labelled_head", 12 * BLOCK + TRANSFORM + 0.15 * VOCABULARY + PAIRS),
        (
            "labelled_block",
            11 * BLOCK + KEYS_AND_VALUES + READ * (REST + TRANSFORM) + 0.15 * VOCABULARY + PAIRS,
        ),
    ],
)
def test_training_bert_base_by_hand(computed: Any, forward: float) -> None:
    """Each product has two more in the backward."""
    assert forward_backward(BASE, computed) / 1e6 == pytest.approx(3 * forward, rel=2e-4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((1, "everywhere"), BLOCK + HEAD + PAIRS),
        ((1,), KEYS_AND_VALUES + 0.15 * (REST + HEAD)),
        ((-1,), 11 * BLOCK + KEYS_AND_VALUES + 0.15 * (REST + HEAD)),
        ((1, "labelled_block", 0.25), KEYS_AND_VALUES + 0.15 / 4 * (REST + HEAD)),
    ],
)
def test_scoring_bert_base_by_hand(settings: Any, expected: float) -> None:
    assert scoring(BASE, *settings) / 1e6 == pytest.approx(expected, rel=1e-3)


# ---- whole steps as the Trainer runs them ----

KEPT = 6


@dataclass(frozen=True)
class Step:
    """A step of a BERT in which blocks and head have about the weight that they have in BERT-base.

    All rows have the same number of labels.
    """

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

    def expected(self) -> float:
        """Operations per token that is trained on."""
        share = self.labels / self.length
        shape = BertShape(128, 512, self.blocks, self.vocabulary, self.length, share)
        computed: Any = "everywhere" if self.masked_only is False else "labelled_block"
        scored = 0.0
        if self.criterion != "random":
            scored = scoring(shape, self.exit_layer, computed, self.token_fraction)
        return scored / self.keep_ratio + forward_backward(shape, computed)


def row(step: Step, number: int) -> dict[str, Any]:
    """A row with no label at its first position."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(5, step.vocabulary, (step.length,), generator=generator)
    places = 1 + torch.randperm(step.length - 1, generator=generator)[: step.labels]
    labels = torch.full_like(ids, -100).index_copy(0, places, ids[places])
    return {"input_ids": ids, "labels": labels, "next_sentence_label": number % 2}


def trainer_of(step: Step, folder: Any) -> SiftTrainer:
    """A trainer that has taken one step: at the first batch the model is probed."""
    torch.manual_seed(0)
    model = BertForPreTraining(
        BertConfig(
            hidden_size=128,
            intermediate_size=512,
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
    for batch in window:
        trainer.training_step(trainer.model, batch, number)


DEFAULT = Step()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(DEFAULT, id="default"),
        pytest.param(replace(DEFAULT, keep_ratio=0.25, exit_layer=3), id="keep a quarter"),
        pytest.param(replace(DEFAULT, length=128, labels=32), id="long"),
        pytest.param(replace(DEFAULT, criterion="random"), id="random"),
        pytest.param(
            replace(DEFAULT, token_fraction=0.25, criterion="entropy"), id="a quarter of the labels"
        ),
        pytest.param(replace(DEFAULT, accumulation=2), id="two micro-batches"),
        pytest.param(replace(DEFAULT, masked_only=False, exit_layer=2), id="all positions"),
    ],
)
def test_a_step_costs_what_its_parts_cost(step: Step, tmp_path: Any) -> None:
    trainer = trainer_of(step, tmp_path)
    found = flops_of(lambda: take(trainer)) / (KEPT * step.accumulation * step.length)
    assert found == pytest.approx(step.expected(), rel=0.001)
