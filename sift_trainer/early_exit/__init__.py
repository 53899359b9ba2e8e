"""Running a model only up to block k, with its own head on top (section 6 of the paper)."""

from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.early_exit.registry import (
    early_exit,
    exit_adapter,
    exit_at,
    register_exit,
)
from sift_trainer.early_exit.stages import ResNetStages, StageExit, SwinStages

__all__ = [
    "ExitAdapter",
    "ResNetStages",
    "StageExit",
    "SwinStages",
    "early_exit",
    "exit_adapter",
    "exit_at",
    "register_exit",
]
