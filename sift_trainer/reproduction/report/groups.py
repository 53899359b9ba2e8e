"""Which runs are seeds of one configuration, and which configurations differ in sifting alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sift_trainer.reproduction.report.history import MEASURES
from sift_trainer.reproduction.report.runs import LoggedRun
from sift_trainer.reproduction.report.statistics import Unit, unit_of

REFERENCES = ("vanilla", "baseline")
MASKED_LM = MEASURES["mlm_accuracy"]
_SEEDS = ["training.seed", "training.data_seed"]
_NEITHER_RESULT_NOR_SPEED = [
    *("event", "step", "time", "run", "images.files", "images.cache_dir"),
    *(
        f"training.{name}"
        for name in (
            *("output_dir", "run_name", "resume_from_checkpoint", "report_to", "project"),
            *("disable_tqdm", "local_rank", "log_level", "log_level_replica", "log_on_each_node"),
            *("save_strategy", "save_steps", "save_total_limit", "logging_dir"),
        )
    ),
]
# Settings of the paper's runs: half of the candidates, the hardest, in every step.
_PAPERS = {"keep_ratio": 0.5, "selector": "top_k", "skip_top": 0.0, "interval": 1}


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, which differ in their seeds.

    Attributes:
        label: unique among the groups of a comparison.
    """

    label: str
    runs: list[LoggedRun]

    @property
    def first(self) -> LoggedRun:
        return self.runs[0]

    @property
    def points(self) -> pd.DataFrame:
        """A row for each evaluation, with the totals and the accuracy of that moment."""
        return pd.DataFrame(
            [
                {
                    "run": run.name,
                    "step": point.spent.step,
                    "backprop_samples": point.spent.backprop_samples,
                    "total_seconds": point.spent.total_seconds,
                    "accuracy": point.accuracy,
                }
                for run in self.runs
                for point in run.points
            ]
        )

    def sift(self, name: str) -> Any:
        """The value of a ``sift_*`` field; None if it is unknown."""
        return self.first.setting("training", f"sift_{name}")

    @property
    def is_baseline(self) -> bool:
        """Whether it does not sift; decided by its name if the settings are unknown."""
        ratio = self.sift("keep_ratio")
        return self.label in REFERENCES if ratio is None else ratio == 1

    @property
    def same_time(self) -> bool:
        """Whether it ended with the time of another run."""
        return self.first.setting("duration", "same_time_as") is not None

    @property
    def depth(self) -> int | None:
        """The number of exits of the model; None if it is unknown."""
        if self.first.setting("images") is not None:
            return 2
        layers: int | None = self.first.setting("model", "num_hidden_layers")
        return layers

    @property
    def exit_layer(self) -> int | None:
        """From 1 to the depth, also where it was set as -1."""
        layer: int | None = self.sift("exit_layer")
        return self.depth if layer == -1 else layer

    @property
    def is_last_exit(self) -> bool:
        return self.sift("exit_layer") == -1 or self.exit_layer == self.depth is not None

    @property
    def is_the_papers(self) -> bool:
        """Whether it keeps the larger half by the paper's rule, none of it at random."""
        by_rule = all(self.sift(name) == value for name, value in _PAPERS.items())
        return by_rule and not self.sift("random_share")


@dataclass(frozen=True)
class Comparison:
    """Configurations that differ in ``sift_*`` fields and in what ends them.

    Attributes:
        name: unique in a report.
        groups: the baseline first, if there is one.
        others: for a comparison without baseline, the fields in which it differs from the nearest
            comparison that has one.
    """

    name: str
    groups: list[Group]
    others: list[str]

    @property
    def baseline(self) -> Group | None:
        return self.groups[0] if self.groups[0].is_baseline else None

    @property
    def measure(self) -> str:
        return self.groups[0].first.measure

    @property
    def runs(self) -> list[LoggedRun]:
        return [run for group in self.groups for run in group.runs]

    @property
    def dataset(self) -> str | None:
        """The data set of an image experiment."""
        dataset: str | None = self.groups[0].first.setting("images", "dataset")
        return dataset

    @property
    def rate(self) -> float:
        """The learning rate; 0 if it is unknown."""
        return self.groups[0].first.setting("training", "learning_rate") or 0.0

    @property
    def unit(self) -> Unit:
        """The unit for the training times of whole runs."""
        return unit_of([run.final.spent.total_seconds for run in self.runs])

    @property
    def title(self) -> str:
        """A name for it, which is not always unique."""
        run = self.groups[0].first
        layers, width = (
            run.setting("model", name) for name in ("num_hidden_layers", "hidden_size")
        )
        if self.dataset is not None:
            return f"{self.dataset}, learning rate {self.rate:g}"
        if layers is not None:
            return f"{layers} layers of width {width}, {run.final.spent.step:,.0f} updates"
        return cell_of(run.name) or self.measure


def cell_of(name: str) -> str:
    """The folder of a run, which is its cell in a grid; empty without one."""
    return name.rpartition("/")[0]


def short_name(name: str) -> str:
    """The name of a run in its cell."""
    return name.rpartition("/")[2]


def compare(runs: Sequence[LoggedRun]) -> list[Comparison]:
    """All runs, in comparisons, those with a baseline first."""
    if not runs:
        return []
    fields = _fields([run.starts[-1] if run.starts else {} for run in runs])
    fields = fields.drop(columns=_SEEDS, errors="ignore")
    fields["measure"] = [run.measure for run in runs]
    # Runs with unknown settings are compared by name within their folder.
    unknown = [run for run in runs if run.setting("training") is None]
    fields["folder"] = [cell_of(run.name) if run in unknown else "" for run in runs]
    fields["training.sift_"] = [run.name if run in unknown else "" for run in runs]
    sifting = [name for name in fields if name.startswith(("training.sift_", "duration."))]
    shared = [name for name in fields if name not in sifting]

    found = [
        (Comparison("", _groups(family[sifting], runs), []), family[shared].iloc[0])
        for _, family in fields.groupby(shared, sort=False)
    ]
    # As in the paper: by data set, high learning rates first.
    found.sort(key=lambda each: (each[0].baseline is None, each[0].dataset or "", -each[0].rate))
    with_baseline = [setting for each, setting in found if each.baseline]
    titles = [each.title for each, _ in found]
    comparisons = []
    for index, (each, setting) in enumerate(found):
        name, count = titles[index], titles[: index + 1].count(titles[index])
        name += f" ({count})" if titles.count(name) > 1 else ""
        others = [] if each.baseline else _nearest(setting, with_baseline)
        comparisons.append(Comparison(name, each.groups, others))
    return comparisons


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The fields of two runs' settings that differ and matter to results or speed."""
    fields = _fields([one, other])
    return sorted(name for name in fields if fields[name].nunique() > 1)


def _fields(settings: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row of flat fields for each start line, as text."""
    fields = pd.json_normalize([dict(each) for each in settings])
    matter = [
        name
        for name in fields
        if name not in _NEITHER_RESULT_NOR_SPEED and not name.startswith("machine.")
    ]
    return fields[matter].reindex(range(len(settings))).map(json.dumps)


def _groups(sifting: pd.DataFrame, runs: Sequence[LoggedRun]) -> list[Group]:
    """One for each configuration of a family. If two have the same name, the fields that differ are
    added to it."""
    found = [same.index for _, same in sifting.groupby(list(sifting), sort=False)]
    labels = [short_name(runs[index[0]].name) for index in found]
    telling = [name for name in sifting if sifting[name].nunique() > 1]
    groups = []
    for label, index in zip(labels, found, strict=True):
        if labels.count(label) > 1:
            values = [f"{name.rpartition('.')[2]}={sifting[name][index[0]]}" for name in telling]
            label = f"{label} ({', '.join(values)})"
        groups.append(Group(label, [runs[i] for i in index]))
    return sorted(groups, key=_paper_order)


def _paper_order(group: Group) -> tuple[bool, bool, int, int, str]:
    """The order of the paper: baseline, loss by exit, entropy by exit."""
    rank = {"loss": 0, "entropy": 1}.get(group.sift("criterion"), 2)
    layer = group.exit_layer
    return (not group.is_baseline, group.same_time, rank, layer or 10**6, group.label)


def _nearest(setting: pd.Series, others: Sequence[pd.Series]) -> list[str]:
    """The fields in which the nearest of the others with the same measure differs."""
    alike = [other for other in others if other["measure"] == setting["measure"]]
    differences = [sorted(setting.index[setting != other]) for other in alike]
    return min(differences, key=len, default=[])
