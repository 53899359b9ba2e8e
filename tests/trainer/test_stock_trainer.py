"""At sift_keep_ratio=1.0 a run is the stock Trainer's, bit for bit, also where the model or the
batch could not be sifted."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import default_collate
from transformers import Trainer, TrainingArguments

from sift_trainer import SiftTrainer, SiftTrainingArguments
from tests import tiny_configs
from tests.matrix import ROWS, causal
from tests.test_matrix import rows_of
from tests.tiny import PlainNet
from tests.training import (
    RecordingTrainer,
    Rows,
    arguments,
    bert,
    quick,
    row_numbers,
)


class IgnoresTheCount(PlainNet):
    """Takes any keyword, so that the Trainer believes that its loss is divided by the count. Has no
    early exit."""

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **kwargs: Any) -> Any:
        logits = super().forward(input_ids)["logits"]
        if labels is None:
            return {"logits": logits}
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}


def classifier() -> nn.Module:
    return hf.BertForSequenceClassification(tiny_configs.bert())


def gpt2() -> nn.Module:
    return hf.GPT2LMHeadModel(tiny_configs.gpt2())


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("build", [classifier, gpt2, IgnoresTheCount])
def test_keep_ratio_one_trains_the_parameters_of_the_stock_trainer(
    build: Any, accumulation: int, tmp_path: Path
) -> None:
    """With dropout: no pass of its own moves the random state. The models' forwards are called as
    often as by the stock Trainer."""
    batch = causal()
    batch["labels"][:, 0] = batch["input_ids"][:, 0]  # which is no target of GPT-2
    if build is classifier:
        batch["labels"] = torch.arange(ROWS) % 5
    trained, calls = [], []
    for kind, make, sift in (
        (Trainer, TrainingArguments, {}),
        (SiftTrainer, SiftTrainingArguments, {"sift_keep_ratio": 1.0}),
    ):
        torch.manual_seed(0)
        model: Any = build()
        model.register_forward_hook(lambda *_: calls.append(1))
        settings = quick(
            tmp_path,
            max_steps=3,
            per_device_train_batch_size=ROWS // 4,
            gradient_accumulation_steps=accumulation,
            **sift,
        )
        data = rows_of(batch)
        trainer = kind(model, make(**settings), train_dataset=data, data_collator=default_collate)
        trainer.train()
        logs = [(log["loss"], log["grad_norm"]) for log in trainer.state.log_history[:-1]]
        trained.append((trainer, logs))
    (plain, expected), (sifted, found) = trained
    assert found == expected
    assert len(calls) == 2 * 3 * accumulation
    assert sifted.state.log_history[-1]["sift/candidates"] == 3 * accumulation * (ROWS // 4)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(sifted.model.state_dict()[name], value), name


class RecordingStock(Trainer):
    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        self.rows.append(row_numbers(inputs))
        return super().training_step(model, inputs, *args, **kwargs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_sampling_strategy": "group_by_length"},
        {"accelerator_config": {"use_seedable_sampler": False}},
        {"dataloader_num_workers": 1, "data_seed": 7, "sift_keep_ratio": 0.7},
    ],
    ids=str,
)
def test_steps_that_do_not_sift_train_on_the_stock_batches(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """In each of three epochs of 22 rows, of which the last step alone sifts. Without dropout, as
    it draws for fewer positions with the labelled-only head."""
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = {"max_steps": -1, "num_train_epochs": 3, **settings}
    args = arguments(tmp_path, sift_warmup_steps=17, **settings)
    sifting = RecordingTrainer(bert(**calm), args, train_dataset=Rows(22))
    settings.pop("sift_keep_ratio", None)
    stock = RecordingStock(
        bert(**calm), TrainingArguments(**quick(tmp_path, **settings)), train_dataset=Rows(22)
    )
    stock.rows = []
    for trainer in (stock, sifting):
        torch.manual_seed(0)
        trainer.train()
    assert len(stock.rows) == 18
    assert sifting.kept[:17] == stock.rows[:17]
    assert [len(rows) for rows in sifting.kept] == [len(rows) for rows in stock.rows]
