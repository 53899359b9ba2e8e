"""A step's loss and gradient are those of a hand-written loop, however the batch is laid out."""

import pytest

from tests.invariants.by_hand import loop
from tests.invariants.scale_runs import COUNTS, MODELS, Layout, run

LAYOUTS = (Layout(8, 1), Layout(2, 4))


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_logged_loss_and_gradient_norm_are_the_loops(name, counts, layout):
    logged = run(name, counts, layout)
    expected = loop(name, counts, layout.batch_size)
    assert [entry["sift/backprop_samples"] for entry in logged] == [8, 16]
    for step in range(2):
        for key in ("loss", "grad_norm"):
            assert logged[step][key] == pytest.approx(expected[step][key], rel=1e-5), (step, key)


@pytest.mark.parametrize("name", MODELS)
def test_layouts_agree_when_rows_have_equally_many_labels(name):
    whole, accumulated = (run(name, "equal", layout) for layout in LAYOUTS)
    for step in range(2):
        for key in ("loss", "grad_norm"):
            assert whole[step][key] == pytest.approx(accumulated[step][key], rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_dense_head_gives_the_same(name):
    layout = LAYOUTS[1]
    dense = run(name, "ragged", layout, sift_masked_only_head=False)
    expected = loop(name, "ragged", layout.batch_size)
    for step in range(2):
        for key in ("loss", "grad_norm"):
            assert dense[step][key] == pytest.approx(expected[step][key], rel=1e-5)
