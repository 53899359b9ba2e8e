"""The official pickles are read as `pickle` reads them, and run nothing."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sift_trainer.data.images.cifar_pickles import read_names, read_pickle, read_split
from tests.data.pictures import python_2_pickle

DATA = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
LABELS = [5, 99, 0]


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_what_python_2_wrote(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(python_2_pickle(DATA, LABELS))
    with path.open("rb") as file:
        assert np.array_equal(pickle.load(file, encoding="bytes")[b"data"], DATA)  # a true pickle
    pixels, labels = read_split(path, "fine_labels")
    assert (pixels.shape, pixels.dtype, labels) == ((3, 32, 32, 3), np.uint8, LABELS)
    # The file has all of red first, row by row.
    assert pixels[1, 2, 7].tolist() == [DATA[1, c * 1024 + 2 * 32 + 7] for c in range(3)]
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple", b"baby"]}))
    assert read_names(tmp_path / "meta", "fine_label_names") == ["apple", "baby"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_runs_nothing(protocol: int, tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "train"
    path.write_bytes(pickle.dumps({"data": Calls(os.mkdir, str(made))}, protocol))
    with pytest.raises(ValueError, match=r"train cannot be read: it names (posix|nt)\.mkdir"):
        read_pickle(path)
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()  # so it would have run


@pytest.mark.parametrize(
    "function",
    [eval, getattr, np.load, np.zeros, pickle.loads],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
def test_other_functions_are_refused_by_name(function: Any, tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps(Calls(function, "1")))
    with pytest.raises(ValueError, match=rf"it names [\w.]+\.{function.__name__}, which is not"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("written", "replaced", "message"),
    [
        (b"\0\0\0u1", b"\0\0\0O8", "an array of the type b'O8'"),
        (b"\0\0\0u1", b"\0\0\0f8", "an array of the type b'f8'"),
        (b"J" + (3072).to_bytes(4, "little"), b"J" + (2**30).to_bytes(4, "little"), "cannot resh"),
        (b"J" + (99).to_bytes(4, "little"), b"N", "fine_labels must be a list of 3 whole numbers"),
        (b"fine_labels", b"fine_lapels", "the file has the fields data, fine_lapels"),
        (b"u.", b"", "train cannot be read"),
    ],
)
def test_other_content_is_refused(
    written: bytes, replaced: bytes, message: str, tmp_path: Path
) -> None:
    content = python_2_pickle(DATA, LABELS)
    assert content.count(written) == 1
    path = tmp_path / "train"
    path.write_bytes(content.replace(written, replaced))
    with pytest.raises(ValueError, match=message):
        read_split(path, "fine_labels")
