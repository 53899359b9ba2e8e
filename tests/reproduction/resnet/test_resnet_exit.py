"""Scoring a ResNet by its intermediate classifier, and training on what it chose."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from sift_trainer import SiftArguments, SiftTrainer, SiftTrainingArguments
from sift_trainer.sifted_model.facts import ModelFacts
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer
from tests.reproduction.resnet.small_resnet import (
    CLASSES,
    Images,
    early_logits,
    images,
    resnet,
    statistics,
)
from tests.training import as_drawn

LABELS = torch.arange(8) % CLASSES


def expected_scores(logits, criterion):
    log_probabilities = logits.double().log_softmax(-1)
    if criterion == "loss":
        return -log_probabilities[torch.arange(len(logits)), LABELS]
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


@pytest.mark.parametrize(
    ("criterion", "stem", "channels_last"),
    [("loss", "imagenet", False), ("loss", "cifar", True), ("entropy", "cifar", False)],
)
def test_scoring_at_exit_1(criterion, stem, channels_last):
    """The scores are those by hand; later groups do not run; batch norm learns nothing."""
    model, pixel_values = resnet(stem), images(8, side=32)
    expected = expected_scores(early_logits(model, pixel_values), criterion)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    ran = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: ran.append(name))
    before = statistics(model)
    assert len(before) > 20
    sift = SiftArguments(sift_exit_layer=1, sift_criterion=criterion)
    scorer = Scorer(model, ModelFacts(), sift)
    batch = {"pixel_values": pixel_values, "labels": LABELS}
    with inference(model):
        scores = scorer(model, batch, torch.Generator())
    torch.testing.assert_close(scores.double(), expected, rtol=1e-4, atol=1e-5)
    assert {"resnet.encoder.stages.0", "resnet.encoder.stages.1"} <= set(ran)
    later = ("resnet.encoder.stages.2", "resnet.encoder.stages.3", "classifier")
    assert not [name for name in ran if name.startswith(later)]
    for name, value in statistics(model).items():
        assert torch.equal(value, before[name]), name
    assert model.training
    assert not model.exits_early
    model(pixel_values)  # training does move them: the comparison above can fail
    assert any(not torch.equal(value, before[name]) for name, value in statistics(model).items())
    assert "resnet.encoder.stages.3" in ran


# ---- training ----

KEPT, DRAWN, STEPS, RATE = 4, 8, 3, 0.05


def by_hand(exit_layer, micro_batch):
    """Kept rows, losses, parameters and batch-norm statistics of plain SGD steps."""
    model, data, chosen, losses = resnet(), Images(DRAWN * STEPS), [], []
    for step in range(STEPS):
        drawn = slice(DRAWN * step, DRAWN * (step + 1))
        pixel_values, labels = data.pixel_values[drawn], data.labels[drawn]
        model.zero_grad()
        step_loss = 0.0
        # Weights stay as they are within a step, and so, before its first forward, do statistics.
        logits = early_logits(model, pixel_values)
        if exit_layer != 1:
            with torch.no_grad():
                logits = model.eval()(pixel_values).logits
            model.train()
        scores = functional.cross_entropy(logits, labels, reduction="none")
        chunks = DRAWN * micro_batch // KEPT
        for first in range(0, DRAWN, chunks):
            ranked = scores[first : first + chunks].argsort(descending=True)
            rows = first + ranked[:micro_batch].sort().values
            chosen.append((DRAWN * step + rows).tolist())
            predicted = model(pixel_values[rows]).logits
            loss = functional.cross_entropy(predicted, labels[rows]) * micro_batch / KEPT
            loss.backward()
            step_loss += loss.item()
        losses.append(step_loss)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= RATE * parameter.grad
    return model, chosen, losses


@pytest.mark.parametrize(("exit_layer", "accumulation"), [(1, 1), (1, 2), (-1, 1)])
def test_sifted_training_is_a_plain_loop_on_the_kept_rows(exit_layer, accumulation, tmp_path: Path):
    chosen = []
    micro_batch = KEPT // accumulation

    class Recording(SiftTrainer):
        def training_step(self, model, inputs, *args, **kwargs):
            loss = super().training_step(model, inputs, *args, **kwargs)
            place = len(chosen) % accumulation
            first = DRAWN * self.state.global_step + place * DRAWN // accumulation
            chosen.append([first + row for row in self.selections[place].rows.tolist()])
            return loss

    args = SiftTrainingArguments(
        str(tmp_path),
        max_steps=STEPS,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        train_sampling_strategy="sequential",
        disable_tqdm=True,
        sift_exit_layer=exit_layer,
        sift_criterion="loss",
        sift_selector="top_k",
        sift_warmup_steps=0,
        sift_cooldown_steps=0,
    )
    trainer = Recording(resnet(), args, train_dataset=as_drawn(Images(DRAWN * STEPS), micro_batch))
    trainer.train()
    expected, rows, losses = by_hand(exit_layer, micro_batch)
    assert chosen == rows
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, rel=1e-4)
    for name, value in expected.state_dict().items():
        found = trainer.model.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5, msg=name)
