"""The official pickles are read in every protocol, and run nothing."""

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


def _check(path: Path) -> None:
    pixels, labels = read_split(path, "fine_labels")
    assert pixels.shape == (3, 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert labels.tolist() == LABELS
    # The file has all of red first, row by row.
    assert pixels[1, 2, 7].tolist() == [DATA[1, c * 1024 + 2 * 32 + 7] for c in range(3)]


@pytest.mark.filterwarnings("error")
def test_what_python_2_wrote(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(python_2_pickle(DATA, LABELS))
    with path.open("rb") as file:
        assert np.array_equal(pickle.load(file, encoding="bytes")[b"data"], DATA)  # a true pickle
    _check(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_python_3_writes(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps({"data": DATA, "fine_labels": LABELS}, protocol))
    _check(path)


def test_class_names(tmp_path: Path) -> None:
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple", b"baby"]}, 2))
    assert read_names(tmp_path / "meta", "fine_label_names") == ["apple", "baby"]
    with pytest.raises(ValueError, match="coarse_label_names must be a list of names"):
        read_names(tmp_path / "meta", "coarse_label_names")


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
    [eval, getattr, np.load, np.zeros, np.frombuffer, pickle.loads],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
def test_other_functions_are_refused_by_name(function: Any, tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps(Calls(function, "1")))
    with pytest.raises(ValueError, match=rf"it names [\w.]+\.{function.__name__}, and only"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Calls(np.ndarray, (2**40,)), "not callable"),
        (np.array([None, 1]), "type 'O8' is refused"),
        (np.zeros(2, [("a", "i4")]), "type 'V4' is refused"),
        (np.zeros(2), "type 'f8' is refused"),
        ([1], "holds a list"),
    ],
    ids=["any size", "objects", "structures", "fractions", "no dictionary"],
)
def test_arrays_of_anything_but_numbers(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(ValueError, match=message):
        read_pickle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": DATA[:, 1:], "fine_labels": LABELS}, r"data must be uint8 .*\(3, 3071\)"),
        ({"data": DATA.astype(int), "fine_labels": LABELS}, "data must be uint8"),
        ({"fine_labels": LABELS}, "data must be uint8 .* is NoneType"),
        ({"data": DATA, "fine_labels": LABELS[1:]}, "fine_labels must have 3 numbers"),
        ({"data": DATA, "coarse_labels": LABELS}, r"fields \['coarse_labels', 'data'\]"),
        ({"data": DATA, "fine_labels": [1, "2", 3]}, "something else than whole numbers"),
    ],
)
def test_fields_are_checked(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "test"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_split(path, "fine_labels")


def test_an_array_of_another_size_than_its_bytes(tmp_path: Path) -> None:
    content = python_2_pickle(DATA, LABELS)
    shape = b"J" + (3072).to_bytes(4, "little")
    assert content.count(shape) == 1
    path = tmp_path / "train"
    path.write_bytes(content.replace(shape, b"J" + (2**30).to_bytes(4, "little")))
    with pytest.raises(
        ValueError, match=r"9216 bytes do not make an array of the shape \(3, 10737"
    ):
        read_pickle(path)


@pytest.mark.parametrize("protocol", [2, 5])
def test_order_and_bytes_of_numbers_are_kept(protocol: int, tmp_path: Path) -> None:
    big = np.arange(-6, 6).reshape(3, 4).astype(">i2")
    arrays = {"c": big, "f": np.asfortranarray(big.astype("<i8")), "none": np.zeros((0, 4), "u1")}
    (tmp_path / "a").write_bytes(pickle.dumps(arrays, protocol))
    found = read_pickle(tmp_path / "a")
    for name, array in arrays.items():
        assert found[name].tolist() == array.tolist()
        assert found[name].dtype == array.dtype


def test_a_truncated_pickle(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(python_2_pickle(DATA, LABELS)[:5000])
    with pytest.raises(ValueError, match="train cannot be read: pickle data was truncated"):
        read_pickle(path)
