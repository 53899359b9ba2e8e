"""The same two steps as a plain PyTorch loop over the kept rows: no Trainer, no sifting."""

import torch
from torch.nn import functional

from tests.invariants.scale_runs import (
    CAUSAL,
    CLIP,
    DIVIDES_BY_COUNT,
    LEARNING_RATE,
    build,
    rows,
)


def loop(name: str, counts: str, micro_batch: int) -> list[dict[str, float]]:
    """Loss and gradient norm of two SGD steps on the odd rows, clipped as the Trainer clips."""
    model = build(name).train()
    data = rows(name, counts)
    logged = []
    for step in range(2):
        kept = [data[index] for index in range(16 * step, 16 * step + 16) if index % 2]
        model.zero_grad()
        loss = step_loss(model, name, kept, micro_batch)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        scale = min(1.0, CLIP / (float(norm) + 1e-6))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= LEARNING_RATE * scale * parameter.grad
        logged.append({"loss": float(loss.detach()), "grad_norm": float(norm)})
    return logged


def step_loss(model, name: str, kept: list[dict], micro_batch: int) -> torch.Tensor:
    """Sum over all labels by their number, or the mean over micro-batches of the model's mean."""
    chunks = [kept[start : start + micro_batch] for start in range(0, len(kept), micro_batch)]
    batches = [{k: torch.stack([r[k] for r in chunk]) for k in chunk[0]} for chunk in chunks]
    return union_loss(model, name, batches)


def mean_loss(model, batch: dict) -> torch.Tensor:
    """BERT's own: the mean over the batch's labels, plus that of the next-sentence labels."""
    outputs = model(input_ids=batch["input_ids"])
    logits = outputs["prediction_logits"] if "prediction_logits" in outputs else outputs["logits"]
    loss = token_losses(logits, batch["labels"], "bert").mean()
    if "next_sentence_label" in batch:
        scores = outputs["seq_relationship_logits"]
        loss = loss + functional.cross_entropy(scores, batch["next_sentence_label"])
    return loss


def union_loss(model, name: str, batches: list[dict]) -> torch.Tensor:
    """The loss of several processes: by the number of all labels, or the mean of their losses."""
    if name not in DIVIDES_BY_COUNT:
        return sum(mean_loss(model, batch) for batch in batches) / len(batches)
    losses = [
        token_losses(model(input_ids=batch["input_ids"]).logits, batch["labels"], name)
        for batch in batches
    ]
    return torch.cat(losses).sum() / sum(len(part) for part in losses)


def token_losses(logits: torch.Tensor, labels: torch.Tensor, name: str) -> torch.Tensor:
    if name in CAUSAL:
        logits, labels = logits[:, :-1], labels[:, 1:]
    labelled = labels != -100
    return functional.cross_entropy(logits[labelled], labels[labelled], reduction="none")
