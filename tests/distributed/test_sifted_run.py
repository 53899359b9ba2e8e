"""Two processes sift their own candidates: together, one loop over the union of the kept rows."""

import json

import pytest
import torch

from tests.distributed.launch import together
from tests.distributed.sifted_run import EPOCHS, KEPT, RATE, ROWS, RUNS
from tests.invariants.by_hand import DIVIDES_BY_COUNT, mean_loss, token_losses
from tests.invariants.scale_runs import build, rows

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sifted")
    together("tests/distributed/sifted_run.py", folder)
    return folder


@pytest.fixture(scope="module", params=RUNS)
def run(request, runs):
    """Name of the model, and per process its record and its parameters."""
    name, folder = request.param.split()[0], runs / request.param
    records = [json.loads((folder / f"record-{rank}.json").read_text()) for rank in range(2)]
    models = [torch.load(folder / f"model-{rank}.pt", weights_only=True) for rank in range(2)]
    return name, records, models


def test_processes_step_equally_often_on_equally_many_rows(run):
    _, records, _ = run
    assert [record["world_size"] for record in records] == [2, 2]
    kept = [[len(step["kept"]) for step in record["steps"]] for record in records]
    drawn = [[len(step["drawn"]) for step in record["steps"]] for record in records]
    # 29 rows are 4 batches of 8 candidates, two for each process; the short one is filled up.
    assert kept == [[KEPT] * 2 * EPOCHS] * 2
    assert drawn == [[2 * KEPT] * 2 * EPOCHS] * 2


def test_processes_sift_different_candidates_and_together_see_all(run):
    _, records, _ = run
    first_epoch = [
        {tuple(row) for step in record["steps"][:2] for row in step["drawn"]} for record in records
    ]
    assert len(first_epoch[0] | first_epoch[1]) == ROWS


def test_parameters_are_those_of_a_loop_over_the_union(run):
    name, records, models = run
    data = {tuple(row["input_ids"].tolist()): row for row in rows(name, "ragged")}
    model = build(name).train()
    for steps in zip(*(record["steps"] for record in records), strict=True):
        shares = [[data[tuple(ids)] for ids in step["kept"]] for step in steps]
        batches = [{k: torch.stack([r[k] for r in share]) for k in share[0]} for share in shares]
        model.zero_grad()
        union_loss(model, name, batches).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= RATE * parameter.grad
    for key, expected in model.state_dict().items():
        assert torch.equal(models[0][key], models[1][key]), key
        assert torch.allclose(models[0][key], expected, rtol=1e-5, atol=1e-6), key


def union_loss(model, name, batches):
    if name not in DIVIDES_BY_COUNT:
        return sum(mean_loss(model, batch) for batch in batches) / len(batches)
    losses = [
        token_losses(model(input_ids=batch["input_ids"]).logits, batch["labels"], name)
        for batch in batches
    ]
    return torch.cat(losses).sum() / sum(len(part) for part in losses)
