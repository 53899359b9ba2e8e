"""Any Transformers model: find its stack of blocks by structure, and truncate it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from sift_trainer.early_exit.adapter import ExitAdapter


class TruncatableModuleList(nn.ModuleList):
    """A `ModuleList` whose iteration, length and slices can stop early.

    The registry of submodules is untouched: parameters, state-dict keys and hooks stay as they
    are, which is why a list is given this class rather than swapped for a shorter one.
    """

    exit_at: int | None = None
    exit_block: Callable[..., Any] | None = None  # called in place of the last block, if set

    def __len__(self) -> int:
        return len(self._modules) if self.exit_at is None else self.exit_at

    def __iter__(self) -> Iterator[nn.Module]:
        if self.exit_at is None or self.exit_block is None:
            return islice(iter(self._modules.values()), len(self))
        return iter([*islice(self._modules.values(), self.exit_at - 1), self.exit_block])  # type: ignore[list-item]

    def __getitem__(self, index: Any) -> Any:
        if self.exit_at is None:
            return super().__getitem__(index)
        return list(self)[index]


def truncatable(blocks: nn.ModuleList) -> TruncatableModuleList:
    """Give ``blocks`` the truncatable class, in place."""
    if not isinstance(blocks, TruncatableModuleList):
        blocks.__class__ = TruncatableModuleList
    return blocks  # type: ignore[return-value]


class BlockStackExit(ExitAdapter):
    """Leaves a stack of like blocks after the k-th: the rest of the forward is the model's own."""

    def __init__(self, model: nn.Module, blocks: nn.ModuleList) -> None:
        super().__init__(model)
        self.blocks = truncatable(blocks)

    @property
    def depth(self) -> int:
        return len(self.blocks._modules)

    def at(self, k: int, positions: Tensor | None = None) -> AbstractContextManager[None]:
        return self.ending_in(k, self.exit_block(k, positions))

    @contextmanager
    def ending_in(self, k: int, exit_block: Callable[..., Any] | None) -> Iterator[None]:
        """Blocks 1..k, with ``exit_block`` in place of the k-th if given."""
        before = self.blocks.exit_at, self.blocks.exit_block
        self.blocks.exit_at = k
        self.blocks.exit_block = exit_block
        try:
            yield
        finally:
            self.blocks.exit_at, self.blocks.exit_block = before

    def exit_block(self, k: int, positions: Tensor | None) -> Callable[..., Any] | None:
        """What runs in place of block k; None for the block itself."""
        return None


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """The block stack of a Transformers model: the one list of as many like blocks as the
    configuration says it has layers; of an encoder-decoder, the decoder's.

    Raises:
        ValueError: if there is none or there are several; names what was looked for.
    """
    depth = _configured_depth(model)
    found = _stacks(_searched(model), depth) if depth else {}
    if len(found) != 1:
        what = f"found {len(found)} ({', '.join(found)})" if found else "found none"
        raise ValueError(
            f"no early exit for {type(model).__name__}: looked for one nn.ModuleList of "
            f"{depth or 'config.num_hidden_layers'} blocks with equal parameter shapes and {what}; "
            f"name it with register_exit({type(model).__name__}, 'path.to.blocks') or register an "
            "ExitAdapter of your own"
        )
    return next(iter(found.values()))


def _stacks(model: nn.Module, depth: int) -> dict[str, nn.ModuleList]:
    """Lists of ``depth`` like blocks by name. Of nested ones the outer: a block of T5's decoder is
    itself a list, of three parts."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(name.startswith(f"{o}.") for o in found):
            continue
        if len(module._modules) == depth and _alike(module):  # whether truncated just now or not
            found[name] = module
    return found


def _configured_depth(model: nn.Module) -> int | None:
    """How many blocks the configuration promises; None for what is no Transformers model."""
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return None
    if not config.is_encoder_decoder:
        return getattr(config.get_text_config(), "num_hidden_layers", None)
    if getattr(config, "num_decoder_layers", None):  # T5's, which get_text_config overlooks
        return int(config.num_decoder_layers)
    return getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)


def _searched(model: nn.Module) -> nn.Module:
    """Where to look: an encoder-decoder exits in its decoder."""
    if not model.config.is_encoder_decoder:  # type: ignore[union-attr]
        return model
    decoder: nn.Module = model.get_decoder()  # type: ignore[operator]
    return decoder


def _alike(blocks: nn.ModuleList) -> bool:
    """Whether the parameters that blocks share by name have equal shapes: one width throughout."""
    shapes: dict[str, Any] = {}
    return all(
        shapes.setdefault(name, parameter.shape) == parameter.shape
        for block in blocks.children()
        for name, parameter in block.named_parameters()
    ) and any(True for _ in blocks.parameters())
