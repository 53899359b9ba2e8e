"""Values that YAML reads, converted to the types of their fields."""

from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError


def typed(value: Any, hint: Any) -> Any:
    """``value`` as the type ``hint``, if the conversion loses nothing.

    Raises:
        ValueError: says what is wrong. A bool is never a number: ``true`` would become 1.
    """
    if isinstance(hint, type) and issubclass(hint, dict) and isinstance(value, dict):
        return hint(value)
    try:
        converted = TypeAdapter(hint, config=_ANY_CLASS).validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(detail["msg"] for detail in error.errors())
        quotes = "; put it in quotes if it is a string" if isinstance(value, bool) else ""
        raise ValueError(f"{' or '.join(reasons)}{quotes}") from error
    if isinstance(value, bool) and not isinstance(converted, bool):
        raise ValueError("Input should be a number, not true or false")
    return converted


_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)
