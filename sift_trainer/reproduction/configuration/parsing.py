"""One configuration from three places: command line over YAML files over dataclass defaults."""

import argparse
import dataclasses
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

_NAME = re.compile(r"[^./\\][^/\\]*")
_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the place and the value."""


@contextmanager
def config_errors(where: str = "") -> Iterator[None]:
    """Raises the `ValueError` of the block as a `ConfigError`, with ``where`` before its text."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{where}{error}") from error


class Config(NamedTuple):
    """What `parse_config` returns.

    Attributes:
        instances: one object per dataclass, without the overrides of any run.
        runs: name -> the objects with the run's overrides, for the runs that `--runs` picks. A file
            without `runs:` has one run, named after the file. With a `grid:` names have the form
            ``learning_rate_0.05-seed_1/baseline``, the path of the run's folder.
        names: of all runs, in order.
    """

    instances: tuple[Any, ...]
    runs: dict[str, tuple[Any, ...]]
    names: list[str]


def parse_config(
    dataclass_types: Iterable[type], argv: Sequence[str], ignored: Iterable[type] = ()
) -> Config:
    """Build the dataclasses from `--config FILE` and `--field value` flags.

    Each value comes from the first of these places that has it: command line, entry of `runs:`,
    file, its base, default of the dataclass. `runs:` maps names to overrides, `grid:` maps fields
    to lists of values: every run is made with every combination. `--runs` picks runs by name,
    cell, or name in all cells.

    Args:
        ignored: dataclasses whose fields the files may have too, without effect: one file can serve
            several programs.

    Raises:
        ConfigError: for values of any run that cannot be used.
    """
    kinds = list(dataclass_types)
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    _add_own_flags(own)
    chosen, _ = _parse(own, argv)

    resolved = {name: hint for kind in kinds for name, hint in typing.get_type_hints(kind).items()}
    fields = _Fields(
        {name: resolved[name] for kind in kinds for name in _field_names(kind)},
        {name for kind in ignored for name in _field_names(kind)},
    )
    values: dict[str, Any] = {}
    runs: dict[str, dict[str, Any]] = {}
    grid: dict[str, list[Any]] = {}
    for path, layer in layers(Path(chosen.config)) if chosen.config else []:
        if "runs" in layer:
            entries = _mapping(layer.pop("runs"), f"{path}: runs")
            runs = {
                str(name): fields.typed({} if entry is None else entry, f"{path}: runs.{name}")
                for name, entry in entries.items()
            }
        if "grid" in layer:
            grid = fields.grid(layer.pop("grid"), f"{path}: grid")
        values.update(fields.typed(layer, str(path)))
    where = chosen.config or "command line"
    _refuse_overrides(grid, runs, argv, where)
    runs = _expand(grid, runs or {Path(chosen.config).stem if chosen.config else "run": {}})
    for name in runs:
        if not all(_NAME.fullmatch(part) for part in name.split("/", bool(grid))):
            raise ConfigError(f"{where}: {name!r} cannot name a folder")
    for wanted in chosen.runs or []:
        if not any(is_chosen(name, wanted) for name in runs):
            raise ConfigError(f"--runs {wanted}: no such run; there is {', '.join(runs)}")
    return Config(
        _build(kinds, values, argv, where),
        {
            name: _build(kinds, values | overrides, argv, f"run {name!r}")
            for name, overrides in runs.items()
            if chosen.runs is None or any(is_chosen(name, wanted) for wanted in chosen.runs)
        },
        list(runs),
    )


def is_chosen(name: str, wanted: str) -> bool:
    """Whether ``wanted`` names this run, its cell, or the runs of this name in all cells."""
    return wanted in (name, *name.split("/"))


class _Fields(NamedTuple):
    hints: Mapping[str, Any]
    ignored: Collection[str]

    def typed(self, layer: Any, where: str) -> dict[str, Any]:
        """The values of a mapping, converted to the types of their fields."""
        typed = {}
        for key, value in _mapping(layer, where).items():
            if key in self.hints:
                with config_errors(f"{where}: {key}={value!r}: "):
                    typed[key] = _convert(value, self.hints[key])
            elif key not in self.ignored:
                raise ConfigError(f"{where}: unknown key {key!r}; see --help for the known ones")
        return typed

    def grid(self, entries: Any, where: str) -> dict[str, list[Any]]:
        grid = {}
        for field, values in _mapping(entries, where).items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"{where}.{field}={values!r}: write '{field}: [1, 2]'")
            cells = [self.typed({field: value}, where) for value in values]
            if field in self.hints:
                grid[field] = [cell[field] for cell in cells]
        return grid


def _convert(value: Any, hint: Any) -> Any:
    """``value`` as the type ``hint``; raises `ValueError` if the conversion would lose something.

    A bool is never a number: ``true`` would become 1.
    """
    if isinstance(hint, type) and issubclass(hint, dict) and isinstance(value, dict):
        return hint(value)
    try:
        converted = TypeAdapter(hint, config=_ANY_CLASS).validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(detail["msg"] for detail in error.errors())
        raise ValueError(" or ".join(reasons)) from error
    if isinstance(value, bool) and not isinstance(converted, bool):
        raise ValueError("Input should be a number, not true or false")
    return converted


def _mapping(content: Any, where: str) -> dict[Any, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}={content!r} is no mapping; write lines of 'key: value'")
    return content


def _expand(
    grid: Mapping[str, Sequence[Any]], runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    expanded = {}
    for values in product(*grid.values()):
        cell = dict(zip(grid, values, strict=True))
        prefix = "-".join(f"{field}_{value}" for field, value in cell.items())
        for name, overrides in runs.items():
            expanded[f"{prefix}/{name}" if grid else name] = {**cell, **overrides}
    return expanded


def _refuse_overrides(
    grid: Collection[str], runs: Mapping[str, Mapping[str, Any]], argv: Sequence[str], where: str
) -> None:
    """A field of the grid has to differ between cells, as their names say."""
    flags = {text.partition("=")[0].replace("-", "_") for text in argv if text.startswith("--")}
    for field in grid:
        if f"__{field}" in flags or any(field in overrides for overrides in runs.values()):
            raise ConfigError(
                f"{where}: the grid varies {field}, so neither a flag nor a run can set it; pick "
                f"runs with --runs {field}_VALUE"
            )


def _build(
    kinds: Sequence[type], values: Mapping[str, Any], argv: Sequence[str], where: str
) -> tuple[Any, ...]:
    """One object per dataclass. ``values`` become the parser's defaults, so that flags win."""
    from transformers import HfArgumentParser

    parser = HfArgumentParser(kinds, allow_abbrev=False, exit_on_error=False)
    _add_own_flags(parser)
    parser.set_defaults(**values)
    namespace, unknown = _parse(parser, argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise ConfigError(f"command line: unknown argument {flag!r}; see --help")
    with config_errors(f"{where}: "):
        return tuple(
            kind(**{name: getattr(namespace, name) for name in _field_names(kind)})
            for kind in kinds
        )


def _add_own_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML file with values for the fields.")
    parser.add_argument("--runs", metavar="NAME", nargs="+", help="Do only these of its runs.")


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[Any, list[str]]:
    try:
        return parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise ConfigError(f"command line: {error}; see --help") from error


def _field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping, merged over the file that its `base:` key names.

    `base` is relative to the file that names it and may have a base of its own. A key of the upper
    file replaces the whole value below. The result has no `base` key.

    Raises:
        ConfigError: for a file that is missing, is no mapping, has a key twice or is its own base.
    """
    merged: dict[str, Any] = {}
    for _, layer in layers(Path(path)):
        merged.update(layer)
    return merged


def layers(path: Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases, the lowest base first; raises as `load_yaml` does."""
    if path.resolve() in above:
        raise ConfigError(f"{path}: its 'base' leads back to itself")
    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_UniqueKeyLoader) or {}
    except OSError as error:
        raise ConfigError(f"{path} is not a file that can be read") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; write lines of 'key: value'")
    base = content.pop("base", None)
    if base is None:
        return [(path, content)]
    return [*layers(path.parent / str(base), (*above, path.resolve())), (path, content)]


class _UniqueKeyLoader(yaml.SafeLoader):
    """A `SafeLoader` (plain data, never code) that refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise ConfigError(f"{self.name}: key {key!r} is written twice below line {line}")
        return super().construct_mapping(node, deep)
