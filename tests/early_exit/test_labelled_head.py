"""Head and last block on labelled positions only: the loss and gradients of the whole, for less."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit.labelled_head import LabelledHead, gathered_labels
from sift_trainer.early_exit.registry import labelled_last_block
from sift_trainer.scoring.positions import ScoredPositions, scored_positions
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.trained_loss import TrainedLoss
from tests.tiny import BATCH, FAMILIES, LENGTH, VOCABULARY, PlainNet, text, token_labels

CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba")
# With a block stack that training prunes, and others.
ENCODERS = ("bert-pretraining", "bert-mlm", "roberta", "electra")
MASKED = (*ENCODERS, "distilbert", "deberta-v2", "modernbert")
COUNTS = (3, 0, 1, 5)


def batch_of(name: str, **changes: Any) -> dict[str, Tensor]:
    batch = FAMILIES[name].batch(labels=token_labels(COUNTS), **changes)
    if name == "bert-pretraining":
        batch["next_sentence_label"] = torch.arange(BATCH) % 2
    return batch


def positions_of(labels: Tensor, shifted: bool) -> ScoredPositions:
    """Flat positions and targets of the predictions with a label, found one by one."""
    flat, targets = [], []
    for row, values in enumerate(labels.tolist()):
        for column in range(LENGTH - shifted):
            if values[column + shifted] != -100:
                flat.append(row * LENGTH + column)
                targets.append(values[column + shifted])
    return replace(scored_positions(labels), flat=torch.tensor(flat), targets=torch.tensor(targets))


def loss_and_gradients(model: Any, batch: Any) -> tuple[Any, dict[str, Tensor]]:
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return outputs, found


def assert_same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Adding zeros, the whole block gives a gradient to what the pruned one never touches."""
    torch.testing.assert_close(found[0].loss, expected[0].loss, rtol=1e-6, atol=0)
    largest = max(gradient.norm() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        difference = (found[1][name] - gradient).norm() if name in found[1] else gradient.norm()
        assert difference <= 1e-6 * largest, name


# ---- the head ----


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
def test_the_head_on_labelled_positions_has_the_loss_and_gradients_of_the_dense_head(
    name: str,
) -> None:
    """Also where the loss is divided by a count, and where position 0, which is no target of a
    causal model, has a label. A causal model gets one more prediction, see `gathered_labels`."""
    model, shifted = FAMILIES[name].build(), name in CAUSAL
    head = LabelledHead.of(model)
    assert head is not None
    for labels, count in (
        (token_labels(COUNTS), None),
        (token_labels(COUNTS, first=shifted), 40),
        (token_labels((0, 1, 0, 0)), None),
    ):
        batch = {**batch_of(name), "labels": labels}
        if count:
            batch["num_items_in_batch"] = torch.tensor(count)
        dense = loss_and_gradients(model, batch)
        positions = positions_of(labels, shifted)
        gathered = {**batch, "labels": gathered_labels(positions, shifted)}
        with head.gather(positions, shifted):
            found = loss_and_gradients(model, gathered)
        logits = next(value for key, value in found[0].items() if key != "loss")
        assert logits.shape == (1, len(positions.flat) + shifted, VOCABULARY)
        assert list(found[1]) == list(dense[1])
        assert_same(found, dense)


@pytest.mark.parametrize("name", ["bert-pretraining", "electra", "gpt2"])
@torch.no_grad()
def test_the_head_is_dense_outside_of_the_context_also_after_an_exception(name: str) -> None:
    model, batch = FAMILIES[name].build(), FAMILIES[name].batch()
    key = "prediction_logits" if name == "bert-pretraining" else "logits"
    before = model(**batch)[key]
    head = LabelledHead.of(model)
    assert head is not None
    picked = torch.tensor([3, 17, 40])
    with head.at(picked):
        with head.at(picked[:1]):
            assert model(**batch)[key].shape == (1, 1, VOCABULARY)
        found = model(**batch)[key]
    torch.testing.assert_close(found[0], before.flatten(0, 1)[picked], rtol=1e-5, atol=1e-5)
    with head.at(None):
        assert torch.equal(model(**batch)[key], before)
    with pytest.raises(KeyboardInterrupt), head.at(picked):
        raise KeyboardInterrupt
    assert torch.equal(model(**batch)[key], before)


class Configured(PlainNet):
    """Uses names that Transformers uses, in its own sense."""

    config = {"num_layers": 3}  # noqa: RUF012

    def get_output_embeddings(self) -> nn.Module:
        return self.out


@pytest.mark.parametrize(
    "build",
    [*(FAMILIES[name].build for name in ("t5", "bart", "bert-sequence", "bert-token")), Configured],
)
def test_no_labelled_head_where_labels_are_inputs_or_there_is_no_vocabulary(build: Any) -> None:
    assert LabelledHead.of(build()) is None


# ---- the last block ----


def sifted_model_of(model: Any, batch: dict[str, Tensor], **settings: Any) -> SiftedModel:
    per_row = settings.pop("labels_per_row", None)
    return SiftedModel.probed(
        ModelPasses(model, model),
        batch,
        SiftArguments(**settings),
        TrainedLoss(takes_count=True),
        label_names=["labels", "next_sentence_label"],
        labels_per_row=per_row,
    )


def passed(model: Any, sifted: SiftedModel, batch: dict[str, Tensor]) -> int:
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


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_pruned_last_block_has_the_loss_and_gradients_of_the_whole(
    name: str, attention: str
) -> None:
    """Its feed-forward sees the labelled positions and each row's first, for the pooler."""
    model = FAMILIES[name].build(_attn_implementation=attention)
    padded = batch_of(name)
    unpadded = {key: value for key, value in padded.items() if key != "attention_mask"}
    unpadded |= text(padded=False)
    for batch, per_row in ((padded, None), (unpadded, None), (padded, max(COUNTS))):
        whole = loss_and_gradients(model, batch)
        sifted = sifted_model_of(model, batch, labels_per_row=per_row)
        with sifted.labelled_only(batch) as labelled:
            assert_same(loss_and_gradients(model, labelled), whole)
        labels = BATCH * per_row if per_row else sum(COUNTS)
        assert passed(model, sifted, batch) == BATCH + labels


class MeanPooler(nn.Module):
    """Reads every position, where BERT's own reads the first."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.mean(dim=1)


def test_where_the_last_block_stays_whole() -> None:
    """Switched off; under gradient checkpointing; where a pooler reads other positions."""
    model, batch = FAMILIES["bert-pretraining"].build(), batch_of("bert-pretraining")
    everything = batch["input_ids"].numel()
    off = sifted_model_of(model, batch, sift_masked_only_head=False)
    assert passed(model, off, batch) == everything
    model.bert.pooler = MeanPooler()
    sifted = sifted_model_of(model, batch)
    assert passed(model, sifted, batch) == everything
    whole = loss_and_gradients(model, batch)
    with sifted.labelled_only(batch) as labelled:
        assert_same(loss_and_gradients(model, labelled), whole)
    model.gradient_checkpointing_enable()
    assert labelled_last_block(model, LabelledHead.of(model)) is None  # type: ignore[arg-type]


def test_the_last_block_drops_out_in_training_only() -> None:
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
