"""Classes with wrong bases, which would skip methods or lose fields, raise a TypeError."""

from collections.abc import Callable, Iterable
from functools import wraps
from itertools import takewhile
from typing import Any, ParamSpec, TypeVar

from transformers import Trainer

from sift_trainer.arguments import SiftArguments


def check_trainer_bases(cls: type, mixin: type) -> None:
    """Refuse a trainer class in which another trainer comes before ``mixin``, and one that has
    ``mixin`` both directly and by a base."""
    bases = [base for base in cls.__bases__ if base is not mixin]
    having = [base.__name__ for base in bases if issubclass(base, mixin)]
    if mixin in cls.__bases__ and having:
        raise TypeError(
            f"{cls.__name__}: {having[0]} already contains {mixin.__name__}; write "
            f"{_line(cls, bases)}"
        )
    before = takewhile(lambda base: base is not mixin, cls.__mro__)
    trainers = [base for base in before if _is_other_trainer(base, mixin)]
    if trainers:
        order = sorted(cls.__bases__, key=lambda base: _is_other_trainer(base, mixin))
        raise TypeError(
            f"{cls.__name__}: {mixin.__name__} must come before the trainer that it extends, and "
            f"{trainers[0].__name__} comes before it; write {_line(cls, order)}"
        )


def check_is_trainer(trainer: object, mixin: type) -> None:
    """Refuse an object of ``mixin`` that is not a trainer."""
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"{type(trainer).__name__} has no trainer to extend; write class "
            f"MyTrainer({mixin.__name__}, Trainer)"
        )


def check_arguments_kept(trainer: Any, given: Iterable[Any]) -> None:
    """Refuse a trainer that has replaced the given arguments by some without the sift fields."""
    sifting = next((each for each in given if isinstance(each, SiftArguments)), None)
    if sifting is not None and not isinstance(trainer.args, SiftArguments):
        name, theirs = type(trainer).__name__, type(trainer.args).__name__
        raise TypeError(
            f"{name} makes {theirs} of {type(sifting).__name__}, which loses the sift fields; "
            f"write @dataclass class {name}Arguments(SiftArguments, {theirs}) and pass those"
        )


def _is_other_trainer(base: type, mixin: type) -> bool:
    return issubclass(base, Trainer) and not issubclass(base, mixin)


def _line(cls: type, bases: list[type]) -> str:
    return f"class {cls.__name__}({', '.join(base.__name__ for base in bases)})"


P = ParamSpec("P")
R = TypeVar("R")


def with_signature_of(method: Callable[P, R]) -> Callable[[Callable[..., Any]], Callable[P, R]]:
    """Give a method the signature of another, for readers, editors and type checkers."""
    return wraps(method)
