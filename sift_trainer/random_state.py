"""Passes that nobody asked for draw no random numbers: whatever they draw is put back."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Within the context random numbers may be drawn; afterwards none was, also after an exception.

    Kept are the states of Python's ``random``, of NumPy's global generator, of torch on the CPU and
    on the accelerators among ``devices``, which are all of one kind. They are read and written on
    the host: nothing waits for a device.
    """
    accelerators = [device for device in set(devices) if device.type != "cpu"]
    kind = accelerators[0].type if accelerators else "cuda"
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(accelerators, device_type=kind):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
