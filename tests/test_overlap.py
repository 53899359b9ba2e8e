"""The benchmark of scoring during the backward: what it overlaps does not disturb each other."""

import json
from itertools import product

import pytest
import torch

from benchmarks.overlap import ARMS, Steps, main, parse

SIZES = ["--hidden", "32", "--blocks", "2", "--vocabulary", "200", "--length", "24"]


def test_scoring_during_the_backward_changes_neither_scores_nor_gradients():
    """With dropout: scoring leaves modes and random state as training left them."""
    torch.set_num_threads(1)
    steps = Steps(parse(SIZES))
    batch, coming, rows = steps.batches[0], steps.batches[1], torch.arange(4)
    expected_scores = steps.scores(coming)
    found = []

    def gradients(meanwhile):
        torch.manual_seed(3)
        steps.train(batch, rows, meanwhile)
        results = [result.result() for result in found]
        taken = [parameter.grad.clone() for parameter in steps.model.parameters()]
        steps.optimizer.zero_grad()
        return taken, results, torch.get_rng_state()

    expected, _, state_before = gradients(None)
    overlapped, scores, state_after = gradients(
        lambda: found.append(steps.worker.submit(steps.scores, coming))
    )
    assert torch.equal(scores[0], expected_scores)
    assert all(torch.equal(a, b) for a, b in zip(overlapped, expected, strict=True))
    assert torch.equal(state_before, state_after)
    assert steps.model.training
    assert all(module.training for module in steps.model.modules())


def test_candidates_are_scored_once_and_by_weights_one_step_old():
    steps = Steps(parse(SIZES))
    scored = []
    score = steps.scores
    steps.scores = lambda batch: scored.append(batch) or score(batch)
    steps.step("in the backward")  # nothing is scored yet, so two batches are
    assert [id(batch) for batch in scored] == [id(batch) for batch in steps.batches[:2]]
    old = steps.scored["in the backward"]
    assert not torch.equal(old, score(steps.batches[1]))  # the update has come in between
    steps.step("in the backward")
    assert [id(batch) for batch in scored[2:]] == [id(steps.batches[2])]


@pytest.mark.distributed
def test_benchmark_of_two_processes_writes_its_results(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = tmp_path / "overlap.json"
    main([*SIZES, "--rounds", "1", "--networks", "0", "0.5", "--output", str(output)])
    rows = json.loads(output.read_text())["rows"]
    assert [(row["network"], row["arm"]) for row in rows] == list(product([0, 0.5], ARMS))
    assert all(row["step_seconds"] > 0 for row in rows)
