"""The one-cycle learning rate of the paper's ResNet experiments (section 7.2)."""

from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

if TYPE_CHECKING:
    from transformers import Trainer as _Base
    from transformers import TrainingArguments
else:
    _Base = object

_DIV_FACTOR = 25  # the peak over the first learning rate, as OneCycleLR's default
_UNUSED = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "warmup_steps": 0}


class OneCycleSchedule(OneCycleLR):
    """`OneCycleLR` that resumes only from a checkpoint of the same cycle.

    PyTorch's own would take length and rates from the checkpoint and ignore its arguments.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float, total_steps: int) -> None:
        super().__init__(optimizer, max_lr, total_steps, div_factor=_DIV_FACTOR)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; raises `ValueError` for a cycle of another length or peak, or no cycle."""
        before, now = (
            f"max_steps={state.get('total_steps')}, learning_rate={rate * _DIV_FACTOR:g}"
            for state in (state_dict, self.state_dict())
            for rate in state["base_lrs"][:1]
        )
        if before != now:
            raise ValueError(
                f"cannot resume: the checkpoint's cycle has {before}, this run has {now}; resume "
                "with the checkpoint's values, or start a new run from its weights"
            )
        super().load_state_dict(state_dict)


class OneCycleMixin(_Base):
    """One cycle of the learning rate over the run: ``class Mine(OneCycleMixin, SiftTrainer)``.

    The schedule is PyTorch's `OneCycleLR` with its defaults, as in the paper. ``learning_rate`` is
    its ``max_lr``: the rate rises from 1/25 of it to all of it during the first 30% of
    ``max_steps`` optimizer steps, then falls to 1/250,000 of it. The schedule also moves the
    momentum, which for AdamW is beta1: 0.95 at both ends and 0.85 at the peak, so ``adam_beta1``
    has no effect. A schedule from ``optimizers`` or DeepSpeed's configuration is used unchanged.

    Raises:
        ValueError: at construction, for fields that have no effect on this schedule; in `train`,
            for a checkpoint whose cycle has another ``max_steps`` or ``learning_rate``.
    """

    lr_scheduler: LRScheduler | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.lr_scheduler is None:
            check_one_cycle(self.args)

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """The schedule of a run of ``num_training_steps`` optimizer steps."""
        if self.lr_scheduler is None:
            # The base class also records that the next run needs a new schedule.
            super().create_scheduler(num_training_steps, optimizer)
            wrapped: Any = self.optimizer if optimizer is None else optimizer
            while hasattr(wrapped, "optimizer"):  # DeepSpeed's wrappers hide the momentum
                wrapped = wrapped.optimizer
            rate = self.args.learning_rate
            self.lr_scheduler = OneCycleSchedule(wrapped, rate, num_training_steps)
        return self.lr_scheduler


def check_one_cycle(args: "TrainingArguments") -> None:
    """Refuse fields that one cycle cannot use, with a `ValueError`."""
    for name, unused in _UNUSED.items():
        value = getattr(args, name)
        value = getattr(value, "value", value)  # of an enum
        if value and value != unused:
            raise ValueError(
                f"{name}={value!r} has no effect on the one-cycle schedule; leave it at "
                f"{unused!r}, or train without OneCycleMixin"
            )
    if not args.learning_rate > 0:
        raise ValueError(f"learning_rate={args.learning_rate} must be positive, such as 1e-2")
