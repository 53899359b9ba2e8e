"""Which runs are seeds of one configuration, and which configurations differ in sifting alone."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, NamedTuple

from sift_trainer.reproduction.report.history import MEASURES, Run

Fields = frozenset[tuple[str, str]]
NONE = "-"
MASKED_LM = MEASURES["mlm_accuracy"]
_NEITHER_RESULT_NOR_SPEED = {
    *("event", "step", "time", "run", "images.files", "images.cache_dir"),
    *("training.seed", "training.data_seed", "training.output_dir", "training.run_name"),
    *("training.resume_from_checkpoint", "training.report_to", "training.project"),
    *("training.disable_tqdm", "training.local_rank", "training.logging_dir"),
}
_NEITHER_BY_PREFIX = ("machine.", "training.log_", "training.save_")
_SIFTING = ("training.sift_", "duration.")
# Settings of the paper's runs: half of the candidates, the hardest, in every step.
_PAPERS = {"keep_ratio": 0.5, "selector": "top_k", "skip_top": 0, "interval": 1}


class Unit(NamedTuple):
    """A unit of time, and the format of numbers in it."""

    name: str
    seconds: float
    form: str


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, which differ in their seeds.

    Attributes:
        label: unique among the groups of a comparison.
    """

    label: str
    runs: list[Run]

    def setting(self, *path: str) -> Any:
        return self.runs[0].setting(*path)

    def sift(self, name: str) -> Any:
        """The value of a ``sift_*`` field."""
        return self.setting("training", f"sift_{name}")

    @property
    def accuracy(self) -> float:
        """The last accuracy, a mean over the seeds."""
        return mean(run.final.accuracy for run in self.runs)

    @property
    def is_baseline(self) -> bool:
        return bool(self.sift("keep_ratio") == 1)

    @property
    def same_time(self) -> bool:
        """Whether it ended with the time of another run."""
        return self.setting("duration", "same_time_as") is not None

    @property
    def depth(self) -> int | None:
        """The number of exits of the model; None if it is unknown."""
        layers: int | None = self.setting("model", "num_hidden_layers")
        return 2 if self.setting("images") else layers

    @property
    def exit_layer(self) -> int | None:
        """From 1 to the depth, also where it was set as -1."""
        layer: int = self.sift("exit_layer")
        return self.depth if layer == -1 else layer

    @property
    def is_the_papers(self) -> bool:
        """Whether it keeps the larger half by the paper's rule, none of it at random."""
        return all((self.sift(name) or 0) == value for name, value in _PAPERS.items())


@dataclass(frozen=True)
class Comparison:
    """Configurations that differ in ``sift_*`` fields and in what ends them.

    Attributes:
        name: unique in a report.
        groups: the baseline first, if there is one.
    """

    name: str
    groups: list[Group]

    @property
    def baseline(self) -> Group | None:
        return self.groups[0] if self.groups[0].is_baseline else None

    @property
    def measure(self) -> str:
        return self.runs[0].measure

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def dataset(self) -> str:
        """The data set of an image experiment."""
        return self.groups[0].setting("images", "dataset") or ""

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.groups[0].setting("training", "learning_rate"))

    @property
    def unit(self) -> Unit:
        """The unit for the training times of whole runs."""
        return unit_of([run.final.spent.total_seconds for run in self.runs])

    def gain(self, group: Group | None) -> float | None:
        """Its accuracy less the baseline's."""
        if group is None or self.baseline is None:
            return None
        return group.accuracy - self.baseline.accuracy

    def ratio(
        self, group: Group, value: Callable[[Run], float | None], *, timed: bool = False
    ) -> float | None:
        """The mean of `value` over the seeds, over the baseline's; None if a seed has none.

        If `value` is `timed`, runs on different machines are not compared.
        """
        if self.baseline is None:
            return None
        runs = [*group.runs, *self.baseline.runs]
        if timed and len(set[str]().union(*(run.machines for run in runs))) > 1:
            return None
        values = [[value(run) for run in each.runs] for each in (group, self.baseline)]
        return ratio(*map(mean_of_all, values))


def short_name(name: str) -> str:
    """The name of a run in its cell."""
    return name.rpartition("/")[2]


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """All runs, in comparisons, those with a baseline first."""
    families: dict[Fields, list[Run]] = {}
    for run in runs:
        alike = {field for field in _fields(run) if not field[0].startswith(_SIFTING)}
        families.setdefault(frozenset(alike), []).append(run)
    found = [Comparison("", _groups(family)) for family in families.values()]
    # As in the paper: by data set, high learning rates first.
    found.sort(key=lambda each: (each.baseline is None, each.dataset, -each.rate))
    named = []
    for index, each in enumerate(found, start=1):
        name = f"{each.dataset or each.measure}, learning rate {each.rate:g}"
        named.append(Comparison(f"{index}. {name}" if len(found) > 1 else name, each.groups))
    return named


def _fields(run: Run) -> Fields:
    """The settings that matter to results or speed."""
    fields = {"measure": run.measure}
    for part, value in run.starts[-1].items():
        inner = value if isinstance(value, Mapping) else {"": value}
        fields |= {f"{part}.{name}".strip("."): json.dumps(inner[name]) for name in inner}
    return frozenset(
        (name, value)
        for name, value in fields.items()
        if name not in _NEITHER_RESULT_NOR_SPEED and not name.startswith(_NEITHER_BY_PREFIX)
    )


def _groups(runs: Iterable[Run]) -> list[Group]:
    """One for each configuration. Folders tell two of the same name apart."""
    found: dict[Fields, list[Run]] = {}
    for run in runs:
        found.setdefault(_fields(run), []).append(run)
    labels = [short_name(same[0].name) for same in found.values()]
    groups = [
        Group(label if labels.count(label) == 1 else same[0].name, same)
        for label, same in zip(labels, found.values(), strict=True)
    ]
    return sorted(groups, key=_paper_order)


def _paper_order(group: Group) -> tuple[bool, bool, int, int, str]:
    """Baseline, loss by exit, entropy by exit."""
    rank = {"loss": 0, "entropy": 1}.get(group.sift("criterion"), 2)
    layer = group.exit_layer or 10**6
    return (not group.is_baseline, group.same_time, rank, layer, group.label)


def unit_of(seconds: Sequence[float]) -> Unit:
    """The unit that suits the longest of these times."""
    longest = max(seconds, default=0.0)
    if longest >= 2 * 3600:
        return Unit("h", 3600.0, ".2f")
    return Unit("min", 60.0, ".2f") if longest >= 600 else Unit("s", 1.0, ".1f")


def spread(values: Sequence[float | None], form: str, unit: str = "") -> str:
    """Such as ``0.1300 (0.1292 to 0.1311)``: mean, lowest and highest; `NONE` if one is missing."""
    if mean_of_all(values) is None:
        return NONE
    known = [value for value in values if value is not None]
    middle, low, high = (format(value, form) for value in (mean(known), min(known), max(known)))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low} to {high})"


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """None without values, or if one of them is missing."""
    known = [value for value in values if value is not None]
    return mean(known) if known and None not in values else None


def ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
