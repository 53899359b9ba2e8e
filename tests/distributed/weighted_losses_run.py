"""One update with weighted losses, of each kind of task; the first process writes the parameters.

``weighted_losses_run.py FOLDER WRAPPER`` under a launcher, WRAPPER is one of ddp, zero2 and fsdp2.
"""

import sys
from pathlib import Path

import torch

from sift_trainer import register_selector
from sift_trainer.processes.launch import LaunchArguments, check_launch
from tests.distributed import deepspeed_as_it_trains, fsdp2_on_cpu
from tests.distributed.launch import leave
from tests.weighted_losses import KINDS, fixed, trained

DTYPES = {"ddp": torch.float64, "zero2": torch.float32, "fsdp2": torch.float64}
# Accelerate cannot shard a model without input embeddings.
SOUNDS = ("transcripts", "summed transcripts")
MORE = ("answers", "sentences", "smoothed", "function")  # by DDP only, for time


def runs_in(wrapper: str) -> list[tuple[str, int]]:
    """Kinds and numbers of accumulated micro-batches."""
    if wrapper == "ddp":
        return [(name, 4) for name in KINDS] + [(name, 1) for name in KINDS if name not in MORE]
    left_out = MORE if wrapper == "zero2" else MORE + SOUNDS
    return [(name, 4) for name in KINDS if name not in left_out]


def main(folder: Path, wrapper: str) -> None:
    if wrapper == "fsdp2":
        fsdp2_on_cpu.allow()
    if wrapper == "zero2":
        deepspeed_as_it_trains.settle()
    register_selector("fixed", fixed, weighted=True)
    launch = LaunchArguments(2, "deepspeed" if wrapper == "zero2" else wrapper)
    settings = {"use_cpu": wrapper != "fsdp2", "dataloader_pin_memory": False}
    found = {}
    for name, accumulation in runs_in(wrapper):
        trainer = trained(KINDS[name], folder / "out", accumulation, DTYPES[wrapper], **settings)
        check_launch(launch, trainer.args)
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        found[name, accumulation] = {key: value.cpu() for key, value in state.items()}
    if trainer.args.process_index == 0:
        torch.save(found, folder / "unfinished.pt")
        (folder / "unfinished.pt").rename(folder / "found.pt")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
