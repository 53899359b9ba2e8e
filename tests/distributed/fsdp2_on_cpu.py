"""FSDP2 in processes without a GPU: ``python -m tests.distributed.fsdp2_on_cpu SCRIPT ...`` runs a
script under it.

Accelerate shards by FSDP for the types of devices that it counts as GPUs only, though PyTorch's
``fully_shard`` works over gloo too. So for these tests processes over gloo are counted as such.
"""

import os
import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType


def allow() -> None:
    """From here on Accelerate shards on the CPU, where ``--use_cpu`` is not given."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


if __name__ == "__main__":
    allow()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
