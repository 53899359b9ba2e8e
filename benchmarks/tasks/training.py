"""Models of the tasks, runs by `SiftTrainer`, what scoring costs in them, and what is measured."""

import time
from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score

import sift_trainer as sifting
from sift_trainer.measuring.running_agreement import RunningAgreement
from sift_trainer.measuring.timing import StepTimer
from sift_trainer.reproduction.resnet.model import EarlyExitResNetConfig
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.selection.choosing import SELECTORS
from sift_trainer.selection.schedule import should_sift, steps_of
from tasks.data import FIXED, Data, Row, fields


def source(name: str) -> Row:
    """Arguments of ``from_pretrained`` for a hub name, a folder or a GGUF file."""
    folder, _, file = name.rpartition("/") if name.endswith(".gguf") else (name, "", None)
    return {"pretrained_model_name_or_path": folder, "gguf_file": file}


def build(task: Row, name: str, classes: int) -> Any:
    """A model of the task, pretrained or by its ``shape``; new weights by the global seed."""
    auto = getattr(hf, f"AutoModelFor{task['auto']}")
    labels = {"num_labels": classes} if classes else {}
    if task["kind"] == "images":
        return auto.from_config(EarlyExitResNetConfig(**task["shape"], **labels))
    if "shape" in task:
        return auto.from_config(hf.AutoConfig.from_pretrained(**source(name), **task["shape"]))
    model = auto.from_pretrained(**source(name), dtype=torch.float32, **labels)
    model.is_quantized = False  # the weights of a GGUF file are dequantised, and can be trained
    return get_peft_model(model, LoraConfig(**task["lora"])) if "lora" in task else model


@torch.no_grad()
def row_losses(model: Any, batch: Row, kind: str) -> list[torch.Tensor]:
    """The exact loss (B,) of each row, in nats, and predicted and given labels, without a trace."""
    training, rows = model.training, {name: batch[name].to(model.device) for name in batch}
    labels = rows.pop("labels")
    logits = model.eval()(**rows).logits
    model.train(training)
    if kind == "answers":  # a token is predicted by the one before
        logits, labels = logits[:, :-1], labels[:, 1:]
    losses = sifting.per_sample_loss(logits, labels)
    return [each.cpu() for each in (losses, logits.argmax(-1), labels)]


def evaluate(model: Any, task: Row, data: Data) -> dict[str, float]:
    """Loss and accuracy over labelled positions, and what the task adds."""
    kind, rows, counts, found, given = task["kind"], data.validation, np.zeros(3), [], []
    collate = hf.default_data_collator if kind == "masked" else data.collate
    for at in range(0, len(rows), 16):
        batch = collate(fields(rows[at : at + 16]))
        losses, predicted, labels = row_losses(model, batch, kind)
        known = (labels != -100).reshape(len(labels), -1).sum(1).double()
        right = (predicted == labels).sum().item()
        counts += (losses.double() @ known).item(), right, known.sum().item()
        found, given = found + predicted.tolist(), given + labels.tolist()
    metrics = {"loss": counts[0] / counts[2], "accuracy": counts[1] / counts[2]}
    if kind in ("texts", "images"):
        metrics["balanced_accuracy"] = float(balanced_accuracy_score(given, found))
    elif kind == "words":
        names, pairs = data.classes, zip(found, given, strict=True)
        tags = [[names[a] for a, b in zip(*pair, strict=True) if b != -100] for pair in pairs]
        metrics["f1"] = entity_f1([row["tags"] for row in rows], tags)
    elif kind == "answers":
        ends = [slice(*(place - 1 for place in row["final"])) for row in rows]
        final = [f[at] == g[at] for f, g, at in zip(found, given, ends, strict=True)]
        metrics["final_accuracy"] = float(np.mean(final))
    return metrics


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """Type, first word and end of entities; as in CoNLL's script, I- may begin one."""
    found: list[Any] = []
    for at, (before, tag) in enumerate(pairwise(["O", *tags])):
        if tag[0] == "I" and before[2:] == tag[2:]:
            found[-1] = (*found[-1][:2], at + 1)
        elif tag != "O":
            found.append((tag[2:], at, at + 1))
    return set(found)


def entity_f1(given: list[list[str]], predicted: list[list[str]]) -> float:
    """F1 of whole entities over all sentences; tags that a prediction lacks at its end are O."""
    pairs = [(entities(g), entities(p)) for g, p in zip(given, predicted, strict=True)]
    return 2 * sum(len(g & p) for g, p in pairs) / max(1, sum(len(g) + len(p) for g, p in pairs))


class Clock(sifting.SiftCallback):
    """Processor seconds until each step, by phase; ``learning`` is the forward beside the model."""

    def reset(self) -> None:
        super().reset()
        self.timer, self.steps = StepTimer(clock=time.process_time), list[dict[str, float]]()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        learning = self.timer.totals["forward"] - self.of_model.totals["forward"]
        self.steps.append({**self.timer.totals, "learning": learning})


class TaskTrainer(sifting.SiftTrainer):
    """Notes which samples each step draws and keeps, and how scores agree with exact losses."""

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """After the backward the weights are still those that scored, and no phase is timed."""
        loss = super().training_step(model, *args, **kwargs)
        chosen, (ids, candidates) = self.selections[-1], self.drawn.popleft()
        self.scored += chosen.scores is not None and not chosen.sifts
        self.taken.append((chosen.sifts, ids, ids[chosen.rows.cpu().numpy()]))
        due = self.sift.sift_warmup_steps + len(self.agreement) / 12
        if chosen.sifts and self.state.global_step + 1 > due * self.state.max_steps:
            exact = row_losses(model, candidates, self.kind)[0]
            self.agreement.append(np.nan_to_num(spearmanr(chosen.scores.cpu(), exact).statistic))
            known = exact.clamp(min=0)  # samples without a label have a large negative one
            self.lift.append((known[chosen.rows.cpu()].mean() / known.mean()).item())
        return loss


def train(task: Row, name: str, data: Data, sift: Row, **protocol: Any) -> TaskTrainer:
    """Train the model called ``name`` by the arguments of the task and the protocol."""
    usual = {**task["arguments"], "per_device_train_batch_size": task["batch"]}
    args = sifting.SiftTrainingArguments("runs/tasks/unused", **usual, **protocol, **sift)
    drawn = deque[Any]()

    def collate(rows: list[Row]) -> Row:
        batch = dict(data.collate(fields(rows)))
        drawn.append((np.array([row["id"] for row in rows]), batch))  # the loader is a batch ahead
        return batch

    torch.set_num_threads(1)
    hf.set_seed(args.seed)
    model, clock = build(task, name, len(data.classes)), Clock()
    clock.of_model = timer = StepTimer(clock=time.process_time)
    model.register_forward_pre_hook(lambda m, _: timer.start("forward") if m.training else None)
    model.register_forward_hook(lambda *_: timer.stop("forward"))
    trainer = TaskTrainer(model, args, collate, data.train, callbacks=[clock])
    trainer.drawn, trainer.kind, trainer.taken = drawn, task["kind"], []
    trainer.agreement, trainer.lift, trainer.scored = [], [], 0
    trainer.train()
    return trainer


def measured(trainer: TaskTrainer, task: Row, data: Data) -> Row:
    """What the results tell of a finished run. ``kept_times[n]`` rows were kept n times."""
    seconds = trainer.sift_callback.steps[-1]
    scoring = (seconds["sampling"] + seconds["learning"]) * (trainer.sift.sift_keep_ratio < 1)
    rest = sum(seconds.values()) - seconds["learning"] - scoring
    kept = np.concatenate([kept for _, _, kept in trainer.taken])
    times = np.bincount(np.bincount(kept, minlength=len(data.train))).tolist()
    line = {"metrics": evaluate(trainer.model, task, data), "agreement": trainer.agreement}
    line |= {"lift": trainer.lift, "kept_times": times}
    line |= {"scoring_seconds": scoring, "other_seconds": rest}
    sifted = [ids for sifts, *ids in trainer.taken if sifts]
    if data.wrong.any() and sifted:
        shares = [data.wrong[np.concatenate(ids)].mean() for ids in zip(*sifted, strict=True)]
        line["wrong"] = dict(zip(("drawn", "kept"), map(float, shares), strict=True))
    return line


def scoring_of(sift: Row) -> Row:
    """The settings that decide what scoring costs; empty if it costs nothing."""
    known = sifting.SiftArguments(**sift)
    criterion, weighted = CRITERIA[known.sift_criterion], SELECTORS[known.sift_selector].weighted
    free = {"random_share", "beta", "skip_top", "warmup_steps", "cooldown_steps", "interval"}
    free |= {"reference_column", "gate"} | (set() if weighted else {"selector"})
    if known.sift_keep_ratio == 1 or not (criterion.values or criterion.state or weighted):
        return {}
    return {name: sift[name] for name in sift if name.removeprefix("sift_") not in free}


def measure_cost(task: Row, name: str, data: Data, sift: Row) -> dict[str, float]:
    """What ``scoring`` adds to a step: the share of a plain one, by processor time."""
    turns = {"interval": 3, "warmup_steps": 0, "cooldown_steps": 0, "gate": None}
    sift = sift | {f"sift_{name}": value for name, value in turns.items()}
    trainer = train(task, name, data, sift, max_steps=72, learning_rate=1e-5, seed=FIXED)
    steps = trainer.sift_callback.steps
    steps = [{part: b[part] - a[part] for part in b} for a, b in pairwise(steps[5:])]
    whole = [s["forward"] + s["backward"] + s["optimizer"] - s["learning"] for s in steps]
    added = [s["sampling"] + s["learning"] for s in steps]
    plain, scoring = np.median(whole[1::3] + whole[2::3]), np.median(added[::3])
    return {"scoring": scoring / plain, "plain_seconds": plain}


def affordable(budget: int, sift: Row, scoring: float) -> int:
    """The most updates for ``budget``: a plain one costs 1 and a scored one 1 + ``scoring``. A
    predictor also learns in scored steps before the sifted ones."""
    known, agreement = sifting.SiftArguments(**sift), RunningAgreement()
    agreement.set_scoring_share(scoring)
    predicts = known.sift_criterion == "predicted_loss"
    learning = predicts * scoring / agreement.interval
    schedule = known.sift_warmup_steps, known.sift_cooldown_steps, known.sift_interval
    for updates in range(budget, 0, -1):
        sifted = sum(should_sift(step, updates, *schedule) for step in range(updates))
        before = updates - steps_of(known.sift_cooldown_steps, updates)
        if updates + learning * (before - sifted) + scoring * sifted <= budget + 1e-9:
            return updates
    raise ValueError(f"budget={budget} updates pays for no sifted one; use {budget + 10}")


def paid(trainer: TaskTrainer, cost: Row) -> float:
    """What a run cost, in plain steps."""
    scored = trainer.scored + sum(sifts for sifts, *_ in trainer.taken)
    return float(len(trainer.taken) + cost["scoring"] * scored)


def reference_losses(task: Row, name: str, data: Data, stock: Row, rate: float) -> torch.Tensor:
    """The loss (rows,) of each training row by a stock model trained on the other half of them."""
    half = np.random.default_rng(FIXED).permutation(data.source.max() + 1)[data.source] % 2
    losses, updates = torch.zeros(len(half)), max(1, task["updates"] // 2)
    for own in (0, 1):
        part = Data(**vars(data) | {"train": [data.train[i] for i in np.flatnonzero(half != own)]})
        trained = train(task, name, part, stock, max_steps=updates, learning_rate=rate, seed=FIXED)
        for at in torch.tensor(np.flatnonzero(half == own)).split(16):
            batch = data.collate(fields([data.train[row] for row in at]))
            losses[at] = row_losses(trained.model, batch, task["kind"])[0]
    return losses
