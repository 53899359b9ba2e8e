"""Sifted training, step by step, against a loop that scores, selects and trains by hand."""

import math

import pytest
import torch
from torch.nn import functional

from sift_trainer import SiftTrainer
from tests.invariants.by_hand import CAUSAL, step_loss
from tests.invariants.scale_runs import build, rows
from tests.training import arguments, as_drawn

EXITS = {
    "bert_pretraining": lambda model, hidden: model.cls.predictions(hidden),
    "bert_masked_lm": lambda model, hidden: model.cls(hidden),
    "modernbert": lambda model, h: model.decoder(model.head(model.model.final_norm(h))),
    "llama": lambda model, hidden: model.lm_head(model.model.norm(hidden)),
    "gpt2": lambda model, hidden: model.lm_head(model.transformer.ln_f(hidden)),
}
KEPT, DRAWN, STEPS, RATE = 4, 8, 4, 0.05


def score(model, name: str, row: dict, criterion: str, block: int = 1) -> float:
    """One sample through the first blocks and the head, one position after the other."""
    model.eval()
    with torch.no_grad():
        ids = row["input_ids"][None]
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[block]
        logits = EXITS[name](model, hidden)[0].double()
    model.train()
    values = []
    for position, label in enumerate(row["labels"].tolist()):
        seen_at = position - 1 if name in CAUSAL else position
        if label == -100 or seen_at < 0:
            continue
        log_probabilities = functional.log_softmax(logits[seen_at], dim=0).tolist()
        if criterion == "loss":
            values.append(-log_probabilities[label])
        else:
            values.append(-math.fsum(math.exp(p) * p for p in log_probabilities))
    return math.fsum(values) / len(values)


def by_hand(name: str, criterion: str):
    """Kept rows of each step, and the parameters at the end."""
    model, data, chosen = build(name).train(), rows(name, "ragged"), []
    for step in range(STEPS):
        drawn = range(DRAWN * step, DRAWN * (step + 1))
        scores = {index: score(model, name, data[index], criterion) for index in drawn}
        kept = sorted(sorted(drawn, key=lambda index: -scores[index])[:KEPT])
        chosen.append(kept)
        model.zero_grad()
        step_loss(model, name, [data[index] for index in kept], KEPT).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= RATE * parameter.grad
    return chosen, list(model.parameters())


@pytest.mark.parametrize("criterion", ["loss", "entropy"])
@pytest.mark.parametrize("name", EXITS)
def test_sifted_training_is_the_loops(name, criterion, tmp_path):
    chosen = []

    class Recording(SiftTrainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            first = DRAWN * self.state.global_step
            chosen.append([first + row for row in self.selections[0].rows.tolist()])
            return loss

    args = arguments(
        tmp_path,
        max_steps=STEPS,
        per_device_train_batch_size=KEPT,
        learning_rate=RATE,
        optim="sgd",
        max_grad_norm=0,
        train_sampling_strategy="sequential",
        sift_criterion=criterion,
        sift_selector="top_k",
    )
    trainer = Recording(build(name), args, train_dataset=as_drawn(rows(name, "ragged"), KEPT))
    trainer.train()
    expected_rows, expected_parameters = by_hand(name, criterion)
    assert chosen == expected_rows
    for found, expected in zip(trainer.model.parameters(), expected_parameters, strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
