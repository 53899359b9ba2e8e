"""`import sift_trainer` loads no optional dependency, and no module has an empty name."""

import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "sift_trainer"


def test_import_loads_no_optional_dependency() -> None:
    """Beyond what `transformers.Trainer` itself loads, only modules of ours are new."""
    code = (
        "import sys, json\n"
        "from transformers import Trainer\n"
        "before = set(sys.modules)\n"
        "import sift_trainer\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    foreign = set(json.loads(run.stdout)) - set(sys.stdlib_module_names)
    assert foreign <= {"sift_trainer", "transformers", "torch", "accelerate"}


def test_no_module_is_called_utils() -> None:
    names = {
        part
        for path in PACKAGE.rglob("*.py")
        for part in path.relative_to(PACKAGE).with_suffix("").parts
    }
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
