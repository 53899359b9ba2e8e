"""Every code block of README, CONTRIBUTING and docs runs.

Python is executed as it is written, with small objects for the reader's own (`given_names`), and a
training ends after three steps. YAML is read by its parser, a diff is applied to a script that then
trains, the output of a dry run is compared. Commands are read by bash, and each program that it
would start is taken as far as `programs` says: cheap ones run; of training and measuring everything
is done that comes before the work. A block that nothing takes fails.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import trainer, training_args

import sift_trainer.models  # noqa: F401 - registers an exit of its own, which is to stay
from sift_trainer import SiftArguments
from sift_trainer.early_exit import early_exit
from sift_trainer.early_exit.registry import _REGISTERED as EXITS
from sift_trainer.scoring import tasks
from sift_trainer.scoring.criteria import CRITERIA
from tests import tiny_configs
from tests.docs.given_names import FewSteps, MyNet
from tests.docs.pages import PAGES, ROOT, Block, inline_commands, of_all_pages
from tests.docs.shell import calls, checkout
from tests.docs.takers import commands, taker
from tests.reporting.made_up import seeds_of_table_1
from tests.tiny_inputs import WIDTH

REGISTRIES: tuple[dict[Any, Any], ...] = (EXITS, tasks._REGISTERED, CRITERIA)

BLOCKS = of_all_pages()
INLINE = of_all_pages(inline_commands)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout on which some runs were trained."""
    folder = checkout(tmp_path_factory.mktemp("machine") / "checkout")
    for name in ("bert_base", "resnet50", "RUN_DIR"):
        seeds_of_table_1(folder / "runs" / name)
    (folder / "FOLDER").mkdir()
    (folder / "RUN_DIR").symlink_to(folder / "runs" / "RUN_DIR")
    return folder


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a block registers is forgotten afterwards; a run of many steps ends after a few."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # no corpus is prepared there
    # TRL asks for bf16, which Transformers computes on a CPU too, but only where it is asked for.
    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, FewSteps])
    before = [(registry, dict(registry)) for registry in REGISTRIES]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(
    block: Block, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = taker(block)
    folder = tmp_path if block.language in ("python", "yaml", "diff") else machine
    monkeypatch.chdir(folder)
    before = [set(registry) for registry in REGISTRIES]
    take(block, folder)
    for registry, names in zip(REGISTRIES, before, strict=True):
        for name in registry.keys() - names:
            if getattr(name, "__module__", "") != "study.models":  # a benchmark's own
                check_registered(name)


def check_registered(name: Any) -> None:
    """What was registered can be used."""
    if isinstance(name, str):
        assert SiftArguments(sift_criterion=name).sift_criterion == name
        logits, targets = torch.randn(6, 4), torch.arange(6) % 4
        assert CRITERIA[name](logits, targets).shape == (6,)
    elif name is MyNet and name in tasks._REGISTERED:
        assert tasks.task_of(MyNet()) is tasks._REGISTERED[MyNet]
    else:
        model = name().eval() if name is MyNet else name(tiny_configs.swin()).eval()
        inputs = torch.randn(2, WIDTH) if name is MyNet else torch.randn(2, 3, 32, 32)
        with torch.no_grad(), early_exit(model, 1):
            early = model(inputs)["logits"]
        assert not torch.allclose(early, model(inputs)["logits"])


@pytest.mark.parametrize("block", INLINE, ids=str)
def test_command_within_a_sentence(
    block: Block, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machine)
    commands(block, machine)


COLLECT = """
import json, sys
import pytest
options = ["--collect-only", "-q", "-p", "no:cacheprovider"]
named = json.load(sys.stdin)
sys.exit([words for words in named if pytest.main([*words, *options]) != 0] or 0)
"""


def test_the_tests_that_a_page_names_are_there(machine: Path) -> None:
    """Files and `-k` choose at least one test each; pytest says so by its status."""
    named = [
        list(call.arguments)
        for block in (*BLOCKS, *INLINE)
        if "pytest " in block.text
        for call in calls(block.text, machine)
        if call.program == "pytest"
    ]
    assert named
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        input=json.dumps(named),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_no_page_is_left_out() -> None:
    """All that git has in docs, and both files beside it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert {str(path.relative_to(ROOT)) for path in PAGES} == {*listed} - {"CHANGELOG.md"}
    assert len(BLOCKS) > 50
