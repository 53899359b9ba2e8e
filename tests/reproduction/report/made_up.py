"""Run folders that nobody trained, written by what writes them in a training."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import TrainerControl, TrainerState

from sift_trainer.checkpoints.whole_files import write_json
from sift_trainer.reproduction.run_log import FILE, RunLog

EVERY = 10  # steps from one evaluation to the next
BATCH = 256

SIFT: dict[str, Any] = {
    "sift_criterion": "loss",
    "sift_exit_layer": 1,
    "sift_keep_ratio": 0.5,
    "sift_selector": "top_k",
    "sift_skip_top": 0.0,
    "sift_interval": 1,
    "sift_warmup_steps": 0.0,
}
BERT = {
    "model": {"num_hidden_layers": 12, "hidden_size": 768},
    "corpus": {"max_length": 512},
}
PLAIN = {"sift_keep_ratio": 1.0}


def resnet(dataset: str = "cifar100", **duration: Any) -> dict[str, Any]:
    return {
        "model": {"depths": [3, 4, 6, 3]},
        "images": {"dataset": dataset, "train_rows": 50_000},
        "duration": {"same_time_as": None, "train_seconds": None, **duration},
    }


def write_run(
    folder: Path,
    accuracies: list[float],
    *,
    hours: float = 1.0,
    sampling: float = 0.0,
    sift: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    learning_rate: float = 1e-4,
    rates: list[float] | None = None,
    max_steps: int | None = None,
    finished: bool = True,
) -> Path:
    """A run that is evaluated every 10 steps of 256 rows. From one evaluation to the next it takes
    ``hours`` of forward, twice that of backward, and ``sampling`` hours of sampling."""
    last = EVERY * len(accuracies)
    sift = {**SIFT, **(sift or {})}
    settings = BERT if settings is None else settings
    measure = "accuracy" if "images" in settings else "mlm_accuracy"
    training = {
        "output_dir": str(folder),
        "max_steps": max_steps or last,
        "seed": seed,
        "learning_rate": learning_rate,
        **sift,
    }
    log = RunLog({"run": folder.name, "processes": 1, **settings})
    args: Any = SimpleNamespace(output_dir=str(folder), to_sanitized_dict=lambda: training)
    state = TrainerState(max_steps=max_steps or last)
    control = TrainerControl()

    def logged(values: dict[str, float]) -> None:
        log.on_log(args, state, control, logs=values)

    log.on_train_begin(args, state, control)
    if rates is None:
        rates = [*[learning_rate] * (len(accuracies) - 1), 0.0]
    spent: dict[str, float] = {}
    for index, accuracy in enumerate(accuracies, start=1):
        state.global_step = EVERY * index
        spent = {f"sift/{phase}_hours": 0.0 for phase in ("data", "optimizer")}
        spent |= {"sift/sampling_hours": sampling * index, "sift/forward_hours": hours * index}
        spent["sift/backward_hours"] = 2 * hours * index
        spent["sift/backprop_samples"] = BATCH * state.global_step
        spent["sift/candidates"] = BATCH * state.global_step / sift["sift_keep_ratio"]
        logged({"loss": 1.0, "learning_rate": rates[index - 1], **spent})
        logged({f"eval_{measure}": accuracy, "eval_loss": 1.0})
    if finished:
        logged({"train_runtime": 1.0, **spent})
        points = [{"spent": {"step": last}}]
        write_json(folder / "results.json", {"max_steps": last, "run": {"points": points}})
    return folder


def edit_start(folder: Path, **machine: Any) -> None:
    """As if the run had been on another machine."""
    first, *rest = (folder / FILE).read_text().splitlines()
    start = json.loads(first)
    start["machine"].update(machine)
    (folder / FILE).write_text("\n".join([json.dumps(start), *rest]) + "\n")


def seeds_of_table_1(folder: Path) -> Path:
    """Baseline and loss, exit 1, of two seeds."""
    for seed, shift in enumerate((0.0, 0.02)):
        cell = folder / f"seed_{seed}"
        write_run(cell / "baseline", [0.2, 0.4, 0.6, 0.66], sift=PLAIN, seed=seed)
        sifted = [0.3, 0.5, 0.66 + shift, 0.68 + shift]
        write_run(cell / "loss_exit_1", sifted, sampling=0.3, seed=seed)
    return folder
