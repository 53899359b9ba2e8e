"""The runs of a configuration, each in processes of its own, shared by all who start the sweep.

No list says who trains what. Each sweep takes the next run that nobody has locked. So a job array
is the same command started several times, and an interrupted sweep is started again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers.utils import logging

from sift_trainer.reproduction.configuration import parse_config
from sift_trainer.reproduction.runs.job_processes import JobProcesses, held
from sift_trainer.reproduction.runs.training import D, Experiment, S, is_finished
from sift_trainer.reproduction.run_log import FILE

logger = logging.get_logger(__name__)

_LOCK = ".lock"


class Planned(NamedTuple):
    """A run of the sweep.

    Attributes:
        folder: its `output_dir`.
        after: the run that must be finished before this one begins; None if there is none.
    """

    name: str
    folder: Path
    max_steps: int
    after: "Planned | None"

    def is_finished(self) -> bool:
        return is_finished(self.folder, self.max_steps)

    def state(self) -> str:
        """``finished``, ``being trained``, ``begun``, ``not begun``, or what it waits for."""
        if self.is_finished():
            return "finished"
        if (self.folder / _LOCK).is_file():
            with held(self.folder / _LOCK) as lock:
                if lock is None:
                    return "being trained"
        if self.after is not None and not self.after.is_finished():
            return f"waits for {self.after.name}"
        return "begun" if (self.folder / FILE).is_file() else "not begun"


def plan(experiment: Experiment[S, D], argv: Sequence[str]) -> list[Planned]:
    """The runs of a checked configuration.

    Raises:
        ConfigError: as training would raise it.
    """
    # On the CPU, so that this process occupies no GPU.
    config = parse_config(experiment.kinds, [*argv, "--use_cpu", "true"])
    experiment.check(config)
    output = Path(str(experiment.settings(*config.instances).args.output_dir))
    planned: dict[str, Planned] = {}
    for name, instances in config.runs.items():
        settings = experiment.settings(*instances)
        after = experiment.waits_for(name, settings)
        # `check` made sure that a run which `--runs` leaves out is finished.
        earlier = planned.get(after) if after is not None else None
        planned[name] = Planned(name, output / name, settings.args.max_steps, earlier)
    return list(planned.values())


def sweep(runs: Sequence[Planned], command: Sequence[str]) -> dict[str, int]:
    """Train the unfinished runs that nobody else trains, one after another.

    A run that ends with an error is left, and the others go on. SIGTERM and SIGINT are passed on:
    the current run saves a checkpoint, and the sweep ends. A second signal kills the run.

    Args:
        command: trains one run, whose name is its last argument.

    Returns:
        Name -> exit status of the runs that failed.

    Raises:
        ChildProcessError: if a run ended before its first step, as all others would.
    """
    failed: dict[str, int] = {}
    with JobProcesses() as processes:

        def train(run: Planned) -> bool:
            """Whether anything was trained."""
            if run.is_finished() or (run.after is not None and not run.after.is_finished()):
                return False
            run.folder.mkdir(parents=True, exist_ok=True)
            with held(run.folder / _LOCK) as lock:
                if lock is None or run.is_finished():
                    return False
                logger.warning(f"training {run.name} in {run.folder}")
                before = _logged(run)
                status = processes.run([*command, run.name], lock)
            if run.is_finished() or processes.stopped:
                return True
            if _logged(run) == before:
                raise ChildProcessError(
                    f"{run.name} ended with status {status} before its first step: see above"
                )
            logger.warning(f"{run.name} ended with status {status} and is not finished")
            failed[run.name] = status
            return True

        trained = True
        while trained and not processes.stopped:  # another round, for runs that waited
            trained = False
            for run in runs:
                if run.name not in failed and not processes.stopped:
                    trained |= train(run)
    return failed


def _logged(run: Planned) -> int:
    """Bytes in the log of a run. The first line is written when training begins."""
    log = run.folder / FILE
    return log.stat().st_size if log.is_file() else 0
