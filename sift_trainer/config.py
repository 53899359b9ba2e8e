"""One configuration from three places: command line over YAML file over dataclass defaults."""

import argparse
import dataclasses
import difflib
import enum
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the place, the value and a remedy."""


class Config(NamedTuple):
    """What `parse_config` returns.

    `instances` holds one object per dataclass, without any run's overrides; `runs` maps each run's
    name to such a tuple with them. A file without `runs:` gives one run, named after the file.
    """

    instances: tuple[Any, ...]
    runs: dict[str, tuple[Any, ...]]


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping, with the file that its `base:` key names underneath it.

    `base` is relative to the file that names it and may have a base of its own. A key of the upper
    file replaces the whole value below. The result has no `base` key. Raises `ConfigError` for a
    file that is missing, is no mapping, has a key twice or is its own base.
    """
    merged: dict[str, Any] = {}
    for _, layer in _layers(Path(path)):
        merged.update(layer)
    return merged


def parse_config(
    dataclass_types: Iterable[type], argv: Sequence[str], ignored: Iterable[type] = ()
) -> Config:
    """Build the dataclasses from `--config FILE` and `--field value` flags.

    The files may have fields of the `ignored` dataclasses too, whose values are not looked at: one
    file can serve several programs.

    A value comes from the first place that has it: command line, entry of `runs:`, file, its base,
    default of the dataclass. `runs:` maps names to a few overrides each; `--runs NAME ...` picks
    some of them. `--help` prints every field with the value that the file gives it, and exits.

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
    for path, layer in _layers(Path(chosen.config)) if chosen.config else []:
        if "runs" in layer:
            runs = _checked_runs(layer.pop("runs"), hints, path, elsewhere)
        values.update(_checked(layer, hints, str(path), elsewhere, also=("base", "runs")))
    if not runs:
        runs = {Path(chosen.config).stem if chosen.config else "run": {}}
    for name in chosen.runs or []:
        if name not in runs:
            raise ConfigError(f"--runs {name}: no such run; there is {', '.join(runs)}")

    instances = _build(kinds, values, argv, chosen.config or "command line")
    return Config(
        instances,
        {
            name: _build(kinds, values | overrides, argv, f"run {name!r}")
            for name, overrides in runs.items()
            if chosen.runs is None or name in chosen.runs
        },
    )


class _UniqueKeyLoader(yaml.SafeLoader):
    """A `SafeLoader` (plain data, never code) that also refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(
                    f"{self.name}: key {key!r} is written twice, again on line "
                    f"{key_node.start_mark.line + 1}; keep one of the two"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _layers(path: Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The file and its bases, the lowest base first."""
    if path.resolve() in above:
        chain = " -> ".join(item.name for item in (*above, path))
        raise ConfigError(f"{path}: its 'base' leads back to itself ({chain}); remove one of them")
    if not path.is_file():
        named_by = f", the 'base' of {above[-1].name}," if above else ""
        raise ConfigError(f"{path}{named_by} is not a file; write a path that exists")
    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; write lines of 'key: value'")
    base = content.pop("base", None)
    if base is None:
        return [(path, content)]
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base={base!r} is not a file name; write 'base: shared.yaml'")
    return [*_layers(path.parent / base, (*above, path.resolve())), (path, content)]


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
            checked[key] = _typed(value, hints[key])
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


def _typed(value: Any, hint: Any) -> Any:
    """`value` as YAML read it, converted to `hint` where that loses nothing; else a ValueError.

    YAML 1.1 reads `1e-4` as a string and an unquoted `no` as False: the first becomes a float, the
    second is refused for a string field instead of quietly meaning something else.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _typed_union(value, inner)
    if origin is typing.Literal and value in inner:
        return value
    if hint in (int, float) and type(value) in (int, float, str):
        return _number(value, hint)
    if origin is list and type(value) is list:
        return [_typed(item, inner[0]) for item in value]
    if isinstance(hint, type) and issubclass(hint, enum.Enum) and isinstance(value, str):
        return hint(value).value
    if isinstance(hint, type) and issubclass(hint, dict) and isinstance(value, dict):
        return hint(value)
    if hint is Any or type(value) is (origin or hint):
        return value
    wanted = " or ".join(map(repr, inner)) if origin is typing.Literal else hint.__name__
    quotes = " (in quotes where YAML reads something else)" if hint is str else ""
    raise ValueError(f"has the type {type(value).__name__}; write {wanted}{quotes}")


def _typed_union(value: Any, alternatives: tuple[Any, ...]) -> Any:
    """`value` as the first alternative that takes it, unchanged where one takes it unchanged."""
    if type(value) in alternatives:
        return value
    reasons = []
    for alternative in alternatives:
        try:
            return _typed(value, alternative)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(max(reasons, key=len))


def _number(value: int | float | str, kind: type[int] | type[float]) -> int | float:
    try:
        number = value if isinstance(value, int) else float(value)
        if kind is float or number == int(number):
            return kind(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"is no {kind.__name__}; write for example {2 if kind is int else '1.0e-4'}")
