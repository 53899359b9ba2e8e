"""Imports run one way, as docs/architecture.md draws them."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sift_trainer"

# Layer -> what of ours it may import. A folder is one layer.
ALLOWED: dict[str, set[str]] = {
    # leaves
    "atomic_write": set(),
    "batch": set(),
    "checkpoints": set(),
    "composition": set(),
    "config": {"config"},
    "flops": {"early_exit", "labelled_head", "positions"},
    "host_group": set(),
    "length_groups": set(),
    "data": {"atomic_write", "data"},
    "logit_pass": set(),
    "metrics": {"positions"},
    "positions": set(),
    "random_state": set(),
    "one_cycle": set(),
    "paper": set(),
    "run_log": set(),
    "termination": {"host_group"},
    "theory": {"theory"},
    "timing": set(),
    # score, keep
    "scoring": {"logit_pass", "positions"},
    "selection": {"scoring"},
    "gate": set(),
    "arguments": {"composition", "gate", "scoring", "selection"},
    "labelled_head": {"positions"},
    "early_exit": {"early_exit", "labelled_head", "positions"},
    "tasks": {"logit_pass", "positions", "scoring", "tasks"},
    "models": {"models", "early_exit"},
    "loss_contract": {"batch", "early_exit", "labelled_head", "positions"},
    "scorer": {
        "arguments",
        "batch",
        "early_exit",
        "labelled_head",
        "positions",
        "random_state",
        "scoring",
        "tasks",
    },
    "sifter": {
        "arguments",
        "batch",
        "early_exit",
        "labelled_head",
        "loss_contract",
        "positions",
        "scorer",
        "tasks",
    },
    "measuring": {"batch", "measuring", "positions", "random_state", "scoring", "sifter"},
    # train
    "launch": set(),
    "saving": {"checkpoints", "termination"},
    "sharding": {"labelled_head"},
    "callback": {"arguments", "gate", "scoring", "selection", "timing"},
    "validation": {"arguments", "callback", "early_exit", "selection", "tasks"},
    "collation": {
        "arguments",
        "batch",
        "composition",
        "positions",
        "random_state",
        "tasks",
        "validation",
    },
    "drawing": {"arguments", "batch", "length_groups", "selection", "validation"},
    "first_batch": {
        "arguments",
        "batch",
        "collation",
        "composition",
        "drawing",
        "launch",
        "sharding",
        "sifter",
        "tasks",
        "validation",
    },
    "audit": {
        "arguments",
        "audit",
        "batch",
        "first_batch",
        "measuring",
        "random_state",
        "scorer",
        "selection",
        "sharding",
        "sifter",
        "theory",
    },
    "trainer": {
        "arguments",
        "audit",
        "batch",
        "callback",
        "collation",
        "composition",
        "first_batch",
        "launch",
        "saving",
        "selection",
        "sharding",
        "validation",
    },
    "time_budget": {"arguments", "host_group", "run_log", "timing", "trainer"},
    "__init__": {
        "arguments",
        "callback",
        "checkpoints",
        "early_exit",
        "one_cycle",
        "scoring",
        "selection",
        "tasks",
        "termination",
        "time_budget",
        "trainer",
    },
    # from logs to tables
    "report": {"run_log", "timing"},
    "tables": {"atomic_write", "report", "run_log"},
    "plots": {"report"},
    # the theory on problems in closed form
    "greedy_sgd": {"greedy_sgd", "plots", "theory"},
    "seeds": {"report", "run_log", "tables"},
    # from a trainer to what sifting would bring
    "probe": {
        "arguments",
        "atomic_write",
        "audit",
        "batch",
        "early_exit",
        "measuring",
        "plots",
        "probe",
        "run_log",
        "scorer",
        "scoring",
        "selection",
        "sifter",
        "tables",
        "tasks",
        "theory",
        "trainer",
    },
    # from names to a trainer
    "model_and_dataset": {
        "__init__",
        "early_exit",
        "model_and_dataset",
        "selection",
    },
    # from run folders to a page
    "reporting": {
        "atomic_write",
        "paper",
        "plots",
        "report",
        "reporting",
        "run_log",
        "seeds",
        "tables",
    },
    "commands": {
        "__init__",
        "commands",
        "config",
        "experiments",
        "image_classification",
        "model_and_dataset",
        "plots",
        "pretraining",
        "probe",
        "reporting",
    },
    "__main__": {"commands"},
    # from a configuration to its runs
    "experiments": {
        "__init__",
        "arguments",
        "atomic_write",
        "config",
        "experiments",
        "launch",
        "plots",
        "report",
        "run_log",
        "tables",
        "validation",
    },
}
# What scripts call: these may import all of the above.
ON_TOP = {"image_classification", "pretraining"}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Layers of ours that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import in line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "sift_trainer":
                layer = parts[1] if len(parts) > 1 else "__init__"
                known = (PACKAGE / layer).is_dir() or (PACKAGE / f"{layer}.py").is_file()
                yield layer if known else "__init__"  # a public name of the package


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_parser_sees_imports() -> None:
    """Also in functions, for type checkers only, and of public names."""
    assert set(imported(PACKAGE / "callback.py")) == ALLOWED["callback"]
    assert "__init__" in set(imported(PACKAGE / "pretraining" / "job.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    layer = layer_of(path)
    if layer in ON_TOP:
        assert set(imported(path)) <= {*ALLOWED, layer}
        return
    assert layer in ALLOWED, f"{path.name} is in no layer: say above what it may import"
    assert set(imported(path)) <= ALLOWED[layer]


def test_no_circles_between_layers() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        layer = layer_of(path)
        graph.setdefault(layer, set()).update(set(imported(path)) - {layer})
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_no_dumping_ground() -> None:
    names = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


def test_import_brings_no_extras() -> None:
    """Beyond what `transformers.Trainer` itself imports, only modules of ours are new."""
    code = (
        "import sys, json\n"
        "from transformers import Trainer\n"
        "before = set(sys.modules)\n"
        "import sift_trainer\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    new = json.loads(run.stdout)
    ours = {name.split(".")[1] for name in new if name.startswith("sift_trainer.")}
    assert "trainer" in ours
    assert not ours & {"data", "experiments", "metrics", "models", "plots", "report"}
    foreign = {name.split(".")[0] for name in new} - set(sys.stdlib_module_names)
    assert foreign <= {"sift_trainer", "transformers", "torch", "accelerate"}
