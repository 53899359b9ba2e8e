"""Memory of a training forward: what it keeps for its backward, counted on the meta device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import BertConfig

from sift_trainer.reproduction.bert.flops import MetaBert


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
        config: with its dropout, which keeps memory too.
        rows: rows of ``length`` tokens that are trained on, without padding.
        labels: labelled positions of the whole batch.
        labelled_only: whether head and last block are computed at labelled positions only.
        on_gpu: whether to count what CUDA's kernels keep: one byte per element for dropout, inputs
            and output for sdpa attention. On a CPU, dropout keeps a mask of numbers, and sdpa
            attention with dropout keeps the probabilities.
        bf16: whether the forward runs under CUDA's bf16 autocast.
    """
    bert = MetaBert(config, rows, length, labels)
    saved = SavedTensors(bert.model)
    with saved.counted(), _Kernels(on_gpu, bf16):
        bert.loss("labelled_block" if labelled_only else "everywhere")
    return saved.bytes


class SavedTensors:
    """Bytes of the tensors that autograd saves: each storage once, without the parameters."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {parameter.untyped_storage() for parameter in model.parameters()}
        self._storages: set[torch.UntypedStorage] = set()  # hashed by identity: views count once

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
    """A fused attention kernel keeps its inputs, its output, and one number for each query."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        normalizers = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, normalizers)
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Any:
        raise NotImplementedError("only the forward is counted")


_IN_BF16 = {functional.linear, torch.matmul, functional.scaled_dot_product_attention}
_IN_FP32 = {functional.layer_norm, functional.softmax}


class _Kernels(TorchFunctionMode):
    """Makes the meta device, whose kernels are those of a CPU, keep what CUDA's kernels keep.

    That is the casts of CUDA's autocast, its dropout, and its fused attention.
    """

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
            # Autocast casts its two halves separately: the first takes the dtype that it is given.
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
        """A floating-point tensor in ``dtype``. Like autocast, casts a parameter once a forward."""
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        if id(value) not in self._cast:
            self._cast[id(value)] = value.to(dtype)
        return self._cast[id(value)]
