"""The one-cycle learning rate of the paper's ResNet experiments (section 7.2)."""

from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

if TYPE_CHECKING:
    from transformers import Trainer as _Base
    from transformers import TrainingArguments
else:
    _Base = object

_START = 25  # the peak over the first learning rate: OneCycleLR's default div_factor
_UNUSED = {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None, "warmup_steps": 0}


class OneCycleSchedule(OneCycleLR):
    """`OneCycleLR` that goes on from a checkpoint of the same cycle only.

    PyTorch's own takes length and rates from the checkpoint, whatever it was built with: a resumed
    run of more steps would fail at the end of the old cycle, one of fewer be cut off in it.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float, total_steps: int) -> None:
        super().__init__(optimizer, max_lr, total_steps, div_factor=_START)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``.

        Raises:
            ValueError: if it is of a cycle of other length or peak, or of another schedule.
        """
        if "total_steps" not in state_dict:
            raise ValueError(
                "cannot resume: the checkpoint was written with another schedule than one cycle. "
                "Resume without OneCycleMixin, or start a new run from the weights in it"
            )
        before, now = (
            {"max_steps": state["total_steps"], "learning_rate": state["base_lrs"][0] * _START}
            for state in (state_dict, self.state_dict())
        )
        for name, value in now.items():
            if before[name] != value:
                raise ValueError(
                    f"cannot resume: the checkpoint is in the midst of a cycle with {name}="
                    f"{before[name]:g}, this run has {value:g}. Resume with {name}="
                    f"{before[name]:g}, or start a new run from the weights in the checkpoint"
                )
        super().load_state_dict(state_dict)


class OneCycleMixin(_Base):
    """One cycle of the learning rate over the run: ``class Mine(OneCycleMixin, SiftTrainer)``.

    The schedule is PyTorch's `OneCycleLR` with its defaults, as in the paper: ``learning_rate`` is
    its ``max_lr``, reached from 1/25 of it after 30% of ``max_steps`` optimizer steps, then lowered
    to 1/250,000 of it. By default it also moves the momentum, which for AdamW is beta1: 0.95 at
    both ends, 0.85 at the peak, so ``adam_beta1`` is not used. A checkpoint has all of its state.

    A schedule that was given in ``optimizers`` or in DeepSpeed's configuration is left as it is.

    Raises:
        ValueError: at construction, for fields of other schedules, which would have no effect, and
            for a ``learning_rate`` that is not positive; in `train`, for an optimizer without
            momentum, and for a checkpoint whose cycle has another ``max_steps`` or
            ``learning_rate``.
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
            # It also notes that the schedule is this run's own, to be built anew for the next one.
            super().create_scheduler(num_training_steps, optimizer)
            self.lr_scheduler = OneCycleSchedule(
                _innermost(self.optimizer if optimizer is None else optimizer),
                self.args.learning_rate,
                num_training_steps,
            )
        return self.lr_scheduler


def _innermost(optimizer: Any) -> Optimizer:
    """PyTorch's optimizer in its wrappers: DeepSpeed's do not show whether it has momentum."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    if not {"momentum", "betas"} & set(optimizer.defaults):
        raise ValueError(
            f"optim: {type(optimizer).__name__} has no momentum for the cycle to move; "
            "use one that has, such as optim='adamw_torch'"
        )
    found: Optimizer = optimizer
    return found


def check_one_cycle(args: "TrainingArguments") -> None:
    """Refuse fields that one cycle cannot use.

    Raises:
        ValueError: naming the field, its value and one that works.
    """
    for name, unused in _UNUSED.items():
        value = getattr(args, name)
        value = getattr(value, "value", value)  # of an enum
        if value and value != unused:
            raise ValueError(
                f"{name}={value!r} has no effect on the one-cycle schedule; leave it at "
                f"{unused!r}, or OneCycleMixin out"
            )
    if not args.learning_rate > 0:
        raise ValueError(
            f"learning_rate={args.learning_rate} must be positive, such as 1e-2: it is the peak"
        )
