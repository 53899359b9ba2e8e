"""The trainer of one run of a configuration, built and not trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from sift_trainer import SiftTrainer
from sift_trainer.reproduction.configuration import Config, ConfigError, config_errors
from sift_trainer.reproduction.configuration.parsing import is_chosen
from sift_trainer.reproduction.runs.training import Experiment


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
