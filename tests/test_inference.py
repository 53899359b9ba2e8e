"""A scoring pass leaves no trace in the model or in the random state."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit.registry import _REGISTERED, register_exit
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer
from tests.tiny import WIDTH, PlainNet, text, token_labels


def score(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    scorer = Scorer(model, SiftArguments(sift_exit_layer=1), ["labels"], None)
    with inference(model):
        return scorer(model, batch, torch.Generator())


class Restless(PlainNet):
    """Draws random numbers whatever its mode, has BatchNorm and dropout, and can break."""

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
        hidden = self.embedding(input_ids) + 0.1 * drawn
        hidden = self.frozen(self.dropout(hidden))
        hidden = self.norm(hidden.transpose(1, 2)).transpose(1, 2)
        for block in self.trunk.blocks:
            hidden = block(hidden)
        if self.breaks:
            raise KeyboardInterrupt
        return {"logits": self.out(hidden)}


@pytest.fixture
def restless() -> Iterator[Restless]:
    before = dict(_REGISTERED)
    register_exit(Restless, "trunk.blocks")
    model = Restless()
    model.train()
    model.frozen.eval()
    yield model
    _REGISTERED.clear()
    _REGISTERED.update(before)


@pytest.mark.parametrize("breaks", [False, True])
def test_scoring_leaves_no_trace(restless: Restless, breaks: bool) -> None:
    model = restless
    batch = {"input_ids": text()["input_ids"], "labels": token_labels((3, 2, 1, 5))}
    modes = {name: module.training for name, module in model.named_modules()}
    assert modes["dropout"]
    assert not modes["frozen"]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert "norm.running_mean" in state
    random_state = torch.get_rng_state()
    python, numpy = random.getstate(), np.random.get_state()
    model.breaks = breaks
    if breaks:
        with pytest.raises(KeyboardInterrupt):
            score(model, batch)
    else:
        assert torch.isfinite(score(model, batch)).all()
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
