"""Criteria in one pass over the logits: values, and how much is held meanwhile."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sift_trainer.scoring import logit_pass
from sift_trainer.scoring.criteria import cross_entropy, entropy
from sift_trainer.scoring.logit_pass import CHUNK, values_of

CLASSES = 30_000


def predictions(count: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(count)
    logits = torch.randn(count, CLASSES, generator=draw) * 3
    return logits, torch.randint(CLASSES, (count,), generator=draw)


def expected(criterion: Any, logits: Tensor, targets: Tensor) -> Tensor:
    """From torch's distributions, in fp64."""
    if not len(logits):
        return torch.zeros(0, dtype=torch.float64)
    distribution = torch.distributions.Categorical(logits=logits.double())
    if criterion is entropy:
        return distribution.entropy()
    return -distribution.log_prob(targets)


@pytest.mark.parametrize("criterion", [cross_entropy, entropy])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 23])  # four rows are a part
def test_values(criterion: Any, count: int) -> None:
    logits, targets = predictions(count)
    found = values_of(criterion, logits, targets)
    torch.testing.assert_close(
        found.double(), expected(criterion, logits, targets), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("criterion", [cross_entropy, entropy])
def test_of_some_rows(criterion: Any) -> None:
    logits, _ = predictions(7)
    rows = torch.tensor([6, 0, 0, 3, 5])
    targets = torch.tensor([1, 2, 3, 4, 5])
    found = values_of(criterion, logits, targets, rows)
    torch.testing.assert_close(
        found.double(), expected(criterion, logits[rows], targets), rtol=1e-5, atol=1e-5
    )


def test_entropy_of_what_is_certain_impossible_and_no_number() -> None:
    """0 for certainty, log 2 for two classes left, NaN for NaN."""
    logits = torch.zeros(3, 8)
    logits[0, 3] = 500.0
    logits[1] = -torch.inf
    logits[1, 2:4] = 7.0
    logits[2, 1] = torch.nan
    certain, halves, unknown = entropy(logits, torch.zeros(3, dtype=torch.long))
    assert certain == 0
    assert halves == pytest.approx(torch.tensor(2.0).log().item())
    assert unknown.isnan()


class Largest(TorchDispatchMode):
    """The most elements that an operation's result has."""

    elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not result._is_view():
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("rows", [None, torch.arange(64)])
@pytest.mark.parametrize("criterion", [cross_entropy, entropy])
def test_no_second_tensor_of_the_size_of_the_logits(criterion: Any, rows: Tensor | None) -> None:
    logits, targets = predictions(64)
    with Largest() as whole:
        criterion(logits, targets)
    with Largest() as parts:
        values_of(criterion, logits, targets, rows)
    assert whole.elements == 64 * CLASSES
    assert parts.elements <= CHUNK


@pytest.mark.parametrize("criterion", [cross_entropy, entropy])
def test_compiled_as_on_a_gpu(criterion: Any) -> None:
    logits, targets = predictions(9)
    torch.compiler.reset()
    with torch.no_grad():
        found = logit_pass._compiled(criterion)(logits, targets, torch.arange(9))
    torch.testing.assert_close(
        found.double(), expected(criterion, logits, targets), rtol=1e-5, atol=1e-5
    )


class OnGpu:
    """Logits that say they are on a GPU, which is what decides."""

    device = torch.device("cuda")

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.shape = logits.shape

    def __getitem__(self, index: Any) -> Tensor:
        return self.logits[index]


def test_a_criterion_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, once, and computed in parts."""

    def fails(criterion: Any) -> Any:
        def values(*_: Any) -> Tensor:
            raise RuntimeError("no C compiler")

        return values

    said: list[str] = []
    monkeypatch.setattr(logit_pass, "_has_triton", lambda: True)
    monkeypatch.setattr(logit_pass, "_compiled", fails)
    monkeypatch.setattr(logit_pass, "_UNCOMPILED", set())
    monkeypatch.setattr(logit_pass.logger, "warning", said.append)
    logits, targets = predictions(5)
    for _ in range(2):
        found = values_of(entropy, OnGpu(logits), targets, torch.arange(5))  # type: ignore[arg-type]
        torch.testing.assert_close(
            found.double(), expected(entropy, logits, targets), rtol=1e-5, atol=1e-5
        )
    assert said == ["a criterion is not compiled: RuntimeError: no C compiler"]
