"""One run of `time_to_accuracy.py`, and one probe: with the real `SiftTrainer`, as plain data."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset
from transformers import PrinterCallback, TrainerCallback

from sift_trainer import SiftCallback, SiftTrainer
from sift_trainer.probe import probe
from sift_trainer.probe.results import Descent, Figures
from study.charge import affordable_steps, charged
from study.costs import described, scoring_shares
from study.data import StudyData
from study.kinds import KINDS, Regime, arguments, build_trainer
from study.methods import METHODS, Method, scored_by
from study.results import Results, RunSpec

EVALUATIONS = 2  # of a run, the last one at its end
ROUNDS = 9
GRADIENT_BATCHES = 120
HELD_OUT_ROWS = 64  # of an evaluation batch that the probe looks towards


def share_of(results: Results, regime_name: str, method: Method) -> float:
    """What the method's scoring of a step takes, measured before, in units of a step."""
    asked = scored_by(method.sift)
    if asked is None:
        return 0.0
    line = results.find("cost", regime=regime_name, **asked)
    if line is None:
        raise ValueError(
            f"regime={regime_name!r}: what scoring by {asked} takes is not in {results.file}; "
            "measure it first, as the command `run` does"
        )
    return method.scorings * float(line["share"])


def measure_costs(
    results: Results, regime_name: str, regime: Regime, data: StudyData, methods: list[str]
) -> None:
    """Measure what is not in the results yet, all of it in turns."""
    wanted = {}
    for name in methods:
        asked = scored_by(METHODS[name].sift)
        if asked is not None and results.find("cost", regime=regime_name, **asked) is None:
            wanted[tuple(asked.values())] = asked
    if not wanted:
        return
    choices = {
        str(key): {
            "sift_criterion": asked["criterion"],
            "sift_exit_layer": asked["exit_layer"],
            "sift_keep_ratio": asked["keep_ratio"],
            "sift_token_fraction": asked["token_fraction"],
        }
        for key, asked in wanted.items()
    }
    shares = scoring_shares(regime, data, choices, ROUNDS)
    for key, asked in wanted.items():
        results.add("cost", regime=regime_name, **asked, **described(shares[str(key)]))


def train(
    results: Results, spec: RunSpec, regime: Regime, data: StudyData, use_cpu: bool
) -> dict[str, Any]:
    """One run, whose learning rate decays to its own last step, and its line in the results."""
    method = METHODS[spec.method]
    share = share_of(results, spec.regime, method)
    sift = {**regime.plain, **method.sift} if method.sift["sift_keep_ratio"] == 1 else method.sift
    budget = spec.budget * regime.steps
    steps = affordable_steps(budget, sift, share)
    with tempfile.TemporaryDirectory() as folder:
        args = arguments(
            regime,
            folder,
            seed=spec.seed,
            max_steps=steps,
            use_cpu=use_cpu,
            eval_strategy="steps",
            eval_steps=-(-steps // EVALUATIONS),
            **sift,
        )
        args.learning_rate *= spec.rate
        trainer = _quiet(build_trainer(regime, data, args, method.mixin))
        counting = _Sifted(trainer)
        trainer.add_callback(counting)
        began = time.process_time()
        trainer.train()
        seconds = time.process_time() - began
    accuracy = KINDS[regime.kind].accuracy
    evaluated = [line for line in trainer.state.log_history if "eval_loss" in line]
    if evaluated[-1]["step"] != steps:
        trainer.evaluate()
        evaluated = [line for line in trainer.state.log_history if "eval_loss" in line]
    curve = [
        {
            "step": line["step"],
            "cost": charged(line["step"], sift, share, counting.upto(line["step"])),
            "accuracy": line[f"eval_{accuracy}"],
            "loss": line["eval_loss"],
        }
        for line in evaluated
    ]
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
        cost=charged(steps, sift, share, counting.upto(steps)),
        sifted_steps=counting.upto(steps),
        curve=curve,
        accuracy=curve[-1]["accuracy"],
        loss=curve[-1]["loss"],
        recalls=[value for name, value in evaluated[-1].items() if name.startswith("eval_recall")],
        trained_loss=trained["trained_loss"],
        trained_accuracy=trained[f"trained_{accuracy}"],
        processor_seconds=seconds,
    )


class _Sifted(TrainerCallback):
    """Notes which steps sifted: with a gate the schedule does not tell."""

    def __init__(self, trainer: SiftTrainer) -> None:
        self.trainer = trainer
        self.steps: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if any(selection.scores is not None for selection in self.trainer.selections):
            self.steps.append(state.global_step)

    def upto(self, step: int) -> int:
        return sum(each <= step for each in self.steps)


class _StopAt(TrainerCallback):
    """Ends a run after a step, amid its schedule."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


def probe_at(
    results: Results,
    regime_name: str,
    regime: Regime,
    data: StudyData,
    begin: float,
    use_cpu: bool,
    seconds: float,
    held_out: str = "candidates",
) -> dict[str, Any]:
    """What the probe says at a checkpoint of a run without sifting, at a share of its steps; a
    ``sift_held_out`` says towards whose loss it looks.

    The probe draws from one pass over its data: of few rows it gets as many passes as it needs.
    """
    step = max(1, round(begin * regime.steps))
    drawn = 2 * 2 * regime.batch_size * GRADIENT_BATCHES
    passes = -(-drawn // len(data.train))
    several = replace(data, train=ConcatDataset([data.train] * passes))
    with tempfile.TemporaryDirectory() as folder:
        common = {"seed": 0, "max_steps": regime.steps, "use_cpu": use_cpu}
        plain = {"sift_keep_ratio": 1.0, **regime.plain}
        args = arguments(
            regime, folder, **common, **plain, **{"save_strategy": "steps", "save_steps": step}
        )
        trainer = _quiet(build_trainer(regime, data, args))
        trainer.add_callback(_StopAt(step))
        trainer.train()
        asked = {"sift_held_out": held_out, "per_device_eval_batch_size": HELD_OUT_ROWS}
        sifting = build_trainer(regime, several, arguments(regime, folder, **asked, **common))
        found = probe(
            sifting,
            checkpoint=Path(folder) / f"checkpoint-{step}",
            exits=(1, -1),
            fractions=(1.0, 0.25),
            batches=GRADIENT_BATCHES,
            gradient_batches=GRADIENT_BATCHES,
            rounds=5,
            max_seconds=seconds,
        )
    return results.add(
        "probe",
        regime=regime_name,
        begin=begin,
        held_out=held_out,
        step=step,
        batches=found.batches,
        gradient_batches=found.gradient_batches,
        loss_ratio=found.loss_ratio,
        figures=[_plain(each) for each in found.figures],
        recommendation=found.recommendation,
    )


def _plain(figures: Figures) -> dict[str, Any]:
    descent = figures.deciding_descent
    return {
        "criterion": figures.choice.criterion,
        "exit_layer": figures.choice.exit_layer,
        "token_fraction": figures.choice.token_fraction,
        "share": figures.scoring_share.value,
        "overlap": None if figures.overlap is None else figures.overlap.value,
        **_descents(descent),
    }


def _descents(descent: Descent | None) -> Mapping[str, Any]:
    names = ("ratio", "ratio_at_equal_length", "dropped_ratio")
    found = {name: getattr(descent, name, None) for name in names}
    return {
        name: None if each is None else [each.value, each.low, each.high]
        for name, each in found.items()
    }


def _quiet(trainer: SiftTrainer) -> SiftTrainer:
    for callback in (SiftCallback, PrinterCallback):
        trainer.pop_callback(callback)
    return trainer
