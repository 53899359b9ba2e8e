"""What is done with a block, by its language and, where it has none, by what is in it."""

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sift_trainer.config import parse_config
from tests.docs.given_names import GIVEN
from tests.docs.pages import INDENTED, ROOT, Block
from tests.docs.programs import pretrain_bert, take
from tests.docs.shell import calls
from tests.training import Rows, bert, quick

# ---- languages ----


def python(block: Block, folder: Path) -> None:
    """Executed as it is written, with the page's names."""
    module = ModuleType("reader")  # where dataclasses and pickle look for what the block makes
    vars(module).update(GIVEN.get(block.page, lambda _: {})(folder))
    code = "\n" * (block.line - 1) + block.text  # errors then name the page's line
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, str(ROOT / block.page), "exec"), vars(module))


def yaml(block: Block, folder: Path) -> None:
    """Read by the parser of its page's kind, as a file."""
    from sift_trainer.data.text.corpus import CorpusArguments

    kinds: dict[str, type] = {"docs/data.md": CorpusArguments}
    assert block.page in kinds, f"say in {__name__} which fields the YAML of {block.page} has"
    file = folder / "block.yaml"
    file.write_text(block.text)
    parse_config([kinds[block.page]], ["--config", str(file)])


# A reader's script, of which the diffs exchange a line.
SCRIPT = """\
from transformers import Trainer
from transformers import TrainingArguments

args = TrainingArguments(**settings)
trainer = Trainer(model, args, train_dataset=data)
trainer.train()
"""


def patched(diff: str, script: str) -> str:
    """``script`` with the lines of the diff exchanged.

    Raises:
        AssertionError: for a line that the script does not have.
    """
    removed = [line[1:] for line in diff.splitlines() if line.startswith("-")]
    added = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    assert len(removed) == len(added) > 0, "the diff is to exchange lines"
    for before, after in zip(removed, added, strict=True):
        assert before in script.splitlines(), f"no such line in the script: {before}"
        script = script.replace(before + "\n", after + "\n")
    return script


def diff(block: Block, folder: Path) -> None:
    """The script trains before and after, and afterwards it has what it did not have."""
    found = []
    for number, script in enumerate((SCRIPT, patched(block.text, SCRIPT))):
        settings = quick(folder / str(number))
        names: dict[str, Any] = {"model": bert(), "data": Rows(64), "settings": settings}
        exec(compile(script, str(block), "exec"), names)
        sifts = "sift/candidates" in str(names["trainer"].state.log_history)
        found.append((sifts, hasattr(names["args"], "sift_criterion")))
    assert found[0] == (False, False)
    assert found[1] != found[0], "nothing sifts, and no field of sifting is there"


def commands(block: Block, folder: Path) -> None:
    """Every command as far as `programs` takes it; lines of file names, by looking."""
    lines = block.text.splitlines(keepends=True)
    named = [line for line in lines if line.startswith("configs/")]
    for line in named:
        files_exist(line)
    found = calls("".join(line for line in lines if line not in named), folder)
    assert found or named, "there is no command in it"
    for call in found:
        try:
            take(call)
        except Exception as error:
            raise AssertionError(f"{call}: {error}") from error


# ---- no commands ----


def files_exist(line: str) -> None:
    """Names of files and what is said of them in brackets; a bare name is in the first one's
    folder."""
    names = re.sub(r"\([^)]*\)", "", line).split()
    for name in itertools.chain.from_iterable(map(braces, names)):
        path = ROOT / name if "/" in name else ROOT / Path(names[0]).parent / name
        assert path.is_file(), f"{path.relative_to(ROOT)} is not there"


def braces(name: str) -> Iterator[str]:
    """``a{b,c}`` is ``ab`` and ``ac``."""
    found = re.search(r"\{([^{}]*)\}", name)
    if not found:
        yield name
        return
    for part in found[1].split(","):
        yield from braces(name[: found.start()] + part + name[found.end() :])


def file_tree(block: Block, folder: Path) -> None:
    """Each file and folder that it names is there, and no module or folder is left out."""
    named = set(re.findall(r"[\w./]+\.(?:py|yaml)\b|[\w/]+/(?=[\s,]|$)", block.text))
    there = {"mkdocs.yml"}
    for top in ("sift_trainer", "configs", "scripts", "tests", "benchmarks", "docs"):
        for path in (ROOT / top, *(ROOT / top).rglob("*")):
            there.add(f"{path.name}/" if path.is_dir() else path.name)
    assert len(named) > 40
    for name in named:
        assert Path(name).name + "/" * name.endswith("/") in there, f"{name} is not there"
    for path in (ROOT / "sift_trainer").iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert path.name in named, f"{path.name} is not in it"
        if (path / "__init__.py").is_file():
            assert f"{path.name}/" in named, f"{path.name}/ is not in it"


def layers(block: Block, folder: Path) -> None:
    """The drawing of imports: each name is a module or a folder of the package."""
    text = re.sub(r"\([^)]*\)", " ", block.text)
    for name in re.findall(r"\w+", text):
        path = ROOT / "sift_trainer" / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"{name} is no module"


def dry_run(block: Block, folder: Path) -> None:
    """What the dry run of the page's configuration says, to the letter."""
    name = block.text.partition(":")[0]
    config = f"configs/bert_base/{name}.yaml"
    said = pretrain_bert("scripts/pretrain_bert.py", ["--config", config, "--dry_run"])
    assert said.strip() == block.text.strip()


# ---- which of them ----

LANGUAGES: dict[str, Callable[[Block, Path], None]] = {
    "python": python,
    "yaml": yaml,
    "diff": diff,
    "bash": commands,
}
# Blocks without a language that are no commands, by a line that they begin with.
OTHERS: dict[tuple[str, str], Callable[[Block, Path], None]] = {
    ("README.md", "sift_trainer/"): file_tree,
    ("docs/architecture.md", "pretraining, "): layers,
    ("docs/reproduction.md", "loss_exit_1: "): dry_run,
}


def taker(block: Block) -> Callable[[Block, Path], None]:
    """What takes the block.

    Raises:
        AssertionError: nothing does.
    """
    for (page, begin), take_other in OTHERS.items():
        if block.page == page and block.text.startswith(begin):
            return take_other
    if block.language == INDENTED:
        return commands
    assert block.language in LANGUAGES, (
        f"nothing takes the block {block} of language {block.language!r}: write it as one of "
        f"{sorted(LANGUAGES)}, indent it if it is commands, or add to {__name__}"
    )
    return LANGUAGES[block.language]
