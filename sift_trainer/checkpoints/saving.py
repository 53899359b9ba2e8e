"""Saving checkpoints whole, and resuming from whole ones only."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from sift_trainer.checkpoints.manifest import (
    check_whole,
    checkpoint_to_resume,
    last_whole_checkpoint,
    remove_manifest,
    rotate,
    write_manifest,
)
from sift_trainer.checkpoints.stop_on_signal import StopOnSignal

# Other OSErrors are no reason to remove what was written: a hub that cannot be reached is one.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class SavingMixin(_Base):
    """Checkpoints of a `Trainer` that are whole or not taken.

    A checkpoint counts once all processes have written their part and its manifest says so; only
    then are older ones rotated away. ``train(resume_from_checkpoint=True)`` takes the newest whole
    one.

    Raises:
        ValueError: in `train`, for a named checkpoint that is half-written.
        OSError: where a checkpoint cannot be written, naming it, the reason and the newest whole
            one; what was written of it is removed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._saving_checkpoint = False
        super().__init__(*args, **kwargs)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train, from the newest whole checkpoint for True."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = checkpoint_to_resume(self.args.output_dir)
        elif resume_from_checkpoint and os.path.isdir(resume_from_checkpoint):
            check_whole(resume_from_checkpoint)
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            # A run that fails calls no callback, and would leave the process deaf to the signal.
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, StopOnSignal):
                    callback.release()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Private in Transformers: no public hook lies between the last file that a process writes
        and the rotation that deletes the checkpoints before it."""
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        writes = bool(self.args.should_save)
        limit = self.args.save_total_limit
        self._saving_checkpoint = True
        try:
            with _named_failure(checkpoint, remove=writes):
                if writes:
                    remove_manifest(checkpoint)
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if writes:
                    write_manifest(checkpoint)
        finally:
            self._saving_checkpoint = False
            self.args.save_total_limit = limit
        if writes:
            rotate(folder, limit, self.state.best_model_checkpoint)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the model, and with it the arguments; in a checkpoint, hold the rotation back."""
        super().save_model(*args, **kwargs)
        if self._saving_checkpoint:
            self.args.save_total_limit = None


@contextmanager
def _named_failure(checkpoint: Path, remove: bool) -> Iterator[None]:
    """Turn what a failing write raises into an OSError that says what to do."""
    try:
        yield
    except Exception as error:
        number = _failed_write(error)
        if number is None:
            raise
        if remove:
            shutil.rmtree(checkpoint, ignore_errors=True)
        free = shutil.disk_usage(checkpoint.parent).free / 2**20
        whole = last_whole_checkpoint(checkpoint.parent)
        earlier = f"{whole} is whole: make room" if whole else "There is no earlier one: make room"
        raise OSError(
            number,
            f"{checkpoint} could not be written: {error} ({free:.1f} MiB are free there). "
            f"{earlier} or lower save_total_limit, and resume from "
            f"{'it' if whole else 'the beginning'}",
        ) from error


def _failed_write(error: Exception) -> int | None:
    """The errno of a failed write, EIO where the library does not tell; None for other errors."""
    if isinstance(error, OSError):
        return error.errno if error.errno in _DISK_ERRORS else None
    text = str(error)
    if type(error).__name__ == "SafetensorError" and "I/O error" in text:
        code = re.search(r"os error (\d+)", text)
        return int(code.group(1)) if code else errno.EIO
    # torch.save: "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"
    if isinstance(error, RuntimeError) and "inline_container" in text:
        return errno.EIO
    return None
