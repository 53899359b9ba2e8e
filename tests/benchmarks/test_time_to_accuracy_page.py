"""docs/when_to_sift.md has the tables of the runs, and every run is one that the grids ask for."""

import json
from pathlib import Path

import pytest
from study.grids import GRIDS, TUNING_SEED, rate_of
from study.overview import gains
from study.page import BEGIN, END, in_place, tables, write_page
from study.regimes import REGIMES
from study.results import Results, read_lines

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "when_to_sift.md").read_text(encoding="utf-8")
FILE = DOCS / "benchmarks" / "time_to_accuracy.jsonl"
LINES = list(read_lines(FILE))


@pytest.mark.parametrize("name", tables([]))
def test_the_tables_are_those_of_the_runs(name):
    assert in_place(PAGE, name, tables(LINES)[name]) == PAGE


def test_the_page_counts_the_runs():
    tuning = [line["seed"] == TUNING_SEED for line in LINES if line["kind"] == "run"]
    compared = len(tuning) - sum(tuning)
    assert f"All runs of the compared seeds ({compared}) and of tuning ({sum(tuning)})" in PAGE


def test_no_line_is_broken():
    written = FILE.read_text(encoding="utf-8").splitlines()
    assert [json.loads(text) for text in written] == LINES


@pytest.mark.parametrize("name", REGIMES)
def test_what_is_compared_was_asked_for(name):
    """The sifted runs of the compared seeds are in the grid, so that none was added by hand;
    further budgets of vanilla only make its frontier finer."""
    results = Results(FILE)
    specs = [*GRIDS["study"](name), *GRIDS["axes"](name)]
    asked = {id(results.find_run(spec)) for spec in specs}
    for line in results.lines:
        if line["kind"] != "run" or line["regime"] != name or line["method"] == "vanilla":
            continue
        if line["seed"] != TUNING_SEED and line["rate"] == rate_of(name, line["method"]):
            assert id(line) in asked, (line["method"], line["seed"], line["budget"], line["rate"])


def run(method, seed, budget, accuracy, **more):
    rate = rate_of("images_in_background", method)
    settings = {"steps": round(budget * 400)}
    more = {"trained_loss": 0.5, "cost": budget * 400, **more}
    line = {"kind": "run", "regime": "images_in_background", "method": method, "seed": seed}
    return {
        **line,
        "budget": budget,
        "rate": rate,
        "accuracy": accuracy,
        "settings": settings,
    } | more


VANILLA = [run("vanilla", 0, budget, accuracy) for budget, accuracy in ((0.5, 0.2), (1.0, 0.4))]


def cells(table):
    """The cells of each row of a table, without its head."""
    rows = [row for row in table.splitlines() if row.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_a_change_is_held_to_the_usual_way_with_the_same_seeds():
    """Of seeds 0 and 1: .30 and .36 are .04 and .02 above .26 and .34; .33 costs vanilla .825."""
    lines = [
        *VANILLA,
        *(run("loss", seed, 1.0, each) for seed, each in enumerate((0.26, 0.34, 0.99))),
        *(run("loss_keep_75", seed, 1.0, each) for seed, each in enumerate((0.3, 0.36))),
    ]
    usual, changed = cells(tables(lines)["axes"])
    assert usual[1] == "3"
    told, seeds, _, accuracy, beside, ratio = changed
    assert (told, seeds, beside) == ("three quarters kept", "2", "+0.0300")
    assert accuracy == "0.3300 (0.3000 to 0.3600)"
    assert ratio == "1.21 (1.11 to 1.33)"
    assert [row[1] for row in cells(tables(lines)["summary"])] == ["loss"]  # changes are elsewhere


def test_what_a_gate_comes_to_counts_its_audits():
    """400 steps with 4 audits of 4 units, none of which opened it, are 416 for what vanilla has for
    400; then 60 of the 260 steps from 100 to 359 sift."""
    name = "loss_gate_evaluation"
    lines = [*VANILLA, run("loss", 0, 1.0, 0.3), run(name, 0, 1.0, 0.4, cost=416, sifted_steps=0)]
    (row,) = cells(tables(lines)["gate"])
    assert row[1:5] == ["evaluation", "1", "0%", "3.8%"]
    assert row[5:] == ["0.4000", "0.3000", "0.4000", "1.040", "1.04"]
    lines[-1] = run(name, 0, 1.0, 0.4, cost=430, sifted_steps=60)
    assert cells(tables(lines)["gate"])[0][3] == "23%"


def test_a_page_without_a_place_is_refused():
    begin = BEGIN.format("summary")
    assert in_place(f"a\n{begin}\nold\n{END}\nb", "summary", "new") == (
        f"a\n{begin}\n\nnew\n\n{END}\nb"
    )
    with pytest.raises(ValueError, match="no place for the table 'summary'"):
        in_place("a", "summary", "new")


def test_capacity_is_held_to_vanilla_with_the_same_seeds():
    """Exact losses .02 and .04 behind with the two seeds of both; 400 steps of 32 of 1000 rows."""
    settings = {"steps": 400, "rows": 1000, "parameters": 670_000}

    def images(method, seed, accuracy):
        line = run(method, seed, 1.0, accuracy, regime="images", settings=settings)
        return line | {"rate": rate_of("images", method)}

    lines = [images("vanilla", seed, each) for seed, each in ((0, 0.4), (1, 0.44))]
    lines += [images("exact", seed, each) for seed, each in ((0, 0.38), (1, 0.4), (2, 0.9))]
    lines.append(images("loss", 1, 0.3))
    (row,) = cells(tables(lines)["capacity"])
    assert row[:4] == ["images", "12.8", "0.67M", "0.500 (0.500 to 0.500)"]
    assert row[4:] == ["0.4200 (0.4000 to 0.4400)", "-0.030 (2)", "-0.140 (1)", "-"]


def test_gains_are_percent_of_the_mean_of_vanilla():
    """.30 and .50 have the mean .40: 25% below and above. A gate and a changed start are not shown,
    nor a regime in which only vanilla was trained."""
    name = "images_in_background"
    lines = [run("vanilla", seed, 1.0, each) for seed, each in enumerate((0.3, 0.5))]
    assert gains(lines) == {}
    lines += [
        *(run(each, 0, 1.0, 0.6) for each in ("loss", "exact", "random", "loss_mixed")),
        *(run(each, 0, 1.0, 0.9) for each in ("loss_start_50", "loss_gate_evaluation")),
        run("loss", 1, 0.5, 0.9),
    ]
    (own,) = gains(lines).values()
    assert list(gains(lines)) == [name]
    assert own.pop("vanilla") == pytest.approx([-25, 25])
    assert len(own) == 4
    assert all(values == pytest.approx([50]) for values in own.values())


def test_a_page_gets_the_tables_and_the_figures_that_it_shows(tmp_path):
    lines = [*VANILLA, run("loss", 0, 1.0, 0.3)]
    shown = ["time_to_accuracy.png", "time_to_accuracy_images_in_background.png"]
    page = tmp_path / "page.md"
    places = "\n".join(f"{BEGIN.format(name)}\n{END}" for name in tables([]))
    page.write_text(places)
    write_page(lines, page)
    assert list(tmp_path.iterdir()) == [page]
    page.write_text("\n".join([places, *(f"![]({name})" for name in shown)]))
    written = write_page(lines, page)
    assert written == page.read_text()
    assert all(table.strip() in written for table in tables(lines).values())
    assert sorted(file.name for file in tmp_path.glob("*.png")) == shown
