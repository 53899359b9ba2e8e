"""A script in the shape of Transformers' run_glue.py, with one line swapped: it trains, evaluates,
saves, predicts and resumes as a real process, without a network."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from sift_trainer.checkpoints.manifest import last_whole_checkpoint
from tests.swapped.calls import DRAWN, KEPT, SCRIPT, Call, flags, run, swapped, with_sift_arguments
from tests.swapped.inputs import make_data, make_models

# 90 pairs of sentences are 22 updates on 4 of 8 candidates, and one on 2 of 4.
PAIRS = 90
EPOCH = [DRAWN] * (PAIRS // KEPT) + [DRAWN * (PAIRS % KEPT) // KEPT]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Call]:
    """The script called twice, the second time for one more epoch; and twice with sift fields."""
    folder = tmp_path_factory.mktemp("swapped")
    make_models(folder / "models")
    make_data(folder / "data")
    script, with_fields = folder / "swapped.py", folder / "with_sift_arguments.py"
    script.write_text(swapped(SCRIPT))
    with_fields.write_text(with_sift_arguments(swapped(SCRIPT)))
    by_entropy = {"sift_criterion": "entropy", "sift_warmup_steps": 2}
    found = run(
        folder,
        [
            [str(script), *flags(folder, "plain", epochs=1)],
            [str(script), *flags(folder, "plain", epochs=2)],
            [str(with_fields), *flags(folder, "by entropy", epochs=1, **by_entropy)],
            [str(with_fields), *flags(folder, "off", epochs=1, sift_keep_ratio=1.0)],
        ],
    )
    output = found["plain"].folder
    state = json.loads((output / f"checkpoint-{len(EPOCH)}" / "trainer_state.json").read_text())
    return {**found, "first": Call(output, state)}


def sifts(step: int, epochs: int) -> bool:
    """Whether the defaults let a step, counted from 1, sift: after a quarter of the run that it was
    taken in, and before its last tenth."""
    planned = len(EPOCH) if step <= len(EPOCH) else len(EPOCH) * epochs
    return planned // 4 < step <= planned - planned // 10


def test_training_sifts_and_goes_on_where_it_was(calls: dict[str, Call]) -> None:
    for call, epochs in ((calls["first"], 1), (calls["plain"], 2)):
        candidates = EPOCH * epochs
        assert call.state["global_step"] == call.state["max_steps"] == len(candidates)
        assert [line["step"] for line in call.lines] == list(range(1, len(candidates) + 1))
        assert call.lines[-1]["sift/candidates"] == sum(candidates)
        assert call.lines[-1]["sift/backprop_samples"] == sum(candidates) // 2
        for last, line in pairwise([{"sift/gate_open": 1}, *call.lines]):
            chooses = sifts(line["step"], epochs) and last["sift/gate_open"] == 1
            assert ("sift/kept_score" in line) == chooses
    before = calls["first"].lines
    assert calls["plain"].lines[: len(before)] == before


def test_metrics_predictions_and_model_card_are_written(calls: dict[str, Call]) -> None:
    call = calls["plain"]
    trained, evaluated = call.results("train"), call.results("eval")
    assert trained["train_loss"] > 0
    assert trained["sift/backprop_samples"] * 2 == trained["sift/candidates"]
    assert call.results("all").items() >= {**trained, **evaluated}.items()
    assert 0 <= evaluated["eval_accuracy"] <= 1
    predicted = (call.folder / "predictions.tsv").read_text().splitlines()
    assert len(predicted) == 12
    assert {line.split("\t")[1] for line in predicted} <= {"same", "other"}
    card = (call.folder / "README.md").read_text()
    assert f"Loss: {evaluated['eval_loss']:.4f}" in card
    assert f"train_batch_size: {KEPT}" in card


def test_the_saved_model_loads(calls: dict[str, Call]) -> None:
    kind, folder = AutoModelForSequenceClassification, calls["plain"].folder
    model, about = kind.from_pretrained(folder, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    last = last_whole_checkpoint(folder)
    assert last is not None
    assert Path(last).name == f"checkpoint-{2 * len(EPOCH)}"
    checkpoint = kind.from_pretrained(last)
    for found, expected in zip(model.parameters(), checkpoint.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_sift_fields_become_flags(calls: dict[str, Call]) -> None:
    """With the arguments swapped too, ``HfArgumentParser`` knows them."""
    sifted = ["sift/kept_score" in line for line in calls["by entropy"].lines]
    assert sifted[:3] == [False, False, True]
    lines = calls["off"].lines
    assert lines[-1]["sift/candidates"] == lines[-1]["sift/backprop_samples"] == PAIRS
    assert not [line for line in lines if "sift/kept_score" in line]
