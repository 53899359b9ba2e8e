"""`import sift_trainer` loads no optional dependency."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


OTHER_NAMES = {"PIL": "pillow", "markdown_it": "markdown-it-py", "yaml": "PyYAML"}
OPTIONAL = {"matplotlib"}  # the probe draws its picture where it is installed
BY_NAME = {"tensorboard"}  # configurations ask for it with report_to


def imported(folder: Path, without: str = "/") -> set[str]:
    """Distributions that the modules of a folder import, besides Python's own."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        if without not in path.as_posix() or without == "/":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.partition(".")[0])
    return {OTHER_NAMES.get(name, name) for name in names - sys.stdlib_module_names}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    tomllib = pytest.importorskip("tomllib", reason="it comes with Python 3.11")
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    base, extra = (
        {re.split(r"[<>=]", each)[0] for each in declared}
        for declared in (project["dependencies"], project["optional-dependencies"]["reproduction"])
    )
    assert imported(PACKAGE, without="/reproduction/") - OPTIONAL - {"sift_trainer"} == base
    assert imported(PACKAGE / "reproduction") - base - {"sift_trainer"} == extra - BY_NAME
