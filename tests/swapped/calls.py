"""Write out scripts with a line swapped, call them as a user would, read what they leave behind."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.distributed.launch import in_a_process, python_module

SCRIPTS = Path(__file__).parent / "scripts"
TRAINER = "from transformers import Trainer\n"
SIFT_TRAINER = "from sift_trainer import SiftTrainer as Trainer\n"
ARGUMENTS = "transformers.TrainingArguments)"
SIFT_ARGUMENTS = "sift_trainer.SiftTrainingArguments)"

KEPT, DRAWN = 4, 8
FIRST, ALL = 4, 7  # steps of the first call and, resumed, of both
EPOCHS = {FIRST: 1, ALL: 2}  # of the script that is given epochs instead


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


def original(name: str) -> str:
    return (SCRIPTS / f"{name}.py").read_text()


def swapped(text: str) -> str:
    assert text.count(TRAINER) == 1
    return text.replace(TRAINER, SIFT_TRAINER)


def with_sift_arguments(text: str) -> str:
    assert text.count(ARGUMENTS) == 1
    return "import sift_trainer\n" + text.replace(ARGUMENTS, SIFT_ARGUMENTS)


def fields(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """Of the script's three dataclasses; ``models``, ``data`` and ``runs`` are in ``folder``."""
    model, data = str(folder / "models" / name), folder / "data"
    ending = {
        "masked_lm": ".txt",
        "sentence_classification": ".csv",
        "question_answering": "_questions.json",
    }
    values: dict[str, Any] = {
        "output_dir": str(folder / "runs" / name),
        "max_steps": steps,
        "do_train": True,
        "do_eval": True,
        "per_device_train_batch_size": KEPT,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": FIRST,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    if name == "masked_lm":
        values |= {"config_name": model, "tokenizer_name": model}
    else:
        values |= {"model_name_or_path": model}
    for split in ("train", "validation"):
        values[f"{split}_file"] = f"{data}/{split}{ending[name]}"
    if name == "sentence_classification":
        del values["max_steps"]
        values |= {"num_train_epochs": EPOCHS[steps], "test_file": f"{data}/test.csv"}
    if name != "masked_lm":
        values["do_predict"] = True
    return values


def flags(values: dict[str, Any]) -> list[str]:
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def run(folder: Path, plan: list[list[str]]) -> dict[str, Call]:
    """Run a plan of `tests.swapped.run_scripts` in a process of its own.

    Raises:
        AssertionError: if a script fails; carries the end of the output.
    """
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    how = in_a_process(HF_DATASETS_CACHE=str(folder / "cache"), HF_DATASETS_OFFLINE="1")
    module = python_module("tests.swapped.run_scripts", file)
    ended = subprocess.run(module, **how, capture_output=True, timeout=300)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]
    return {
        output.name: Call(output, json.loads((output / "trainer_state.json").read_text()))
        for output in (folder / "runs").iterdir()
    }
