"""Help texts of command-line fields, from the docstring of their class."""

import re
from dataclasses import Field
from inspect import cleandoc
from types import MappingProxyType
from typing import Any


def described(cls: type) -> dict[str, str]:
    """The descriptions of a class's attributes, by name, from the docstring of the class."""
    section = cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


def with_help(cls: type) -> type:
    """A dataclass whose ``--help`` texts are the descriptions in its docstring."""
    texts = described(cls)
    own: dict[str, Field[Any]] = vars(cls)["__dataclass_fields__"]
    for name in cls.__annotations__:
        own[name].metadata = MappingProxyType({"help": texts[name]})
    return cls
