"""SIFT for the Hugging Face Trainer (Das et al., ICML 2024)."""

from importlib.metadata import version

from sift_trainer.arguments import SiftArguments, SiftTrainingArguments
from sift_trainer.callback import SiftCallback
from sift_trainer.checkpoints.manifest import last_whole_checkpoint
from sift_trainer.checkpoints.saving import WholeCheckpoints
from sift_trainer.checkpoints.stop_on_signal import StopOnSignal
from sift_trainer.early_exit import early_exit, register_exit
from sift_trainer.scoring.criteria import (
    StatefulCriterion,
    per_sample_entropy,
    per_sample_loss,
    register_criterion,
)
from sift_trainer.scoring.tasks import register_task
from sift_trainer.selection.choosing import register_selector
from sift_trainer.selection.rules import select_percentile, select_top_k
from sift_trainer.trainer import SiftMixin, SiftTrainer

__version__ = version("sift-trainer")

__all__ = [
    "SiftArguments",
    "SiftCallback",
    "SiftMixin",
    "SiftTrainer",
    "SiftTrainingArguments",
    "StatefulCriterion",
    "StopOnSignal",
    "WholeCheckpoints",
    "early_exit",
    "last_whole_checkpoint",
    "per_sample_entropy",
    "per_sample_loss",
    "register_criterion",
    "register_exit",
    "register_selector",
    "register_task",
    "select_percentile",
    "select_top_k",
]
