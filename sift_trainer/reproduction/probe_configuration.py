"""``sift-trainer probe --config FILE``: would sifting pay for a run of a configuration?"""

import argparse
from pathlib import Path
from typing import Any

from sift_trainer.probe import ProbeResult
from sift_trainer.probe.command import probe_with
from sift_trainer.reproduction.bert import PRETRAINING
from sift_trainer.reproduction.configuration import load_yaml, parse_config
from sift_trainer.reproduction.resnet import IMAGE_CLASSIFICATION
from sift_trainer.reproduction.runs.training import sifting_run, trainer_of


def probe_configuration(flags: argparse.Namespace) -> tuple[ProbeResult, Path]:
    """The result for a run of a configuration, and the default folder for its report."""
    # Every configuration for images names its dataset; one for text names its sources.
    experiment: Any = IMAGE_CLASSIFICATION if "dataset" in load_yaml(flags.config) else PRETRAINING
    config = parse_config(experiment.kinds, ["--config", flags.config, *flags.fields])
    experiment.check(config)
    name = sifting_run(experiment, config, flags.run_name)
    settings = experiment.settings(*config.runs[name])
    if hasattr(settings, "duration"):
        # A run that takes as long as another one waits for its end; a probe does not.
        settings = settings._replace(duration=type(settings.duration)())
    trainer = trainer_of(experiment, name, settings)
    return probe_with(trainer, flags), Path(settings.args.output_dir) / name / "probe"
