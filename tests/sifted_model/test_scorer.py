"""One scoring pass: what it computes, what it refuses, and that it leaves no trace."""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sift_trainer import register_exit
from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.early_exit.registry import _REGISTERED
from sift_trainer.scoring.class_ids import ClassIds
from sift_trainer.scoring.criteria import CRITERIA, UNLABELLED
from sift_trainer.sifted_model.facts import ModelFacts
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer
from tests.tiny import BATCH, FAMILIES, LENGTH, WIDTH, PlainNet, text, token_labels


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    before = [(registry, dict(registry)) for registry in (_REGISTERED, CRITERIA)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)  # type: ignore[arg-type]


def scorer_of(model: Any, gathered: bool = False, shifted: bool = False, **settings: Any) -> Scorer:
    settings = {"criterion": "loss", "exit_layer": -1, **settings}
    sift = SiftArguments(**{f"sift_{name}": value for name, value in settings.items()})
    head = LabelledHead.of(model) if gathered else None
    return Scorer(model, ModelFacts(ClassIds(shifted=shifted), head=head), sift)


def score(model: Any, batch: dict[str, Any], seed: int = 11, **settings: Any) -> Tensor:
    scorer = scorer_of(model, **settings)
    with inference(model):
        return scorer(model, batch, torch.Generator().manual_seed(seed))


def nll(logits: list[float], target: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[target]


def entropy(logits: list[float], target: int = 0) -> float:
    top = max(logits)
    total = sum(math.exp(z - top) for z in logits)
    shares = [math.exp(z - top) / total for z in logits]
    return -sum(share * math.log(share) for share in shares)


@torch.no_grad()
def by_hand(model: Any, batch: dict[str, Any], labels: Tensor, value: Any, shift: int) -> Tensor:
    """The mean of the values of each row's labelled predictions."""
    logits, scores = model(**batch).logits.tolist(), []
    for row, targets in zip(logits, labels.tolist(), strict=True):
        pairs = zip(row[: LENGTH - shift], targets[shift:], strict=False)
        values = [value(z, target) for z, target in pairs if target != -100]
        scores.append(sum(values) / len(values) if values else UNLABELLED)
    return torch.tensor(scores)


# ---- what it computes ----


@pytest.mark.parametrize("name", ["gpt2", "bert-mlm", "modernbert"])
def test_a_prediction_is_scored_by_its_label_or_by_the_next(name: str) -> None:
    """A causal model's prediction belongs to the next label; position 0 has one too. All families
    and exits are in tests/test_matrix.py."""
    model, inputs, shift = FAMILIES[name].build(), FAMILIES[name].batch(), int(name == "gpt2")
    labels = token_labels((3, 0, 1, 5), first=bool(shift))
    for criterion, value in (("loss", nll), ("entropy", entropy)):
        expected = by_hand(model, inputs, labels, value, shift)
        for gathered in (False, True):
            settings = {"criterion": criterion, "gathered": gathered, "shifted": bool(shift)}
            batch = {**inputs, "labels": labels}
            before = {field: tensor.clone() for field, tensor in batch.items()}
            found = score(model, batch, **settings)
            assert found.dtype is torch.float32
            assert not found.requires_grad
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            assert all(torch.equal(batch[field], before[field]) for field in batch)


@pytest.mark.parametrize("gathered", [False, True])
def test_no_label_at_all(gathered: bool) -> None:
    for name in ("bert-mlm", "distilbert", "gpt2"):
        batch = FAMILIES[name].batch(labels=token_labels((0, 0, 0, 0)))
        found = score(FAMILIES[name].build(), batch, gathered=gathered)
        assert found.tolist() == [UNLABELLED] * BATCH, name


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("name", ["bert-mlm", "gpt2"])
def test_entropy_without_labels_is_over_all_that_is_not_padding(name: str, padded: bool) -> None:
    model, inputs = FAMILIES[name].build(), text(padded)
    labels = torch.zeros(BATCH, LENGTH, dtype=torch.long)
    if padded:
        labels = labels.masked_fill(inputs["attention_mask"] == 0, -100)
    found = score(model, inputs, criterion="entropy", gathered=True)
    expected = by_hand(model, inputs, labels, entropy, 0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("gathered", [False, True])
@torch.no_grad()
def test_a_token_fraction_scores_by_some_of_the_positions(labelled: bool, gathered: bool) -> None:
    """Row 3 has five labels, of which round(0.4 * 5) = 2 are scored: one of ten pairs."""
    model, batch = FAMILIES["bert-mlm"].build(), FAMILIES["bert-mlm"].batch()
    logits = model(**batch).logits[3].tolist()
    places, fraction = list(range(LENGTH - 3)), 2 / 9
    if labelled:
        batch["labels"], fraction = token_labels((3, 0, 1, 5)), 0.4
        places = [t for t in range(LENGTH) if batch["labels"][3, t] != -100]
    values = [entropy(logits[t]) for t in places]
    pairs = [(a + b) / 2 for i, a in enumerate(values) for b in values[:i]]
    settings = {"criterion": "entropy", "token_fraction": fraction, "gathered": gathered}
    found = {float(score(model, batch, seed, **settings)[3]) for seed in range(6)}
    assert len(found) > 1
    assert all(min(abs(value - pair) for pair in pairs) < 1e-5 for value in found)


def test_the_random_control_does_not_call_the_model() -> None:
    def forward(**_: Any) -> None:
        raise AssertionError("the model was called")

    scorer = scorer_of(PlainNet(), criterion="random")  # needs no early exit either
    batch = {"temperature": torch.tensor(1.0), **text()}
    scores = [scorer(forward, batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert scores[0].shape == (BATCH,)
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


# ---- which labels the model gets ----


class Learning(nn.Module):
    """Cannot be called without labels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = PlainNet()

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(input_ids)["logits"]
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits


@torch.no_grad()
def test_labels_are_given_to_a_model_that_requires_them() -> None:
    model, labels = Learning(), token_labels((3, 2, 1, 5))
    ids = text()["input_ids"]
    losses = [model(ids[row : row + 1], labels[row : row + 1])[0] for row in range(BATCH)]
    found = score(model, {"input_ids": ids, "labels": labels})
    torch.testing.assert_close(found, torch.stack(losses))


# ---- what it refuses ----


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (torch.rand(BATCH), r"labels are torch.float32.*sift_criterion='random'"),
        (token_labels(), r"do not fit logits of shape \(4, 5\)"),
        (torch.zeros(BATCH, 3, dtype=torch.long), r"do not fit logits of shape \(4, 5\)"),
        (None, r"needs 'labels' .*\['attention_mask', 'input_ids'\].*'entropy'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor | None, match: str) -> None:
    family = FAMILIES["bert-sequence"]
    batch = family.batch() if labels is None else family.batch(labels=labels)
    with pytest.raises(ValueError, match=match):
        score(family.build(), batch)


# ---- no trace ----


class Restless(PlainNet):
    """Draws random numbers in every mode, has BatchNorm and dropout, and can break."""

    breaks = False

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        self.modes.append(torch.is_grad_enabled() or any(m.training for m in self.modules()))
        drawn = torch.randn(1) + random.random() + np.random.rand()
        hidden = self.frozen(self.dropout(self.embedding(input_ids) + 0.1 * drawn))
        hidden = self.norm(hidden.transpose(1, 2)).transpose(1, 2)
        for block in self.trunk.blocks:
            hidden = block(hidden)
        if self.breaks:
            raise KeyboardInterrupt
        return {"logits": self.out(hidden)}


@pytest.mark.parametrize("breaks", [False, True])
def test_scoring_leaves_no_trace(breaks: bool) -> None:
    """In modes, parameters, buffers, gradients and the random states."""
    register_exit(Restless, "trunk.blocks")
    model = Restless().train()
    model.frozen.eval()
    batch = {"input_ids": text()["input_ids"], "labels": token_labels((3, 2, 1, 5))}
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert "norm.running_mean" in state
    random_state, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    model.breaks = breaks
    if breaks:
        with pytest.raises(KeyboardInterrupt):
            score(model, batch, exit_layer=1)
    else:
        assert torch.isfinite(score(model, batch, exit_layer=1)).all()
    assert model.modes == [False]
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert random.getstate() == python
    following = np.random.rand()
    np.random.set_state(numpy)
    assert np.random.rand() == following
    assert torch.is_grad_enabled()
    assert len(model.trunk.blocks) == 3
    assert all(parameter.grad is None for parameter in model.parameters())
