"""What YAML reads, as the type of the field that it is meant for."""

import enum
import types
import typing
from typing import Any


def typed(value: Any, hint: Any) -> Any:
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
        return [typed(item, inner[0]) for item in value]
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
            return typed(value, alternative)
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
