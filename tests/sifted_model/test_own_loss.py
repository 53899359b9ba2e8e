"""Samples are ranked by the loss that is trained on, or the run is refused before any update."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer import SiftArguments, SiftTrainer, register_criterion
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.probe_model import probe_model
from tests.loss_runs import refused_untouched, registries, run_of
from tests.matrix import MATRIX, ROWS, causal, large_image, next_tokens
from tests.test_matrix import hardest, scored
from tests.tiny import roughen
from tests.tiny_configs import nllb_moe

__all__ = ["registries"]  # a fixture for all tests here


def assert_ranked(trainer: Any, expected: Tensor) -> None:
    """One step scores all samples so, and keeps those with the largest scores."""
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert kept == hardest(expected)


# ---- the model's own loss ----


class Penalised(hf.BertForMaskedLM):
    """Its loss has a term that is no sample's."""

    def forward(self, **inputs: Any) -> Any:
        outputs = super().forward(**inputs)
        if outputs.loss is not None:
            outputs.loss = outputs.loss + 3.0
        return outputs


def penalised() -> nn.Module:
    torch.manual_seed(0)
    return roughen(Penalised(MATRIX["bert"].configuration()))


def test_a_loss_of_more_than_the_samples_is_refused_with_both_numbers(tmp_path: Path) -> None:
    entry = MATRIX["bert"]
    batch = entry.batch()
    message = refused_untouched(run_of(penalised(), batch, tmp_path), "Penalised: ")
    two = entry.scale(batch).argsort(descending=True, stable=True)[:2]
    with torch.no_grad():
        loss = float(penalised()(**{name: value[two] for name, value in batch.items()}).loss)
    for part in (f"{loss - 3:.4f}"[:5], f"{loss:.4f}"[:5], "sift_criterion='entropy'"):
        assert part in message


@pytest.mark.parametrize("criterion", ["entropy", "random", "mine"])
def test_other_criteria_are_not_compared_with_the_loss(criterion: str, tmp_path: Path) -> None:
    register_criterion("mine", lambda logits, targets: logits.amax(dim=-1))
    trainer = run_of(penalised(), MATRIX["bert"].batch(), tmp_path, sift_criterion=criterion)
    trainer.train()
    assert len(scored(trainer)[1]) == ROWS // 2


def test_a_run_is_refused_on_every_process_or_on_none() -> None:
    """One that went on alone would wait for the others."""
    entry, answers = MATRIX["t5"], [True]  # on the rows; nothing else is asked

    def all_agree(answer: bool) -> bool:
        assert answer
        return answers.pop(0) if answers else False  # at last another process says no

    model, sift = entry.build(), SiftArguments(sift_masked_only_head=False)
    with pytest.raises(ValueError, match="on another process"):
        probe_model(ModelPasses(model, model), entry.batch(), sift, all_agree=all_agree)


class Weighted(hf.BertForSequenceClassification):
    """Classes have weights, as for data of few positives."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> Any:
        outputs = super().forward(**inputs)
        if labels is not None:
            weights = torch.tensor([1.0, 9.0, 1.0, 1.0, 1.0])
            outputs["loss"] = functional.cross_entropy(outputs.logits, labels, weights)
        return outputs


def weighted_classes() -> tuple[nn.Module, dict[str, Tensor]]:
    entry = MATRIX["bert, sequences"]
    batch = {**entry.batch(), "labels": torch.arange(ROWS) % 2}
    return roughen(Weighted(entry.configuration())), batch


def segmentation() -> tuple[nn.Module, dict[str, Tensor]]:
    """Its loss compares the labels with predictions that it has enlarged."""
    sizes: dict[str, Any] = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "decoder_hidden_size": 8}
    model = hf.SegformerForSemanticSegmentation(hf.SegformerConfig(**sizes, num_labels=5))
    labels = torch.zeros(ROWS, 32, 32, dtype=torch.long)
    return model, {"pixel_values": large_image()["pixel_values"], "labels": labels}


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (weighted_classes, "Weighted: "),
        (segmentation, r"labels of shape \(2, 32, 32\) .* of shape \(2, 5, 8, 8\)"),
    ],
)
def test_losses_that_no_task_has_are_refused(build: Any, match: str, tmp_path: Path) -> None:
    refused_untouched(run_of(*build(), tmp_path, sift_exit_layer=-1), match)
    run_of(*build(), tmp_path, sift_criterion="random").train()


# ---- losses of the Trainer's and the user's ----


@pytest.mark.parametrize("name", ["bert", "llama, untied", "bert, tokens"])
def test_label_smoothing_is_part_of_the_score(name: str, tmp_path: Path) -> None:
    entry, losses = MATRIX[name], []
    batch, model = entry.batch(), entry.build()
    with torch.no_grad():
        logits, labels = model(**batch).logits, batch["labels"]
    if entry.scale is next_tokens:
        logits, labels = logits[:, :-1], labels[:, 1:]
    for row, targets in zip(logits, labels, strict=True):
        chosen = row[targets != -100].log_softmax(-1)
        nll = -chosen[range(len(chosen)), targets[targets != -100]]
        losses.append(float((0.7 * nll - 0.3 * chosen.mean(-1)).mean()))
    settings = {"sift_exit_layer": -1, "label_smoothing_factor": 0.3}
    assert_ranked(run_of(model, batch, tmp_path, **settings), torch.tensor(losses))


class MyGPT2(hf.GPT2LMHeadModel):
    """The Trainer knows by name which labels to shift, and smooths this model's in place."""


def test_smoothing_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    model = roughen(MyGPT2(MATRIX["gpt2"].configuration()))
    trainer = run_of(model, causal(), tmp_path, label_smoothing_factor=0.1)
    refused_untouched(trainer, "MyGPT2: .*label_smoothing_factor")
    numbers = MATRIX["bert, a number"]
    trainer = run_of(numbers.build(), numbers.batch(), tmp_path, label_smoothing_factor=0.1)
    refused_untouched(trainer, r"label_smoothing_factor=0\.1")


def plain_mean(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    logits = outputs.logits.flatten(0, 1)
    return functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch


def focal_values(logits: Tensor, targets: Tensor) -> Tensor:
    values = functional.cross_entropy(logits, targets, reduction="none")
    return (1 - (-values).exp()) ** 2 * values


def focal(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return focal_values(outputs.logits.flatten(0, 1), labels.flatten()).sum() / num_items_in_batch


def test_a_loss_function_that_is_the_mean_of_samples_is_accepted(tmp_path: Path) -> None:
    entry = MATRIX["bert"]
    own = run_of(entry.build(), entry.batch(), tmp_path)
    own.train()
    given = run_of(entry.build(), entry.batch(), tmp_path, compute_loss_func=plain_mean)
    assert_ranked(given, scored(own)[0])


def test_another_loss_function_is_refused_until_it_is_a_criterion(tmp_path: Path) -> None:
    entry = MATRIX["bert"]
    model, batch = entry.build(), entry.batch()
    trainer = run_of(entry.build(), batch, tmp_path, compute_loss_func=focal)
    refused_untouched(trainer, "BertForMaskedLM: .*compute_loss_func")
    register_criterion("focal", focal_values)
    expected = []
    for row in range(ROWS):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        with torch.no_grad():
            count = (one["labels"] != -100).sum()
            expected.append(float(focal(model(**one), one["labels"], count)))
    settings = {"sift_criterion": "focal", "sift_exit_layer": -1, "compute_loss_func": focal}
    assert_ranked(run_of(model, batch, tmp_path, **settings), torch.tensor(expected))


def test_an_overridden_compute_loss_is_not_compared_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    class Own(SiftTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(len(args[1]["labels"]))
            return super().compute_loss(*args, **kwargs) * 2

    entry = MATRIX["bert"]
    run_of(entry.build(), entry.batch(), tmp_path, kind=Own).train()
    assert calls == [ROWS // 2]
    assert len([r for r in caplog.records if "Own overrides compute_loss" in r.message]) == 1


# ---- mixtures of experts ----


def test_experts_that_share_a_batchs_capacity_are_refused(tmp_path: Path) -> None:
    model = hf.NllbMoeForConditionalGeneration(nllb_moe())
    batch = MATRIX["bart"].batch()
    with pytest.raises(ValueError, match="expert_capacity"):
        run_of(model, batch, tmp_path)
    run_of(model, batch, tmp_path, sift_criterion="random").train()
