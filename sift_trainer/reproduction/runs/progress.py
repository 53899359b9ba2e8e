"""A progress bar with the state of a sifted run."""

from typing import Any

from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments

from sift_trainer.reproduction.report.history import MEASURES


class SiftProgress(ProgressCallback):
    """A bar with loss, last accuracy and sifting overhead, in place of printed log lines."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self.shown: dict[str, str] = {}
        if self.training_bar is not None:
            self.training_bar.set_description(args.run_name)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            self.shown["loss"] = f"{logs['loss']:.3f}"
            self.shown["sifting"] = f"+{logs['sift/overhead']:.1%}"
        for measure in MEASURES:
            if f"eval_{measure}" in logs:
                self.shown["accuracy"] = f"{logs[f'eval_{measure}']:.4f}"
        if self.training_bar is not None:
            self.training_bar.set_postfix(self.shown)
