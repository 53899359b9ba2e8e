"""`import sift_trainer` loads no optional dependency."""

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
