"""Two processes over gloo: loss and gradient norm of a plain loop, for every model."""

import json

import pytest

from tests.distributed.launch import together
from tests.invariants.by_hand import loop
from tests.invariants.scale_runs import MODELS, OF_TWO

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """What each model logged."""
    output = tmp_path_factory.mktemp("ddp") / "logged.json"
    together("tests/invariants/scale_runs.py", output)
    return json.loads(output.read_text())


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_log_the_loops_loss_and_gradient_norm(logged, name):
    found = logged[name]
    expected = loop(name, "ragged", OF_TWO.batch_size)
    assert [entry["sift/backprop_samples"] for entry in found] == [8, 16]
    for step in range(2):
        for key in ("loss", "grad_norm"):
            assert found[step][key] == pytest.approx(expected[step][key], rel=1e-5), (step, key)
