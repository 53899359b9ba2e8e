"""Runs of `time_to_accuracy.py`: data, model and trainer of a regime, and what scoring costs."""

import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from measured_steps import Arm, Stepper, device_name, measure
from torch import nn
from transformers import PrinterCallback, TrainerCallback, set_seed

from sift_trainer import SiftCallback, SiftTrainer, SiftTrainingArguments
from sift_trainer.measuring.timing import StepTimer
from sift_trainer.reproduction.resnet.job import ImageClassificationTrainer
from study.charge import affordable_steps, charge
from study.data import StudyData, images
from study.methods import METHODS, Fields, scored_by
from study.models import causal_classifier, causal_model, classifier, masked_model, resnet
from study.regimes import Regime
from study.results import Line, Results, RunSpec
from study.text import lines, pairs, passages

COST_ROUNDS, COST_STEPS = 9, 4


class StudyTrainer(SiftTrainer):
    """Its evaluation has a short last batch, and its training has none."""

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        self.args.dataloader_drop_last = False
        try:
            return super().get_eval_dataloader(*args, **kwargs)
        finally:
            self.args.dataloader_drop_last = True


class ImageTrainer(StudyTrainer, ImageClassificationTrainer):
    """With one cycle of the learning rate."""


KINDS: dict[str, tuple[Callable[..., StudyData], Callable[[Mapping[str, Any], int], nn.Module]]] = {
    "masked": (pairs, masked_model),
    "causal": (lines, causal_model),
    "passages": (passages, classifier),
    "causal_passages": (passages, causal_classifier),
    "images": (images, resnet),
}
"""Kind of regime -> what loads its data, from a folder with the originals, a cache, and the
regime's ``data``; and what builds its model, of a shape, for so many classes."""


def load(regime: Regime, data: Path, cache: Path) -> StudyData:
    """The data of a regime.

    Args:
        data: folder with ``books``, ``wikipedia`` and ``cifar-100``.
        cache: folder of what is made from them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    made = KINDS[regime.kind][0](data, cache, **regime.data)
    if regime.pretrained is None:
        return made
    return replace(made, pretrained=pretrained(regime.pretrained, data, cache))


def pretrained(regime: Regime, data: Path, cache: Path) -> Path:
    """File with the base model's weights after a run without sifting, which is made once."""
    told = json.dumps(asdict(regime), sort_keys=True)
    file = cache / f"pretrained_{blake2b(told.encode(), digest_size=8).hexdigest()}.pt"
    if not file.is_file():
        plain = {"sift_keep_ratio": 1.0, "max_steps": regime.steps, "seed": 0}
        made = build_trainer(regime, load(regime, data, cache), arguments(regime, cache, **plain))
        made.train()
        whole = file.with_suffix(".part")
        torch.save(made.model.base_model.state_dict(), whole)
        whole.replace(file)
    return file


def build_trainer(regime: Regime, data: StudyData, args: SiftTrainingArguments) -> SiftTrainer:
    """A trainer whose model is initialised by the seed of ``args``; of a pretrained model only the
    head is."""
    set_seed(args.seed)
    model = KINDS[regime.kind][1](regime.model, data.classes)
    if data.pretrained is not None:
        model.base_model.load_state_dict(torch.load(data.pretrained))
    trainer = (ImageTrainer if regime.kind == "images" else StudyTrainer)(
        model=model,
        args=args,
        data_collator=data.collator,
        train_dataset=data.train,
        eval_dataset=data.validation,
        compute_metrics=accuracy(shift=regime.kind == "causal"),
        preprocess_logits_for_metrics=_ids,
    )
    for printing in (SiftCallback, PrinterCallback):
        trainer.pop_callback(printing)
    return trainer


def arguments(regime: Regime, folder: Path | str, **more: Any) -> SiftTrainingArguments:
    """Training arguments of a regime, with what a run adds."""
    linear = {"lr_scheduler_type": "linear", "warmup_steps": 0.1}
    return SiftTrainingArguments(
        str(folder),
        **{
            "per_device_train_batch_size": regime.batch_size,
            "per_device_eval_batch_size": 250,
            "learning_rate": regime.learning_rate,
            "weight_decay": 0.01,
            "optim": "adamw_torch",
            "batch_eval_metrics": True,
            "dataloader_drop_last": True,  # a step is charged as a whole one
            "dataloader_pin_memory": False,
            "report_to": [],
            "disable_tqdm": True,
            "logging_strategy": "no",
            "save_strategy": "no",
            **({} if regime.kind == "images" else linear),
            **more,
        },
    )


def _ids(logits: Any, labels: Any) -> torch.Tensor:
    """Predicted ids; of several heads those of the first."""
    first = logits[0] if isinstance(logits, tuple) else logits
    return first.argmax(-1)


def accuracy(shift: bool) -> Callable[..., dict[str, float]]:
    """``compute_metrics`` that counts, batch by batch, the labelled positions predicted right.

    Args:
        shift: a token is predicted by the one before.
    """
    right = labelled = 0

    def compute(prediction: Any, compute_result: bool = True) -> dict[str, float]:
        nonlocal right, labelled
        found, labels = prediction.predictions, prediction.label_ids
        labels = labels[0] if isinstance(labels, tuple) else labels
        found, labels = (found[:, :-1], labels[:, 1:]) if shift else (found, labels)
        right += int(((found == labels) & (labels != -100)).sum())
        labelled += int((labels != -100).sum())
        if not compute_result:
            return {}
        result = {"accuracy": right / labelled}
        right = labelled = 0
        return result

    return compute


# ---- what scoring costs ----


def measure_costs(
    results: Results, name: str, regime: Regime, data: StudyData, methods: list[str]
) -> None:
    """Measure what scoring takes beside forward and backward, for all methods in turns, where the
    results do not have it."""
    missing: dict[str, tuple[Fields, dict[str, Any]]] = {}
    for method in methods:
        wanted = scored_by(METHODS[method])
        if wanted is not None and results.find("cost", regime=name, **wanted) is None:
            missing[str(wanted)] = METHODS[method], wanted
    device = device_name()
    model = KINDS[regime.kind][1](regime.model, data.classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    options = Namespace(device=device, bf16=False, batch_size=regime.batch_size)
    options.rounds, options.steps, options.warmup = COST_ROUNDS, COST_STEPS, 1

    def start(arm: Arm) -> Stepper:
        rest = optimizer, data.train, data.collator, options
        # The seconds of this process's processor, which other programs do not change.
        timer = partial(StepTimer, clock=time.process_time)
        return Stepper(arm, model, *rest, timer=timer)

    whole = {"sift_warmup_steps": 0, "sift_cooldown_steps": 0, "sift_interval": 1}
    ungated = {"sift_gate": None, "sift_audit_steps": 0}
    arms = [Arm(key, {**sift, **whole, **ungated}) for key, (sift, _) in missing.items()]
    for row in measure(arms, start, lambda arm: {}, options):
        share = {"share": row["overhead"], "share_range": row["overhead_range"]}
        wanted = missing[row["name"]][1]
        results.add("cost", regime=name, **wanted, **share, rounds=COST_ROUNDS)


def share_of(results: Results, name: str, sift: Fields) -> float:
    """What the scoring of a step was measured to take, in units of a step."""
    wanted = scored_by(sift)
    if wanted is None:
        return 0.0
    line = results.find("cost", regime=name, **wanted)
    assert line is not None
    return float(line["share"])


# ---- one run ----


class _CountSifted(TrainerCallback):
    """Counts the steps that sifted. With a gate the schedule does not tell."""

    def __init__(self, trainer: SiftTrainer) -> None:
        self.trainer, self.steps = trainer, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps += any(selection.sifts for selection in self.trainer.selections)


def train(results: Results, spec: RunSpec, regime: Regime, data: StudyData, use_cpu: bool) -> Line:
    """One run, whose learning rate decays to its own last step, and its line in the results."""
    sift = METHODS[spec.method]
    sift = {**regime.plain, **sift} if sift["sift_keep_ratio"] == 1 else sift
    share = share_of(results, spec.regime, sift)
    steps = affordable_steps(spec.budget * regime.steps, sift, share)
    with tempfile.TemporaryDirectory() as folder:
        more = {"seed": spec.seed, "max_steps": steps, "use_cpu": use_cpu}
        args = arguments(regime, folder, **more, **sift)
        args.learning_rate *= spec.rate
        trainer = build_trainer(regime, data, args)
        sifted = _CountSifted(trainer)
        trainer.add_callback(sifted)
        began = time.process_time()
        trainer.train()
        seconds = time.process_time() - began
    found = trainer.evaluate()
    trained = trainer.evaluate(data.trained, metric_key_prefix="trained")
    return results.add(
        "run",
        **asdict(spec),
        settings={
            "regime": asdict(regime),
            "sift": dict(sift),
            "steps": steps,
            "learning_rate": args.learning_rate,
            "rows": len(data.train),
            "validation_rows": len(data.validation),
            "parameters": sum(each.numel() for each in trainer.model.parameters()),
        },
        share=share,
        cost=charge(steps, sift, share, sifted.steps),
        sifted_steps=sifted.steps,
        accuracy=found["eval_accuracy"],
        loss=found["eval_loss"],
        trained_loss=trained["trained_loss"],
        trained_accuracy=trained["trained_accuracy"],
        processor_seconds=seconds,
    )
