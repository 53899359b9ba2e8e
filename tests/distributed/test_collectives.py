"""What two processes under DDP send each other, by phase of the step: nothing while they score,
unless the model has running statistics."""

import json

import pytest

from tests.distributed.collectives_run import ACCUMULATION, RUNS, STEPS
from tests.distributed.launch import together
from tests.reproduction.resnet.small_resnet import statistics

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name of the run -> its steps -> their notes; the same in both processes."""
    folder = tmp_path_factory.mktemp("collectives")
    together("tests/distributed/collectives_run.py", folder)
    first, second = (json.loads((folder / f"notes-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    return {name: steps_of(notes) for name, notes in first.items()}


def steps_of(notes):
    starts = [index for index, note in enumerate(notes) if note == "start data"]
    return [notes[a:b] for a, b in zip(starts, [*starts[1:], len(notes)], strict=True)]


def sent(notes):
    return [note for note in notes if not note.startswith(("start ", "stop "))]


def scoring(step):
    """From the start of the first sampling phase to the end of the last."""
    stops = [index for index, note in enumerate(step) if note == "stop sampling"]
    return step[step.index("start sampling") : stops[-1]]


def until_forward(step):
    """From the start of the first sampling phase to that of the first forward."""
    return step[step.index("start sampling") : step.index("start forward")]


def trained(step):
    """What was sent from the last backward on."""
    starts = [index for index, note in enumerate(step) if note == "start backward"]
    return sent(step[starts[-1] :])


@pytest.mark.parametrize("name", RUNS)
def test_all_candidates_are_scored_before_the_forward(runs, name):
    """Backward averages every parameter, so what is sent is recorded."""
    parameters = sum(parameter.numel() for parameter in RUNS[name].build().parameters())
    assert len(runs[name]) == STEPS
    for step in runs[name]:
        assert "start sampling" not in step[step.index("start forward") :]
        # One for the statistics, and one for each micro-batch.
        assert step.count("start sampling") == 1 + ACCUMULATION
        assert step.count("start backward") == ACCUMULATION
        assert f"allreduce_ {parameters}" in trained(step)


def test_a_loss_that_ignores_the_count_sends_nothing_before_the_forward(runs):
    assert [sent(until_forward(step)) for step in runs["bert"]] == [[]] * STEPS


def test_kept_labels_are_counted_over_processes_once_a_window_after_scoring(runs):
    for step in runs["llama"]:
        assert sent(scoring(step)) == []
        assert sent(until_forward(step)) == ["allgather_ 2"]  # a number of each process


def test_running_statistics_are_sent_once_a_window_and_nothing_else(runs):
    """As one tensor of each type: means and variances, and numbers of batches."""
    kept = statistics(RUNS["resnet"].build()).items()
    numbers = sum(value.numel() for key, value in kept if key.endswith("num_batches_tracked"))
    means_and_variances = sum(value.numel() for _, value in kept) - numbers
    for step in runs["resnet"]:
        assert sent(scoring(step)) == [f"broadcast_ {means_and_variances}", f"broadcast_ {numbers}"]
        assert sent(until_forward(step))[2:] == ["allgather_ 2"]  # the kept labels
