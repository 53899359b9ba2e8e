"""One configuration from three places: command line over YAML file over dataclass defaults."""

import argparse
import dataclasses
import difflib
import re
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sift_trainer.config.field_types import typed
from sift_trainer.config.grid import expand, is_chosen
from sift_trainer.config.yaml_layers import ConfigError, layers

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Config(NamedTuple):
    """What `parse_config` returns.

    `instances` holds one object per dataclass, without any run's overrides; `runs` maps the name of
    each run that was asked for to such a tuple with them; `names` has those of all runs, in order.
    A file without `runs:` gives one run, named after the file. With a `grid:` names have the form
    ``cell/run``, see `grid.expand`.
    """

    instances: tuple[Any, ...]
    runs: dict[str, tuple[Any, ...]]
    names: list[str]


def parse_config(
    dataclass_types: Iterable[type], argv: Sequence[str], ignored: Iterable[type] = ()
) -> Config:
    """Build the dataclasses from `--config FILE` and `--field value` flags.

    The files may have fields of the `ignored` dataclasses too, whose values are not looked at: one
    file can serve several programs.

    A value comes from the first place that has it: command line, entry of `runs:`, file, its base,
    default of the dataclass. `runs:` maps names to a few overrides each, `grid:` fields to lists of
    values, with every combination of which each run is made; `--runs NAME ...` picks some, by name,
    cell, or name within all cells. `--help` prints every field with the value that the file gives
    it, and exits.

    Every run is built here, so that all errors come before any data or model is touched. Raises
    `ConfigError`, a `ValueError` that says where the value stands and what would work.
    """
    kinds = list(dataclass_types)
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    _add_own_flags(own)
    chosen, _ = _parse(own, argv)

    resolved = {name: hint for kind in kinds for name, hint in typing.get_type_hints(kind).items()}
    hints = {name: resolved[name] for kind in kinds for name in _field_names(kind)}
    elsewhere = {name for kind in ignored for name in _field_names(kind)} - hints.keys()
    values: dict[str, Any] = {}
    runs: dict[str, dict[str, Any]] = {}
    grid: dict[str, list[Any]] = {}
    for path, layer in layers(Path(chosen.config)) if chosen.config else []:
        if "runs" in layer:
            runs = _checked_runs(layer.pop("runs"), hints, path, elsewhere)
        if "grid" in layer:
            grid = _checked_grid(layer.pop("grid"), hints, path, elsewhere)
        values.update(_checked(layer, hints, str(path), elsewhere, also=("base", "runs", "grid")))
    if not runs:
        runs = {Path(chosen.config).stem if chosen.config else "run": {}}
    _refuse_flags(grid, argv)
    try:
        runs = expand(grid, runs)
    except ValueError as error:
        raise ConfigError(f"{chosen.config}: {error}") from error
    for wanted in chosen.runs or []:
        if not any(is_chosen(name, wanted) for name in runs):
            raise ConfigError(f"--runs {wanted}: no such run; there is {', '.join(runs)}")

    instances = _build(kinds, values, argv, chosen.config or "command line")
    return Config(
        instances,
        {
            name: _build(kinds, values | overrides, argv, f"run {name!r}")
            for name, overrides in runs.items()
            if chosen.runs is None or any(is_chosen(name, wanted) for wanted in chosen.runs)
        },
        list(runs),
    )


def _checked(
    layer: Any,
    hints: Mapping[str, Any],
    where: str,
    elsewhere: Collection[str],
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """`layer` with every key known and every value converted to its field's type.

    Keys that are known `elsewhere` are left out.
    """
    if not isinstance(layer, dict):
        raise ConfigError(f"{where}={layer!r} is no mapping; write lines of 'key: value'")
    checked = {}
    for key, value in layer.items():
        if key in elsewhere:
            continue
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest(key, [*hints, *also])}")
        try:
            checked[key] = typed(value, hints[key])
        except ValueError as error:
            raise ConfigError(f"{where}: {key}={value!r} {error}") from error
    return checked


def _checked_runs(
    entries: Any, hints: Mapping[str, Any], path: Path, elsewhere: Collection[str]
) -> dict[str, dict[str, Any]]:
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: runs={entries!r}; write lines of 'name: {{key: value}}'")
    for name in entries:
        if not isinstance(name, str) or not _RUN_NAME.fullmatch(name):
            raise ConfigError(
                f"{path}: runs has the name {name!r}, which cannot become a folder; write a name "
                "such as loss_exit_1 (in quotes where YAML reads something else)"
            )
    return {
        name: _checked({} if entry is None else entry, hints, f"{path}: runs.{name}", elsewhere)
        for name, entry in entries.items()
    }


def _checked_grid(
    entries: Any, hints: Mapping[str, Any], path: Path, elsewhere: Collection[str]
) -> dict[str, list[Any]]:
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: grid={entries!r}; write lines of 'field: [value, value]'")
    grid: dict[str, list[Any]] = {}
    for field, values in entries.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path}: grid.{field}={values!r} is no list of values; write '{field}: [1, 2]'"
            )
        for value in values:
            found = _checked({field: value}, hints, f"{path}: grid", elsewhere)
            for kept in found.values():
                if not _RUN_NAME.fullmatch(f"{field}_{kept}"):
                    raise ConfigError(
                        f"{path}: grid.{field} has {kept!r}, which cannot be part of a folder's "
                        "name; write runs for such values"
                    )
                if kept in grid.setdefault(field, []):
                    raise ConfigError(f"{path}: grid.{field} has {kept!r} twice; keep one")
                grid[field].append(kept)
    return grid


def _refuse_flags(grid: Collection[str], argv: Sequence[str]) -> None:
    flags = {text.partition("=")[0].replace("-", "_") for text in argv if text.startswith("--")}
    for field in grid:
        if f"__{field}" in flags:
            raise ConfigError(
                f"command line: --{field} would set all runs to one value, and the grid of the "
                f"configuration varies {field}; pick runs with --runs {field}_VALUE"
            )


def _build(
    kinds: Sequence[type], values: Mapping[str, Any], argv: Sequence[str], where: str
) -> tuple[Any, ...]:
    """One object per dataclass: `values` become the parser's defaults, so that flags win."""
    from transformers import HfArgumentParser

    parser = HfArgumentParser(kinds, allow_abbrev=False, exit_on_error=False)
    _add_own_flags(parser)
    parser.set_defaults(**values)
    namespace, unknown = _parse(parser, argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        known = [name for kind in kinds for name in _field_names(kind)] + ["config", "runs"]
        near = _nearest(flag.lstrip("-").replace("-", "_"), known, prefix="--")
        raise ConfigError(f"command line: unknown argument {flag!r}{near}")
    try:
        return tuple(
            kind(**{name: getattr(namespace, name) for name in _field_names(kind)})
            for kind in kinds
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


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


def _nearest(key: object, known: Sequence[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"; did you mean {prefix + near[0]!r}?" if near else "; see --help for the known ones"
