"""Any Transformers model: find its stack of blocks by structure, and truncate it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig

from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.scoring.positions import ScoredPositions


class TruncatableModuleList(nn.ModuleList):
    """A `ModuleList` whose iteration, length and slices can stop early.

    A shorter list in its place would change parameters, state-dict keys and hooks.
    """

    exit_at: int | None = None

    def __len__(self) -> int:
        return len(self._modules) if self.exit_at is None else self.exit_at

    def __iter__(self) -> Iterator[nn.Module]:
        return islice(iter(self._modules.values()), len(self))

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) if self.exit_at is None else list(self)[index]


@contextmanager
def truncated(blocks: nn.ModuleList, k: int) -> Iterator[None]:
    """Within the context, ``blocks`` ends after the k-th. Its class is changed in place."""
    if not isinstance(blocks, TruncatableModuleList):
        blocks.__class__ = TruncatableModuleList
    stack = cast(TruncatableModuleList, blocks)
    before, stack.exit_at = stack.exit_at, k
    try:
        yield
    finally:
        stack.exit_at = before


class BlockStackExit(ExitAdapter):
    """Leaves a stack of equal blocks after the k-th. The rest of the forward is the model's own."""

    def __init__(self, model: nn.Module, blocks: nn.ModuleList) -> None:
        super().__init__(model)
        self.blocks = blocks

    @property
    def depth(self) -> int:
        return len(self.blocks._modules)

    def resolve(self, k: int) -> int:
        k = super().resolve(k)
        if k < self.depth and (reason := _why_only_whole(self.model)) is not None:
            raise ValueError(
                f"no exit after block {k} of {type(self.model).__name__}: {reason}; use "
                "sift_exit_layer=-1 for exact scores"
            )
        return k

    def at(self, k: int, positions: ScoredPositions | None = None) -> AbstractContextManager[None]:
        return self.ending_in(k)

    def exit_block(self, k: int) -> nn.Module:
        return [*self.blocks._modules.values()][k - 1]

    @contextmanager
    def ending_in(self, k: int, forward: Callable[..., Any] | None = None) -> Iterator[None]:
        """Run blocks 1..k; if ``forward`` is given, it replaces the forward of the k-th.

        The block is still called as a module, because hooks gather its parameters if it is sharded.
        """
        block = self.exit_block(k)
        replaced = nullcontext() if forward is None else replaced_forward(block, forward)
        with truncated(self.blocks, k), replaced:
            yield


def _why_only_whole(model: nn.Module) -> str | None:
    """Why the part after the blocks is only right if all of them have run; None if it is."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "use_weighted_layer_sum", False):
        return "with use_weighted_layer_sum its head reads the outputs of all blocks"
    if getattr(config, "rescale_every", 0) > 0:  # RWKV's
        return (
            "evaluation divides the weights of the blocks that run, and training multiplies those "
            "of all blocks; set config.rescale_every=0"
        )
    decodes = hasattr(getattr(model, "base_model", None), "decoder")
    if getattr(config, "model_type", None) == "funnel" and decodes:
        return f"its decoder undoes the pooling of all config.block_sizes={config.block_sizes}"
    return None


@contextmanager
def replaced_forward(block: nn.Module | None, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context, ``block`` computes ``forward`` in place of the forward of its class."""
    own = vars(block)
    before = own.get("forward")
    own["forward"] = forward
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """The block stack of a Transformers model: the only list of equal blocks that is as long as
    the configuration says, for an encoder-decoder in its decoder.

    Raises:
        ValueError: if there is none, or several.
    """
    depth, found = _configured_depth(model), {}
    if depth:
        decodes = model.config.is_encoder_decoder  # type: ignore[union-attr]
        found = _stacks(model.get_decoder() if decodes else model, depth)  # type: ignore[operator]
    if len(found) != 1:
        what = f"found {len(found)} ({', '.join(found)})" if found else "found none"
        raise ValueError(
            f"no early exit for {type(model).__name__}: looked for one nn.ModuleList of "
            f"{depth or 'config.num_hidden_layers'} blocks with equal parameter shapes and {what}; "
            f"name it with register_exit({type(model).__name__}, 'path.to.blocks'), register an "
            "ExitAdapter of your own, or use sift_exit_layer=-1 for exact scores"
        )
    return next(iter(found.values()))


def _stacks(model: nn.Module, depth: int) -> dict[str, nn.ModuleList]:
    """Lists of ``depth`` equal blocks, by name. A list within a block is not taken, as T5 has."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(name.startswith(f"{o}.") for o in found):
            continue
        if len(module._modules) == depth and _equal_shapes(module):  # also if truncated
            found[name] = module
    return found


def _configured_depth(model: nn.Module) -> int | None:
    """The number of blocks in the configuration; None if it is not known."""
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return None
    if not config.is_encoder_decoder:
        return getattr(config.get_text_config(), "num_hidden_layers", None)
    if getattr(config, "num_decoder_layers", None):  # T5's, which get_text_config overlooks
        return int(config.num_decoder_layers)
    return getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)


def _equal_shapes(blocks: nn.ModuleList) -> bool:
    """Whether parameters of the same name have the same shape in all blocks."""
    shapes: dict[str, torch.Size] = {}
    for block in blocks.children():
        for name, parameter in block.named_parameters():
            # ZeRO-3 empties parameters between uses; ``ds_shape`` is the whole shape.
            shape = getattr(parameter, "ds_shape", parameter.shape)
            if shapes.setdefault(name, shape) != shape:
                return False
    return bool(shapes)
