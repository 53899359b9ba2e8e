"""Scoring with several processes: calling a wrapped model, with the same decisions on all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, broadcast
from torch import Tensor, nn

from sift_trainer.early_exit.labelled_head import output_embeddings_of


def unanimous(accelerator: Accelerator) -> Callable[[bool], bool]:
    """A function that all processes call together: whether the answer is true on all of them."""

    def all_ranks_agree(answer: bool) -> bool:
        answers = accelerator.gather(torch.tensor([int(answer)], device=accelerator.device))
        return bool(answers.all())

    return all_ranks_agree


def forward_of(accelerator: Accelerator, model: nn.Module) -> Callable[..., Any]:
    """The callable for a pass without gradient through ``model``, as it is trained: itself if FSDP2
    has sharded it. DeepSpeed's engine would count the pass as part of a training step."""
    if _wrapped_by(accelerator, "fsdp_plugin"):
        return model
    bare: nn.Module = accelerator.unwrap_model(model, keep_torch_compile=False)
    return bare.forward if _wrapped_by(accelerator, "deepspeed_plugin") else bare


def compiled_forward_of(accelerator: Accelerator, model: nn.Module) -> Callable[..., Any] | None:
    """`forward_of`, compiled as training is, as a separate graph without DDP's wrapper. None if
    training is not compiled, if only its blocks are, or under FSDP or DeepSpeed."""
    plugin = accelerator.state.dynamo_plugin
    sharded = any(_wrapped_by(accelerator, f"{name}_plugin") for name in ("fsdp", "deepspeed"))
    if sharded or plugin.backend == DynamoBackend.NO or plugin.use_regional_compilation:
        return None
    compiled: Callable[..., Any] = torch.compile(
        forward_of(accelerator, model), **plugin.to_kwargs()
    )
    return compiled


def _wrapped_by(accelerator: Accelerator, plugin: str) -> bool:
    return getattr(accelerator.state, plugin, None) is not None


def buffers_of_first(accelerator: Accelerator, model: nn.Module) -> Callable[[], None]:
    """A function that all processes call together: it copies the first one's buffers in the state
    dict of the bare ``model``, such as batch statistics, to all. A checkpoint has only those, so a
    resumed run could not repeat scores that used others."""
    saved = set(model.state_dict()) if accelerator.num_processes > 1 else set()
    names = [name for name, _ in model.named_buffers() if name in saved]

    def share() -> None:
        alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in map(model.get_buffer, names):
            alike.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        for buffers in alike.values():
            # One broadcast instead of many: a ResNet-50 has 159 buffers.
            shared: Tensor = broadcast(torch.cat([buffer.flatten() for buffer in buffers]))
            parts = torch.split(shared, [buffer.numel() for buffer in buffers])
            with torch.no_grad():
                for buffer, part in zip(buffers, parts, strict=True):
                    buffer.copy_(part.view_as(buffer))

    return share


@contextmanager
def tied_in_one_group(model: nn.Module) -> Iterator[None]:
    """Within the context, FSDP2 can wrap a model whose output embeddings share parameters with
    other modules than the input embeddings, as in BERT: PyTorch refuses a parameter in two groups,
    and Accelerate does not find the embeddings here, so it gives them no group of their own."""
    if not _tied_outside(model):
        yield
        return
    own = vars(model)
    own["get_output_embeddings"] = own["get_input_embeddings"] = lambda: None
    try:
        yield
    finally:
        del own["get_output_embeddings"], own["get_input_embeddings"]


def _tied_outside(model: nn.Module) -> bool:
    """Whether a module besides the two embeddings holds a parameter of the output embeddings."""
    output_embeddings = output_embeddings_of(model)
    if output_embeddings is None:
        return False
    embeddings = {output_embeddings, model.get_input_embeddings()}  # type: ignore[operator]
    theirs = {id(parameter) for parameter in output_embeddings.parameters()}
    return any(
        id(parameter) in theirs
        for module in model.modules()
        if module not in embeddings
        for parameter in module.parameters(recurse=False)
    )
