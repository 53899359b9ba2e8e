"""Scripts in the shape of Transformers' examples, with one line swapped: they train, evaluate, save
and resume as real processes, without a network."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers

from sift_trainer.checkpoints.manifest import last_whole_checkpoint
from tests.swapped.calls import (
    ALL,
    DRAWN,
    EPOCHS,
    FIRST,
    KEPT,
    Call,
    fields,
    flags,
    original,
    run,
    swapped,
    with_sift_arguments,
)
from tests.swapped.inputs import make_data, make_models

MODELS = {
    "sentence_classification": transformers.AutoModelForSequenceClassification,
    "question_answering": transformers.AutoModelForQuestionAnswering,
}

# 90 pairs of sentences are 11 batches of 8 candidates and one of 2, of which one is kept.
EPOCH = [DRAWN] * 11 + [2]


class Calls(NamedTuple):
    first: dict[str, Call]
    resumed: dict[str, Call]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """All scripts, called twice, the second time for more steps; and one with sift fields."""
    folder = tmp_path_factory.mktemp("swapped")
    make_models(folder / "models")
    make_data(folder / "data")
    plans: dict[int, list[list[str]]] = {FIRST: [], ALL: []}
    for name in MODELS:
        script = folder / f"{name}.py"
        script.write_text(swapped(original(name)))
        for steps, plan in plans.items():
            values = fields(name, folder, steps)
            plan.append([str(script), *flags(values)])
    script = folder / "with_sift_arguments.py"
    script.write_text(with_sift_arguments(swapped(original("sentence_classification"))))
    for name, changes in {
        "by_entropy": {"sift_criterion": "entropy", "sift_warmup_steps": 2},
        "off": {"sift_keep_ratio": 1.0},
    }.items():
        output = {"output_dir": str(folder / "runs" / name)}
        values = {**fields("sentence_classification", folder, FIRST), **output, **changes}
        plans[ALL].append([str(script), *flags(values)])
    resumed = run(folder, [*plans[FIRST], *plans[ALL]])
    first = {}
    for name in MODELS:
        output = resumed[name].folder
        state = output / f"checkpoint-{len(drawn(name, FIRST))}" / "trainer_state.json"
        first[name] = Call(output, json.loads(state.read_text()))
    return Calls(first, resumed)


def drawn(name: str, steps: int) -> list[int]:
    """Candidates of each step."""
    return EPOCH * EPOCHS[steps] if name == "sentence_classification" else [DRAWN] * steps


def sifts(step: int, name: str, steps: int) -> bool:
    """Whether the defaults let a step, counted from 1, sift: after a quarter of the run that it was
    taken in, and before its last tenth."""
    first = len(drawn(name, FIRST))
    planned = first if step <= first else len(drawn(name, steps))
    return planned // 4 < step <= planned - planned // 10


@pytest.mark.parametrize("name", MODELS)
def test_training_sifts_and_goes_on_where_it_was(name: str, calls: Calls) -> None:
    for call, steps in ((calls.first[name], FIRST), (calls.resumed[name], ALL)):
        candidates = drawn(name, steps)
        assert call.state["global_step"] == call.state["max_steps"] == len(candidates)
        assert [line["step"] for line in call.lines] == list(range(1, len(candidates) + 1))
        assert call.lines[-1]["sift/candidates"] == sum(candidates)
        assert call.lines[-1]["sift/backprop_samples"] == sum(candidates) // 2
        for line in call.lines:
            if not sifts(line["step"], name, steps):
                assert "sift/kept_score" not in line
                continue
            assert min(line["sift/kept_score"], line["sift/dropped_score"]) > 0
            assert line["sift/sampling_seconds"] > 0
    before = calls.first[name].lines
    assert calls.resumed[name].lines[: len(before)] == before


@pytest.mark.parametrize("name", MODELS)
def test_metrics_are_written(name: str, calls: Calls) -> None:
    call = calls.resumed[name]
    trained, evaluated = call.results("train"), call.results("eval")
    assert trained["train_loss"] > 0
    assert trained["sift/backprop_samples"] * 2 == trained["sift/candidates"]
    assert call.results("all").items() >= {**trained, **evaluated}.items()
    if name == "question_answering":  # its evaluation has no labels, and so no loss
        assert 0 <= evaluated["eval_exact_match"] <= 100
    else:
        assert 0 <= evaluated["eval_accuracy"] <= 1
        assert evaluated["eval_loss"] > 0
        predicted = (call.folder / "predictions.tsv").read_text().splitlines()
        assert len(predicted) == 12
        assert {line.split("\t")[1] for line in predicted} <= {"same", "other"}


@pytest.mark.parametrize("name", MODELS)
def test_the_saved_model_loads(name: str, calls: Calls) -> None:
    call = calls.resumed[name]
    model, about = MODELS[name].from_pretrained(call.folder, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    last = last_whole_checkpoint(call.folder)
    assert last is not None
    assert Path(last).name == f"checkpoint-{len(drawn(name, ALL))}"
    checkpoint = MODELS[name].from_pretrained(last)
    for found, expected in zip(model.parameters(), checkpoint.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_the_model_card_is_written(calls: Calls) -> None:
    call = calls.resumed["sentence_classification"]
    card = (call.folder / "README.md").read_text()
    assert f"Loss: {call.results('eval')['eval_loss']:.4f}" in card
    assert f"train_batch_size: {KEPT}" in card


def test_sift_fields_become_flags(calls: Calls) -> None:
    """With the arguments swapped too, ``HfArgumentParser`` knows them."""
    sifted = ["sift/kept_score" in line for line in calls.resumed["by_entropy"].lines]
    assert sifted[:3] == [False, False, True]


def test_turned_off(calls: Calls) -> None:
    lines = calls.resumed["off"].lines
    assert lines[-1]["sift/candidates"] == lines[-1]["sift/backprop_samples"] == sum(EPOCH)
    assert not [line for line in lines if "sift/kept_score" in line]
