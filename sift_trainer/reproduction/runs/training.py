"""The runs of one configuration, trained one after another and compared."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed
from transformers.utils import logging

from sift_trainer import SiftTrainer, SiftTrainingArguments, StopOnSignal, last_whole_checkpoint
from sift_trainer.arguments import sift_settings
from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.checks.setup import check_steps
from sift_trainer.processes.launch import check_launch
from sift_trainer.reproduction.configuration import Config, ConfigError, config_errors
from sift_trainer.reproduction.configuration.parsing import is_chosen
from sift_trainer.reproduction.report import write_closing_tables
from sift_trainer.reproduction.report.history import RESULTS, Run, read_run, summarize
from sift_trainer.reproduction.run_log import RunLog

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Experiment:
    """What differs between BERT and ResNet.

    Attributes:
        kinds: the dataclasses whose fields a configuration has.
        settings: makes a named tuple of one object of each, with `args` and `launch` among them.
        load_data: the data that all runs share.
        build_trainer: the trainer of a run, with a freshly initialized model.
        describe: a run as plain data.
        waits_for: the name of the run that must be finished before the named one, if any.
    """

    kinds: tuple[type, ...]
    settings: Callable[..., Any]
    check: Callable[[Config], None]
    load_data: Callable[[Any], Any]
    build_trainer: Callable[[Any, Any, SiftTrainingArguments, list[TrainerCallback]], SiftTrainer]
    describe: Callable[[Any, Any], dict[str, Any]]
    waits_for: Callable[[str, Any], str | None] = lambda name, settings: None


def train_runs(experiment: Experiment, config: Config) -> list[Run]:
    """Train every run of the configuration; write the results into `output_dir`, and print them.

    With `--resume_from_checkpoint latest` every run resumes from its last whole checkpoint, if it
    has one, and finished runs stay as they are. A SIGTERM saves a checkpoint after the current step
    and ends the call.

    Returns:
        The finished runs: fewer than the configuration has if a signal stopped the call.

    Raises:
        ConfigError: if the launch differs from the configuration, or data or models cannot be used.
    """
    shared = experiment.settings(*config.instances)
    with config_errors():
        check_launch(shared.launch, shared.args)
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
        print(write_closing_tables(output, experiment.describe(shared, data)))
    return runs


def sifting_run(experiment: Experiment, config: Config, wanted: str | None) -> str:
    """Name of the ``wanted`` run; for None, of the first that sifts, or else of the first."""
    for name, instances in config.runs.items():
        ratio = experiment.settings(*instances).args.sift_keep_ratio
        if is_chosen(name, wanted) if wanted is not None else ratio < 1:
            return name
    if wanted is None:
        return next(iter(config.runs))
    raise ConfigError(f"--run {wanted}: no such run; there is {', '.join(config.runs)}")


def trainer_of(experiment: Experiment, name: str, settings: Any) -> SiftTrainer:
    """The trainer of a run, with its data and a freshly initialized model, without reporters.

    A run that does not sift gets keep ratio 0.5, so that there are candidates to choose from.
    """
    data = experiment.load_data(settings)
    output = str(Path(str(settings.args.output_dir)) / name)
    changes: dict[str, Any] = {"output_dir": output, "report_to": []}
    if settings.args.sift_keep_ratio == 1:
        changes["sift_keep_ratio"] = 0.5
    set_seed(settings.args.seed)
    with config_errors(f"run {name!r}: "):
        args = replace(settings.args, **changes)
        return experiment.build_trainer(settings, data, args, [])


def check_runs(
    config: Config, settings: Callable[..., Any], alike: Sequence[str], check: Callable[[Any], None]
) -> None:
    """Check every run before the first one starts; raises `ConfigError`, which names the run.

    Args:
        alike: names of the objects in the settings that all runs share.
        check: further checks of a run, which raise a `ValueError`.
    """
    shared = settings(*config.instances)
    for name, instances in config.runs.items():
        run = settings(*instances)
        for part in alike:
            if getattr(run, part) != getattr(shared, part):
                raise ConfigError(
                    f"run {name!r} changes the {part}, which all runs share; set it for all of them"
                )
        checkpoint = run.args.resume_from_checkpoint
        if checkpoint not in (None, "latest") and len(config.runs) > 1:
            raise ConfigError(
                f"resume_from_checkpoint={checkpoint!r} fits one of {len(config.runs)} runs; add "
                f"--runs {name}, or use 'latest'"
            )
        with config_errors(f"run {name!r}: "):
            if run.args.max_steps > 0 and run.args.sift_keep_ratio < 1:
                check_steps(run.args, run.args.max_steps)
            check(run)


def is_finished(folder: str | Path, max_steps: int) -> bool:
    """Whether the run in `folder`, its `output_dir`, ended after at least `max_steps` steps."""
    results = Path(folder) / RESULTS
    if not results.is_file():
        return False
    steps = json.loads(results.read_text(encoding="utf-8"))["max_steps"]
    return bool(max_steps <= 0 or steps >= max_steps)


def _train(experiment: Experiment, name: str, settings: Any, data: Any) -> Run | None:
    """Train one run to its last evaluation; None if a signal ended it before."""
    # A copy, because DeepSpeed's part of the arguments serves one trainer only.
    args = replace(settings.args)
    if args.resume_from_checkpoint == "latest" and is_finished(args.output_dir, args.max_steps):
        logger.warning(f"run {name!r} in {args.output_dir} is finished and stays as it is")
        return read_run(name, args.output_dir)

    record = {"run": name, "processes": args.world_size, **experiment.describe(settings, data)}
    set_seed(args.seed)
    stop = StopOnSignal()
    with config_errors(f"run {name!r}: "):
        trainer = experiment.build_trainer(settings, data, args, [RunLog(record), stop])
    checkpoint = args.resume_from_checkpoint
    if checkpoint == "latest":
        folder = Path(args.output_dir)
        checkpoint = last_whole_checkpoint(folder) if folder.is_dir() else None
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped:
        return None
    history = trainer.state.log_history
    evaluated = {line["step"] for line in history if "eval_loss" in line}
    if trainer.state.global_step not in evaluated:
        trainer.evaluate()
    trainer.save_state()
    run = summarize(name, history)
    if trainer.is_world_process_zero():
        result = {"max_steps": args.max_steps, "sift": sift_settings(args), "run": run.results()}
        write_json(Path(args.output_dir) / RESULTS, result)
    return run
