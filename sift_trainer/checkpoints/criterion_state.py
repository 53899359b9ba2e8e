"""The state of a criterion in a checkpoint, one file for each process."""

from pathlib import Path

import torch
from transformers.utils import logging

from sift_trainer.scoring.criteria import StatefulCriterion

logger = logging.get_logger(__name__)


def save_criterion(criterion: StatefulCriterion, checkpoint: str, process: int) -> None:
    """Write the state of this process."""
    Path(checkpoint).mkdir(parents=True, exist_ok=True)  # another process may not have made it yet
    torch.save(criterion.state_dict(), _file(checkpoint, process))


def load_criterion(criterion: StatefulCriterion, checkpoint: str, process: int) -> None:
    """Restore the state of this process; warn if the checkpoint has none."""
    path = _file(checkpoint, process)
    if not path.is_file():
        logger.warning(f"{path} is missing, so {type(criterion).__name__} starts without a state")
        return
    criterion.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def _file(checkpoint: str, process: int) -> Path:
    return Path(checkpoint) / f"sift_criterion_{process}.pt"
