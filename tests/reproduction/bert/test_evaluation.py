"""Evaluation at masked positions: the numbers of a dense pass, without its logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForPreTraining, default_data_collator

from sift_trainer import SiftTrainingArguments
from sift_trainer.reproduction.bert.evaluation import PretrainingTrainer
from sift_trainer.reproduction.runs.metrics import pretraining_metrics

VOCABULARY, ROWS, LENGTH = 301, 10, 6


@pytest.fixture
def model() -> BertForPreTraining:
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=8, **shape)
    return BertForPreTraining(config).eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=generator)
    chosen = torch.rand(ROWS, LENGTH, generator=generator) < 0.3
    chosen[3] = False  # a row with nothing to predict
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.where(chosen, ids, -100),
        "next_sentence_label": torch.randint(0, 2, (ROWS,), generator=generator),
    }


def dense(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, float]:
    """By hand, from the model's own logits everywhere."""
    with torch.no_grad():
        output: Any = model(**batch)
    chosen = batch["labels"] != -100
    logits, targets = output.prediction_logits[chosen], batch["labels"][chosen]
    following = output.seq_relationship_logits.argmax(-1)
    loss = functional.cross_entropy(logits, targets)
    return {
        "loss": float(output.loss),
        "mlm_accuracy": float((logits.argmax(-1) == targets).float().mean()),
        "mlm_loss": float(loss),
        "mlm_perplexity": float(loss.exp()),
        "nsp_accuracy": float((following == batch["next_sentence_label"]).float().mean()),
    }


def test_the_trainer_reports_what_a_dense_pass_gives(
    model: BertForPreTraining, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    rows = [{name: column[i] for name, column in batch.items()} for i in range(ROWS)]
    trainer = PretrainingTrainer(
        model,
        SiftTrainingArguments(
            str(tmp_path),
            per_device_eval_batch_size=4,
            batch_eval_metrics=True,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            sift_keep_ratio=1.0,
        ),
        eval_dataset=rows,  # type: ignore[arg-type]
        data_collator=default_data_collator,
        compute_metrics=pretraining_metrics(),
    )
    expected = dense(model, batch)
    del expected["loss"]  # the Trainer's is a mean over batches
    shapes: list[Any] = []
    model.get_output_embeddings().register_forward_hook(lambda *args: shapes.append(args[2].shape))
    for _ in range(2):
        reported = trainer.evaluate()
        found = {name: reported[f"eval_{name}"] for name in expected}
        assert found == pytest.approx(expected, rel=1e-5)
    labelled = [(batch["labels"][rows] != -100).sum() for rows in torch.arange(ROWS).split(4)]
    assert shapes == [(1, number, VOCABULARY) for number in 2 * labelled]  # none at other positions
