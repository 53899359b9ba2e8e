"""Train every unfinished run of a configuration, each in processes of its own.

scripts/sweep.py train_resnet --config configs/resnet50/table_3.yaml \\
    --accelerate_config configs/accelerate/single_gpu.yaml [--runs NAME ...] [--field value ...]

Started again, it goes on. Started several times, as by a job array, the sweeps share the runs.
`--status` says what is finished. All other flags are those of the training script.
"""

import argparse
import sys
from pathlib import Path

from sift_trainer.reproduction.bert import PRETRAINING
from sift_trainer.reproduction.configuration import ConfigError
from sift_trainer.reproduction.resnet import IMAGE_CLASSIFICATION
from sift_trainer.reproduction.runs.sweep import plan, sweep

EXPERIMENTS = {"train_resnet": IMAGE_CLASSIFICATION, "pretrain_bert": PRETRAINING}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("script", choices=EXPERIMENTS, help="in this script's folder")
    parser.add_argument("--accelerate_config", metavar="FILE", help="for accelerate launch")
    parser.add_argument("--runs", metavar="NAME", nargs="+", help="run, cell, or run in all cells")
    parser.add_argument("--status", action="store_true", help="say what is finished, and exit")
    flags, others = parser.parse_known_args()
    chosen = ["--runs", *flags.runs] if flags.runs else []
    try:
        runs = plan(EXPERIMENTS[flags.script], [*others, *chosen])
        if not flags.status:
            command = [sys.executable, "-m", "accelerate.commands.launch"]
            if flags.accelerate_config:
                command += ["--config_file", flags.accelerate_config]
            command += [str(Path(__file__).with_name(f"{flags.script}.py")), *others]
            failed = sweep(runs, [*command, "--resume_from_checkpoint", "latest", "--runs"])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    width = max(len(run.name) for run in runs)
    for run in runs:
        state = "finished" if run.is_finished() else "not finished"
        failure = not flags.status and failed.get(run.name)
        print(f"{run.name:<{width}}  {f'failed with status {failure}' if failure else state}")
    sys.exit(1 if not flags.status and failed else 0)
