"""BERT on masked text, for benchmarks: options, model, data, steps, and what operations count."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measured_steps import Arm, Stepper, device_name
from torch.utils.data import Dataset
from transformers import BertConfig, BertForPreTraining

from sift_trainer.reproduction.bert.flops import BertShape, forward_backward, scoring
from sift_trainer.reproduction.corpus.masking import mask_tokens

LABEL_SHARE = 0.15
_MASK_ID = 103  # of bert-base-uncased

# What is not asked for, by device: length, rows trained on, bf16, rounds, steps of a turn, warm-up.
_DEFAULTS = {
    "cpu": {"length": 128, "batch_size": 8, "bf16": False, "rounds": 5, "steps": 1, "warmup": 1},
    "cuda": {"length": 512, "batch_size": 32, "bf16": True, "rounds": 7, "steps": 10, "warmup": 1},
}


def bert_parser(description: str, output: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options that all benchmarks of BERT's steps have; `resolve` what is parsed.

    Args:
        defaults: other values than BERT-base's.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--hidden", type=int, default=defaults.get("hidden", 768))
    parser.add_argument("--layers", type=int, default=defaults.get("layers", 12))
    parser.add_argument("--vocabulary", type=int, default=defaults.get("vocabulary", 30522))
    parser.add_argument("--length", type=int, help="tokens of a row; 512 on a GPU, else 128")
    parser.add_argument(
        "--batch_size", type=int, help="rows trained on, twice are drawn; 32 on a GPU, else 8"
    )
    parser.add_argument(
        "--independent_masks",
        action="store_true",
        help="mask each token with probability 0.15, not round(0.15 * length) of each row",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="cuda if there is one")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, help="autocast; unset: on a GPU"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--steps", type=int, help="consecutive steps of a turn; 10 on a GPU, else 1"
    )
    parser.add_argument("--warmup", type=int, help="turns of each arm that are not counted")
    parser.add_argument("--minutes", type=float, help="begin no further round after so long")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks") / output)
    return parser


def resolve(options: argparse.Namespace, **of_device: dict[str, Any]) -> argparse.Namespace:
    """The options with what was not asked for as the device has it.

    Args:
        of_device: by device, what a benchmark has otherwise.
    """
    options.device = device_name(options.device)
    defaults = {**_DEFAULTS[options.device], **of_device.get(options.device, {})}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def deadline(options: argparse.Namespace, share: float = 1.0) -> float | None:
    """Of `time.monotonic`, a share of ``--minutes`` from now."""
    return None if options.minutes is None else time.monotonic() + 60 * share * options.minutes


def changed(options: argparse.Namespace, **values: Any) -> argparse.Namespace:
    """The options with other values."""
    return argparse.Namespace(**{**vars(options), **values})


# ---- model and data ----


def bert_config(hidden: int, layers: int, vocabulary: int, **changes: Any) -> BertConfig:
    """BERT's proportions: heads of width 64, feed-forwards of four times the width."""
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        **changes,
    )


def build(options: argparse.Namespace) -> tuple[BertForPreTraining, torch.optim.Optimizer]:
    torch.manual_seed(0)
    positions = max(512, options.length)
    sizes = options.hidden, options.layers, options.vocabulary
    config = bert_config(*sizes, max_position_embeddings=positions)
    with torch.device(options.device):  # drawing its weights on a CPU takes seconds
        model = BertForPreTraining(config)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def labels_per_row(options: argparse.Namespace) -> int | None:
    """Labels of every row; None where each token is masked independently of the others."""
    return None if options.independent_masks else round(LABEL_SHARE * options.length)


class MaskedText(Dataset):
    """Random word pieces, masked: the cost of a step does not depend on the text.

    Args:
        rows: how many are made; they come round again up to ``len``, which no benchmark reaches.
    """

    def __init__(self, rows: int, length: int, vocabulary: int, per_row: int | None) -> None:
        generator = torch.Generator().manual_seed(0)
        first = min(1000, vocabulary // 2)
        ids = torch.randint(first, vocabulary, (rows, length), generator=generator)
        special = torch.zeros_like(ids, dtype=torch.bool)
        special[:, [0, -1]] = True
        self.ids, self.labels = mask_tokens(
            ids,
            special,
            mask_id=min(_MASK_ID, first - 1),
            replacement_ids=torch.arange(first, vocabulary),
            probability=LABEL_SHARE,
            per_row=per_row,
            generator=generator,
        )

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


class MaskedRows:
    """Collates rows that are masked already.

    Attributes:
        labels_per_row: labels of every row of a batch; None where rows differ.
    """

    def __init__(self, labels_per_row: int | None) -> None:
        self.labels_per_row = labels_per_row

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def stepper(arm: Arm, model: Any, optimizer: Any, options: argparse.Namespace) -> Stepper:
    """The arm's trainer on the masked text that the options ask for."""
    per_row = labels_per_row(options)
    data = MaskedText(8 * options.batch_size, options.length, options.vocabulary, per_row)
    return Stepper(arm, model, optimizer, data, MaskedRows(per_row), options)


# ---- operations ----


def shape(options: argparse.Namespace) -> BertShape:
    """What the costs depend on."""
    per_row = labels_per_row(options)
    share = LABEL_SHARE if per_row is None else per_row / options.length
    return BertShape(
        options.hidden,
        4 * options.hidden,
        options.layers,
        options.vocabulary,
        options.length,
        share,
    )


def counted(arm: Arm, options: argparse.Namespace) -> dict[str, float]:
    """``counted_overhead``, scoring over forward and backward of the kept rows, and
    ``counted_ratio_to_stock``, all of it over a stock step, by operations alone."""
    of, settings = shape(options), arm.settings or {}
    stock = forward_backward(of)
    ratio = settings.get("sift_keep_ratio", 0.5) if arm.settings is not None else 1.0
    narrow = settings.get("sift_masked_only_head", ratio < 1)
    # A compiled model keeps its last block whole.
    where = "labelled_head" if arm.compiled else "labelled_block"
    trained = forward_backward(of, where if narrow else "everywhere")
    if ratio == 1:
        return {"counted_ratio_to_stock": trained / stock}
    scored = scoring_of(arm, options) / ratio
    return {
        "counted_overhead": scored / trained,
        "counted_ratio_to_stock": (scored + trained) / stock,
    }


def scoring_of(arm: Arm, options: argparse.Namespace) -> float:
    """Operations of the arm's scoring pass, per token of a candidate."""
    settings = arm.settings or {}
    return scoring(
        shape(options),
        settings.get("sift_exit_layer", 1),
        "labelled_block" if settings.get("sift_masked_only_head", True) else "everywhere",
        settings.get("sift_token_fraction", 1.0),
    )
