"""How far the command of a page is taken, program by program.

Cheap ones run. Of training and measuring everything is done that comes before the work: the program
is there, its own parser takes the flags, the configuration is read and every run of it is built and
checked, the launcher reads its own file. What only the work itself would show, such as a checkpoint
that a command names, is not seen here.
"""

import argparse
import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.docs.shell import Call

Arguments = Sequence[str]

# Precision that only a GPU computes, and trackers, are not what is tested.
HERE = ("--use_cpu", "true", "--report_to", "none")


# ---- scripts ----


class _Parsed(BaseException):
    """The script's own parser took its arguments: far enough."""


def its_own_parser(script: str, arguments: Arguments) -> None:
    """The script runs until its parser has taken the arguments."""
    taken = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        taken(parser, *args, **kwargs)
        raise _Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with contextlib.suppress(_Parsed):
            _run(script, arguments)
            raise AssertionError(f"{script} ended without a look at its arguments")


def _run(script: str, arguments: Arguments) -> str:
    """A script in this process; what it printed."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), failing(said):
        patch.setattr(sys, "argv", [script, *arguments])
        patch.syspath_prepend(str(ROOT / Path(script).parent))
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return said.getvalue()


@contextlib.contextmanager
def failing(said: io.StringIO) -> Iterator[None]:
    """What ends a program with a status other than 0 fails, with what it said."""
    with contextlib.redirect_stderr(said):
        try:
            yield
        except SystemExit as end:
            if end.code:
                raise AssertionError(f"ended with {end.code!r}: {said.getvalue()[-500:]}") from end


def pretrain_bert(script: str, arguments: Arguments) -> str:
    """Every run is built and checked; a dry run is done, and what it says returned."""
    from sift_trainer.config import parse_config
    from sift_trainer.pretraining.arguments import KINDS, check

    check(parse_config(KINDS, [*arguments, *HERE]))
    return _run(script, arguments) if "--dry_run" in arguments else ""


def prepare_corpus(script: str, arguments: Arguments) -> None:
    """The fields are read, as preparing reads them."""
    from sift_trainer.config import parse_config
    from sift_trainer.data.text.corpus import CorpusArguments
    from sift_trainer.data.text.preparation import ShareArguments
    from sift_trainer.pretraining.arguments import KINDS

    own = (CorpusArguments, ShareArguments)
    parse_config(own, arguments, ignored=[kind for kind in KINDS if kind not in own])


def train_resnet(script: str, arguments: Arguments) -> None:
    """Every run is built and checked."""
    from sift_trainer.config import parse_config
    from sift_trainer.image_classification.arguments import KINDS, check

    check(parse_config(KINDS, [*arguments, *HERE]))


def sweep(script: str, arguments: Arguments) -> None:
    """Asked for its status: it plans every run and trains none."""
    if "--accelerate_config" in arguments:
        launcher_file(arguments[list(arguments).index("--accelerate_config") + 1])
    assert "not begun" in _run(script, [*arguments, "--status"])


def users_script(script: str, arguments: Arguments) -> None:
    """Not ours: its flags are fields of `SiftTrainingArguments`."""
    from transformers import HfArgumentParser

    from sift_trainer import SiftTrainingArguments

    assert arguments[0] == "..."  # what a reader's script is called with anyway
    parser = HfArgumentParser(SiftTrainingArguments, allow_abbrev=False)
    with failing(io.StringIO()):
        parser.parse_args_into_dataclasses(["--output_dir", "runs/mine", *arguments[1:]])


def only_there(script: str, arguments: Arguments) -> None:
    """A file of the repository; it has no parser."""


SCRIPTS: dict[str, Callable[[str, Arguments], object]] = {
    "scripts/pretrain_bert.py": pretrain_bert,
    "scripts/prepare_corpus.py": prepare_corpus,
    "scripts/train_resnet.py": train_resnet,
    "scripts/sweep.py": sweep,
    "scripts/reproduce_theory.py": its_own_parser,
    "tests/pretraining/peak_memory.py": only_there,
    **{
        f"benchmarks/{path.name}": its_own_parser
        for path in (ROOT / "benchmarks").glob("*.py")
        if "argparse.ArgumentParser" in path.read_text() or "_parser(" in path.read_text()
    },
    "run_mlm.py": users_script,
}


def script(name: str, arguments: Arguments) -> None:
    assert name in SCRIPTS, f"{name} is no script of the project; see SCRIPTS in {__name__}"
    SCRIPTS[name](name, arguments)


# ---- programs ----


def python(arguments: Arguments) -> None:
    script(arguments[0], arguments[1:])


def accelerate(arguments: Arguments) -> None:
    """Its parser takes the flags, its loader the file; the script as without it."""
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch", f"accelerate {arguments[0]} is not known here"
    with failing(said := io.StringIO()), contextlib.redirect_stdout(said):
        flags = launch_command_parser().parse_args(list(arguments[1:]))
    if flags.config_file:
        launcher_file(flags.config_file)
    script(flags.training_script, flags.training_script_args)


def launcher_file(path: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(ROOT / path)).num_processes >= 1


def torchrun(arguments: Arguments) -> None:
    from torch.distributed.run import get_args_parser

    with failing(said := io.StringIO()), contextlib.redirect_stdout(said):
        flags = get_args_parser().parse_args(list(arguments))
    script(flags.training_script, flags.training_script_args)


def sift_trainer(arguments: Arguments) -> None:
    """`report` runs. `probe` is taken to where the trainer would be made; models and data are not
    read."""
    from sift_trainer.commands import main, probe

    words = [word.strip("[]") for word in arguments]  # what may be left out, in a synopsis
    words = [word.removesuffix("...") for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "run", _probe)
        with failing(said := io.StringIO()), contextlib.redirect_stdout(said):
            status = main(words)
    assert status == 0, said.getvalue()


def _probe(flags: argparse.Namespace) -> None:
    from sift_trainer import SiftTrainingArguments
    from sift_trainer.commands.probe import _argv, _experiment_of, _named
    from sift_trainer.config import parse_config
    from sift_trainer.experiments.one_run import sifting_run
    from sift_trainer.model_and_dataset import ModelAndDataset

    if flags.config is None:
        argv = [*_argv(_named(flags)), *flags.overrides, *HERE]
        parse_config((ModelAndDataset, SiftTrainingArguments), argv)
        return
    experiment = _experiment_of(flags.config)
    config = parse_config(experiment.kinds, ["--config", flags.config, *flags.overrides, *HERE])
    experiment.check(config)
    sifting_run(experiment, config, flags.run_name)


def make(arguments: Arguments) -> None:
    """The targets are there; nothing is made."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def collected(arguments: Arguments) -> None:
    """Collected in one process for all pages, see `test_code_blocks`; here the files are there."""
    for word in arguments:
        if word.startswith("tests/"):
            assert (ROOT / word.partition("::")[0]).exists(), f"{word} is no file of the tests"


def noted(arguments: Arguments) -> None:
    """Not ours, and nothing of it can be asked without the cluster or the network."""


PROGRAMS: dict[str, Callable[[Arguments], None]] = {
    "python": python,
    "accelerate": accelerate,
    "torchrun": torchrun,
    "sift-trainer": sift_trainer,
    "make": make,
    "pytest": collected,
    "git": noted,
    "srun": noted,
    "scontrol": noted,
}


def take(call: Call) -> None:
    """As far as the table says.

    Raises:
        AssertionError, ValueError: for a flag, file, field or target that is not there.
    """
    PROGRAMS[call.program](call.arguments)
