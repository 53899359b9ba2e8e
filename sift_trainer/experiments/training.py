"""The runs of one configuration, trained one after another in one way, and compared.

What a kind of experiment adds, its settings, its data and its trainer, is in an `Experiment`;
`pretraining` and `image_classification` have one each.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from transformers import ProgressCallback, TrainerCallback, set_seed
from transformers.utils import logging

from sift_trainer import (
    SiftCallback,
    SiftTrainer,
    SiftTrainingArguments,
    StopOnSignal,
    last_whole_checkpoint,
)
from sift_trainer.arguments import sift_settings
from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.checks.setup import check_steps
from sift_trainer.config import Config, ConfigError
from sift_trainer.experiments.progress import SiftProgress
from sift_trainer.plots import require_matplotlib
from sift_trainer.processes.launch import LaunchArguments, check_launch
from sift_trainer.report import Run, read_run, summarize
from sift_trainer.reporting import write_closing_tables
from sift_trainer.run_log import RunLog

logger = logging.get_logger(__name__)

_RESULTS = "results.json"


class Settings(Protocol):
    """The objects that a configuration is made of, of a run or of what all runs share."""

    @property
    def args(self) -> SiftTrainingArguments: ...

    @property
    def launch(self) -> LaunchArguments: ...


S = TypeVar("S", bound=Settings)
D = TypeVar("D")


@dataclass(frozen=True)
class Experiment(Generic[S, D]):
    """A kind of experiment.

    Attributes:
        kinds: the dataclasses whose fields a configuration has.
        settings: one object of each, by name.
        check: raises `ConfigError` for what no field can see by itself.
        load_data: what all runs share; raises `ConfigError`.
        build_trainer: of a run, with a freshly initialized model, the run's arguments and the
            callbacks; raises `ValueError`.
        describe: a run as plain data.
        waits_for: the run that has to be finished before one, by its name, if it depends on any.
    """

    kinds: tuple[type, ...]
    settings: Callable[..., S]
    check: Callable[[Config], None]
    load_data: Callable[[S], D]
    build_trainer: Callable[[S, D, SiftTrainingArguments, list[TrainerCallback]], SiftTrainer]
    describe: Callable[[S, D], dict[str, Any]]
    waits_for: Callable[[str, S], str | None] = lambda name, settings: None


def train_runs(experiment: Experiment[S, D], config: Config) -> list[Run]:
    """Train every run of the configuration; write and print what they reached.

    The main process writes, into `output_dir`, a folder per run with `log.jsonl`, `results.json`,
    `trainer_state.json` and the reporters' logs, and over all runs `table.md`, `results.json` and
    a figure named after the folder, with a grid one in the folder of each cell. Runs that are in
    `output_dir` from earlier calls are in them too; unfinished ones are listed with the reason.

    Returns:
        The runs that came to their end: fewer than there are if a signal asked to stop.

    Raises:
        ConfigError: for what was not launched as its configuration asks, and data or models that
            cannot be used.
        ImportError: for a missing extra.
    """
    shared = experiment.settings(*config.instances)
    try:
        check_launch(shared.launch, shared.args)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    require_matplotlib()
    output = Path(shared.args.output_dir)
    with shared.args.main_process_first(desc="the data"):
        data = experiment.load_data(shared)
    runs: list[Run] = []
    for name, instances in config.runs.items():
        settings = experiment.settings(*instances)
        settings.args.output_dir = str(output / name)
        settings.args.run_name = settings.args.run_name or name
        run = _train(experiment, name, settings, data)
        if run is None:
            return runs
        runs.append(run)
    if shared.args.process_index == 0:
        print(write_closing_tables(output, config.names, experiment.describe(shared, data)))
    return runs


def check_runs(
    config: Config, settings: Callable[..., S], alike: Sequence[str], check: Callable[[S], None]
) -> None:
    """Refuse what no field can see by itself, for every run, before the first one starts.

    Args:
        alike: names of those objects in the settings that all runs share.
        check: what else is refused of a run, by a `ValueError`.

    Raises:
        ConfigError: naming the run.
    """
    shared = settings(*config.instances)
    for name, instances in config.runs.items():
        run = settings(*instances)
        for part in alike:
            if getattr(run, part) != getattr(shared, part):
                raise ConfigError(
                    f"run {name!r} changes the {part}, which all runs share; set it above"
                )
        checkpoint = run.args.resume_from_checkpoint
        if checkpoint not in (None, "latest") and len(config.runs) > 1:
            raise ConfigError(
                f"resume_from_checkpoint={checkpoint!r} fits one of {len(config.runs)} runs; add "
                f"--runs {name}, or use 'latest'"
            )
        try:
            if run.args.max_steps > 0:
                check_steps(run.args, run.args.max_steps)
            check(run)
        except ValueError as error:
            raise ConfigError(f"run {name!r}: {error}") from error


def is_finished(folder: str | Path, max_steps: int) -> bool:
    """Whether the run whose `output_dir` is `folder` has come to an end, and was not asked for
    fewer steps than `max_steps`."""
    results = Path(folder) / _RESULTS
    if not results.is_file():
        return False
    asked = json.loads(results.read_text(encoding="utf-8"))["max_steps"]
    return bool(max_steps <= 0 or asked >= max_steps)


def _train(experiment: Experiment[S, D], name: str, settings: S, data: D) -> Run | None:
    """One run from scratch, or from a checkpoint, to its last evaluation; None if a signal ended it
    before, with a checkpoint. A finished run that is to be resumed is read from its log."""
    # A copy: DeepSpeed's part of the arguments serves one trainer only.
    args = replace(settings.args)
    if args.resume_from_checkpoint == "latest" and is_finished(args.output_dir, args.max_steps):
        logger.warning(
            f"run {name!r} in {args.output_dir} is finished and left as it is; to train it for "
            "longer, raise max_steps"
        )
        return read_run(name, args.output_dir)

    record = {
        "run": name,
        "processes": args.world_size,
        **experiment.describe(settings, data),
        "training": args.to_sanitized_dict(),
    }
    set_seed(args.seed)
    stop = StopOnSignal()
    try:
        trainer = experiment.build_trainer(settings, data, args, [RunLog(record), stop])
    except ValueError as error:
        raise ConfigError(f"run {name!r}: {error}") from error
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        sift_callback = trainer.pop_callback(SiftCallback)
        trainer.add_callback(SiftProgress)  # before the one that prints when training ends
        trainer.add_callback(sift_callback)
    trainer.train(resume_from_checkpoint=_checkpoint(args))
    if stop.stopped:
        return None
    if trainer.state.global_step not in _evaluated(trainer.state.log_history):
        trainer.evaluate()
    trainer.save_state()
    run = summarize(name, trainer.state.log_history)
    if trainer.is_world_process_zero():
        result = {"max_steps": args.max_steps, "sift": sift_settings(args), "run": asdict(run)}
        write_json(Path(args.output_dir) / _RESULTS, result)
    return run


def _evaluated(history: Sequence[Mapping[str, Any]]) -> set[int]:
    return {line["step"] for line in history if "eval_loss" in line}


def _checkpoint(args: SiftTrainingArguments) -> str | None:
    wanted: str | None = args.resume_from_checkpoint
    if wanted == "latest":
        folder = Path(args.output_dir)
        wanted = last_whole_checkpoint(folder) if folder.is_dir() else None
    return wanted
