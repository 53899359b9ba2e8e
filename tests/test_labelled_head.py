"""The head on labelled positions only: the loss and every gradient of the dense head, for less."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from sift_trainer.early_exit.labelled_head import (
    LabelledHead,
    gathered_labels,
    output_embeddings_of,
)
from sift_trainer.scoring.positions import ScoredPositions, scored_positions
from tests.tiny import FAMILIES, LENGTH, VOCABULARY, WIDTH, PlainNet, token_labels

MASKED = (
    "bert-pretraining", "bert-mlm", "roberta", "electra", "distilbert", "deberta-v2", "modernbert"
)  # fmt: skip
CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "gemma2", "gpt-neox", "opt", "mamba")
COUNTS_THEIR_LABELS = {"modernbert", *CAUSAL}


def by_hand(labels: Tensor, shifted: bool) -> tuple[Tensor, Tensor]:
    """Where the predictions with a label are, and their labels, worked out one by one."""
    flat, targets = [], []
    for row, values in enumerate(labels.tolist()):
        for column in range(LENGTH - shifted):
            label = values[column + shifted]
            if label != -100:
                flat.append(row * LENGTH + column)
                targets.append(label)
    return torch.tensor(flat), torch.tensor(targets)


def positions_of(labels: Tensor, shifted: bool) -> ScoredPositions:
    """With the flat positions and targets by hand."""
    positions = scored_positions(labels)
    flat, targets = by_hand(labels, shifted)
    return replace(positions, flat=flat, targets=targets)


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    return outputs, {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def compare(name: str, batch: dict[str, Any], rows: int) -> None:
    """Dense and gathered loss and gradients; ``rows`` predictions pass the gathered head."""
    model = FAMILIES[name].build()
    shifted = name in CAUSAL
    dense, expected = loss_and_gradients(model, batch)
    head = LabelledHead.of(model)
    assert head is not None
    positions = positions_of(batch["labels"], shifted)
    labels = gathered_labels(positions, shifted)
    with head.gather(positions, shifted):
        sparse, found = loss_and_gradients(model, {**batch, "labels": labels})

    assert next(v for k, v in sparse.items() if k != "loss").shape == (1, rows, VOCABULARY)
    torch.testing.assert_close(sparse.loss, dense.loss, rtol=1e-6, atol=0)
    assert list(found) == list(expected)
    scale = max(gradient.norm() for gradient in expected.values())
    for parameter, gradient in expected.items():
        assert (found[parameter] - gradient).norm() <= 1e-6 * scale, parameter


@pytest.mark.parametrize("name", MASKED)
def test_masked_models_train_alike(name: str) -> None:
    batch = FAMILIES[name].batch(labels=token_labels((3, 0, 1, 5)))
    if name == "bert-pretraining":
        batch["next_sentence_label"] = torch.tensor([0, 1, 1, 0])
    compare(name, batch, rows=9)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_train_alike(name: str, first: bool) -> None:
    """Nine labels, of which position 0 of three rows is no target; one prediction is added."""
    batch = FAMILIES[name].batch(labels=token_labels((3, 0, 1, 5), first))
    compare(name, batch, rows=(9 - 3 if first else 9) + 1)


@pytest.mark.parametrize("name", sorted(COUNTS_THEIR_LABELS))
def test_models_that_divide_by_a_count_train_alike(name: str) -> None:
    batch = FAMILIES[name].batch(labels=token_labels((3, 0, 1, 5), name in CAUSAL))
    model = FAMILIES[name].build()
    labelled = len(by_hand(batch["labels"], name in CAUSAL)[0])
    mean = model(**batch).loss
    counted = model(**batch, num_items_in_batch=torch.tensor(40)).loss
    torch.testing.assert_close(counted, mean * labelled / 40)  # the count is read at all
    compare(name, {**batch, "num_items_in_batch": torch.tensor(40)}, labelled + (name in CAUSAL))


def test_one_labelled_position_is_enough() -> None:
    compare("gpt2", FAMILIES["gpt2"].batch(labels=token_labels((0, 1, 0, 0))), rows=2)
    compare("bert-mlm", FAMILIES["bert-mlm"].batch(labels=token_labels((0, 1, 0, 0))), rows=1)


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
@torch.no_grad()
def test_without_positions_the_head_is_dense(name: str) -> None:
    family = FAMILIES[name]
    model, batch = family.build(), family.batch()
    key = "prediction_logits" if name == "bert-pretraining" else "logits"
    before = model(**batch)[key]
    head = LabelledHead.of(model)
    assert head is not None
    assert torch.equal(model(**batch)[key], before)
    with head.at(None):
        assert torch.equal(model(**batch)[key], before)
    picked = torch.tensor([3, 17, 40])
    with head.at(picked), head.at(picked[:1]):
        assert model(**batch)[key].shape == (1, 1, VOCABULARY)
    with head.at(picked):
        with head.at(picked[:1]):
            pass
        found = model(**batch)[key]
    torch.testing.assert_close(found[0], before.flatten(0, 1)[picked], rtol=1e-5, atol=1e-5)
    with pytest.raises(KeyboardInterrupt), head.at(picked):
        raise KeyboardInterrupt
    assert torch.equal(model(**batch)[key], before)


class Bare(nn.Module):
    """Not a Transformers model, though it holds one and has its configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = FAMILIES["bert-mlm"].build().bert
        self.config = self.bert.config


class Configured(PlainNet):
    """Uses names that Transformers uses, in its own sense."""

    config = {"num_layers": 3}  # noqa: RUF012

    def get_output_embeddings(self) -> nn.Module:
        return self.out


def _encoder_decoder() -> nn.Module:
    config = FAMILIES["bert-mlm"].build().config
    return hf.EncoderDecoderModel(
        hf.EncoderDecoderConfig.from_encoder_decoder_configs(config, config)
    )


@pytest.mark.parametrize(
    "build",
    [
        *(FAMILIES[name].build for name in ("t5", "bart", "bert-sequence", "bert-token", "vit")),
        _encoder_decoder,
        PlainNet,
        Configured,
        Bare,
    ],
)
def test_no_labelled_head_where_labels_are_inputs_or_there_is_no_vocabulary(build: Any) -> None:
    assert LabelledHead.of(build()) is None


def test_the_output_embeddings_are_the_projection_to_the_vocabulary() -> None:
    for name in (*MASKED, *CAUSAL):
        module = output_embeddings_of(FAMILIES[name].build())
        assert isinstance(module, nn.Linear)
        assert module.weight.shape == (VOCABULARY, 16 if name == "electra" else WIDTH)


def test_labels_as_the_model_will_read_them() -> None:
    """Predictions 1 and 5 with labels 7 and 8. A shifting loss pairs prediction i with label i + 1
    and drops the last prediction, so an ignored label goes in front and prediction 5 twice."""
    labels = torch.full((2, 4), -100)
    labels[0, 1], labels[1, 1] = 7, 8
    head = LabelledHead.of(FAMILIES["gpt2"].build())
    assert head is not None
    for batch, shifted, flat, found in (
        (labels, False, [1, 5], [7, 8]),
        (labels, True, [1, 5, 5], [-100, 7, 8]),
        (torch.full((2, 4), -100), False, [], []),
        (torch.full((2, 4), -100), True, [], []),
    ):
        positions = scored_positions(batch)
        assert gathered_labels(positions, shifted).tolist() == [found]
        with head.gather(positions, shifted):
            assert head.positions is not None
            assert head.positions.tolist() == flat
