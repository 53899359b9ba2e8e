"""BERT on masked text for the step benchmarks: options, model, data, steps and operation counts."""

import argparse
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measured_steps import Arm, Row, Stepper, device_name
from torch.utils.data import Dataset
from transformers import BertConfig, BertForPreTraining, default_data_collator

from sift_trainer.reproduction.bert.flops import BertShape, forward_backward, scoring

LABEL_SHARE = 0.15
# Defaults by device: length, rows trained on, bf16, rounds, steps of a turn, warm-up turns.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"length": 128, "batch_size": 8, "bf16": False, "rounds": 5, "steps": 1, "warmup": 1},
    "cuda": {"length": 512, "batch_size": 32, "bf16": True, "rounds": 7, "steps": 10, "warmup": 1},
}


def bert_parser(description: str, output: str) -> argparse.ArgumentParser:
    """The options of BERT's steps. Pass what is parsed to `resolve`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=30522)
    parser.add_argument("--length", type=int, help="tokens of a row; 512 on a GPU, else 128")
    parser.add_argument(
        "--batch_size", type=int, help="rows trained on, twice are drawn; 32 on a GPU, else 8"
    )
    parser.add_argument(
        "--independent_masks",
        action="store_true",
        help="mask each token with probability 0.15, not round(0.15 * length) of each row",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is one")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, help="autocast; default: on a GPU"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--steps", type=int, help="consecutive steps of a turn; 10 on a GPU, else 1"
    )
    parser.add_argument("--warmup", type=int, help="uncounted turns of each arm")
    parser.add_argument("--minutes", type=float, help="begin no further round after so long")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks") / output)
    return parser


def resolve(options: Namespace) -> Namespace:
    """The options, with the device's defaults where nothing was given."""
    options.device = device_name(options.device)
    for name, value in _DEFAULTS[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


# ---- model and data ----


def build(options: Namespace) -> tuple[BertForPreTraining, torch.optim.Optimizer]:
    """A BERT with heads of width 64 and feed-forward layers of four times its width."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        intermediate_size=4 * options.hidden,
        max_position_embeddings=max(512, options.length),
    )
    with torch.device(options.device):  # a CPU takes seconds to draw the weights
        model = BertForPreTraining(config)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def labels_per_row(options: Namespace) -> int | None:
    """Labels of every row; None where each token is masked independently of the others."""
    return None if options.independent_masks else round(LABEL_SHARE * options.length)


class MaskedText(Dataset[dict[str, torch.Tensor]]):
    """Random word pieces with labels on 15% of them: the cost of a step is independent of the text.

    The rows repeat up to ``len``, which no benchmark reaches.
    """

    def __init__(self, options: Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (8 * options.batch_size, options.length)
        self.ids = torch.randint(options.vocabulary, shape, generator=generator)
        chance = torch.rand(shape, generator=generator)
        per_row = labels_per_row(options)
        if per_row is None:
            labelled = chance < LABEL_SHARE
        else:
            labelled = chance.argsort(dim=1).argsort(dim=1) < per_row
        self.labels = self.ids.masked_fill(~labelled, -100)

    def __len__(self) -> int:
        return 2**16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = index % len(self.ids)
        return {
            "input_ids": self.ids[row],
            "labels": self.labels[row],
            "attention_mask": torch.ones_like(self.ids[row]),
            "next_sentence_label": torch.tensor(index % 2),
        }


def stepper(arm: Arm, model: Any, optimizer: Any, options: Namespace) -> Stepper:
    """The arm's trainer on the masked text that the options describe."""
    collator: Any = partial(default_data_collator)
    collator.labels_per_row = labels_per_row(options)  # so that sifting need not read it
    return Stepper(arm, model, optimizer, MaskedText(options), collator, options)


# ---- operations ----


def counted(arm: Arm, options: Namespace) -> Row:
    """What counting operations gives: ``counted_ratio_to_stock``, a step over a stock step, and
    ``counted_overhead``, scoring over forward and backward of the kept rows."""
    share = (labels_per_row(options) or LABEL_SHARE * options.length) / options.length
    sizes = options.hidden, 4 * options.hidden, options.layers, options.vocabulary
    shape = BertShape(*sizes, options.length, share)
    stock, settings = forward_backward(shape), arm.settings or {}
    ratio = settings.get("sift_keep_ratio", 0.5) if arm.settings is not None else 1.0
    narrow = settings.get("sift_masked_only_head", ratio < 1)
    pruned = "labelled_head" if arm.compiled else "labelled_block"  # compiled: whole last block
    trained = forward_backward(shape, pruned if narrow else "everywhere")
    if ratio == 1:
        return {"counted_ratio_to_stock": trained / stock}
    scored = scoring(
        shape,
        settings.get("sift_exit_layer", 1),
        "labelled_block" if narrow else "everywhere",
        settings.get("sift_token_fraction", 1.0),
    )
    return {
        "counted_overhead": scored / ratio / trained,
        "counted_ratio_to_stock": (scored / ratio + trained) / stock,
    }
