"""docs/when_to_sift.md has the tables of the runs, and every run is one that the grids ask for."""

import json
from pathlib import Path

import pytest
from study.grids import GRIDS, TUNING_SEED
from study.page import BEGIN, END, in_place, tables
from study.regimes import REGIMES
from study.results import Results, read_lines

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "when_to_sift.md").read_text(encoding="utf-8")
FILE = DOCS / "benchmarks" / "time_to_accuracy.jsonl"
LINES = list(read_lines(FILE))


@pytest.mark.parametrize("name", ["summary", "regimes", "rates", "costs", "probe", "gate"])
def test_the_tables_are_those_of_the_runs(name):
    assert in_place(PAGE, name, tables(LINES)[name]) == PAGE


def test_no_line_is_broken():
    written = FILE.read_text(encoding="utf-8").splitlines()
    assert [json.loads(text) for text in written] == LINES


@pytest.mark.parametrize("name", REGIMES)
def test_what_is_compared_was_asked_for(name):
    """The sifted runs of the compared seeds are in the grid, so that none was added by hand;
    further budgets of vanilla only make its frontier finer."""
    results = Results(FILE)
    asked = {id(results.find_run(spec)) for spec in GRIDS["study"](name)}
    for line in results.lines:
        compared = line["kind"] == "run" and line["seed"] != TUNING_SEED
        if compared and line["regime"] == name and line["method"] != "vanilla":
            assert id(line) in asked, (line["method"], line["seed"], line["budget"], line["rate"])


def test_a_page_without_a_place_is_refused():
    begin = BEGIN.format("summary")
    assert in_place(f"a\n{begin}\nold\n{END}\nb", "summary", "new") == (
        f"a\n{begin}\n\nnew\n\n{END}\nb"
    )
    with pytest.raises(ValueError, match="no place for the table 'summary'"):
        in_place("a", "summary", "new")
