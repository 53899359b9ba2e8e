"""Times and counts of the steps: log lines, checkpoint state and the table after training."""

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from sift_trainer.arguments import gated_by_lift, sift_arguments, sift_settings
from sift_trainer.checkpoints.same_launch import check_same_launch, launch_settings
from sift_trainer.measuring.gate import DescentGate
from sift_trainer.measuring.running_agreement import RunningAgreement
from sift_trainer.measuring.timing import PHASES, StepTimer
from sift_trainer.scoring.criteria import UNLABELLED
from sift_trainer.selection.rules import is_nonfinite
from sift_trainer.selection.window import Selection

logger = logging.get_logger(__name__)


class SiftCallback(TrainerCallback, ExportableState):
    """Times the phases of a step and counts samples; added to every `SiftTrainer`.

    Each log line has, for the time since the last one,
    ``sift/{data,sampling,forward,backward,optimizer}_seconds``, ``sift/overhead`` = sampling /
    (forward + backward) and the mean scores of kept and dropped candidates (``sift/kept_score``,
    ``sift/dropped_score``). In the mean over the last updates it has ``sift/agreement``, Spearman's
    correlation of the scores with the losses of the trained samples, and ``sift/lift``, the mean
    loss of chosen samples over that of candidates. It has, since the start of training and
    including interrupted parts, ``sift/*_hours``, ``sift/candidates``,
    ``sift/backprop_samples`` and ``sift/nonfinite_scores``.
    Samples are counted over all processes; times and scores are those of the logging process.
    Backward includes gradient communication.

    Attributes:
        audits: numbers of each audit since the last log line, by name.
        gate: decides by the audits whether to sift.
        agreement: of the scores with the losses of the trained samples.
    """

    saved: dict[str, Any] | None = None  # set by Transformers when it restores callback states

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._launch: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all measurements."""
        self.timer = StepTimer()
        self.audits: list[dict[str, float]] = []
        self.gate = DescentGate()
        self.agreement = RunningAgreement()
        self.candidates = 0
        self.backprop_samples = 0
        self.nonfinite_scores = 0
        self._nonfinite: Tensor | None = None  # on the device until the next log line
        self._scores: Tensor | None = None  # sum kept, number kept, sum dropped, number dropped
        self._warned = self._told = False
        self._recorded = False  # since the last update

    # ---- what the trainer reports ----

    def record_audit(self, audit: dict[str, float]) -> None:
        """Add an audit to the next log line and to the gate."""
        self.audits.append(audit)
        self.gate.add(audit)

    def record(self, selection: Selection, world_size: int) -> None:
        """Count one micro-batch, without waiting for the device."""
        self._recorded = True
        self.candidates += selection.candidates * world_size
        self.backprop_samples += len(selection.rows) * world_size
        scores = selection.scores
        if scores is None or not selection.sifts:
            return
        kept = torch.zeros_like(scores, dtype=torch.bool).index_fill(0, selection.rows, True)
        bad = is_nonfinite(scores)
        counted = ~bad & (scores > UNLABELLED)
        values = scores.where(counted, 0)
        sums = [
            part
            for mask in (kept & counted, ~kept & counted)
            for part in ((values * mask).sum(), mask.sum().float())
        ]
        self._scores = torch.stack(sums) + (0 if self._scores is None else self._scores)
        self._nonfinite = bad.sum() + (0 if self._nonfinite is None else self._nonfinite)

    def metrics(self) -> dict[str, float]:
        """The log entries since the last log line, and the totals; waits for the device."""
        seconds = self.timer.interval()
        computed = seconds["forward"] + seconds["backward"]
        metrics = {f"sift/{phase}_seconds": seconds[phase] for phase in PHASES}
        metrics |= self.totals()
        metrics["sift/overhead"] = seconds["sampling"] / computed if computed else 0.0
        if self._scores is not None:
            kept, num_kept, dropped, num_dropped = self._scores.tolist()
            if num_kept:
                metrics["sift/kept_score"] = kept / num_kept
            if num_dropped:
                metrics["sift/dropped_score"] = dropped / num_dropped
            self._scores = None
        if (correlation := self.agreement.correlation) is not None:
            metrics["sift/agreement"] = correlation
        if (lift := self.agreement.lift) is not None:
            metrics["sift/lift"] = lift
        return metrics

    def totals(self) -> dict[str, float]:
        """Hours per phase and numbers of samples since the start of training."""
        self._drain()
        metrics: dict[str, float] = {
            f"sift/{phase}_hours": self.timer.totals[phase] / 3600 for phase in PHASES
        }
        metrics["sift/candidates"] = self.candidates
        metrics["sift/backprop_samples"] = self.backprop_samples
        metrics["sift/nonfinite_scores"] = self.nonfinite_scores
        return metrics

    def seconds(self) -> float:
        """Seconds of training that the device has finished since the start; does not wait."""
        self.timer.drain(wait=False)
        return sum(self.timer.totals.values())

    def _drain(self) -> None:
        self.timer.drain()
        if self._nonfinite is not None:
            self.nonfinite_scores += int(self._nonfinite)
            self._nonfinite = None
        if self.nonfinite_scores and not self._warned:
            self._warned = True
            logger.warning(
                f"{self.nonfinite_scores} sample scores were not finite; such samples rank last. "
                "Later ones are only counted, in sift/nonfinite_scores"
            )

    # ---- checkpoint state ----

    def state(self) -> dict[str, Any]:
        self._drain()
        return {
            "args": {},
            "attributes": {
                "saved": {
                    "settings": self._settings,
                    "launch": self._launch,
                    "seconds": dict(self.timer.totals),
                    "candidates": self.candidates,
                    "backprop_samples": self.backprop_samples,
                    "nonfinite_scores": self.nonfinite_scores,
                    "audits": list(self.audits),
                    "gate": self.gate.state(),
                    "agreement": self.agreement.state(),
                }
            },
        }

    def _restore(self, saved: dict[str, Any], new_order: bool) -> None:
        if self._settings["sift_keep_ratio"] < 1:
            check_same_launch(saved.get("launch", {}), self._launch, new_order)
        self.timer.totals.update(saved["seconds"])
        self.candidates = saved["candidates"]
        self.backprop_samples = saved["backprop_samples"]
        self.nonfinite_scores = saved["nonfinite_scores"]
        self.audits = list(saved.get("audits", []))
        self.gate = DescentGate(**saved.get("gate", {}))
        self.agreement = RunningAgreement.restored(saved.get("agreement", {}), self.timer.device)
        for name, value in self._settings.items():
            audits = name in ("sift_audit_steps", "sift_held_out")
            if audits and self._settings["sift_gate"] != "descent":
                continue  # audits change no other run
            before = saved["settings"].get(name, value)
            if before != value:
                self.agreement = RunningAgreement()  # that of other scores
                logger.warning(
                    f"resuming with {name}={value!r}, but the checkpoint was trained with "
                    f"{before!r}: from here on the run differs from the interrupted one"
                )

    # ---- events ----

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.reset()
        self._settings = sift_settings(args)
        self._launch = launch_settings(args, kwargs.get("train_dataloader"))
        self.timer.device = args.device
        name = type(self).__name__
        entry = state.stateful_callbacks.get(name)
        if state.global_step and entry is not None:
            self._restore(entry["attributes"]["saved"], args.ignore_data_skip)
        # A checkpoint of a plain Trainer has no entry, and saving expects one.
        state.stateful_callbacks.setdefault(name, self.state())

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._recorded and self._settings["sift_keep_ratio"] < 1:
            raise ValueError(
                "all candidates of this step were trained on, without a selection: a class before "
                "SiftMixin overrides training_step and does not call "
                "super().training_step(model, inputs, num_items_in_batch); call it there, or "
                "override it in a class after SiftMixin: class Mine(SiftMixin, ThatClass)"
            )
        self._recorded = False
        if self.agreement.end_update(decides=gated_by_lift(sift_arguments(args))):
            follows = (
                "from here on samples are chosen by their scores"
                if self.agreement.pays
                else "until then samples are trained on as the stock Trainer draws them"
            )
            tell = logger.info if self._told else logger.warning
            self._told = True
            tell(
                f"update {state.global_step + 1}: chosen samples have {self.agreement.lift:.2f} "
                f"times the mean loss of the candidates, and choosing pays from "
                f"{self.agreement.required_lift:.2f} on (sift_gate='lift'): {follows}"
            )
        self.timer.start("optimizer")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.timer.stop("optimizer")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            print(self.table())

    def table(self) -> str:
        """A table of the time per phase since the start of training."""
        self._drain()
        seconds = self.timer.totals
        whole = sum(seconds.values()) or 1.0
        lines = [f"{'phase':<12}{'seconds':>12}{'share':>8}"]
        lines += [
            f"{phase:<12}{seconds[phase]:>12.1f}{seconds[phase] / whole:>8.1%}" for phase in PHASES
        ]
        computed = seconds["forward"] + seconds["backward"]
        lines.append(
            f"sampling / (forward + backward) = {seconds['sampling'] / (computed or 1.0):.3f}; "
            f"{self.backprop_samples} of {self.candidates} candidates trained on"
        )
        return "\n".join(lines)
