"""The machine that something was measured on."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

SPEED = ("processor", "accelerator", "cores", "threads")  # they decide how fast a run is
_PACKAGES = ["sift-trainer", "torch", "transformers", "accelerate", "datasets", "deepspeed"]


def machine() -> dict[str, Any]:
    """Processor, accelerator and package versions, as far as they matter to speed and results."""
    installed = [name for name in _PACKAGES if find_spec(name.replace("-", "_"))]
    return {
        "processor": platform.processor() or platform.machine(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in installed},
    }
