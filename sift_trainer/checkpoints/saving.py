"""Saving whole checkpoints, and resuming from whole ones only."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from sift_trainer.checkpoints.manifest import (
    begin_manifest,
    check_whole,
    last_whole_checkpoint,
    rotate,
    write_manifest,
)
from sift_trainer.checkpoints.stop_on_signal import StopOnSignal

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

logger = logging.get_logger(__name__)


class WholeCheckpoints(_Base):
    """Whole checkpoints for any Trainer: ``class Mine(WholeCheckpoints, SiftTrainer)``.

    A checkpoint is whole once all processes have written their part, the files have reached the
    disk and its manifest says so. Only then are older checkpoints deleted (``save_total_limit``),
    so a run that dies at any moment leaves a whole checkpoint behind.
    """

    _in_checkpoint = False

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train; ``resume_from_checkpoint=True`` takes the newest whole checkpoint.

        Raises:
            ValueError: if the given checkpoint is half-written, or ``output_dir`` has no whole one.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_whole_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(
                    f"there is no whole checkpoint in {self.args.output_dir}; leave "
                    "resume_from_checkpoint out to start from the beginning"
                )
        elif resume_from_checkpoint and os.path.isdir(resume_from_checkpoint):
            check_whole(resume_from_checkpoint)
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            # A run that fails calls no callback: the process would go on ignoring the signal.
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, StopOnSignal):
                    callback.release()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Private in Transformers: there is no public hook between the last file that a process
        writes and the deletion of older checkpoints."""
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        limit = self.args.save_total_limit
        self._in_checkpoint = True
        try:
            if self.args.should_save:
                begin_manifest(checkpoint)
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                write_manifest(checkpoint)
        except Exception:
            free = shutil.disk_usage(folder).free / 2**20 if folder.is_dir() else 0.0
            logger.error(
                f"{checkpoint} could not be written ({free:.1f} MiB are free there); "
                f"the newest whole checkpoint is {last_whole_checkpoint(folder)}"
            )
            raise
        finally:
            self._in_checkpoint = False
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate(folder, limit, self.state.best_model_checkpoint)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the model and the arguments; then suspend the Trainer's own deletion."""
        super().save_model(*args, **kwargs)
        if self._in_checkpoint:
            self.args.save_total_limit = None
