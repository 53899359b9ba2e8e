"""What several processes ask for: a model that can be wrapped and called, and agreement.

Each pass through a sharded model gathers its parameters, so that all processes have to make the
same passes, whatever is in their batches. And what one process alone has learned is in no
checkpoint, so that all have to score with what is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, broadcast
from torch import Tensor, nn

from sift_trainer.early_exit.labelled_head import output_embeddings_of


def unanimous(accelerator: Accelerator) -> Callable[[bool], bool]:
    """A function for all processes to call together: whether the answer is yes on each of them."""

    def agreed(answer: bool) -> bool:
        answers = accelerator.gather(torch.tensor([int(answer)], device=accelerator.device))
        return bool(answers.all())

    return agreed


def forward_of(accelerator: Accelerator, model: nn.Module) -> Callable[..., Any]:
    """What to call for a pass without gradient.

    Args:
        model: as it is trained. That is to be called where FSDP2 has sharded it, while DeepSpeed's
            engine would take such a pass for a part of what it traces.
    """
    if _wrapped_by(accelerator, "fsdp_plugin"):
        return model
    bare: nn.Module = accelerator.unwrap_model(model, keep_torch_compile=False)
    return bare.forward if _wrapped_by(accelerator, "deepspeed_plugin") else bare


def compiled_forward_of(accelerator: Accelerator, model: nn.Module) -> Callable[..., Any] | None:
    """`forward_of`, compiled as training is: a graph of its own, past the wrapper of DDP. None
    where training is not compiled, or only its blocks, or within a wrapper."""
    plugin = accelerator.state.dynamo_plugin
    if (
        plugin.backend == DynamoBackend.NO
        or plugin.use_regional_compilation
        or _wrapped_by(accelerator, "fsdp_plugin")
        or _wrapped_by(accelerator, "deepspeed_plugin")
    ):
        return None
    compiled: Callable[..., Any] = torch.compile(
        forward_of(accelerator, model), **plugin.to_kwargs()
    )
    return compiled


def _wrapped_by(accelerator: Accelerator, plugin: str) -> bool:
    return getattr(accelerator.state, plugin, None) is not None


def buffers_of_first(accelerator: Accelerator, model: nn.Module) -> Callable[[], None]:
    """A function for all processes to call together: it gives them the first one's buffers.

    Of those that a checkpoint holds, such as batch normalisation's running statistics, which move
    in each process by its own rows. DDP replaces them only in front of a training forward, sharding
    never, and a checkpoint has the first process's: scores by others would be lost in a resume.

    Args:
        model: the bare module.
    """
    saved = set(model.state_dict()) if accelerator.num_processes > 1 else set()
    names = [name for name, _ in model.named_buffers() if name in saved]

    def share() -> None:
        alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in map(model.get_buffer, names):
            alike.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        for buffers in alike.values():
            # As one tensor: a ResNet-50 has 159 of them.
            shared: Tensor = broadcast(torch.cat([buffer.flatten() for buffer in buffers]))
            parts = torch.split(shared, [buffer.numel() for buffer in buffers])
            with torch.no_grad():
                for buffer, part in zip(buffers, parts, strict=True):
                    buffer.copy_(part.view_as(buffer))

    return share


@contextmanager
def tied_in_one_group(model: nn.Module) -> Iterator[None]:
    """Within the context, FSDP2 wraps a model whose output embeddings are tied to more than the
    input embeddings: BERT's decoder shares its bias with the head that holds it.

    Accelerate puts the output embeddings into a group of their own, and PyTorch refuses a parameter
    that two groups see. While they are not to be found they stay in the model's own group.
    """
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
    """Whether a module beyond the two embeddings holds a parameter of the output embeddings."""
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
