"""The benchmark of going on from scoring's blocks compares ways that take the same step, and counts
what torch counts."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.prefix_reuse import (
    HeldBytes,
    Steps,
    block,
    counted,
    difference,
    gradients,
    main,
    parse,
    reused_step,
    rows_used,
    sifted_step,
    ways,
)
from sift_trainer.reproduction.bert.flops import BertShape

SIZES = ["--hidden", "64", "--blocks", "4", "--vocabulary", "300", "--length", "40"]
OPTIONS = parse([*SIZES, "--batch_size", "4"])
SHAPE = BertShape(64, 256, 4, 300, 40, 6 / 40)
GROUPS = [1, 2, 4, 8]


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def steps(request):
    torch.set_num_threads(1)
    return Steps(OPTIONS, request.param)


def test_all_ways_have_the_gradients_of_the_step_as_it_is_now(steps):
    rows, expected, _ = gradients(steps, steps.now)
    assert len(rows) == 4
    for name, take in ways(steps, GROUPS).items():
        found_rows, found, _ = gradients(steps, take)
        assert found_rows.tolist() == rows.tolist(), name
        assert difference(found, expected) < 1e-5, name


@pytest.mark.parametrize(("way", "used"), [("one graph", 2), ("graphs of 1 rows", 1)])
def test_operations_are_those_of_the_formula(steps, way, used):
    take = ways(steps, [1])[way]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        take()
    steps.model.zero_grad()
    found = counter.get_total_flops() / (4 * 40)
    assert found == pytest.approx(reused_step(SHAPE, steps.exit_block, 0.5, used), rel=0.001)


def test_formula_by_hand():
    """With one graph a forward less of the kept row, and a backward more of the dropped one."""
    now = sifted_step(SHAPE, 3, 0.5)
    assert reused_step(SHAPE, 3, 0.5, 1) == pytest.approx(now - 2 * block(SHAPE))
    assert reused_step(SHAPE, 3, 0.5, 2) == pytest.approx(now + 2 * block(SHAPE))
    # In pairs of rows three of four have a kept one: what is saved is spent on their mates.
    assert [rows_used(group, 0.5) for group in (1, 2)] == [1, 1.5]
    assert reused_step(SHAPE, 3, 0.5, 1.5) == now


def test_only_a_graph_for_each_row_saves_operations():
    for row in counted():
        assert row["graphs of 1 rows"] < 1 <= row["graphs of 2 rows"] < row["one graph"]


def test_bytes_that_a_graph_holds():
    """Each storage once, parameters not, and not what has been let go."""
    model = torch.nn.Linear(3, 3)
    held = HeldBytes(model)
    x = torch.ones(5, 3)
    with held.counting():
        first = (
            model(x).exp() ** 2
        ).sum()  # holds x, and what exp returned for itself and the square
        assert held.most == 2 * 5 * 3 * 4
        first.backward()
        (model(x) * 2).sum().backward()
    assert held.most == 2 * 5 * 3 * 4


def test_benchmark_writes_its_results(tmp_path):
    output = tmp_path / "prefix_reuse.json"
    main([*SIZES, "--batch_size", "2", "--exits", "2", "--rounds", "1", "--output", str(output)])
    rows = json.loads(output.read_text())["rows"]
    assert [row["way"] for row in rows] == [
        "now",
        "one graph",
        *(f"graphs of {g} rows" for g in (1, 2)),
    ]
    assert all(row["difference"] < 1e-5 and row["held_mb"] > 0 for row in rows)
