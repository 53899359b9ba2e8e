"""The official pickles of CIFAR-100, read without running code.

Classes of this file stand in for the names of a numpy array; any other name ends the reading.
"""

from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any

import numpy as np


class _Uint8:
    def __init__(self, code: Any, *flags: Any) -> None:
        if code not in ("u1", b"u1"):
            raise UnpicklingError(f"it has an array of the type {code!r}, not of uint8")

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which single bytes do not have."""


class _Array:
    def __init__(self, *empty: Any) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, _, fortran, data = state
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
        ValueError: the file is damaged or names another function, which has not been called.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
        return {
            key.decode(): value.values if isinstance(value, _Array) else value
            for key, value in content.items()
        }
    except Exception as error:  # a damaged pickle can raise nearly any
        raise ValueError(f"{path} cannot be read: {error}") from error
