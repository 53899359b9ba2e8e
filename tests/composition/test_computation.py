"""Under checkpointing and half precision, kept rows and gradient are those of a plain loop.

tests/test_compatibility.py compares a compiled run with an eager one."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.composition.replay import STEPS, Noting, by_hand, trained
from tests.invariants.scale_runs import build

CHECKPOINTED = {"gradient_checkpointing": True}
REENTRANT = {**CHECKPOINTED, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
bfloat16 = partial(torch.autocast, "cpu", torch.bfloat16)
float16 = partial(torch.autocast, "cpu", torch.float16)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bert_masked_lm", CHECKPOINTED),
        ("llama", REENTRANT),
    ],
    ids=str,
)
def test_in_float32(settings: dict[str, Any], name: str, tmp_path: Path) -> None:
    trainer = trained(name, build(name), tmp_path, **settings)
    by_hand(name, build(name), trainer.steps)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bert_masked_lm", CHECKPOINTED),
        ("llama", {}),
    ],
    ids=str,
)
def test_in_bfloat16(settings: dict[str, Any], name: str, tmp_path: Path) -> None:
    trainer = trained(name, build(name), tmp_path, bf16=True, **settings)
    by_hand(name, build(name), trainer.steps, bfloat16, tolerance=0.01, rounding=0.02)
    with pytest.raises(AssertionError):  # it is half precision
        by_hand(name, build(name), trainer.steps)


class HalfOnCPU(Noting):
    """float16 with a gradient scaler on the CPU, where Accelerate leaves both out."""

    scale = 2.0**10

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.native_amp = True
        self.accelerator.scaler = torch.amp.GradScaler(
            "cpu", init_scale=self.scale, backoff_factor=2.0**-20
        )


class Overflowing(HalfOnCPU):
    """Its first gradient is too large for float16, its second is not."""

    scale = 2.0**30


def test_in_float16_with_a_scaler(tmp_path: Path) -> None:
    name = "llama"
    trainer = trained(name, build(name), tmp_path, HalfOnCPU, fp16=True)
    assert trainer.accelerator.scaler.get_scale() == HalfOnCPU.scale
    by_hand(name, build(name), trainer.steps, float16, tolerance=0.003, rounding=0.003)
    with pytest.raises(AssertionError):
        by_hand(name, build(name), trainer.steps)


def test_a_step_that_the_scaler_skips(tmp_path: Path) -> None:
    """The next step sifts other rows with the same weights."""
    name = "bert_masked_lm"
    trainer = trained(name, build(name), tmp_path, Overflowing, fp16=True)
    finite = [
        all(bool(gradient.isfinite().all()) for gradient in step.gradients.values())
        for step in trainer.steps
    ]
    assert finite == [False, True, True]
    by_hand(name, build(name), trainer.steps, float16, tolerance=0.003, rounding=0.003)
    assert trainer.state.log_history[-1]["sift/backprop_samples"] == STEPS * 4
