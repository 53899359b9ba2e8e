"""Numbers that all processes of a run agree on, without waiting for their devices."""

from typing import Any

import torch
from torch import Tensor, distributed


class HostGroup:
    """The processes of a run, which communicate over gloo on the CPU while it is open.

    They make all calls together. While it is closed, a call is about this process alone.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def open(self, world_size: int) -> None:
        """Open the group until `close`; an open one is closed first."""
        self.close()
        if distributed.is_available() and distributed.is_initialized() and world_size > 1:
            self._group = distributed.new_group(backend="gloo")

    def close(self) -> None:
        """Close the group; a second call does nothing."""
        if self._group is not None:
            distributed.destroy_process_group(self._group)
            self._group = None

    def any(self, answer: bool) -> bool:
        """Whether ``answer`` is true on any process."""
        answered = torch.tensor(int(answer))
        if self._group is not None:
            distributed.all_reduce(answered, distributed.ReduceOp.MAX, group=self._group)
        return bool(answered)

    def of_first(self, number: float) -> float:
        """The number of the first process."""
        shared: Tensor = torch.tensor(number, dtype=torch.float64)
        if self._group is not None:
            distributed.broadcast(shared, 0, group=self._group)
        return float(shared)
