"""Two processes read for themselves, or one reads for both, or both share a batch: each sifts what
it is given.

Together they take the steps of one loop over the union of their kept rows.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.composition.replay import descend, difference, gradients_of
from tests.composition.shared_loading_run import EPOCHS, KEPT, NAME, ROWS, SETTINGS, data
from tests.distributed.launch import together
from tests.invariants.by_hand import mean_loss
from tests.invariants.scale_runs import build
from tests.invariants.test_sifted_step import score

pytestmark = pytest.mark.distributed
# Candidates of a process in each step. 21 rows are 42 candidates in batches of 8, 8, 8, 8, 8 and 2.
# A process gets every second one, filled up; or half of every two; or half of each, filled up.
EPOCH = {
    "separate": [8, 8, 8],
    "dispatched": [8, 8, 5],
    "split": [4, 4, 4, 4, 4, 4],
    "streamed": [8, 8, 5],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    together("tests/composition/shared_loading_run.py", folder)
    return folder


@pytest.fixture(params=SETTINGS)
def name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def records(folder: Path, name: str) -> list[dict[str, Any]]:
    files = [folder / f"record-{rank}.json" for rank in range(2)]
    return [json.loads(file.read_text())[name] for file in files]


def test_both_draw_alike_and_together_all(records: list[dict[str, Any]], name: str) -> None:
    steps = [record["steps"] for record in records]
    drawn = [[len(step["drawn"]) for step in each] for each in steps]
    kept = [[len(step["kept"]) for step in each] for each in steps]
    planned = (EPOCHS * EPOCH[name])[: len(drawn[0])]
    assert drawn == [planned] * 2
    assert kept == [[{8: KEPT, 5: 2, 4: 2}[count] for count in planned]] * 2
    steps_planned = 4 if name == "streamed" else EPOCHS * len(EPOCH[name])
    assert len(planned) == steps_planned
    seen = {
        tuple(row) for each in steps for step in each[: len(EPOCH[name])] for row in step["drawn"]
    }
    assert len(seen) == ROWS
    for record in records:
        assert record["last"]["sift/candidates"] == 2 * sum(planned)
        assert record["last"]["sift/backprop_samples"] == 2 * sum(kept[0])


def test_batches_that_cannot_be_shared_are_refused(folder: Path) -> None:
    for rank in range(2):
        first, second = json.loads((folder / f"record-{rank}.json").read_text())["refused"]
        assert "split_batches=True" in first
        assert "per_device_train_batch_size=5 of 10 candidates" in first
        assert "per_device_train_batch_size=6 of 9 candidates (sift_keep_ratio=0.66)" in second


def test_steps_are_those_of_a_loop_over_the_union(
    records: list[dict[str, Any]], folder: Path, name: str
) -> None:
    found = [
        torch.load(folder / f"gradients-{rank}.pt", weights_only=True)[name] for rank in (0, 1)
    ]
    by_tokens = {tuple(row["input_ids"].tolist()): row for row in data()}
    model = build(NAME).train()
    for number, steps in enumerate(zip(*(record["steps"] for record in records), strict=True)):
        batches = []
        for step in steps:
            drawn = [by_tokens[tuple(tokens)] for tokens in step["drawn"]]
            scores = torch.tensor([score(model, NAME, row, "loss") for row in drawn])
            torch.testing.assert_close(torch.tensor(step["scores"]), scores, rtol=1e-5, atol=1e-6)
            hardest = scores.topk(len(step["kept"])).indices.sort().values.tolist()
            # The same row may be drawn twice, with the same score.
            assert sorted(step["kept"]) == sorted(step["drawn"][row] for row in hardest)
            in_order = iter(step["drawn"])
            assert all(row in in_order for row in step["kept"])
            kept = [drawn[row] for row in hardest]
            batches.append({field: torch.stack([row[field] for row in kept]) for field in kept[0]})
        model.zero_grad()
        (sum(mean_loss(model, batch) for batch in batches) / 2).backward()
        for gradients in found:
            alike = {key.removeprefix("module."): value for key, value in gradients[number].items()}
            assert difference(alike, gradients_of(model)) < 1e-5
        descend(model)
