"""The official Python files of CIFAR-100, which are pickles, read without running what they say.

A pickle names the functions that rebuild its objects. Only those of plain numpy arrays are given,
each in a form of our own that takes nothing else; any other name ends the reading.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES = ("train", "test", "meta")
_SIDE = 32


_NDARRAY = object()  # stands for the class, which a pickle could call with any size


def _array(kind: Any, shape: Any, code: Any) -> NDArray[Any]:
    """An empty array, which the pickle's next operation fills."""
    if kind is not _NDARRAY or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"an array of {kind!r} with the shape {shape!r} is refused")
    empty: NDArray[Any] = np.ndarray((0,), np.int8)
    return empty


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    """uint8, int64 and the like. Python 2 wrote bytes for `code` and numbers for the flags."""
    kind: np.dtype[Any] = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
    if kind.kind not in "iu":
        raise pickle.UnpicklingError(f"an array of the type {kind} is refused")
    own: np.dtype[Any] = np.dtype(kind.str, False, True)  # a copy: the pickle goes on to change it
    return own


def _buffer(data: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(data, (bytes, bytearray)) or not isinstance(kind, np.dtype):
        raise pickle.UnpicklingError("an array that is not made of bytes is refused")
    array: NDArray[Any] = np.frombuffer(data, kind).reshape(shape, order=order)
    return array


def _latin1(text: Any, encoding: Any) -> bytes:
    """Bytes, as Python 3 writes them in the protocols of Python 2."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is refused")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _buffer for core in ("core", "_core")},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only numpy arrays and plain containers are read"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of itself")


def read_pickle(path: Path) -> dict[str, Any]:
    """A dictionary of numpy arrays and plain containers; its keys as text.

    Raises:
        ValueError: the file asks for anything else, is truncated, or holds no dictionary; nothing
            that it names has been called.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not CIFAR-100's dictionary")
    return {_text(key): value for key, value in content.items()}


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


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
