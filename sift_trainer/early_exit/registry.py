"""Which adapter fits a model: a registered one, a built-in one, or one found by structure."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers.trainer_utils import unwrap_peft_model

from sift_trainer.early_exit.adapter import ExitAdapter, WholeModel
from sift_trainer.early_exit.albert import AlbertExit
from sift_trainer.early_exit.blocks import BlockStackExit, find_blocks
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.early_exit.masked_lm import LabelledLastBlock, MaskedLMExit
from sift_trainer.early_exit.stages import ResNetStages, SwinStages

_REGISTERED: dict[type[nn.Module], type[ExitAdapter] | str] = {}

# By name, because importing a model's class would load its module for every user.
_BUILT_IN: dict[str, type[ExitAdapter]] = {
    "AlbertPreTrainedModel": AlbertExit,
    "ResNetForImageClassification": ResNetStages,
    "SwinForImageClassification": SwinStages,
}


def register_exit(model_class: type[nn.Module], adapter: type[ExitAdapter] | str) -> None:
    """Say how models of a class and its subclasses leave early.

    Args:
        adapter: the dotted path of the ``nn.ModuleList`` of blocks, which must all map hidden
            states of one shape to the same shape, or an `ExitAdapter` subclass.
    """
    _REGISTERED[model_class] = adapter


def exit_adapter(model: nn.Module) -> ExitAdapter:
    """The adapter that fits ``model``, or the model in its PEFT wrapper; else a ValueError."""
    model = unwrap_peft_model(model)
    for model_class in type(model).__mro__:
        if model_class in _REGISTERED:
            return _registered(model, _REGISTERED[model_class])
        if model_class.__module__.startswith("transformers.") and model_class.__name__ in _BUILT_IN:
            return _BUILT_IN[model_class.__name__](model)
    blocks = find_blocks(model)
    if MaskedLMExit.fits(model, blocks):
        return MaskedLMExit(model, blocks)
    return BlockStackExit(model, blocks)


def _registered(model: nn.Module, adapter: type[ExitAdapter] | str) -> ExitAdapter:
    if not isinstance(adapter, str):
        return adapter(model)
    blocks = model.get_submodule(adapter)
    if not isinstance(blocks, nn.ModuleList):
        raise ValueError(
            f"register_exit({type(model).__name__}, {adapter!r}): that is a "
            f"{type(blocks).__name__}; give the path of an nn.ModuleList"
        )
    return BlockStackExit(model, blocks)


def exit_at(model: nn.Module, k: int) -> tuple[ExitAdapter, int]:
    """The adapter of ``model``, and exit ``k`` as a block number, with the errors of `early_exit`.
    The exit -1 works for every model."""
    try:
        adapter = exit_adapter(model)
    except ValueError:
        if k != -1:
            raise
        adapter = WholeModel(model)
    return adapter, adapter.resolve(k)


@contextmanager
def early_exit(model: nn.Module, k: int) -> Iterator[None]:
    """Within the context, ``model(...)`` runs its first ``k`` blocks, then final norm and head.

    Equal to the head applied to ``output_hidden_states[k]`` (section 6). ``k`` is 1..L, or -1 for
    L, the whole model. The model is not wrapped or compiled.

    Raises:
        ValueError: if no adapter fits the model, or it has no such exit.
    """
    adapter, k = exit_at(model, k)
    with adapter.at(k):
        yield


def labelled_last_block(model: nn.Module, head: LabelledHead) -> LabelledLastBlock | None:
    """Training's last block on labelled positions only. None if the model has no such blocks, or
    if the last one uses gradient checkpointing, which runs it again in the backward."""
    try:
        adapter = exit_adapter(model)
    except ValueError:
        return None
    if not isinstance(adapter, MaskedLMExit):
        return None
    *_, last = adapter.blocks.children()
    return None if last.gradient_checkpointing else LabelledLastBlock(adapter, head)
