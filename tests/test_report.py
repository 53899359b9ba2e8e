"""The numbers of the table and the figure, against ones worked out by hand."""

import builtins
import json
import struct

import pytest

from sift_trainer.plots import plot_accuracy
from sift_trainer.report import read_run, summarize, totals, totals_at
from sift_trainer.tables import grid_table, table


def training_line(step, sampling, forward, samples, candidates):
    """Backward, optimizer and data take 2, 1 and 0.5 seconds per ten steps."""
    seconds = {
        "sampling": sampling,
        "forward": forward,
        "backward": step / 5,
        "optimizer": step / 10,
        "data": step / 20,
    }
    line = {f"sift/{phase}_hours": value / 3600 for phase, value in seconds.items()}
    line |= {f"sift/{phase}_seconds": -1.0 for phase in seconds}  # intervals: not to be read
    return line | {
        "loss": 1.0,
        "sift/backprop_samples": samples,
        "sift/candidates": candidates,
        "step": step,
    }


def evaluation_line(step, mlm, nsp=0.5):
    return {"eval_mlm_accuracy": mlm, "eval_nsp_accuracy": nsp, "eval_runtime": 1e6, "step": step}


# Ten steps: 1 + 2 + 1 + 0.5 = 4.5 s of everything but sampling. Vanilla draws 8 rows per step.
VANILLA = [
    training_line(10, 0, 1, 80, 80),
    evaluation_line(10, 0.1),
    training_line(20, 0, 2, 160, 160),
    evaluation_line(20, 0.2),
    training_line(30, 0, 3, 240, 240),
    evaluation_line(30, 0.25),
    training_line(40, 0, 4, 320, 320),
    evaluation_line(40, 0.3, nsp=0.6),
]
# Draws 16 rows per step, sifts between steps 10 and 30 for 0.9 s per ten steps.
LOSS = [
    training_line(10, 0.0, 1, 80, 160),
    evaluation_line(10, 0.1),
    training_line(20, 0.9, 2, 160, 320),
    evaluation_line(20, 0.2),
    training_line(30, 1.8, 3, 240, 480),
    evaluation_line(30, 0.35),
    training_line(40, 1.8, 4, 320, 640),
    evaluation_line(40, 0.4, nsp=0.7),
]


def test_the_final_numbers_of_a_run():
    final = summarize("loss", LOSS).final
    assert (final.accuracy, final.nsp_accuracy) == (0.4, 0.7)
    assert final.spent.seconds == pytest.approx(
        {"sampling": 1.8, "forward": 4, "backward": 8, "optimizer": 4, "data": 2}
    )
    assert final.spent.total_seconds == pytest.approx(19.8)
    assert (final.spent.backprop_samples, final.spent.candidates) == (320, 640)


def test_totals_between_two_log_lines_are_linear_from_zero():
    spent = totals(LOSS)
    assert totals_at(spent, 5).backprop_samples == 40
    at = totals_at(spent, 15)
    assert at.seconds["sampling"] == pytest.approx(0.45)
    assert at.seconds["forward"] == pytest.approx(1.5)
    assert at.total_seconds == pytest.approx(0.45 + 4.5 * 1.5)
    assert at.candidates == 240


def test_the_closing_line_of_training_counts_for_an_evaluation_without_a_log_line():
    closing = training_line(45, 1.8, 4.5, 360, 720) | {"train_runtime": 1.0}
    del closing["loss"]
    run = summarize("loss", [*LOSS, evaluation_line(45, 0.5), closing])
    assert run.final.spent.backprop_samples == 360


def test_an_evaluation_after_the_last_totals_is_refused():
    with pytest.raises(ValueError, match=r"run 'loss': step 45 .* at step 40; log at every"):
        summarize("loss", [*LOSS, evaluation_line(45, 0.5)])


def test_a_history_without_evaluation_is_refused():
    with pytest.raises(
        ValueError, match="'loss' logged no eval_mlm_accuracy or eval_accuracy; set eval_strategy"
    ):
        summarize("loss", [line for line in LOSS if "loss" in line])


def test_the_last_of_two_evaluations_of_a_step_counts():
    assert summarize("loss", [*LOSS, evaluation_line(40, 0.9)]).final.accuracy == 0.9


def test_where_sifting_was_on():
    ((begin, end),) = summarize("loss", LOSS).sifted
    assert (begin.step, end.step) == (10, 30)
    assert summarize("vanilla", VANILLA).sifted == []


def test_seconds_to_an_accuracy_are_read_off_the_curve():
    """From 0.2 at 9.9 s to 0.35 at 15.3 s: two thirds of the way to 0.3 is at 13.5 s."""
    run = summarize("loss", LOSS)
    assert run.seconds_to(0.3) == pytest.approx(9.9 + 5.4 * 2 / 3)
    assert run.seconds_to(0.05) == pytest.approx(4.5)
    assert run.seconds_to(0.41) is None


def tables(*runs):
    """The cells of both tables, without the rules under their heads."""
    for part in table(runs).split("\n\n"):
        lines = [line.strip("|").split("|") for line in part.splitlines()]
        assert len({len(line) for line in lines}) == 1
        head, _, *rows = [[cell.strip() for cell in line] for line in lines]
        yield head, *rows


def test_the_tables_compare_with_the_vanilla_run():
    reached, spent = tables(summarize("vanilla", VANILLA), summarize("loss", LOSS))
    assert reached[0][1:4] == ["MLM accuracy", "vs vanilla", "NSP accuracy"]
    assert reached[0][4:] == ["seconds", "vs vanilla", "reached vanilla's accuracy"]
    # 13.5 s of 18 s.
    assert reached[2] == ["loss", "0.4000", "+0.1000", "0.7000", "19.8", "1.10x", "after 0.75x"]
    assert reached[1][1:] == ["0.3000", "+0.0000", "0.6000", "18.0", "1.00x", "after 1.00x"]
    phases = ["sampling", "forward", "backward", "optimizer", "data"]
    samples = ["backpropagated", "candidates"]
    assert spent[0] == ["run", *(f"{phase} (s)" for phase in phases), *samples]
    assert spent[2] == ["loss", "1.8", "4.0", "8.0", "4.0", "2.0", "320", "640"]


def test_a_run_that_stays_below_the_reference_never_reaches_it():
    reached, _ = tables(summarize("vanilla", LOSS), summarize("loss", VANILLA))
    assert reached[2][-1] == "never"


def test_without_a_reference_there_are_no_ratios():
    reached, _ = tables(summarize("loss", LOSS))
    assert reached[1] == ["loss", "0.4000", "-", "0.7000", "19.8", "-", "-"]


def in_cell(cell, name, history):
    return summarize(f"{cell}/{name}", history)


def images(history):
    """The same run as one that is compared by its accuracy alone."""
    return [
        {"eval_accuracy": line["eval_mlm_accuracy"], "step": line["step"]}
        if "eval_mlm_accuracy" in line
        else line
        for line in history
    ]


def test_a_run_without_pairs_has_no_column_for_them():
    reached, _ = tables(summarize("baseline", images(VANILLA)), summarize("early", images(LOSS)))
    assert reached[0] == [
        *("run", "accuracy", "vs baseline", "seconds", "vs baseline"),
        "reached baseline's accuracy",
    ]
    assert reached[2] == ["early", "0.4000", "+0.1000", "19.8", "1.10x", "after 0.75x"]


def test_runs_of_a_grid_are_held_to_the_reference_of_their_cell():
    better = [
        line | {"eval_mlm_accuracy": 2 * line["eval_mlm_accuracy"]}
        if "eval_mlm_accuracy" in line
        else line
        for line in VANILLA
    ]
    reached, _ = tables(
        in_cell("rate_1", "vanilla", VANILLA),
        in_cell("rate_1", "loss", LOSS),
        in_cell("rate_2", "vanilla", better),
        in_cell("rate_2", "loss", LOSS),
        in_cell("rate_3", "loss", LOSS),
    )
    assert [row[2] for row in reached[1:]] == ["+0.0000", "+0.1000", "+0.0000", "-0.2000", "-"]


def test_the_table_of_a_grid_has_a_row_for_each_cell():
    text = grid_table(
        [
            in_cell("rate_1", "baseline", images(VANILLA)),
            in_cell("rate_1", "early", images(LOSS)),
            in_cell("rate_2", "baseline", images(LOSS)),
        ]
    )
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]
    assert rows[0] == ["accuracy (%)", "baseline", "early"]
    assert rows[2:] == [["rate_1", "30.00", "**40.00**"], ["rate_2", "**40.00**", "-"]]


def test_a_run_is_read_from_its_log(tmp_path):
    lines = [{"event": "start", "step": 0}, *({"event": "log", **line} for line in LOSS)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run("loss", tmp_path) == summarize("loss", LOSS)


def test_the_figure_is_a_png_of_two_panels(tmp_path):
    path = plot_accuracy(
        [summarize("vanilla", VANILLA), summarize("loss", LOSS)], tmp_path / "figure.png"
    )
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1400 > height > 500
    assert len(content) > 20_000


def test_the_figure_names_the_extra_where_matplotlib_is_missing(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without_matplotlib(name, *rest, **named):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r'pip install "sift-trainer\[report\]"'):
        plot_accuracy([summarize("loss", LOSS)], tmp_path / "figure.png")
