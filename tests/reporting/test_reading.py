"""Which runs are in a report: whole ones; of all others, the reason."""

import json
import shutil
from pathlib import Path

import pytest

from sift_trainer.reporting.finding import find_runs
from sift_trainer.run_log import FILE
from tests.reporting.made_up import PLAIN, resnet, write_run


def reason(folder: Path) -> str:
    """Why the only run in a folder is left out."""
    runs, left_out = find_runs([folder])
    assert not runs
    (only,) = left_out
    return only.reason


def rewrite(folder: Path, *lines: str) -> None:
    (folder / FILE).write_text("".join(line + "\n" for line in lines))


def lines(folder: Path) -> list[str]:
    return (folder / FILE).read_text().splitlines()


def test_a_whole_run_is_read_with_its_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", [0.1, 0.2], seed=3)
    (run,), left_out = find_runs([tmp_path])
    assert not left_out
    assert (run.name, run.seed, run.max_steps) == ("mine", 3, 20)
    assert run.setting("training", "sift_criterion") == "loss"
    assert run.setting("images", "dataset") is None
    assert [point.accuracy for point in run.run.points] == [0.1, 0.2]
    assert run.rates == [(10, 1e-4), (20, 0.0)]
    assert run.machines[0]["cores"]


def test_a_run_that_is_the_folder_itself_has_its_name(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", [0.1])
    (run,), _ = find_runs([tmp_path / "mine"])
    assert run.name == "mine"


def test_seeds_cells_and_overlapping_folders(tmp_path: Path) -> None:
    for name in ("seed_0/learning_rate_0.1/baseline", "seed_1/baseline"):
        write_run(tmp_path / name, [0.1])
    runs, left_out = find_runs([tmp_path / "seed_0", tmp_path / "seed_1", tmp_path / "seed_1"])
    assert [run.name for run in runs] == ["seed_0/learning_rate_0.1/baseline", "seed_1/baseline"]
    assert not left_out


def test_a_cut_last_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", [0.1, 0.2])
    (run / FILE).write_bytes((run / FILE).read_bytes()[:-20])
    assert "last line of log.jsonl is cut off" in reason(tmp_path)


def test_a_run_without_its_end(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", [0.1, 0.2], max_steps=80, finished=False)
    assert reason(tmp_path) == "no end: the log stops at step 20 of 80"


def test_a_run_that_a_signal_stopped(tmp_path: Path) -> None:
    """The Trainer then logs its end as it does after the last step; there are no results."""
    run = write_run(tmp_path / "mine", [0.1, 0.2], max_steps=80)
    (run / "results.json").unlink()
    assert reason(tmp_path) == "stopped at step 20 of 80, to be resumed"


def test_a_run_that_its_time_ended_is_whole(tmp_path: Path) -> None:
    settings = resnet(same_time_as="baseline")
    write_run(tmp_path / "mine", [0.1, 0.2], max_steps=80, settings=settings)
    (run,), _ = find_runs([tmp_path])
    assert run.run.final.spent.step == 20


def test_results_of_an_earlier_shorter_training_are_no_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", [0.1, 0.2, 0.3], max_steps=80)
    results = json.loads((run / "results.json").read_text())
    results["run"]["points"].pop()
    (run / "results.json").write_text(json.dumps(results))
    assert reason(tmp_path) == "stopped at step 30 of 80, to be resumed"


def test_log_and_trainer_state_have_to_agree(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", [0.1, 0.2])
    state = json.loads((run / "trainer_state.json").read_text())
    state["global_step"] = 30
    (run / "trainer_state.json").write_text(json.dumps(state))
    assert "log.jsonl ends at step 20, trainer_state.json at 30" in reason(tmp_path)
    (run / "trainer_state.json").write_text('{"global_st')
    assert reason(tmp_path) == "trainer_state.json cannot be read"


def test_a_trainer_state_alone_is_a_run_of_unknown_settings(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", [0.1, 0.2])
    (run / FILE).unlink()
    (read,), _ = find_runs([tmp_path])
    assert read.run.final.accuracy == 0.2
    assert (read.settings, read.seed, read.machines) == ({}, None, [])


def test_folders_in_which_nothing_was_logged(tmp_path: Path) -> None:
    (tmp_path / "a" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "a" / "checkpoint-10").mkdir()
    assert reason(tmp_path).endswith("only checkpoints, the last of them checkpoint-10")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".lock").touch()
    assert reason(tmp_path) == "taken by a sweep, and nothing logged yet"
    (tmp_path / "b" / FILE).touch()
    assert reason(tmp_path) == "log.jsonl is empty"
    rewrite(tmp_path / "b", '{"event": "start", "step": 0}')
    assert reason(tmp_path) == "begun, and nothing logged yet"


def test_a_run_that_was_not_evaluated_at_its_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", [0.1, 0.2])
    rewrite(run, *(line for line in lines(run) if '"eval_mlm_accuracy": 0.2' not in line))
    assert reason(tmp_path) == "ended at step 20, but last evaluated at 10"
    rewrite(run, *(line for line in lines(run) if "eval_mlm_accuracy" not in line))
    assert reason(tmp_path).startswith("logged no eval_mlm_accuracy")


def test_an_accuracy_that_is_no_number(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", [0.1, float("nan"), 0.2])
    assert reason(tmp_path) == "its accuracy at step 20 is not a number"


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"event": "log", "step": "x"}', '{"step": 5}', "[" * 100_000]
)
def test_an_unreadable_line_amid_a_log_is_named(tmp_path: Path, line: str) -> None:
    run = write_run(tmp_path / "mine", [0.1, 0.2])
    written = lines(run)
    rewrite(run, *written[:2], line, *written[2:])
    with pytest.raises(ValueError, match=r"mine/log\.jsonl, line 3 is none .* leave its folder"):
        find_runs([tmp_path])


def test_what_a_killed_process_left_in_front_of_a_resume_is_no_damage(tmp_path: Path) -> None:
    """The resumed run does steps 10 to 20 again, and they count once."""
    run = write_run(tmp_path / "mine", [0.1, 0.2])
    start, *rest = lines(run)
    again = json.dumps({**json.loads(start), "step": 10})
    rewrite(run, start, *rest[:3], '{"event": "log", "st', again, *rest[2:])
    (read,), _ = find_runs([tmp_path])
    assert [point.accuracy for point in read.run.points] == [0.1, 0.2]
    assert len(read.starts) == 2


def test_runs_that_results_name_and_that_are_gone(tmp_path: Path) -> None:
    write_run(tmp_path / "vanilla", [0.1], sift=PLAIN)
    runs = [{"name": "vanilla"}, {"name": "loss"}]
    (tmp_path / "results.json").write_text(json.dumps({"runs": runs}))
    _, (missing,) = find_runs([tmp_path])
    assert missing.name == "loss"
    assert "there is no folder of it" in missing.reason


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder; give the output_dir of a run"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="has no run in it"):
        find_runs([tmp_path])
