"""The official Python files of CIFAR-100, which are pickles, read without running what they say.

A pickle names the functions that rebuild its objects. Those of numpy arrays are given, as stand-ins
of our own that check what they are told and take bytes of whole numbers only; any other name ends
the reading.
"""

from math import prod
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES = ("train", "test", "meta")
_SIDE = 32
_NUMBERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}


class _Type:
    """What a pickle says of a numpy type: first its code, such as ``u1``, then its byte order."""

    def __init__(self, code: Any, *flags: Any) -> None:
        self.code, self.order = _text(code), "="
        if self.code not in _NUMBERS:
            raise UnpicklingError(f"an array of the type {self.code!r} is refused")

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])
        if self.order not in "<>|=":
            raise UnpicklingError(f"the byte order {self.order!r} is refused")


class _Array:
    """An array, which a pickle first makes empty and then fills."""

    array: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.array = _from_bytes(data, kind, shape, "F" if fortran else "C")


def _from_bytes(data: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(data, (bytes, bytearray)) or type(kind) is not _Type or order not in "CF":
        raise UnpicklingError("an array that is not made of bytes of numbers is refused")
    dtype: np.dtype[Any] = np.dtype(kind.order + kind.code)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise UnpicklingError(f"the shape {shape!r} is refused")
    if prod(shape) * dtype.itemsize != len(data):
        raise UnpicklingError(f"{len(data)} bytes do not make an array of the shape {shape!r}")
    array: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape, order=order)
    return array


def _empty(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _filled(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """An array in protocol 5."""
    filled = _Array()
    filled.array = _from_bytes(data, kind, shape, order)
    return filled


def _latin1(text: Any, encoding: Any) -> bytes:
    """Bytes, as Python 3 writes them in the protocols of Python 2."""
    if encoding != "latin1" or not isinstance(text, str):
        raise UnpicklingError(f"the encoding {encoding!r} is refused")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Empty bytes, likewise."""
    return b""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,  # only ever handed to `_empty`
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _filled for core in ("core", "_core")},
}


class _ArrayUnpickler(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise UnpicklingError(
                f"it names {module}.{name}, and only numpy arrays and plain containers are read"
            )
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UnpicklingError("it refers to objects outside of itself")


def read_pickle(path: Path) -> dict[str, Any]:
    """A dictionary of numpy arrays and plain containers; its keys as text.

    Raises:
        ValueError: the file asks for anything else, is truncated, or holds no dictionary; nothing
            that it names has been called.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a broken pickle can end in nearly any
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not CIFAR-100's dictionary")
    return {_text(key): _value(value) for key, value in content.items()}


def read_split(path: Path, label_key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels, uint8 (n, 32, 32, 3), and labels, int64 (n,), of ``train`` or ``test``.

    Args:
        label_key: ``fine_labels`` or ``coarse_labels``.

    Raises:
        ValueError: as `read_pickle`, or a field is missing or has another type or shape.
    """
    content = read_pickle(path)
    data, labels = content.get("data"), content.get(label_key)
    row = 3 * _SIDE**2
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (row,):
        found = (data.dtype, data.shape) if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"{path}: data must be uint8 of the shape (n, {row}), and is {found}")
    if labels is None or len(labels) != len(data):
        raise ValueError(
            f"{path}: {label_key} must have {len(data)} numbers, one per image; the file has the "
            f"fields {sorted(content)}"
        )
    if not all(isinstance(label, (int, np.integer)) for label in labels):
        raise ValueError(f"{path}: {label_key} holds something else than whole numbers")
    images = data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64)


def read_names(path: Path, key: str) -> list[str]:
    """Names of the classes from ``meta``, in the order of their labels."""
    names = read_pickle(path).get(key)
    if not isinstance(names, list):
        raise ValueError(f"{path}: {key} must be a list of names")
    return [_text(name) for name in names]


def _value(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
