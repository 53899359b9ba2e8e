"""Weighted losses of each kind of task, by a plain PyTorch loop: no Trainer, no sifting."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer import SiftTrainer
from tests.matrix import MATRIX, draw
from tests.tiny_inputs import CLASSES, LENGTH, VOCABULARY
from tests.training import arguments, as_drawn

Batch = dict[str, Tensor]
DRAWN, SMOOTHING = 6, 0.2
RATE = 64.0  # one update is taken; rounding of the parameters is small beside it
KEPT = torch.tensor([1, 3, 4])  # of the six that a micro-batch draws
WEIGHTS = torch.tensor([0.25, 2.0, 1.5])  # exact in binary; they do not sum to 3


def fixed(scores: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A weighted selector that keeps the same places of any candidates."""
    return KEPT.flip(0), WEIGHTS.flip(0)


# ---- rows, with other numbers of labels and pads than their neighbours ----


def text(number: int) -> Batch:
    ids = torch.randint(3, VOCABULARY, (LENGTH,), generator=draw(number))
    mask = (torch.arange(LENGTH) < LENGTH - number % 4).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def class_of(number: int) -> Batch:
    return {**text(number), "labels": torch.tensor(number * 7 % CLASSES)}


def masked(number: int, classes: int = VOCABULARY) -> Batch:
    labels = torch.full((LENGTH,), -100)
    places = torch.randperm(LENGTH - 3, generator=draw(number))[: 1 + number * 2 % 7]
    labels[places] = torch.randint(0, classes, (len(places),), generator=draw(number))
    return {**text(number), "labels": labels}


def causal(number: int) -> Batch:
    """Position 0 is labelled too in some rows: the loss never looks at it."""
    row = text(number)
    labels = row["input_ids"].masked_fill(row["attention_mask"] == 0, -100)
    labels[: number % 5] = -100
    return {**row, "labels": labels}


def pair(number: int) -> Batch:
    labels = torch.randint(3, VOCABULARY, (8,), generator=draw(number + 1000))
    labels[2 + number * 2 % 7 :] = -100
    return {**text(number), "labels": labels}


def answer(number: int) -> Batch:
    """A few ends are beyond the input, so they are ignored and their starts are not."""
    end = torch.tensor(LENGTH + 3 if number % 16 == 13 else 4 + number % 4)
    return {**text(number), "start_positions": torch.tensor(number % 4), "end_positions": end}


def sentences(number: int) -> Batch:
    return {**masked(number), "next_sentence_label": torch.tensor(number // 2 % 2)}


def spoken(number: int) -> Batch:
    mask = (torch.arange(400) < 400 - 40 * (number % 3)).long()
    values = torch.randn(400, generator=draw(number)) * mask
    labels = torch.randint(3, VOCABULARY, (6,), generator=draw(number))
    labels[2 + number % 5 :] = -100
    return {"input_values": values, "attention_mask": mask, "labels": labels}


# ---- losses (k,) of the samples of a batch, and what the model divides their sum by ----

Losses = Callable[[Any, Batch], tuple[Tensor, Any]]


def of_tokens(outputs: Any, batch: Batch, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    logits, labels = outputs.logits, batch["labels"]
    losses = functional.cross_entropy(
        logits.transpose(1, 2), labels, reduction="none", label_smoothing=smoothing
    )
    return losses.sum(1), (labels != -100).sum()


def of_labelled(outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of a model that returns the logits of labelled tokens only."""
    labelled = batch["labels"] != -100
    losses = functional.cross_entropy(outputs.logits, batch["labels"][labelled], reduction="none")
    counts = labelled.sum(1)
    return torch.stack([part.sum() for part in losses.split(counts.tolist())]), counts.sum()


def of_next_tokens(outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    logits, labels = outputs.logits[:, :-1], batch["labels"][:, 1:]
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return losses.sum(1), (labels != -100).sum()


def of_samples(outputs: Any, batch: Batch) -> tuple[Tensor, int]:
    losses = functional.cross_entropy(outputs.logits, batch["labels"], reduction="none")
    return losses, len(losses)


def of_answers(outputs: Any, batch: Batch) -> tuple[Tensor, int]:
    """Half of the mean over starts, and half of that over ends: a sample's share of both."""
    shares: Any = 0
    for end in ("start", "end"):
        places = batch[f"{end}_positions"]
        places = places.where(places < LENGTH, -100)
        losses = functional.cross_entropy(outputs[f"{end}_logits"], places, reduction="none")
        shares = shares + losses / (places != -100).sum() / 2
    return shares, 1


def of_sentences(outputs: Any, batch: Batch) -> tuple[Tensor, int]:
    """A mean over tokens and one over samples: a sample's share of both."""
    logits, labels = outputs.prediction_logits, batch["labels"]
    tokens = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)
    scores, order = outputs.seq_relationship_logits, batch["next_sentence_label"]
    pairs = functional.cross_entropy(scores, order, reduction="none")
    return tokens / (labels != -100).sum() + pairs / len(pairs), 1


def of_transcripts(outputs: Any, batch: Batch, mean: bool = True) -> tuple[Tensor, int]:
    """Each sound alone and without padding: two convolutions, 10 wide by 5 and 3 wide by 2. In
    fp32, as in the model: the likelihoods of long sounds have five digits there."""
    losses = []
    for logits, mask, labels in zip(
        outputs.logits, batch["attention_mask"], batch["labels"], strict=True
    ):
        frames = ((int(mask.sum()) - 10) // 5 + 1 - 3) // 2 + 1
        tokens = labels[labels >= 0]
        likely = logits[:frames].log_softmax(-1, dtype=torch.float32)
        loss = functional.ctc_loss(likely, tokens, (frames,), (len(tokens),), reduction="sum")
        losses.append(loss / len(tokens) if mean else loss)
    return torch.stack(losses), len(losses) if mean else 1


def own_function(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
    """A ``compute_loss_func``."""
    return of_tokens(outputs, {"labels": labels})[0].sum() / num_items_in_batch


# ---- the kinds ----


@dataclass(frozen=True)
class Kind:
    """A task and its loss.

    Attributes:
        name: in `MATRIX`.
        row: builds the row of a number.
        losses: by hand.
        block: the class that FSDP wraps.
        whole: whether the sum is divided by the labels of all micro-batches of an update.
        settings, given: further arguments, and keywords of the trainer.
    """

    name: str
    row: Callable[[int], Batch]
    losses: Losses
    block: str = "BertLayer"
    whole: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    def build(self, dtype: torch.dtype) -> Any:
        return MATRIX[self.name].build().to(dtype)

    def rows(self, count: int, dtype: torch.dtype) -> list[Batch]:
        made = [self.row(number) for number in range(count)]
        return [
            {k: v.to(dtype) if v.is_floating_point() else v for k, v in r.items()} for r in made
        ]


_sound = "Wav2Vec2EncoderLayer"
KINDS = {
    "classes": Kind("bert, sequences", class_of, of_samples),
    "tags": Kind("bert, tokens", partial(masked, classes=CLASSES), of_tokens),
    "causal": Kind("llama, untied", causal, of_next_tokens, "LlamaDecoderLayer", whole=True),
    "masked": Kind("bert", masked, of_tokens),
    "answers": Kind("bert, answers", answer, of_answers),
    "sentences": Kind("bert, pre-training", sentences, of_sentences),
    "pairs": Kind("t5", pair, of_tokens, "T5Block"),
    "transcripts": Kind("wav2vec2, transcripts", spoken, of_transcripts, _sound),
    "summed transcripts": Kind(
        "wav2vec2, summed transcripts", spoken, partial(of_transcripts, mean=False), _sound
    ),
    "smoothed": Kind(
        "bert", masked, partial(of_tokens, smoothing=SMOOTHING), whole=True,
        settings={"label_smoothing_factor": SMOOTHING},
    ),
    "function": Kind(
        "bert", masked, of_tokens, whole=True, given={"compute_loss_func": own_function}
    ),
}  # fmt: skip


def trained(
    kind: Kind, folder: Path, accumulation: int, dtype: torch.dtype = torch.float64, **changes: Any
) -> SiftTrainer:
    """A trainer after one update by the selector ``fixed``, in this process of several."""
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = kind.block
    args = arguments(
        folder,
        max_steps=1,
        per_device_train_batch_size=len(KEPT),
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy="sequential",
        sift_selector="fixed",
        optim="sgd",
        learning_rate=RATE,
        max_grad_norm=0.0,
        **{**kind.settings, **changes},
    )
    rows = as_drawn(kind.rows(accumulation * args.world_size * DRAWN, dtype), len(KEPT))
    trainer = SiftTrainer(kind.build(dtype), args, train_dataset=rows, **kind.given)
    trainer.train()
    return trainer


def difference(
    kind: Kind,
    found: dict[str, Tensor],
    accumulation: int,
    processes: int = 1,
    dtype: torch.dtype = torch.float64,
) -> float:
    """The largest difference of parameters to those of a loop over the kept rows of all processes,
    as a share of the largest update."""
    model: nn.Module = kind.build(dtype).train()
    parts = accumulation * processes
    rows = kind.rows(parts * DRAWN, dtype)
    totals, divisors = [], []
    for part in range(parts):
        kept = [rows[part * DRAWN + place] for place in KEPT.tolist()]
        batch = {name: torch.stack([row[name] for row in kept]) for name in kept[0]}
        losses, divisor = kind.losses(model(**batch), batch)
        totals.append((WEIGHTS * losses).sum())
        divisors.append(divisor)
    if kind.whole:
        loss = sum(totals) / sum(divisors)
    else:
        loss = sum(t / d for t, d in zip(totals, divisors, strict=True)) / parts
    loss.backward()
    updates = {n: RATE * p.grad for n, p in model.named_parameters() if p.grad is not None}
    wrong = max(
        float((found[n] - (p.detach() - updates.get(n, 0.0))).abs().max())
        for n, p in model.named_parameters()
    )
    largest = max(float(update.abs().max()) for update in updates.values())
    assert largest > 1
    return wrong / largest
