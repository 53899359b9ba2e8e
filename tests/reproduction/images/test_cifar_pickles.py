"""The official pickles are read as `pickle` reads them, and run nothing."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sift_trainer.reproduction.images.cifar_pickles import read_pickle
from tests.reproduction.images.pictures import python_2_pickle

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
    content = read_pickle(path)
    assert np.array_equal(content["data"], DATA)
    assert content["fine_labels"] == LABELS


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_runs_nothing(protocol: int, tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "train"
    path.write_bytes(pickle.dumps({"data": Calls(os.mkdir, str(made))}, protocol))
    with pytest.raises(ValueError, match=r"train cannot be read: it names (posix|nt)\.mkdir"):
        read_pickle(path)
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()  # so it would have run
