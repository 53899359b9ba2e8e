"""Learning rate and beta1 of a run are those of PyTorch's own one-cycle loop, resumed or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from transformers import TrainerCallback

from sift_trainer.reproduction.resnet.one_cycle import OneCycleMixin
from tests.training import RecordingTrainer, Rows, arguments, bert


class OneCycleTrainer(OneCycleMixin, RecordingTrainer):
    pass


class Rates(TrainerCallback):
    """Notes (learning rate, beta1) of every update, of each group of parameters."""

    def __init__(self) -> None:
        self.found: list[list[tuple[float, float]]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        groups = kwargs["optimizer"].param_groups
        self.found.append([(group["lr"], group["betas"][0]) for group in groups])


def trainer(folder: Path, seed: int = 0, kind: Any = OneCycleTrainer, **changes: Any) -> Any:
    settings = {"lr_scheduler_type": "linear", "weight_decay": 5e-4, **changes}
    if kind is OneCycleTrainer and "callbacks" not in settings:
        settings["callbacks"] = [Rates()]
    callbacks = settings.pop("callbacks", [])
    rows = settings.pop("rows", 76)
    made = kind(
        bert(seed=seed),
        arguments(folder, **settings),
        train_dataset=Rows(rows),
        callbacks=callbacks,
    )
    made.rates = callbacks[0].found if callbacks else []
    return made


def plain_loop(peak: float, steps: int) -> list[list[tuple[float, float]]]:
    groups = [{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)]
    optimizer = AdamW(groups, weight_decay=5e-4)
    schedule = OneCycleLR(optimizer, max_lr=peak, total_steps=steps)
    found = []
    for _ in range(steps):
        found.append([(group["lr"], group["betas"][0]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def test_rates_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """Two epochs of 10 batches, two to a step: 10 steps, the peak after 30% of them."""
    epochs = {"rows": 38, "max_steps": -1, "num_train_epochs": 2}
    run = trainer(tmp_path, gradient_accumulation_steps=2, **epochs)
    run.train()
    assert run.state.max_steps == run.lr_scheduler.total_steps == 10
    assert run.rates == plain_loop(1e-2, 10)
    assert run.rates[0][0] == pytest.approx((1e-2 / 25, 0.95))
    assert run.rates[2][0] == pytest.approx((1e-2, 0.85))
    assert run.rates[9][0] == pytest.approx((1e-2 / 250_000, 0.95))
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [5e-4, 0]
    assert type(run.optimizer.optimizer) is AdamW
    logged = [log["learning_rate"] for log in run.state.log_history if "loss" in log]
    assert logged == [groups[0][0] for groups in run.rates]


def test_a_resumed_run_is_exact_and_needs_the_same_cycle(tmp_path: Path) -> None:
    steps = {"max_steps": 7, "save_strategy": "steps", "save_steps": 4}
    whole = trainer(tmp_path, **steps)
    whole.train()
    checkpoint = str(tmp_path / "checkpoint-4")
    resumed = trainer(tmp_path, seed=1, **steps)
    resumed.train(resume_from_checkpoint=checkpoint)
    assert resumed.rates == whole.rates[4:] == plain_loop(1e-2, 7)[4:]
    assert resumed.losses == whole.losses[4:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)

    for changes, message in (
        ({"max_steps": 9}, "max_steps=7, .* this run has max_steps=9"),
        ({"learning_rate": 0.05}, "learning_rate=0.01, this run has .*learning_rate=0.05"),
    ):
        other = trainer(tmp_path, **{**steps, **changes})
        with pytest.raises(ValueError, match=message):
            other.train(resume_from_checkpoint=checkpoint)
        assert not other.losses

    linear = trainer(tmp_path / "linear", kind=RecordingTrainer, **steps)
    linear.train()
    with pytest.raises(ValueError, match="cycle has max_steps=None"):
        trainer(tmp_path, **steps).train(
            resume_from_checkpoint=str(tmp_path / "linear" / "checkpoint-4")
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type='cosine' has no effect"),
        ({"warmup_steps": 10}, "warmup_steps=10 has no effect .* leave it at 0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive, such as 1e-2"),
    ],
)
def test_fields_of_other_schedules_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **changes)
