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
BOTH = pytest.mark.parametrize("criterion", [cross_entropy, entropy])


def predictions(count: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(count)
    logits = torch.randn(count, CLASSES, generator=draw) * 3
    return logits, torch.randint(CLASSES, (count,), generator=draw)


def assert_values(found: Tensor, criterion: Any, logits: Tensor, targets: Tensor) -> None:
    """Against torch's distributions, in fp64."""
    expected = torch.zeros(0, dtype=torch.float64)
    if len(logits):
        distribution = torch.distributions.Categorical(logits=logits.double())
        by_loss = criterion is cross_entropy
        expected = -distribution.log_prob(targets) if by_loss else distribution.entropy()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("count", [0, 1, 4, 5, 23])  # four rows are a part
def test_values(criterion: Any, count: int) -> None:
    logits, targets = predictions(count)
    assert_values(values_of(criterion, logits, targets), criterion, logits, targets)


@BOTH
def test_values_of_some_rows(criterion: Any) -> None:
    logits, _ = predictions(7)
    rows, targets = torch.tensor([6, 0, 0, 3, 5]), torch.tensor([1, 2, 3, 4, 5])
    found = values_of(criterion, logits, targets, rows)
    assert_values(found, criterion, logits[rows], targets)


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
@BOTH
def test_no_second_tensor_of_the_size_of_the_logits(criterion: Any, rows: Tensor | None) -> None:
    logits, targets = predictions(64)
    with Largest() as whole:
        criterion(logits, targets)
    with Largest() as parts:
        values_of(criterion, logits, targets, rows)
    assert whole.elements == 64 * CLASSES
    assert parts.elements <= CHUNK


@BOTH
def test_compiled_as_on_a_gpu(criterion: Any) -> None:
    logits, targets = predictions(9)
    torch.compiler.reset()
    with torch.no_grad():
        found = logit_pass._compiled(criterion)(logits, targets, torch.arange(9))
    assert_values(found, criterion, logits, targets)


class OnGpu:
    """Logits that say they are on a GPU, which is what decides."""

    device = torch.device("cuda")

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.shape = logits.shape

    def __getitem__(self, index: Any) -> Tensor:
        return self.logits[index]


def test_a_criterion_that_does_not_compile_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(criterion: Any) -> Any:
        def values(*_: Any) -> Tensor:
            raise RuntimeError("no C compiler")

        return values

    warnings: list[str] = []
    monkeypatch.setattr(logit_pass, "_has_triton", lambda: True)
    monkeypatch.setattr(logit_pass, "_compiled", fails)
    monkeypatch.setattr(logit_pass, "_UNCOMPILED", set())
    monkeypatch.setattr(logit_pass.logger, "warning", warnings.append)
    logits, targets = predictions(5)
    for _ in range(2):
        found = values_of(entropy, OnGpu(logits), targets, torch.arange(5))  # type: ignore[arg-type]
        assert_values(found, entropy, logits, targets)
    (warning,) = warnings
    assert "RuntimeError: no C compiler" in warning
