"""What the benchmarks of a step share: arms that fail, medians, copies of a model, masked rows."""

import statistics
import time

import pytest
import torch
from bert_steps import MaskedText, bert_parser, build, counted, resolve, shape, stepper
from measured_steps import Arm, shell, summary, take_turns

from sift_trainer.reproduction.bert.flops import forward_backward, scoring

TINY = ["--layers", "2", "--hidden", "64", "--vocabulary", "500", "--length", "20"]
TINY += ["--batch_size", "2", "--device", "cpu"]


def options(*more: str):
    return resolve(bert_parser("", "none.json").parse_args([*TINY, *more]))


def turn_of(seconds):
    remaining = iter(seconds)
    return lambda: {"step": next(remaining)}


def broken():
    raise RuntimeError("no compiler")


def test_medians_of_ratios_within_a_round():
    """Ratios 3, 1, 2 of the same rounds: their median is 2, not 6 / 2."""
    starts = {
        "stock": lambda: turn_of([9.0, 1.0, 6.0, 2.0]),
        "ours": lambda: turn_of([9.0, 3.0, 6.0, 4.0]),
    }
    turns = take_turns(starts, rounds=3, warmup=1)
    row = summary(Arm("ours", {}), turns, {"ratio": "stock"})
    assert (row["step_seconds"], row["step_seconds_range"]) == (4.0, [3.0, 6.0])
    assert (row["ratio"], row["ratio_range"]) == (2.0, [1.0, 3.0])


def test_every_second_round_goes_the_other_way():
    order = []
    starts = {name: lambda name=name: lambda: order.append(name) or {"step": 1.0} for name in "abc"}
    take_turns(starts, rounds=3, warmup=0)
    assert "".join(order) == "abccbaabc"


@pytest.mark.parametrize("when", ["set up", "warm-up", "second round"])
def test_an_arm_that_fails_is_recorded_and_the_others_go_on(when):
    failing = {
        "set up": broken,
        "warm-up": lambda: broken,
        "second round": lambda: turn_of([1.0, 1.0]),  # and then StopIteration
    }
    starts = {"fails": failing[when], "works": lambda: turn_of([1.0] * 9)}
    turns = take_turns(starts, rounds=3, warmup=1)
    assert [set(numbers) for numbers in turns.rounds] == [{"works"}] * 3
    row = summary(Arm("fails", None, compiled=True), turns, {"ratio": "works"})
    error = "StopIteration: " if when == "second round" else "RuntimeError: no compiler"
    assert row == {"name": "fails", "settings": None, "compiled": True, "error": error}


def test_nothing_begins_after_the_deadline_but_the_first_round():
    late = time.monotonic() - 1
    turns = take_turns({"a": lambda: turn_of([1.0])}, rounds=2, deadline=late)
    assert turns.errors == {"a": "not started: the time was up"}
    slow = {"a": lambda: lambda: time.sleep(0.1) or {"step": 1.0}}
    turns = take_turns(slow, rounds=5, warmup=1, deadline=time.monotonic() + 0.05)
    assert len(turns.rounds) == 1


def test_arms_share_parameters_and_nothing_else():
    model, _ = build(options())
    copied = shell(model)
    assert [id(p) for p in copied.parameters()] == [id(p) for p in model.parameters()]
    assert not {id(m) for m in copied.modules()} & {id(m) for m in model.modules()}
    decoder = copied.cls.predictions.decoder
    assert decoder.weight is copied.bert.embeddings.word_embeddings.weight


def test_a_step_of_each_arm_trains_the_same_weights():
    """A stock step, then a sifted one, change what the other's model computes."""
    chosen = options()
    model, optimizer = build(chosen)
    weight = model.bert.pooler.dense.weight
    for arm in (
        Arm("stock", None),
        Arm("ours", {"sift_warmup_steps": 0, "sift_cooldown_steps": 0}),
    ):
        taking = stepper(arm, model, optimizer, chosen)
        before = weight.detach().clone()
        seconds = taking.turn(1)
        assert not torch.equal(weight, before)
        assert taking.trainer.model.bert.pooler.dense.weight is weight
    assert seconds["sampling"] > 0


@pytest.mark.parametrize("length", [20, 128, 512])
def test_rows_have_as_many_labels_as_the_collator_says(length):
    """15% of the length, rounded: 3, 19 and 77; independent draws differ from row to row."""
    chosen = options("--length", str(length))
    expected = {20: 3, 128: 19, 512: 77}[length]
    taking = stepper(Arm("stock", None), *build(chosen), chosen)
    assert taking.trainer.data_collator.labels_per_row == expected
    labels = taking.window()[0][0]["labels"]
    assert (labels != -100).sum(1).tolist() == [expected] * 2
    drawn = MaskedText(64, length, 500, None).labels
    assert statistics.pstdev((drawn != -100).sum(1).tolist()) > 0


def test_independent_draws_have_no_fixed_number():
    chosen = options("--independent_masks")
    collator = stepper(Arm("stock", None), *build(chosen), chosen).trainer.data_collator
    assert collator.labels_per_row is None
    assert shape(chosen).label_share == 0.15


def test_counted_shares_are_those_of_the_operations():
    chosen = options()
    of = shape(chosen)
    assert of.label_share == 3 / 20
    arm = Arm("", {"sift_keep_ratio": 0.25, "sift_token_fraction": 0.5})
    trained = forward_backward(of, "labelled_block")
    scored = 4 * scoring(of, 1, token_fraction=0.5)
    assert counted(arm, chosen) == pytest.approx(
        {
            "counted_overhead": scored / trained,
            "counted_ratio_to_stock": (scored + trained) / forward_backward(of),
        }
    )
    naive = Arm("", {"sift_masked_only_head": False})
    assert counted(naive, chosen)["counted_overhead"] == pytest.approx(
        2 * scoring(of, 1, "everywhere") / forward_backward(of)
    )
    assert counted(Arm("", None), chosen) == {"counted_ratio_to_stock": 1}
    assert counted(Arm("", {"sift_keep_ratio": 1.0}), chosen) == {"counted_ratio_to_stock": 1}
