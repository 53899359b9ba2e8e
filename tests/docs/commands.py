"""Checks the commands of a page without running them: files exist, parsers know the flags.

Configurations are built run by run. Dry runs and `--status` are run for real.
"""

import argparse
import contextlib
import io
import itertools
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tests.docs.pages import COMMAND_STARTS, ROOT

# Precision that only a GPU computes is not what is tested.
ON_CPU = ["--use_cpu", "true", "--report_to", "none"]
_COMMAND = re.compile(rf"(?:^|[\s/])({'|'.join(map(re.escape, COMMAND_STARTS))})(.*)")
CONFIGURED = [f"scripts/{name}.py" for name in ("pretrain_bert", "train_resnet", "prepare_corpus")]
# Names that stand for something of the reader's own.
_READERS = ("SCRIPT", "run_mlm.py")


def commands(text: str) -> Iterator[list[str]]:
    """Words of each command of a shell block; variables of the shell become 1."""
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"\$\(\([^)]*\)\)|\\?\$\w+", "1", text)
    for line in re.split(r"\n|&&|;", text):
        if found := _COMMAND.search(line.strip()):
            command = found[1] + found[2]
            if line.count('"') == 2 and command.endswith('"'):  # within `bash -c "exec ..."`
                command = command[:-1]
            yield shlex.split(command, comments=True)


def listed_files(text: str) -> list[str]:
    """Configurations that a block lists, as patterns: ``a_{1,2}.yaml`` is ``a_*.yaml``."""
    lines = [line for line in text.splitlines() if line.startswith("configs/")]
    return re.findall(r"[\w*]+\.yaml", re.sub(r"\{[^}]*\}", "*", " ".join(lines)))


def check(words: list[str]) -> str:
    """Check one command; returns what it printed, if it was run.

    Raises:
        AssertionError, ValueError: for a file, flag, field, run or target that does not exist.
    """
    program, *arguments = words
    return CHECKS[program](arguments) or ""


def _script(arguments: list[str]) -> str | None:
    name, *arguments = arguments
    if name in _READERS:
        return _readers_script(arguments)
    assert (ROOT / name).is_file(), f"{name} does not exist"
    for flag, value in itertools.pairwise(arguments):
        if flag in ("--config", "--accelerate_config"):
            assert (ROOT / value).is_file(), f"{value} does not exist"
    if name in CONFIGURED:
        _configured(Path(name).stem, arguments)
        return _run(name, arguments) if "--dry_run" in arguments else None
    if name == "scripts/sweep.py":
        assert "not finished" in _run(name, [*arguments, "--status"])
    elif "arser" in (ROOT / name).read_text():
        _parse_only(name, arguments)
    return None


def _readers_script(arguments: list[str]) -> None:
    from transformers import HfArgumentParser

    from sift_trainer import SiftTrainingArguments

    parser = HfArgumentParser(SiftTrainingArguments, allow_abbrev=False)
    given = [word for word in arguments if word != "..."]
    with _failing():
        parser.parse_args_into_dataclasses(["--output_dir", "runs/mine", *given])


def _configured(kind: str, arguments: list[str]) -> None:
    """Every run of the configuration can be built."""
    from sift_trainer.reproduction import bert as pretraining
    from sift_trainer.reproduction import resnet as image_classification
    from sift_trainer.reproduction.configuration import parse_config
    from sift_trainer.reproduction.corpus.corpus import CorpusArguments
    from sift_trainer.reproduction.corpus.preparation import ShareArguments

    if kind == "prepare_corpus":
        own = (CorpusArguments, ShareArguments)
        kinds = pretraining.arguments.KINDS
        parse_config(own, arguments, ignored=[each for each in kinds if each not in own])
        return
    package = pretraining if kind == "pretrain_bert" else image_classification
    package.arguments.check(parse_config(package.arguments.KINDS, [*arguments, *ON_CPU]))


class _Parsed(BaseException):
    """The script's own parser accepted the arguments."""


def _parse_only(name: str, arguments: list[str]) -> None:
    """Run a script until its parser has accepted the arguments."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *args: object) -> None:
        parse_args(parser, *args)
        raise _Parsed

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        _run(name, arguments)
        raise AssertionError(f"{name} did not parse its arguments")


def _run(name: str, arguments: list[str]) -> str:
    """Run a script in this process; returns what it printed."""
    with pytest.MonkeyPatch.context() as patch, _failing() as printed:
        patch.setattr(sys, "argv", [name, *arguments])
        patch.syspath_prepend(str(ROOT / Path(name).parent))
        runpy.run_path(str(ROOT / name), run_name="__main__")
    return printed.getvalue()


@contextlib.contextmanager
def _failing() -> Iterator[io.StringIO]:
    """A program that exits with a status other than 0 fails the test, with what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            yield printed
        except SystemExit as end:
            if end.code:
                raise AssertionError(f"{end.code}: {printed.getvalue()[-500:]}") from end


def _launcher(arguments: list[str]) -> str | None:
    """`accelerate launch` or `torchrun`: its parser accepts the flags, and the script's its own."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    accelerate = arguments[0] == "launch"
    parser = launch_command_parser() if accelerate else get_args_parser()
    with _failing():
        flags = parser.parse_args(arguments[accelerate:])
    if accelerate and flags.config_file:
        assert load_config_from_file(str(ROOT / flags.config_file)).num_processes >= 1
    return _script([flags.training_script, *flags.training_script_args])


def _sift_trainer(arguments: list[str]) -> None:
    """The subcommand's help or a dataclass has each flag, and the configuration exists."""
    from sift_trainer import SiftTrainingArguments
    from sift_trainer.__main__ import main
    from sift_trainer.reproduction.bert.arguments import KINDS

    with _failing() as printed:
        main([arguments[0], "--help"])
    known = set(re.findall(r"--\w+", printed.getvalue()))
    if arguments[0] == "probe":
        known |= {
            f"--{each.name}" for kind in (SiftTrainingArguments, *KINDS) for each in fields(kind)
        }
    flags = {word.strip("[]") for word in arguments if word.strip("[").startswith("--")}
    assert flags <= known, flags - known
    for word in arguments:
        assert not word.startswith("configs/") or (ROOT / word).is_file(), f"no file {word}"


def _make(arguments: list[str]) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(arguments) <= set(targets), f"no target {arguments}; there are {targets}"


def _pytest(arguments: list[str]) -> None:
    file, *option = arguments
    text = (ROOT / file).read_text()
    assert not option or re.search(rf"def test_\w*{option[1]}", text), f"{file} has no {option[1]}"


CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "python": _script,
    "accelerate": _launcher,
    "torchrun": _launcher,
    "sift-trainer": _sift_trainer,
    "make": _make,
    "pytest": _pytest,
}
