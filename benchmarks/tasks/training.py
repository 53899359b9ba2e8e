"""Runs of a task by `SiftTrainer`, what scoring costs in them, and the losses of a reference."""

import time
from collections import deque
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers as hf
from scipy.stats import spearmanr
from torch import Tensor

from sift_trainer import SiftArguments, SiftCallback, SiftTrainer, SiftTrainingArguments
from sift_trainer.arguments import uses_sample_losses
from sift_trainer.measuring.timing import StepTimer
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.selection.choosing import SELECTORS
from sift_trainer.selection.schedule import should_sift
from tasks.data import FIXED, Row, TaskData, fields
from tasks.models import build, evaluate, row_losses

CHECKS = 12  # how often a run compares its scores with exact losses
COST_STEPS, COST_SKIPPED = 48, 4


class Clock(SiftCallback):
    """Processor seconds since the start, after each step: of the phases, and of ``learning``, the
    part of the forward outside the model: sample losses, and what a criterion learns from them."""

    def reset(self) -> None:
        super().reset()
        self.timer = StepTimer(clock=time.process_time)
        self.began, self.model_seconds, self.steps = 0.0, 0.0, list[dict[str, float]]()

    def before_model(self, *_: Any) -> None:
        self.began = time.process_time()

    def after_model(self, model: Any, *_: Any) -> None:
        self.model_seconds += (time.process_time() - self.began) * model.training

    def on_step_end(self, *_: Any, **__: Any) -> None:
        seconds = self.timer.totals
        self.steps.append({**seconds, "learning": seconds["forward"] - self.model_seconds})

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Without the table."""


class TaskTrainer(SiftTrainer):
    """Notes which samples each step draws and keeps, and how scores agree with exact losses."""

    def collate_for(self, kind: str, data: TaskData, columns: list[str]) -> None:
        """Give the model rows without their ids, and the criterion its columns."""
        self.kind, self.ids, self.agreement = kind, deque[list[int]](), list[float]()
        self.taken: list[tuple[bool, np.ndarray, np.ndarray]] = []

        def collate(rows: list[Row]) -> Row:
            self.ids.append([row["id"] for row in rows])  # in order; the loader is a batch ahead
            more = {name: torch.tensor([row[name] for row in rows]) for name in columns}
            return {**data.collate(fields(rows)), **more}

        self.data_collator = collate

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, count = super().get_batch_samples(*args, **kwargs)
        self.candidates = fields(batches)
        return batches, count

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Tensor:
        """After the backward the weights are still those that scored, and no phase is timed."""
        loss: Tensor = super().training_step(model, *args, **kwargs)
        chosen, ids = self.selections[-1], np.array(self.ids.popleft())
        assert len(ids) == chosen.candidates
        self.taken.append((chosen.scores is not None, ids, ids[chosen.rows.cpu().numpy()]))
        due = self.sift.sift_warmup_steps + len(self.agreement) / CHECKS
        if chosen.scores is not None and self.state.global_step + 1 > due * self.state.max_steps:
            exact = row_losses(model, self.candidates[0], self.kind)[0]
            self.agreement.append(float(spearmanr(chosen.scores.cpu(), exact).statistic))
        return loss


def train(task: Row, name: str, data: TaskData, sift: Row, **protocol: Any) -> TaskTrainer:
    """Train the model called ``name`` by the arguments of the task and the protocol."""
    usual = {"dataloader_drop_last": True, "dataloader_pin_memory": False, "report_to": []}
    usual |= {"logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True}
    usual |= {"remove_unused_columns": False, "per_device_train_batch_size": task["batch"]}
    args = SiftTrainingArguments("unused", **usual, **task["arguments"], **protocol, **sift)
    hf.set_seed(args.seed)
    model, clock = build(task, name, len(data.classes)), Clock()
    model.register_forward_pre_hook(clock.before_model)
    model.register_forward_hook(clock.after_model)
    trainer = TaskTrainer(model, args, train_dataset=data.train, callbacks=[clock])
    state = CRITERIA[args.sift_criterion].state
    named = [str(sift[name]) for name in sift if name.endswith("_column")]
    trainer.collate_for(task["kind"], data, sorted({*named, *(state.columns if state else ())}))
    trainer.pop_callback(hf.PrinterCallback)
    trainer.train()
    return trainer


def measured(trainer: TaskTrainer, task: Row, data: TaskData) -> Row:
    """What the results tell of a finished run. ``kept_times[n]`` rows were kept n times."""
    seconds = trainer.sift_callback.steps[-1]
    scoring = seconds["sampling"] + seconds["learning"] * uses_sample_losses(trainer.sift)
    rest = sum(seconds.values()) - seconds["learning"] - scoring
    kept = np.concatenate([kept for _, _, kept in trainer.taken])
    times = np.bincount(np.bincount(kept, minlength=len(data.train))).tolist()
    line = {"metrics": evaluate(trainer.model, task, data), "agreement": trainer.agreement}
    line |= {"scoring_seconds": scoring, "other_seconds": rest, "kept_times": times}
    sifted = [ids for sifts, *ids in trainer.taken if sifts]
    if data.wrong is not None and data.wrong.any() and sifted:
        drawn, kept = (data.wrong[np.concatenate(ids)].mean() for ids in zip(*sifted, strict=True))
        line["wrong"] = {"drawn": float(drawn), "kept": float(kept)}
    return line


def scoring_of(sift: Row) -> Row | None:
    """The settings that decide what scoring costs; None if it costs nothing."""
    known = SiftArguments(**sift)
    criterion, weighted = CRITERIA[known.sift_criterion], SELECTORS[known.sift_selector].weighted
    makes_scores = criterion.values is not None or criterion.state is not None
    if known.sift_keep_ratio == 1 or not (makes_scores or weighted):
        return None
    free = {"random_share", "beta", "skip_top", "warmup_steps", "cooldown_steps", "interval"}
    free |= set() if weighted else {"selector"}
    return {name: sift[name] for name in sift if name.removeprefix("sift_") not in free}


def measure_cost(task: Row, name: str, data: TaskData, sift: Row) -> dict[str, float]:
    """What scoring in a sifted step, and learning in any step, take beside the forward, backward
    and optimizer of a plain step: medians by processor time over steps that take turns."""
    turns = {"sift_interval": 2, "sift_warmup_steps": 0, "sift_cooldown_steps": 0}
    protocol = {"max_steps": COST_STEPS, "learning_rate": 1e-5, "seed": FIXED}
    trainer = train(task, name, data, {**sift, **turns}, **protocol)
    ends = pairwise(trainer.sift_callback.steps[COST_SKIPPED - 1 :])
    steps = [{part: after[part] - before[part] for part in after} for before, after in ends]
    whole = [s["forward"] + s["backward"] + s["optimizer"] - s["learning"] for s in steps]
    learning = median(step["learning"] for step in steps) * uses_sample_losses(trainer.sift)
    plain, scoring = median(whole[1::2]), median(step["sampling"] for step in steps[::2])
    return {"scoring": scoring / plain, "learning": learning / plain, "plain_seconds": plain}


def affordable(budget: int, sift: Row, scoring: float, learning: float) -> int:
    """The most updates that cost no more than ``budget`` plain ones: each costs 1 + ``learning``,
    and those that sift ``scoring`` more."""
    known = SiftArguments(**sift)
    schedule = known.sift_warmup_steps, known.sift_cooldown_steps, known.sift_interval
    for updates in range(budget, 0, -1):
        sifted = sum(should_sift(step, updates, *schedule) for step in range(updates))
        if updates * (1 + learning) + scoring * sifted <= budget + 1e-9:
            return updates
    raise ValueError(f"budget={budget} updates pays for no sifted one; use {budget + 10}")


def reference_losses(task: Row, name: str, data: TaskData, stock: Row, rate: float) -> Tensor:
    """The loss (rows,) of each training row by a stock model that is trained on the other half of
    the rows, for half of the updates. Copies of a row are in the same half."""
    source = np.arange(len(data.train)) if data.source is None else data.source
    half = np.random.default_rng(FIXED).permutation(source.max() + 1)[source] % 2
    losses = torch.zeros(len(data.train))
    protocol = {"max_steps": max(1, task["updates"] // 2), "learning_rate": rate, "seed": FIXED}
    for own in (0, 1):
        rows = [data.train[row] for row in np.flatnonzero(half != own)]
        part = TaskData(rows, [], data.collate, data.classes)
        model = train(task, name, part, stock, **protocol).model
        for left in torch.tensor(np.flatnonzero(half == own)).split(64):
            batch = data.collate(fields([data.train[row] for row in left]))
            losses[left] = row_losses(model, batch, task["kind"])[0]
    return losses
