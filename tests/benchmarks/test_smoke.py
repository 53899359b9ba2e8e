"""Every benchmark at its smallest size: it runs and writes what its page reads. No time is
asserted."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import label_noise
import pytest
import resnet_step
import step_time
import torch
from bert_steps import MaskedText, bert_parser, build, counted, resolve, stepper
from measured_steps import Arm, measure

from sift_trainer.reproduction.bert.flops import BertShape, forward_backward, scoring

SIZE = ["--layers", "2", "--hidden", "64", "--vocabulary", "500", "--length", "20"]
SIZE += ["--batch_size", "2", "--device", "cpu", "--rounds", "1", "--warmup", "0"]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Calls a benchmark and returns the JSON that it wrote."""

    def written(main: Callable[[list[str]], Any], *argv: str) -> dict[str, Any]:
        output = tmp_path / "found" / "result.json"
        main([*argv, "--output", str(output)])
        result: dict[str, Any] = json.loads(output.read_text())
        assert result["machine"]["versions"]["torch"]
        return result

    return written


def positive(row: dict[str, Any], *names: str) -> bool:
    return all(math.isfinite(row[name]) and row[name] > 0 for name in names)


# ---- steps ----


def options_of(*more: str) -> Any:
    return resolve(bert_parser("", "none.json").parse_args([*SIZE, *more]))


def test_step_time(run: Run) -> None:
    result = run(step_time.main, *SIZE, "--exits", "1", "2", "--no_memory")
    assert len(result["arms"]) == 3 + 6 + 4
    assert result["arms"][0]["ratio_to_stock"] == 1
    for row in result["arms"]:
        assert positive(row, "step_seconds", "processor_ratio_to_stock", "ratio_to_vanilla")
        sifts = "sifting by" in row["name"]
        assert ("overhead" in row) == ("counted_overhead" in row) == sifts


def test_resnet_step(run: Run) -> None:
    size = ["--depths", "1", "1", "1", "--widths", "8", "8", "8", "--image_size", "16"]
    size += ["--stem", "cifar", "--batch_size", "2", "--rounds", "1", "--warmup", "0"]
    _, early, last = run(resnet_step.main, *size, "--channels_last")["arms"]
    assert positive(early, "step_seconds", "overhead")
    assert early["counted_overhead"] < last["counted_overhead"]


def test_ratios_are_within_a_round_and_a_failing_arm_is_recorded() -> None:
    """Ratios 3, 1 and 2 of the same rounds: their median is 2, not that of the seconds."""
    seconds = {"stock": [1.0, 6.0, 2.0], "ours": [3.0, 6.0, 4.0], "fails": [1.0]}

    class Turns:
        def __init__(self, arm: Arm) -> None:
            self.told = iter(seconds[arm.name])

        def turn(self, steps: int) -> dict[str, float]:
            return {"step": next(self.told)}

    options = options_of("--rounds", "3")
    arms = [Arm(name, None) for name in seconds]
    _, ours, fails = measure(arms, Turns, lambda arm: {"ratio": "stock"}, options)
    assert (ours["step_seconds"], ours["step_seconds_range"]) == (4.0, [3.0, 6.0])
    assert (ours["ratio"], ours["ratio_range"]) == (2.0, [1.0, 3.0])
    assert fails["error"] == "StopIteration: "


def test_arms_train_the_same_weights_and_rows_have_as_many_labels() -> None:
    options = options_of()
    model, optimizer = build(options)
    weight = model.bert.pooler.dense.weight
    for settings in (None, {"sift_warmup_steps": 0, "sift_cooldown_steps": 0}):
        taking = stepper(Arm("arm", settings), model, optimizer, options)
        before = weight.detach().clone()
        taking.turn(1)
        assert not torch.equal(weight, before)
        assert taking.trainer.model.bert.pooler.dense.weight is weight
        assert taking.trainer.model is not model
    assert set((MaskedText(options).labels != -100).sum(1).tolist()) == {3}  # 15% of 20


def test_counted_shares() -> None:
    """A quarter is kept, so four candidates are scored for each row that is trained on."""
    shape = BertShape(64, 256, 2, 500, 20, 3 / 20)
    found = counted(Arm("", {"sift_keep_ratio": 0.25, "sift_token_fraction": 0.5}), options_of())
    trained, scored = (
        forward_backward(shape, "labelled_block"),
        scoring(shape, 1, token_fraction=0.5),
    )
    assert found["counted_overhead"] == pytest.approx(4 * scored / trained)
    assert counted(Arm("", None), options_of()) == {"counted_ratio_to_stock": 1}


# ---- data and wrong labels ----


def test_label_noise(run: Run) -> None:
    results = run(label_noise.main, "--rows", "128", "--steps", "4", "--seeds", "1")["results"]
    assert len(results) == 2 * len(label_noise.METHODS)


def test_exact_losses_find_wrong_labels_and_the_top_has_most_of_them() -> None:
    """A fifth of the labels is wrong."""
    greedy, robust = (
        label_noise.train(label_noise.METHODS[name], 0.2, seed=0, rows=1024, steps=120)
        for name in ("Ordered SGD", "Ordered SGD, skip 0.2")
    )
    assert greedy["flipped_kept"] > 0.25
    assert robust["flipped_kept"] < 0.15
