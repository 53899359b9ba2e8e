"""Rows are ranked by the loss that is trained on, or the run is refused before any update."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer import (
    SiftArguments,
    SiftTrainer,
    register_criterion,
)
from sift_trainer.sifted_model.facts import ModelPasses
from sift_trainer.sifted_model.probe_model import probe_model
from tests.loss_runs import refused_untouched, registries, run_of
from tests.matrix import MATRIX, ROWS, Entry, causal, large_image, next_tokens, text
from tests.test_matrix import hardest, scored, trainer_of
from tests.tiny import roughen
from tests.tiny_configs import nllb_moe
from tests.tiny_inputs import LENGTH

__all__ = ["registries"]  # a fixture for all tests here


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
    message = refused_untouched(
        run_of(penalised(), entry.batch(), tmp_path),
        r"Penalised: per-sample losses do not add up to the loss that is trained on: their mean",
    )
    batch = entry.batch()
    two = entry.scale(batch).argsort(descending=True, stable=True)[:2]
    with torch.no_grad():
        loss = float(penalised()(**{name: value[two] for name, value in batch.items()}).loss)
    assert f"{loss - 3:.4f}"[:5] in message
    assert f"{loss:.4f}"[:5] in message
    assert "sift_criterion='entropy'" in message
    assert "register_criterion" in message


@pytest.mark.parametrize("criterion", ["entropy", "random", "mine"])
def test_other_criteria_promise_nothing_about_the_loss(criterion: str, tmp_path: Path) -> None:
    register_criterion("mine", lambda logits, targets: logits.amax(dim=-1))
    trainer = run_of(penalised(), MATRIX["bert"].batch(), tmp_path, sift_criterion=criterion)
    trainer.train()
    assert len(scored(trainer)[1]) == ROWS // 2


def test_where_nothing_is_sifted_nothing_is_compared(tmp_path: Path) -> None:
    run_of(penalised(), MATRIX["bert"].batch(), tmp_path, sift_keep_ratio=1.0).train()


def test_a_run_is_refused_on_every_process_or_on_none() -> None:
    """One that went on alone would wait for the others."""
    entry, answers = MATRIX["t5"], [True]  # on the rows; it is asked nothing else

    def agreed(answer: bool) -> bool:
        assert answer
        return answers.pop(0) if answers else False  # at last another process says no

    model, sift = entry.build(), SiftArguments(sift_masked_only_head=False)
    with pytest.raises(ValueError, match="they differ on another process"):
        probe_model(ModelPasses.of(model), entry.batch(), sift, all_agree=agreed)


class Weighted(hf.BertForSequenceClassification):
    """Classes have weights, as for data of few positives."""

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> Any:
        outputs = super().forward(**inputs)
        if labels is not None:
            weights = torch.tensor([1.0, 9.0, 1.0, 1.0, 1.0])
            outputs["loss"] = functional.cross_entropy(outputs.logits, labels, weights)
        return outputs


def test_weights_of_classes_are_found_out(tmp_path: Path) -> None:
    entry = MATRIX["bert, sequences"]
    batch = {**entry.batch(), "labels": torch.arange(ROWS) % 2}
    refused_untouched(run_of(roughen(Weighted(entry.configuration())), batch, tmp_path), "Weighted")


def test_labels_that_no_task_has_are_refused(tmp_path: Path) -> None:
    """ELECTRA's discriminator says yes or no of each token: no class ids over (B, T, C)."""
    model = hf.ElectraForPreTraining(MATRIX["electra"].configuration())
    batch = {**causal(), "labels": (causal()["labels"] % 2).clamp(min=0)}
    message = r"labels of shape \(2, 12\) do not fit logits of shape \(2, 12\).*criterion='random'"
    refused_untouched(run_of(model, batch, tmp_path), message)
    control = run_of(model, batch, tmp_path, sift_criterion="random")
    control.train()
    assert control.state.global_step == 1
    assert len(control.selections[0].rows) == ROWS // 2


def test_segmentation_is_refused(tmp_path: Path) -> None:
    """Its loss compares the labels with predictions that it has enlarged."""
    model = hf.SegformerForSemanticSegmentation(
        hf.SegformerConfig(
            hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8, num_labels=5
        )
    )
    labels = torch.zeros(ROWS, 32, 32, dtype=torch.long)
    batch = {"pixel_values": large_image()["pixel_values"], "labels": labels}
    message = r"labels of shape \(2, 32, 32\) do not fit logits of shape \(2, 5, 8, 8\)"
    refused_untouched(run_of(model, batch, tmp_path, sift_exit_layer=-1), message)


def test_answers_of_which_one_end_was_cut_off_do_not_mislead(tmp_path: Path) -> None:
    """Models average starts and ends apart: whole answers are compared, where there are any."""
    entry = MATRIX["bert, answers"]
    batch = entry.batch()
    batch["end_positions"][:3] = LENGTH + 1
    trainer = run_of(entry.build(), batch, tmp_path, sift_exit_layer=-1)
    trainer.train()
    found, _ = scored(trainer)
    with torch.no_grad():
        logits = entry.build()(**text()).start_logits[:3]
    starts = functional.cross_entropy(logits, batch["start_positions"][:3], reduction="none")
    torch.testing.assert_close(found[:3], starts, rtol=1e-4, atol=1e-5)


# ---- losses of the Trainer's and the user's ----


def smoothed(entry: Entry, model: Any, factor: float) -> Tensor:
    """Of each row: that share of every label is spread over all classes."""
    batch, losses = entry.batch(), []
    with torch.no_grad():
        logits = model(**batch).logits
    labels = batch["labels"]
    if entry.scale is next_tokens:
        logits, labels = logits[:, :-1], labels[:, 1:]
    for row, targets in zip(logits, labels, strict=True):
        chosen = row[targets != -100].log_softmax(-1)
        nll = -chosen[range(len(chosen)), targets[targets != -100]]
        losses.append(float(((1 - factor) * nll - factor * chosen.mean(-1)).mean()))
    return torch.tensor(losses)


@pytest.mark.parametrize("name", ["bert", "llama, untied", "bert, tokens"])
def test_label_smoothing_is_part_of_the_score(name: str, tmp_path: Path) -> None:
    expected = smoothed(MATRIX[name], MATRIX[name].build(), 0.3)
    trainer = trainer_of(name, tmp_path, exit_layer=-1, label_smoothing_factor=0.3)
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert kept == hardest(expected)


class MyGPT2(hf.GPT2LMHeadModel):
    """The Trainer knows by name which labels to shift, and smooths this model's in place."""


def test_smoothing_that_does_not_shift_as_the_model_does_is_refused(tmp_path: Path) -> None:
    model = roughen(MyGPT2(MATRIX["gpt2"].configuration()))
    trainer = run_of(model, causal(), tmp_path, label_smoothing_factor=0.1)
    refused_untouched(trainer, r"MyGPT2: .*\(label_smoothing_factor is set\)")
    run_of(model, causal(), tmp_path).train()


def test_smoothing_of_what_is_no_class_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of("bert, a number", tmp_path, exit_layer=1, label_smoothing_factor=0.1)
    refused_untouched(trainer, r"label_smoothing_factor=0\.1 smooths class ids")


def plain_mean(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    logits = outputs.logits.flatten(0, 1)
    return functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch


def focal(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    values = functional.cross_entropy(
        outputs.logits.flatten(0, 1), labels.flatten(), reduction="none"
    )
    return ((1 - (-values).exp()) ** 2 * values).sum() / num_items_in_batch


def test_a_loss_function_that_is_the_mean_of_samples_is_respected(tmp_path: Path) -> None:
    entry = MATRIX["bert"]
    own, given = (
        run_of(entry.build(), entry.batch(), tmp_path, compute_loss_func=function)
        for function in (None, plain_mean)
    )
    own.train()
    given.train()
    torch.testing.assert_close(scored(given)[0], scored(own)[0])


def test_a_loss_function_of_another_kind_is_refused_until_it_is_a_criterion(tmp_path: Path) -> None:
    entry = MATRIX["bert"]
    trainer = run_of(entry.build(), entry.batch(), tmp_path, compute_loss_func=focal)
    refused_untouched(trainer, r"BertForMaskedLM: .*\(compute_loss_func is set\)")

    def focal_values(logits: Tensor, targets: Tensor) -> Tensor:
        values = functional.cross_entropy(logits, targets, reduction="none")
        return (1 - (-values).exp()) ** 2 * values

    register_criterion("focal", focal_values)
    settings = {"sift_criterion": "focal", "sift_exit_layer": -1}
    model, batch = entry.build(), entry.batch()
    with torch.no_grad():
        rows = [
            {name: value[row : row + 1] for name, value in batch.items()} for row in range(ROWS)
        ]
        expected = torch.tensor(
            [
                float(focal(model(**row), row["labels"], (row["labels"] != -100).sum()))
                for row in rows
            ]
        )
    trainer = run_of(model, batch, tmp_path, compute_loss_func=focal, **settings)
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert kept == hardest(expected)


def test_a_trainers_own_compute_loss_is_not_asked_and_that_is_said(
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
    (said,) = [r.message for r in caplog.records if "is not compared with" in r.message]
    assert "Own overrides compute_loss" in said


# ---- mixtures of experts ----


def test_experts_that_share_a_batchs_capacity_are_refused(tmp_path: Path) -> None:
    model = hf.NllbMoeForConditionalGeneration(nllb_moe())
    batch = MATRIX["bart"].batch()
    with pytest.raises(ValueError, match="expert_capacity over the whole batch"):
        run_of(model, batch, tmp_path)
    run_of(model, batch, tmp_path, sift_criterion="random").train()
