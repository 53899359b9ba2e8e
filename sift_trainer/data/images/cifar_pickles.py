"""The official Python files of CIFAR-100, which are pickles, read without running code.

A pickle names the functions that rebuild its objects. The only names that are allowed are those of
a numpy array of uint8, and classes of this file stand in for them. Any other name ends the reading.
"""

from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES = ("train", "test", "meta")
_SIDE = 32


class _Uint8:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: Any, *flags: Any) -> None:
        if code not in ("u1", b"u1"):
            raise UnpicklingError(f"it has an array of the type {code!r}, not of uint8")

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which single bytes do not have."""


class _Array:
    """Stands in for ``numpy.ndarray``, which a pickle first makes empty and then fills."""

    def __init__(self, *empty: Any) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Uint8) or not isinstance(data, bytes):
            raise UnpicklingError("it has an array that is not made of bytes")
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Uint8,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
}


class _ArrayUnpickler(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """A dictionary of arrays, lists, numbers and byte strings; its keys as text.

    Raises:
        ValueError: the file is damaged, holds something else or names another function; nothing
            that it names has been called.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
        return {key.decode(): value for key, value in content.items()}
    except Exception as error:  # a damaged pickle can raise nearly any
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_split(path: Path, label_key: str) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels, uint8 (n, 32, 32, 3), and n labels of ``train`` or ``test``.

    Args:
        label_key: ``fine_labels`` or ``coarse_labels``.

    Raises:
        ValueError: see `read_pickle`; or a field is missing or has another type or shape.
    """
    content = read_pickle(path)
    pixels, labels = getattr(content.get("data"), "values", None), content.get(label_key)
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != 3 * _SIDE**2:
        raise ValueError(f"{path}: data must be an array of the shape (n, {3 * _SIDE**2})")
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or {type(label) for label in labels} - {int}
    ):
        raise ValueError(
            f"{path}: {label_key} must be a list of {len(pixels)} whole numbers, one per image; "
            f"the file has the fields {', '.join(sorted(content))}"
        )
    return pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1), labels


def read_names(path: Path, key: str) -> list[str]:
    """Names of the classes from ``meta``, in the order of their labels."""
    names = read_pickle(path).get(key)
    if not isinstance(names, list):
        raise ValueError(f"{path}: {key} must be a list of names")
    return [name.decode() for name in names]
