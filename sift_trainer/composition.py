"""Mixing into other people's classes: what would do nothing, or half of it, is a TypeError.

Python puts up with bases in the wrong order and with a forgotten ``@dataclass``: methods are passed
by and fields keep their defaults, without a word. Here such classes are refused where they are
made, with the line that works.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from transformers import Trainer, TrainingArguments


def check_trainer_bases(cls: type, mixin: type) -> None:
    """Refuse a trainer class in which another trainer comes before ``mixin``.

    Raises:
        TypeError: for such a class, and for one that names ``mixin`` beside a class that has it.
    """
    bases = [base for base in cls.__bases__ if base is not mixin]
    having = [base.__name__ for base in bases if issubclass(base, mixin)]
    if mixin in cls.__bases__ and having:
        raise TypeError(
            f"{cls.__name__}: {having[0]} has {mixin.__name__} in it already; write "
            f"{_line(cls, bases)}"
        )
    front = takewhile(lambda base: base is not mixin, cls.__mro__)
    passing = [base for base in front if _is_other(base, Trainer, mixin)]
    if passing:
        order = sorted(cls.__bases__, key=lambda base: _is_other(base, Trainer, mixin))
        raise TypeError(
            f"{cls.__name__}: {mixin.__name__} must come before the trainer it extends, and "
            f"{passing[0].__name__} is in front of it; write {_line(cls, order)}"
        )


def check_trainer(trainer: object, mixin: type) -> None:
    """Refuse to make an object of ``mixin`` that is no trainer.

    Raises:
        TypeError: for such an object.
    """
    if not isinstance(trainer, Trainer):
        name = type(trainer).__name__
        made = "MyTrainer" if type(trainer) is mixin else name
        raise TypeError(
            f"{name} has no trainer to extend; write class {made}({mixin.__name__}, Trainer)"
        )


def owner_of(cls: type, method: str) -> type:
    """The class whose ``method`` an object of ``cls`` has."""
    return next(base for base in cls.__mro__ if method in vars(base))


class ArgumentsMixin:
    """A dataclass of fields that is mixed into `TrainingArguments`, or into a subclass of them.

    Raises:
        TypeError: when a class is made in which `TrainingArguments` come first, whose checks would
            replace those of the mixin; when one is called that lacks ``@dataclass`` and so has
            the fields of its first base only.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        mro = cls.__mro__
        if TrainingArguments in mro and mro.index(TrainingArguments) < mro.index(ArgumentsMixin):
            mixins = [base for base in cls.__bases__ if issubclass(base, ArgumentsMixin)]
            raise TypeError(
                f"{cls.__name__}: {mixins[0].__name__} must come before the arguments it extends, "
                f"or its checks are left out; write @dataclass {_ordered(cls)}"
            )

    def __new__(cls, *args: Any, **kwargs: Any) -> "ArgumentsMixin":
        own = getattr(cls, "__dataclass_fields__", {})
        for base in cls.__mro__:
            theirs = vars(base).get("__dataclass_fields__", {})
            missing = [name for name in theirs if name not in own]
            if missing:
                raise TypeError(
                    f"{cls.__name__} lacks @dataclass, and so {missing[0]!r} and the other fields "
                    f"of {base.__name__}; write @dataclass {_ordered(cls)}"
                )
        return super().__new__(cls)


@contextmanager
def arguments_kept(trainer: Any, given: Iterable[Any]) -> Iterator[None]:
    """Refuse a construction in which ``trainer`` makes arguments of its own out of those given,
    and the mixed-in fields are lost.

    Raises:
        TypeError: where they are lost.
    """
    mixed = next((each for each in given if isinstance(each, ArgumentsMixin)), None)
    try:
        yield
        found = trainer.args
    except TypeError as error:
        if mixed is None or not any(name in str(error) for name in _mixed_in(mixed)):
            raise
        theirs = str(error).partition(".__init__")[0]  # "SFTConfig.__init__() got an ..."
        raise TypeError(_lost(trainer, mixed, theirs)) from error
    if mixed is not None and not isinstance(found, ArgumentsMixin):
        raise TypeError(_lost(trainer, mixed, type(found).__name__))


def _mixed_in(arguments: ArgumentsMixin) -> dict[str, type]:
    """The fields that no trainer knows, with the class that each is of."""
    return {
        name: base
        for base in type(arguments).__mro__
        if issubclass(base, ArgumentsMixin) and not issubclass(base, TrainingArguments)
        for name in vars(base).get("__dataclass_fields__", ())
    }


def _lost(trainer: Any, given: ArgumentsMixin, theirs: str) -> str:
    name = type(trainer).__name__
    mixin = next(iter(_mixed_in(given).values())).__name__
    return (
        f"{name} trains by arguments of its own class and makes {theirs} of "
        f"{type(given).__name__}, which loses the fields of {mixin}; write @dataclass class "
        f"{name}Arguments({mixin}, {theirs}) and give it those"
    )


def _is_other(base: type, kind: type, mixin: type) -> bool:
    return issubclass(base, kind) and not issubclass(base, mixin)


def _ordered(cls: type) -> str:
    """The line of a class of arguments, its mixins in front."""
    return _line(cls, sorted(cls.__bases__, key=lambda b: not issubclass(b, ArgumentsMixin)))


def _line(cls: type, bases: list[type]) -> str:
    return f"class {cls.__name__}({', '.join(base.__name__ for base in bases)})"
