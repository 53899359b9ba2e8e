"""A checkpoint's weights, for a while, and its second moments, as AdamW would use them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import Trainer

from sift_trainer.measuring.adam import adam_scale

_WEIGHTS = "model.safetensors"
_OPTIMIZER = "optimizer.pt"


def weights_file(folder: str | Path) -> Path:
    """The weights of a checkpoint; raises `ValueError` where there are none."""
    file = Path(folder) / _WEIGHTS
    if not file.is_file():
        raise ValueError(
            f"checkpoint={str(folder)!r} has no {_WEIGHTS}; give the folder of a checkpoint, such "
            "as runs/mine/checkpoint-500"
        )
    return file


@contextmanager
def weights_of(model: nn.Module, folder: str | Path | None) -> Iterator[None]:
    """Within the context the model has the weights and buffers of a checkpoint; None: its own.

    Raises:
        ValueError: if the folder has no whole ``model.safetensors``, or it is of another model.
    """
    if folder is None:
        yield
        return
    file = weights_file(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        try:
            load_model(model, str(file))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"checkpoint={str(folder)!r} does not fit this {type(model).__name__}; give one "
                f"that was trained by the same configuration: {error}"
            ) from error
        yield
    finally:
        model.load_state_dict(before)


def adam_scales(trainer: Trainer, folder: str | Path) -> list[Tensor]:
    """`adam_scale` of the second moments and the steps of a checkpoint.

    Args:
        trainer: one that makes the optimizer that the checkpoint is of; it stays without.
        folder: with an ``optimizer.pt``.

    Returns:
        One tensor for each parameter that is trained, in fp32 and of its shape, in the model's
        order; zeros for one that the optimizer never moved.

    Raises:
        ValueError: if there are none in the folder, for these parameters.
    """
    saved = _load(Path(folder) / _OPTIMIZER)
    before = trainer.optimizer
    trainer.create_optimizer()
    groups, trainer.optimizer = trainer.optimizer.param_groups, before
    found: dict[int, Tensor] = {}
    numbers = [len(group["params"]) for group in saved["param_groups"]]
    if numbers != [len(group["params"]) for group in groups]:
        raise ValueError(f"{_OPTIMIZER} is of another model: its groups have {numbers} parameters")
    for group, kept in zip(groups, saved["param_groups"], strict=True):
        for parameter, number in zip(group["params"], kept["params"], strict=True):
            if number not in saved["state"]:  # never reached by a gradient, and never moved
                found[id(parameter)] = torch.zeros_like(parameter, dtype=torch.float32)
                continue
            state = saved["state"][number]
            moments = state.get("exp_avg_sq")
            if not isinstance(moments, Tensor) or moments.shape != parameter.shape:
                raise ValueError(f"{_OPTIMIZER} has no second moments (Adam's) of these parameters")
            found[id(parameter)] = adam_scale(
                moments.to(parameter.device), state["step"], kept["betas"][1], kept["eps"]
            )
    trained = [each for each in trainer.model.parameters() if each.requires_grad]
    if missing := [each for each in trained if id(each) not in found]:
        raise ValueError(f"{_OPTIMIZER} leaves {len(missing)} parameters out")
    return [found[id(parameter)] for parameter in trained]


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"the checkpoint has no {_OPTIMIZER}")
    try:
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can end in nearly any
        raise ValueError(f"{_OPTIMIZER} cannot be read") from error
    if not isinstance(saved, dict) or not {"state", "param_groups"} <= set(saved):
        raise ValueError(f"{_OPTIMIZER} is no optimizer's state")
    return saved
