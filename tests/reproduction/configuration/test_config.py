"""Command line over YAML over defaults, and the refusal of what would be silently wrong."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from transformers import SchedulerType

from sift_trainer.reproduction.configuration import ConfigError, load_yaml, parse_config


@dataclass
class Model:
    width: int = field(default=8, metadata={"help": "Units per layer."})
    kind: Literal["wide", "deep"] = "wide"


@dataclass
class Training:
    rate: float = 0.5
    steps: int = 10
    folder: str = "runs"
    limit: int | None = None
    cosine: bool = False
    schedule: SchedulerType | str = "linear"
    report: None | str | list[str] = None  # noqa: RUF036 - written as transformers writes it
    extra: dict | str | None = None
    names: list[str] = field(default_factory=list)

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate={self.rate} must be 0 or more, such as 0.5")


KINDS = (Model, Training)


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "config.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def parse(*argv: str):
    return parse_config(KINDS, argv)


def refused(*argv: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(*argv)
    return str(error.value)


def test_each_place_wins_over_the_ones_below_it(write):
    """Flag > runs entry > file > base > default."""
    write("width: 1\nrate: 1\nsteps: 1\nfolder: base\n", "base.yaml")
    path = write("base: base.yaml\nrate: 2\nsteps: 2\nwidth: 2\nruns: {a: {steps: 3, width: 3}}\n")
    config = parse("--config", path, "--width", "4")
    _, plain = config.instances
    model, training = config.runs["a"]
    assert (model.kind, training.folder, training.rate) == ("wide", "base", 2.0)
    assert (training.steps, model.width) == (3, 4)
    assert plain.steps == 2
    assert parse().runs == {"run": (Model(), Training())}
    _, training = parse("--config", path, "--rate", "0.5").instances
    assert training.rate == 0.5  # the default, but given by a flag


def test_bases_are_found_beside_their_files_and_upper_values_replace_lower_ones(write, tmp_path):
    (tmp_path / "below").mkdir()
    write("width: 3\nruns: {old: {width: 1}}\n", "bottom.yaml")
    write("base: ../bottom.yaml\nrate: 1\n", "below/middle.yaml")
    path = write("base: below/middle.yaml\nsteps: 5\nruns: {new: , other: {width: 2}}\n")
    runs = {"new": None, "other": {"width": 2}}
    assert load_yaml(path) == {"width": 3, "rate": 1, "steps": 5, "runs": runs}
    assert [model.width for model, _ in parse("--config", path).runs.values()] == [3, 2]


def test_runs_can_be_picked_on_the_command_line(write):
    path = write("runs: {a: , b: , c: }\n")
    assert list(parse("--config", path, "--runs", "c", "a").runs) == ["a", "c"]
    assert "there is a, b, c" in refused("--config", path, "--runs", "d")


def test_a_grid_makes_every_run_with_every_combination_of_values(write):
    text = "runs: {a: , b: {width: 2}}\ngrid: {rate: [1e-1, 2], steps: [3, 4]}\n"
    config = parse("--config", write(text))
    cells = {
        "rate_0.1-steps_3": (0.1, 3),
        "rate_0.1-steps_4": (0.1, 4),
        "rate_2.0-steps_3": (2.0, 3),
        "rate_2.0-steps_4": (2.0, 4),
    }
    expected = {
        f"{cell}/{name}": (width, *values)
        for cell, values in cells.items()
        for name, width in (("a", 8), ("b", 2))
    }
    found = {
        name: (model.width, training.rate, training.steps)
        for name, (model, training) in config.runs.items()
    }
    assert found == expected
    assert list(found) == list(expected) == config.names


def test_runs_of_a_grid_are_picked_by_name_cell_or_both(write):
    path = write("runs: {a: , b: }\ngrid: {steps: [1, 2]}\n")
    for wanted, found in (
        ("a", ["steps_1/a", "steps_2/a"]),
        ("steps_2", ["steps_2/a", "steps_2/b"]),
        ("steps_1/b", ["steps_1/b"]),
    ):
        assert list(parse("--config", path, "--runs", wanted).runs) == found


def test_a_file_without_runs_has_one_named_after_it(write):
    assert parse("--config", write("width: 3\n", "loss_exit1.yaml")).names == ["loss_exit1"]
    config = parse("--config", write("grid: {steps: [1, 2]}\n", "mine.yaml"))
    assert config.names == ["steps_1/mine", "steps_2/mine"]


@pytest.mark.parametrize("flag", ["--steps", "--steps=3"])
def test_a_field_of_the_grid_is_not_set_elsewhere(write, flag):
    path = write("grid: {steps: [1, 2]}\n")
    assert "the grid varies steps" in refused("--config", path, flag, "3")
    path = write("grid: {steps: [1, 2]}\nruns: {a: {steps: 2}}\n")
    assert "the grid varies steps" in refused("--config", path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rate: 1e-4", 1e-4),  # YAML 1.1 reads a string
        ("rate: 2", 2.0),
        ("schedule: cosine", "cosine"),
        ("report: [a, b]", ["a", "b"]),
        ("extra: {a: {b: 1}}", {"a": {"b": 1}}),
        ("cosine: yes", True),
    ],
)
def test_a_value_becomes_its_fields_type(write, text, value):
    _, training = parse("--config", write(text)).instances
    got = getattr(training, text.split(":")[0])
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: true", "rate=True: Input should be a number, not true or false"),
        ("steps: 1.5", "steps=1.5: Input should be a valid integer"),
        ("folder: no", "folder=False: Input should be a valid string"),
        ("kind: flat", "kind='flat': Input should be 'wide' or 'deep'"),
        ("rate: -1", "rate=-1.0 must be 0 or more, such as 0.5"),
        ("folder: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("base: config.yaml", "leads back to itself"),
        ("runs: {../a: {}}", "'../a' cannot name a folder"),
        ("runs: {a: {widht: 1}}", "runs.a: unknown key 'widht'; see --help"),
        ("grid: {steps: 3}", "grid.steps=3: write 'steps: [1, 2]'"),
        ("grid: {folder: [a/b]}", "'folder_a/b/config' cannot name a folder"),
    ],
)
def test_what_a_file_may_not_hold(write, text, message):
    path = write(text)
    answer = refused("--config", path)
    assert message in answer
    assert "config.yaml" in answer


@pytest.mark.parametrize("text", ["rate: 1\nrate: 2\n", "runs:\n  a: {width: 1, width: 2}\n"])
def test_a_key_written_twice_is_refused(write, text):
    assert "is written twice" in refused("--config", write(text))
    merged = "runs: {a: &a {width: 1}, b: {<<: *a, width: 2}}\n"
    assert parse("--config", write(merged)).runs["b"][0].width == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--widht", "3"), "unknown argument '--widht'; see --help"),
        (("--wid", "3"), "unknown argument '--wid'"),  # no guessing from a beginning
        (("--rate", "-1"), "rate=-1.0 must be 0 or more, such as 0.5"),
        (("--config", "gone.yaml"), "gone.yaml is not a file"),
    ],
)
def test_what_the_command_line_may_not_hold(argv, message):
    assert message in refused(*argv)


def test_help_shows_the_values_of_the_file(write, capsys):
    with pytest.raises(SystemExit) as end:
        parse("--config", write("width: 77\n"), "--help")
    assert end.value.code == 0
    assert "(default: 77)" in capsys.readouterr().out
