"""Noisy embeddings are for training: the scores are those without noise."""

from pathlib import Path
from typing import Any

import torch

from tests.composition.replay import KEPT, assert_chosen, descend, difference, gradients_of, trained
from tests.invariants.by_hand import token_losses
from tests.invariants.scale_runs import LENGTH, build, rows
from tests.invariants.test_sifted_step import score

ALPHA, WIDTH = 20.0, 32
NAME = "bert_masked_lm"


def noise(random_state: torch.Tensor) -> torch.Tensor:
    """Uniform within alpha / sqrt(length x width) (Jain et al., 2023), for the rows kept alone."""
    generator = torch.Generator()
    generator.set_state(random_state)
    largest = ALPHA / (LENGTH * WIDTH) ** 0.5
    return torch.empty(KEPT, LENGTH, WIDTH).uniform_(-largest, largest, generator=generator)


def test_noise_is_in_the_gradient_and_not_in_the_scores(tmp_path: Path) -> None:
    model, states = build(NAME), []

    def remember(module: Any, inputs: Any) -> None:
        if module.training:
            states.append(torch.get_rng_state())

    model.get_input_embeddings().register_forward_pre_hook(remember)
    trainer = trained(NAME, model, tmp_path, neftune_noise_alpha=ALPHA)
    assert len(states) == len(trainer.steps)

    data, model = rows(NAME, "ragged"), build(NAME).train()
    for step, state in zip(trainer.steps, states, strict=True):
        scores = {row: score(model, NAME, data[row], "loss") for row in step.scores}
        assert_chosen(step, scores, 1e-5)
        kept = [data[row] for row in step.kept]
        labels = torch.stack([row["labels"] for row in kept])
        clean = model.get_input_embeddings()(torch.stack([row["input_ids"] for row in kept]))

        def losses(embeddings: torch.Tensor, labels: torch.Tensor = labels) -> torch.Tensor:
            return token_losses(model(inputs_embeds=embeddings).logits, labels, NAME)

        noisy = losses(clean + noise(state))
        # A score with noise would be another.
        assert float((noisy - losses(clean)).abs().max().detach()) > 0.01
        model.zero_grad()
        noisy.mean().backward()
        assert difference(step.gradients, gradients_of(model)) < 1e-5
        descend(model)
