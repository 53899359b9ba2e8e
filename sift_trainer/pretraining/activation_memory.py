"""What a training forward keeps for its backward, counted on a model without weights.

The model runs on the meta device, where tensors have shapes and no data, and everything that
autograd saves is added up.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import BertConfig, BertForPreTraining

from sift_trainer.early_exit.labelled_head import LabelledHead


def activation_bytes(
    config: BertConfig,
    rows: int,
    length: int,
    labels: int,
    *,
    labelled_only: bool,
    on_gpu: bool,
    bf16: bool = False,
) -> int:
    """Bytes that a forward of `BertForPreTraining` in training mode keeps for its backward.

    Args:
        config: with dropout, which is part of what is kept.
        rows: rows of ``length`` tokens that are trained on, without padding.
        labels: labelled positions among them all.
        labelled_only: whether head and last block are computed at labelled positions only.
        on_gpu: whether to count what CUDA's kernels keep: of dropout a byte for each element, of
            sdpa attention its inputs and output. On a CPU, dropout keeps a mask of numbers, and
            sdpa attention with dropout the probabilities.
        bf16: whether it runs under CUDA's bf16 autocast.
    """

    def kept(depth: int) -> int:
        shallow = deepcopy(config)
        shallow.num_hidden_layers = depth
        return _kept(shallow, rows, length, labels if labelled_only else None, on_gpu, bf16)

    whole = kept(depth := int(config.num_hidden_layers))
    if not labelled_only:
        return whole
    # Which positions the pruned block keeps depends on data: of a whole one the share that is read
    # is taken. The keys and values that it has at the others are as large as what the transform of
    # the head, which sees only those that are read, does not keep there.
    below = kept(depth - 1)
    read = min(1.0, (labels + rows) / (rows * length))
    return below + round(read * (whole - below))


def _kept(
    config: BertConfig, rows: int, length: int, labels: int | None, on_gpu: bool, bf16: bool
) -> int:
    with torch.device("meta"):
        model = BertForPreTraining(config)
        batch = {
            "input_ids": torch.zeros(rows, length, dtype=torch.long),
            "token_type_ids": torch.zeros(rows, length, dtype=torch.long),
            "labels": torch.zeros(1, labels or rows * length, dtype=torch.long),
            "next_sentence_label": torch.zeros(rows, dtype=torch.long),
        }
        positions = None if labels is None else torch.zeros(labels, dtype=torch.long)
    model.train()
    head = LabelledHead.of(model)
    assert head is not None
    saved = SavedTensors(model)
    with head.at(positions), saved.counted(), _Kernels(on_gpu, bf16):
        model(**batch)
    return saved.bytes


class SavedTensors:
    """Bytes of what autograd saves, each storage once, without a model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {parameter.untyped_storage() for parameter in model.parameters()}
        self._storages: set[torch.UntypedStorage] = set()  # by identity, whatever views there are

    def counted(self) -> Any:
        """A context in which everything that is saved is counted."""
        return torch.autograd.graph.saved_tensors_hooks(self._add, lambda tensor: tensor)

    def _add(self, tensor: Tensor) -> Tensor:
        self._storages.add(tensor.untyped_storage())
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages - self._parameters)


class _FusedAttention(torch.autograd.Function):
    """What a fused attention kernel keeps: its inputs, its output, and a number for each query."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        normalizers = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, normalizers)
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Any:
        raise NotImplementedError("counted only")


_IN_BF16 = {functional.linear, torch.matmul, functional.scaled_dot_product_attention}
_IN_FP32 = {functional.layer_norm, functional.softmax}


class _Kernels(TorchFunctionMode):
    """Casts as CUDA's autocast does, which the meta device does not have, and keeps what CUDA's
    kernels keep where those of the meta device, which are the CPU's, keep more."""

    def __init__(self, on_gpu: bool, bf16: bool) -> None:
        super().__init__()
        self.on_gpu = on_gpu
        self.bf16 = bf16
        self._cast: dict[int, Tensor] = {}

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.bf16 and function in _IN_BF16 | _IN_FP32:
            dtype = torch.bfloat16 if function in _IN_BF16 else torch.float32
            args = tuple(self._as(value, dtype) for value in args)
            kwargs = {name: self._as(value, dtype) for name, value in kwargs.items()}
        if self.bf16 and function is functional.cross_entropy:
            # Its two halves are cast each by itself, the first to the dtype it is given.
            return functional.nll_loss(functional.log_softmax(args[0], dim=-1).float(), args[1])
        if function is functional.scaled_dot_product_attention:
            dropout = kwargs.get("dropout_p", 0.0)
            if self.on_gpu or not dropout:
                return _FusedAttention.apply(*args[:3])  # type: ignore[no-untyped-call]
        if function is functional.dropout and self.on_gpu:
            share = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            return torch.native_dropout(args[0], share, training)[0] if share else args[0]
        return function(*args, **kwargs)

    def _as(self, value: Any, dtype: torch.dtype) -> Any:
        """A tensor of numbers in ``dtype``; a parameter is cast once a forward, as by autocast."""
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        if id(value) not in self._cast:
            self._cast[id(value)] = value.to(dtype)
        return self._cast[id(value)]
