"""One configuration from three places: command line over YAML files over dataclass defaults."""

import argparse
import dataclasses
import difflib
import re
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sift_trainer.reproduction.configuration.field_types import typed
from sift_trainer.reproduction.configuration.grid import expand, is_chosen
from sift_trainer.reproduction.configuration.yaml_layers import ConfigError, layers

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Config(NamedTuple):
    """What `parse_config` returns.

    Attributes:
        instances: one object per dataclass, without the overrides of any run.
        runs: name -> the objects with the run's overrides, for the runs that `--runs` picks. A file
            without `runs:` has one run, named after the file. With a `grid:` names have the form
            ``cell/run``, see `grid.expand`.
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
    file, its base, default of the dataclass. `runs:` maps names to overrides. `grid:` maps fields
    to lists of values, and every run is made with every combination of them. `--runs NAME ...`
    picks runs by name, cell, or name in all cells. `--help` prints every field with the value that
    the file gives it, and exits.

    Every run is built here, so all errors come before any data or model is touched.

    Args:
        ignored: dataclasses whose fields the files may have too: one file can serve several
            programs. Their values are not used.

    Raises:
        ConfigError: says where the value stands and which would work.
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
            runs = {
                _folder_name(name, f"{path}: runs"): _checked(
                    {} if entry is None else entry, hints, f"{path}: runs.{name}", elsewhere
                )
                for name, entry in _mapping(layer.pop("runs"), f"{path}: runs").items()
            }
        if "grid" in layer:
            grid = _checked_grid(layer.pop("grid"), hints, path, elsewhere)
        values.update(_checked(layer, hints, str(path), elsewhere))
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


def _mapping(content: Any, where: str) -> dict[Any, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}={content!r} is no mapping; write lines of 'key: value'")
    return content


def _folder_name(name: Any, where: str) -> str:
    if not isinstance(name, str) or not _RUN_NAME.fullmatch(name):
        raise ConfigError(
            f"{where} has {name!r}, which cannot name a folder; write a name such as loss_exit_1 "
            "(in quotes if YAML reads something else)"
        )
    return name


def _checked(
    layer: Any, hints: Mapping[str, Any], where: str, elsewhere: Collection[str]
) -> dict[str, Any]:
    """``layer`` without the keys that are known ``elsewhere``. Every other key must be known, and
    its value is converted to the field's type."""
    checked = {}
    for key, value in _mapping(layer, where).items():
        if key in elsewhere:
            continue
        if key not in hints:
            near = _nearest(key, [*hints, "base", "runs", "grid"])
            raise ConfigError(f"{where}: unknown key {key!r}{near}")
        try:
            checked[key] = typed(value, hints[key])
        except ValueError as error:
            raise ConfigError(f"{where}: {key}={value!r}: {error}") from error
    return checked


def _checked_grid(
    entries: Any, hints: Mapping[str, Any], path: Path, elsewhere: Collection[str]
) -> dict[str, list[Any]]:
    grid: dict[str, list[Any]] = {}
    for field, values in _mapping(entries, f"{path}: grid").items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path}: grid.{field}={values!r} is no list of values; write '{field}: [1, 2]'"
            )
        for value in values:
            for kept in _checked({field: value}, hints, f"{path}: grid", elsewhere).values():
                _folder_name(f"{field}_{kept}", f"{path}: grid.{field}")
                grid.setdefault(field, []).append(kept)
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
    """One object per dataclass. ``values`` become the parser's defaults, so that flags win."""
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
