"""Every code block of README, CONTRIBUTING and docs works.

Python is executed as it is written, page by page, with small objects for the reader's own, and a
training ends after three steps. Commands are parsed (`commands`). A block that nothing checks
fails.
"""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from transformers import trainer, training_args

import sift_trainer.reproduction.resnet.model  # noqa: F401 - the registered exit stays
from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.reproduction.configuration import parse_config
from sift_trainer.reproduction.corpus.corpus import CorpusArguments
from tests.docs.commands import check, commands, listed_files
from tests.docs.given_names import CHECKS, GIVEN, FewSteps
from tests.docs.pages import BLOCKS, ROOT, Block
from tests.loss_runs import registries

__all__ = ["registries"]  # forgets what the blocks register

PYTHON = list(dict.fromkeys(block.page for block in BLOCKS if block.language == "python"))
SHELL = [
    block
    for block in BLOCKS
    if block.language in ("", "bash")
    and not block.text.startswith("loss_exit_1: ")  # output of a dry run
]


@pytest.fixture(autouse=True)
def short_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of many steps ends after a few, and no corpus is prepared in the reader's cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # TRL asks for bf16, which Transformers computes on a CPU too, but only where it is asked for.
    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [*trainer.DEFAULT_CALLBACKS, FewSteps])
    (tmp_path / "FOLDER").mkdir()
    for name in ("configs", "scripts", "benchmarks", "tests", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)


@pytest.mark.parametrize("page", PYTHON)
def test_python(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("reader")  # dataclasses and pickle look here for what the blocks make
    monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module).update(GIVEN.get(page, lambda _: {})(tmp_path))
    for block in BLOCKS:
        if (block.page, block.language) == (page, "python"):
            code = "\n" * (block.line - 1) + block.text  # errors name the line of the page
            exec(compile(code, str(ROOT / page), "exec"), vars(module))
    CHECKS.get(page, lambda _: None)(vars(module))


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands(block: Block, tmp_path: Path) -> None:
    found, files = list(commands(block.text)), list(listed_files(block.text))
    assert found or files, "there is no command in it"
    for file in files:
        assert any((ROOT / "configs").rglob(file)), file
    for words in found:
        check(words)


WRONG = [
    "make quickstrat",
    "python scripts/pretrain_bret.py --config configs/quickstart.yaml",
    "python scripts/pretrain_bert.py --config configs/quickstart.yaml --sift_exit_layer 13",
    "python scripts/pretrain_bert.py --config configs/quickstart.yaml --runs naive",
    "for k in 1 2; do python scripts/prepare_corpus.py --num_procs $k; done",
    "python scripts/sweep.py train_resnet --config configs/resnet50/table_2.yaml --runs none",
    "python benchmarks/step_time.py --rounds few",
    "accelerate launch --number_of_processes 2 scripts/pretrain_bert.py",
    'srun bash -c "exec accelerate launch --config_file configs/accelerate/none.yaml x.py"',
    "sift-trainer probe --config configs/quickstart.yaml --x 1",
    "python run_mlm.py ... --sift_exit 2",
    "pytest tests/selection/test_choosing.py -k selektion",
]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_command_fails(text: str) -> None:
    [words] = commands(text)
    with pytest.raises((AssertionError, ValueError, OSError)):
        check(words)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "diff"], ids=str)
def test_a_diff_swaps_an_import(block: Block) -> None:
    """Both lines give the same name; afterwards it is a class of this package."""
    lines = block.text.splitlines()
    names: list[dict[str, type]] = []
    for sign in "-+":
        names.append({})
        exec("\n".join(line[1:] for line in lines if line.startswith(sign)), names[-1])
    before, after = ({k: v for k, v in each.items() if k[0] != "_"} for each in names)
    assert before.keys() == after.keys()
    for name, kind in after.items():
        assert kind in (SiftTrainer, SiftTrainingArguments)
        assert issubclass(kind, before[name])


def test_languages_are_those_that_are_checked() -> None:
    assert {block.language for block in BLOCKS} == {"python", "bash", "diff", "text", "yaml", ""}
    (yaml,) = (block for block in BLOCKS if block.language == "yaml")
    Path("block.yaml").write_text(yaml.text)
    parse_config([CorpusArguments], ["--config", "block.yaml"])


def test_the_dry_run_of_the_page_is_what_the_command_prints() -> None:
    (block,) = (block for block in BLOCKS if block.text.startswith("loss_exit_1: "))
    config = "configs/bert_base/loss_exit_1.yaml"
    said = check(["python", "scripts/pretrain_bert.py", "--config", config, "--dry_run"])
    assert said.strip() == block.text.strip()


def test_the_tree_of_the_architecture_names_every_module() -> None:
    """And nothing that is not there."""
    (block,) = (block for block in BLOCKS if block.text.startswith("sift_trainer/"))
    folder, named = Path(), set()
    for line in block.text.splitlines():
        indent = len(line) - len(line.lstrip())
        for name in re.findall(r"[\w/]+/(?=\s|$)|\w+\.py", line.partition("  # ")[0]):
            if name.endswith("/"):
                parents = folder.parts[: indent // 2]
                folder = Path(*parents, name.strip("/"))
            else:
                named.add(folder / name)
    there = {
        path.relative_to(ROOT)
        for path in (ROOT / "sift_trainer").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert named == there
