"""YAML files and the base files underneath them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the place and the value."""


@contextmanager
def config_errors(where: str = "") -> Iterator[None]:
    """Raises the `ValueError` of the block as a `ConfigError`, with ``where`` before its text."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{where}{error}") from error


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
