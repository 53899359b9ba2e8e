"""Write out a script with a line swapped, call it as a user would, read what it leaves behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.distributed.launch import in_a_process

SCRIPT = (Path(__file__).parent / "sentence_classification.py").read_text()
TRAINER = "from transformers import Trainer\n"
SIFT_TRAINER = "from sift_trainer import SiftTrainer as Trainer\n"
ARGUMENTS = "transformers.TrainingArguments)"
SIFT_ARGUMENTS = "sift_trainer.SiftTrainingArguments)"

KEPT, DRAWN = 4, 8

ONE_AFTER_THE_OTHER = """
import json, runpy, sys
for script, *arguments in json.load(open(sys.argv[1])):
    print("----", script, *arguments, flush=True)
    sys.argv[:] = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
"""


class Call(NamedTuple):
    """What a call of a script left behind."""

    folder: Path
    state: dict[str, Any]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [line for line in self.state["log_history"] if "loss" in line]

    def results(self, split: str) -> dict[str, Any]:
        results: dict[str, Any] = json.loads((self.folder / f"{split}_results.json").read_text())
        return results


def swapped(text: str) -> str:
    assert text.count(TRAINER) == 1
    return text.replace(TRAINER, SIFT_TRAINER)


def with_sift_arguments(text: str) -> str:
    assert text.count(ARGUMENTS) == 1
    return "import sift_trainer\n" + text.replace(ARGUMENTS, SIFT_ARGUMENTS)


def flags(folder: Path, run: str, epochs: int, **sift: Any) -> list[str]:
    """Flags of the script; ``models``, ``data`` and ``runs`` are in ``folder``."""
    data = folder / "data"
    values: dict[str, Any] = {
        "model_name_or_path": folder / "models" / "sentence_classification",
        "output_dir": folder / "runs" / run,
        "do_train": True,
        "do_eval": True,
        "do_predict": True,
        "per_device_train_batch_size": KEPT,
        "learning_rate": 1e-3,
        "num_train_epochs": epochs,
        "logging_steps": 1,
        "save_steps": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        **{f"{split}_file": data / f"{split}.csv" for split in ("train", "validation", "test")},
        **sift,
    }
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def run(folder: Path, plan: list[list[str]]) -> dict[str, Call]:
    """Run scripts, each a list of words, one after the other in one process: each is a fresh
    ``__main__``, and the imports, which take longer than the scripts, are shared.

    Raises:
        AssertionError: if a script fails; carries the end of the output.
    """
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    how = in_a_process(HF_DATASETS_CACHE=str(folder / "cache"), HF_DATASETS_OFFLINE="1")
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER, str(file)]
    ended = subprocess.run(command, **how, capture_output=True, timeout=300)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]
    return {
        output.name: Call(output, json.loads((output / "trainer_state.json").read_text()))
        for output in (folder / "runs").iterdir()
    }
