"""A file is the old one or the new one, never something between."""

import json
import os
from pathlib import Path

import pytest

from sift_trainer.checkpoints.whole_files import write_json


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, "ä"]})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": [1, "ä"]}
    assert list(path.parent.iterdir()) == [path]
