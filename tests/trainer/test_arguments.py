"""The sift fields: their defaults, what they refuse, and mixing them into other arguments."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from sift_trainer import SiftArguments, SiftTrainingArguments
from sift_trainer.arguments import sift_arguments, sift_settings, wants_masked_only_head
from tests.training import quick

NAN, INFINITY = float("nan"), float("inf")

DEFAULTS = {
    "sift_criterion": "predicted_loss",
    "sift_exit_layer": 1,
    "sift_keep_ratio": 0.5,
    "sift_selector": "mixed",
    "sift_beta": 1.0,
    "sift_skip_top": 0.0,
    "sift_random_share": 0.5,
    "sift_warmup_steps": 0.25,
    "sift_cooldown_steps": 0.1,
    "sift_interval": 1,
    "sift_token_fraction": 1.0,
    "sift_image_scale": 1.0,
    "sift_reference_column": None,
    "sift_audit_steps": 0,
    "sift_held_out": None,
    "sift_gate": "lift",
    "sift_masked_only_head": None,
}

REFUSED = [
    *[("sift_keep_ratio", value, "(0, 1]") for value in (0, 1.5, NAN)],
    *[("sift_token_fraction", value, "(0, 1]") for value in (0, 1.1)],
    *[("sift_random_share", value, "(0, 1)") for value in (1, 0, -0.1)],
    *[("sift_exit_layer", value, "1 or more, or -1") for value in (0, -2)],
    *[("sift_exit_layer", value, "whole number") for value in (1.5, "1", True)],
    *[("sift_interval", value, "leaves no step") for value in (0, -1)],
    *[("sift_image_scale", value, "(0, 1]") for value in (0, 1.1)],
    ("sift_held_out", "eval", "['candidates', 'evaluation']"),
    ("sift_gate", "loss", "['lift', 'descent']"),
    ("sift_gate", "descent", "sift_audit_steps=100"),
    ("sift_audit_steps", -1, "0 (never) or more, such as 500"),
    *[("sift_warmup_steps", value, "or a share") for value in (-1, 2.5, INFINITY)],
    *[("sift_cooldown_steps", value, "or a share") for value in (-0.1, NAN)],
    *[("sift_skip_top", value, "[0, 0.5], such as 0.25") for value in (0.51, -0.1)],
    *[("sift_beta", value, "[0, 1e+06], such as 1.0") for value in (-1, 1e7)],
    *[("sift_keep_ratio", value, "must be a number") for value in ("0.5", True)],
    ("sift_criterion", ["loss"], "'loss'"),
    ("sift_criterion", "margin", "choose one of"),
    (
        "sift_selector",
        "top",
        "choose one of",
    ),
    ("sift_masked_only_head", "false", "True or False, or None"),  # any text would be true
]


def test_defaults() -> None:
    """The reasons are in docs/method.md."""
    assert asdict(SiftArguments()) == DEFAULTS


@pytest.mark.parametrize(("name", "value", "accepted"), REFUSED)
def test_values_out_of_range_are_refused(name: str, value: Any, accepted: str) -> None:
    with pytest.raises(ValueError, match=name) as raised:
        SiftArguments(**{name: value})
    assert f"{name}={value!r}" in str(raised.value)
    assert accepted in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sift_keep_ratio", 1),
        ("sift_keep_ratio", np.float32(0.25)),
        ("sift_exit_layer", -1),
        ("sift_exit_layer", np.int64(2)),
        ("sift_warmup_steps", 3.0),
        ("sift_warmup_steps", 0.899),
        ("sift_token_fraction", 1),
        ("sift_skip_top", 0.5),
        ("sift_beta", 0),
        ("sift_beta", Fraction(1, 2)),
        ("sift_selector", "percentile"),
    ],
)
def test_ends_of_ranges_are_accepted_and_numbers_become_pythons(name: str, value: Any) -> None:
    kept = getattr(SiftArguments(**{name: value}), name)
    assert kept == value
    assert type(kept) is type(DEFAULTS[name])


def test_what_is_skipped_may_be_all_that_is_not_kept() -> None:
    """However 1 - ratio comes out in floating point."""
    for ratio in (percent / 100 for percent in range(1, 100)):
        for share in (round(1 - ratio, 2), 1 - ratio):
            SiftArguments(sift_keep_ratio=ratio, sift_skip_top=share)
        with pytest.raises(ValueError, match=r"sift_skip_top=.* with sift_keep_ratio="):
            SiftArguments(sift_keep_ratio=ratio, sift_skip_top=1.01 - ratio)
    SiftArguments(sift_keep_ratio=1.0, sift_skip_top=0.2)  # settings shared with other runs


def test_shares_that_leave_no_step_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sift_warmup_steps=0\.5 and sift_cooldown_steps=0\.5"):
        SiftArguments(sift_warmup_steps=0.5, sift_cooldown_steps=0.5)
    # Of steps and a share together only the run's length can tell.
    SiftArguments(sift_warmup_steps=5, sift_cooldown_steps=0.5)


def test_mixed_into_other_arguments_both_validate(tmp_path: Path) -> None:
    @dataclass
    class Mine(SiftArguments, Seq2SeqTrainingArguments):
        extra: int = 3

    mine = Mine(**quick(tmp_path), sift_keep_ratio=0.25, predict_with_generate=True)
    assert (mine.sift_keep_ratio, mine.predict_with_generate, mine.extra) == (0.25, True, 3)
    assert mine.device.type == "cpu"  # set up by the __post_init__ of TrainingArguments
    with pytest.raises(ValueError, match="sift_keep_ratio=2"):
        Mine(**quick(tmp_path), sift_keep_ratio=2)
    with pytest.raises(ValueError, match=r"save_strategy|SaveStrategy"):
        Mine(**quick(tmp_path, save_strategy="never"))


def test_settings_are_the_sift_fields_with_defaults_for_plain_arguments(tmp_path: Path) -> None:
    plain = TrainingArguments(**quick(tmp_path))
    assert sift_arguments(plain) == SiftArguments()
    assert sift_settings(plain) == DEFAULTS
    args = SiftTrainingArguments(**quick(tmp_path), sift_exit_layer=2)
    assert sift_arguments(args) is args
    assert sift_settings(args) == {**DEFAULTS, "sift_exit_layer": 2}


@pytest.mark.parametrize(
    ("ratio", "given", "wanted"),
    [(0.5, None, True), (1.0, None, False), (1.0, True, True), (0.5, False, False)],
)
def test_masked_only_head_is_off_for_the_stock_trainer(
    ratio: float, given: bool | None, wanted: bool
) -> None:
    args = SiftArguments(sift_keep_ratio=ratio, sift_masked_only_head=given)
    assert wants_masked_only_head(args) is wanted
