"""Which runs are seeds of one configuration, and which configurations differ in sifting alone."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sift_trainer.report import MEASURES
from sift_trainer.reporting.reading import LoggedRun
from sift_trainer.tables import REFERENCES, cell_of

_SEEDS = {"training.seed", "training.data_seed"}
_NEITHER_RESULT_NOR_SPEED = {
    "run",
    "images.files",
    "images.cache_dir",
    *(
        f"training.{name}"
        for name in (
            *("output_dir", "run_name", "resume_from_checkpoint", "report_to", "project"),
            *("disable_tqdm", "local_rank", "log_level", "log_level_replica", "log_on_each_node"),
            *("save_strategy", "save_steps", "save_total_limit", "logging_dir"),
        )
    ),
}
MASKED_LM = MEASURES["mlm_accuracy"]


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

    def sift(self, name: str) -> Any:
        """The value of a ``sift_*`` field."""
        return self.first.setting("training", f"sift_{name}")

    @property
    def is_baseline(self) -> bool:
        """Nothing was sifted; by its name where the settings are not known."""
        ratio = self.sift("keep_ratio")
        return self.label in REFERENCES if ratio is None else ratio == 1

    @property
    def same_time(self) -> bool:
        """Whether it ended with the time of another run."""
        return self.first.setting("duration", "same_time_as") is not None

    @property
    def depth(self) -> int | None:
        """How many exits the model has."""
        if self.first.setting("images") is not None:
            return 2
        layers = self.first.setting("model", "num_hidden_layers")
        return layers if isinstance(layers, int) else None

    @property
    def exit_layer(self) -> int | None:
        """With -1 as the last one's number, where that is known."""
        layer = self.sift("exit_layer")
        return self.depth if layer == -1 else layer

    @property
    def is_last_exit(self) -> bool:
        return self.sift("exit_layer") == -1 or self.exit_layer == self.depth is not None

    @property
    def is_the_papers(self) -> bool:
        """Whether it keeps the larger half by the paper's rule."""
        wanted = {"keep_ratio": 0.5, "selector": "top_k", "skip_top": 0.0, "interval": 1}
        return all(self.sift(name) == value for name, value in wanted.items())


@dataclass(frozen=True)
class Comparison:
    """Configurations that differ in ``sift_*`` fields and in what ends them.

    Attributes:
        name: unique in a report.
        groups: the baseline, if there is one, first.
        others: of configurations without a baseline, the fields in which they differ from the
            nearest that has one.
    """

    name: str
    groups: list[Group]
    others: list[str]

    @property
    def baseline(self) -> Group | None:
        return self.groups[0] if self.groups[0].is_baseline else None

    @property
    def measure(self) -> str:
        return self.groups[0].first.run.measure

    @property
    def runs(self) -> list[LoggedRun]:
        return [run for group in self.groups for run in group.runs]

    @property
    def dataset(self) -> str | None:
        """Of an image experiment."""
        dataset = self.groups[0].first.setting("images", "dataset")
        return None if dataset is None else str(dataset)


def compare(runs: Sequence[LoggedRun]) -> list[Comparison]:
    """All runs, in comparisons, those with a baseline first."""
    families: dict[str, dict[str, list[LoggedRun]]] = {}
    fields: dict[str, dict[str, str]] = {}
    for run in runs:
        whole = _configuration(run)
        rest = {key: value for key, value in whole.items() if not _is_sifting(key)}
        family = json.dumps(rest, sort_keys=True)
        fields[family] = rest
        group = json.dumps(whole, sort_keys=True)
        families.setdefault(family, {}).setdefault(group, []).append(run)
    named = {family: _groups(list(found.values())) for family, found in families.items()}
    with_baseline = [family for family in named if named[family][0].is_baseline]
    order = sorted(named, key=lambda family: _place(named[family]))
    names = _unique([_title(named[family]) for family in order])
    return [
        Comparison(
            name,
            named[family],
            []
            if family in with_baseline
            else _nearest(fields[family], [fields[other] for other in with_baseline]),
        )
        for name, family in zip(names, order, strict=True)
    ]


def _place(groups: Sequence[Group]) -> tuple[bool, str, float]:
    """Those with a baseline first, then by data set, high learning rates first as in the paper."""
    run = groups[0].first
    dataset, rate = run.setting("images", "dataset"), run.setting("training", "learning_rate")
    return not groups[0].is_baseline, str(dataset or ""), -(rate or 0.0)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The fields of two runs' settings that differ in more than where they were written."""
    first, second = _flat(one), _flat(other)
    return sorted(
        key
        for key in first.keys() | second.keys()
        if key not in _NEITHER_RESULT_NOR_SPEED and first.get(key) != second.get(key)
    )


def _configuration(run: LoggedRun) -> dict[str, str]:
    """The fields of a run but its seed. A run of unknown settings is like no other, and in a
    comparison with those that are in one folder with it."""
    if run.setting("training") is None:
        return {"measure": run.run.measure, "folder": cell_of(run.name), "training.sift_": run.name}
    drop = _SEEDS | _NEITHER_RESULT_NOR_SPEED
    return {"measure": run.run.measure} | {
        key: value for key, value in _flat(run.settings).items() if key not in drop
    }


def _is_sifting(key: str) -> bool:
    return key.startswith(("training.sift_", "duration."))


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    def walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, part in value.items():
                yield from walk(part, f"{path}.{key}" if path else str(key))
        else:
            yield path, json.dumps(value, sort_keys=True)

    return dict(walk(settings, ""))


def _groups(found: Sequence[list[LoggedRun]]) -> list[Group]:
    labels = [_label(runs[0]) for runs in found]
    flat = [_flat(runs[0].settings) for runs in found]
    for label in [label for label, count in Counter(labels).items() if count > 1]:
        same = [index for index, other in enumerate(labels) if other == label]
        keys = [key for key in flat[same[0]] if _is_sifting(key)]
        telling = [key for key in keys if len({flat[index].get(key) for index in same}) > 1]
        for index in same:
            values = ", ".join(
                f"{key.rpartition('.')[2]}={flat[index].get(key)}" for key in telling
            )
            labels[index] = f"{label} ({values or found[index][0].name})"
    groups = [Group(label, runs) for label, runs in zip(labels, found, strict=True)]
    return sorted(groups, key=_order)


def _label(run: LoggedRun) -> str:
    return run.name.rpartition("/")[2]


def _order(group: Group) -> tuple[bool, bool, int, int, str]:
    """As in the paper: baseline, loss by exit, entropy by exit."""
    criteria = ["loss", "entropy"]
    criterion = group.sift("criterion")
    rank = criteria.index(criterion) if criterion in criteria else len(criteria)
    layer = group.exit_layer
    depth = layer if isinstance(layer, int) else 10**6
    return (not group.is_baseline, group.same_time, rank, depth, group.label)


def _title(groups: Sequence[Group]) -> str:
    run = groups[0].first
    rate = run.setting("training", "learning_rate")
    dataset = run.setting("images", "dataset")
    layers = run.setting("model", "num_hidden_layers")
    if dataset is not None and rate is not None:
        return f"{dataset}, learning rate {rate:g}"
    if layers is not None:
        width = run.setting("model", "hidden_size")
        return f"{layers} layers of width {width}, {run.run.final.spent.step:,.0f} updates"
    return cell_of(run.name) or run.run.measure


def _unique(names: Sequence[str]) -> list[str]:
    counts = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return unique


def _nearest(fields: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> list[str]:
    """In the fewest fields; nothing where nothing has the same measure."""
    alike = [other for other in others if other["measure"] == fields["measure"]]
    differences = [
        sorted(key for key in fields.keys() | other.keys() if fields.get(key) != other.get(key))
        for other in alike
    ]
    return min(differences, key=len, default=[])
