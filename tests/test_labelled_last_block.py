"""Training with the last block only where it is read: the loss and gradients of the whole block."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit import labelled_last_block
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.trained_loss import TrainedLoss
from tests.tiny import BATCH, FAMILIES, text, token_labels

NAMES = ("bert-pretraining", "bert-mlm", "roberta", "electra")
COUNTS = (3, 0, 1, 5)


def batch_of(name: str, padded: bool = True) -> dict[str, Tensor]:
    batch = {**text(padded=padded), "labels": token_labels(COUNTS)}
    if name == "bert-pretraining":
        batch["next_sentence_label"] = torch.arange(BATCH) % 2
    return batch


def sifted_model_of(model: Any, batch: dict[str, Tensor], **settings: Any) -> SiftedModel:
    names = ["labels", "next_sentence_label"]
    per_row = settings.pop("labels_per_row", None)
    return SiftedModel.probed(
        ModelPasses.of(model),
        batch,
        SiftArguments(**settings),
        TrainedLoss(takes_count=True),
        label_names=names,
        labels_per_row=per_row,
    )


def sees(model: Any, sifted: SiftedModel, batch: dict[str, Tensor]) -> int:
    """How many positions pass the feed-forward of the last block in training."""
    counted = []
    *_, last = model.base_model.encoder.layer.children()
    hook = last.intermediate.register_forward_pre_hook(
        lambda _, inputs: counted.append(inputs[0].flatten(0, -2).shape[0])
    )
    with sifted.labelled_only(batch) as labelled:
        model(**labelled)
    hook.remove()
    return counted[0]


def gradients(model: Any, batch: Any) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_row", [None, max(COUNTS)])
def test_loss_and_gradients_are_those_of_the_whole_block(
    name: str, padded: bool, attention: str, per_row: int | None
) -> None:
    model = FAMILIES[name].build(_attn_implementation=attention)
    batch = batch_of(name, padded)
    whole_loss, whole = gradients(model, batch)
    sifted = sifted_model_of(model, batch, labels_per_row=per_row)
    with sifted.labelled_only(batch) as labelled:
        loss, found = gradients(model, labelled)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    # Adding zeros, the whole block gives a gradient to what the pruned one never touches.
    largest = max(gradient.norm() for gradient in whole.values())
    for key, expected in whole.items():
        difference = (found[key] - expected).norm() if key in found else expected.norm()
        assert difference <= 1e-6 * largest, key


@pytest.mark.parametrize("name", NAMES)
def test_the_last_feed_forward_sees_labelled_positions_and_first_ones(name: str) -> None:
    model, batch = FAMILIES[name].build(), batch_of(name)
    assert sees(model, sifted_model_of(model, batch), batch) == BATCH + sum(COUNTS)


def test_off_with_the_head_and_under_checkpointing() -> None:
    batch = batch_of("bert-mlm")
    everything = batch["input_ids"].numel()
    model = FAMILIES["bert-mlm"].build()
    assert (
        sees(model, sifted_model_of(model, batch, sift_masked_only_head=False), batch) == everything
    )
    model.gradient_checkpointing_enable()
    assert labelled_last_block(model, LabelledHead.of(model)) is None  # type: ignore[arg-type]


class MeanPooler(nn.Module):
    """Reads every position, where BERT's own reads the first."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.mean(dim=1)


def test_a_model_that_reads_other_positions_keeps_its_last_block() -> None:
    model, batch = FAMILIES["bert-pretraining"].build(), batch_of("bert-pretraining")
    model.bert.pooler = MeanPooler()
    sifted = sifted_model_of(model, batch)
    assert sees(model, sifted, batch) == batch["input_ids"].numel()
    whole_loss, _ = gradients(model, batch)
    with sifted.labelled_only(batch) as labelled:
        assert gradients(model, labelled)[0] == pytest.approx(whole_loss, rel=1e-6)


def test_dropout_in_the_last_block_is_drawn_in_training_only() -> None:
    changes = {"attention_probs_dropout_prob": 0.5, "hidden_dropout_prob": 0.0}
    model, batch = FAMILIES["bert-mlm"].build(**changes), batch_of("bert-mlm")
    for block in list(model.bert.encoder.layer)[:-1]:
        block.attention.self.dropout.p = 0.0  # so that the last block alone drops anything
    sifted = sifted_model_of(model, batch)

    def loss() -> float:
        with sifted.labelled_only(batch) as labelled:
            return model(**labelled).loss.item()

    assert loss() == loss()
    model.train()
    assert len({loss() for _ in range(4)}) == 4
