"""Trainers whose batches have no rows to select are refused at construction, with the reason.

They are told by what their collators make, not by their names; and at sift_keep_ratio=1.0 they are
what they are without the mixin.
"""

from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from sift_trainer import SiftArguments, SiftMixin
from tests.trainers.sentences import EOS, PAD, WORDS, causal, exact, parts, text, tokenizer

datasets = pytest.importorskip("datasets")

ROWS = 24


@dataclass(frozen=True)
class Case:
    """One trainer.

    Attributes:
        names: module, trainer, and class of arguments.
        keywords: of the trainer, made anew: model, data and what else it takes.
        fields: of its arguments.
        reason: what the refusal says; None if single rows can be kept.
    """

    names: tuple[str, str, str]
    keywords: Callable[[Path], dict[str, Any]]
    fields: dict[str, Any]
    reason: str | None

    def build(self, folder: Path, sift: dict[str, Any] | None) -> Any:
        """With the mixin and these sift fields; without it for None."""
        library = pytest.importorskip(self.names[0], reason=f"{self.names[0]} is not installed")
        trainer, config = (getattr(library, name) for name in self.names[1:])
        fields = {**exact(folder, learning_rate=1e-3), **self.fields}
        if sift is None:
            return trainer(args=config(**fields), **self.keywords(folder))
        mixed = make_dataclass("Arguments", [], bases=(SiftArguments, config))
        made = type(f"Sift{trainer.__name__}", (SiftMixin, trainer), {})
        args = mixed(**fields, **sift, sift_warmup_steps=0)
        return made(args=args, **self.keywords(folder))


def preferences(**others: Any) -> dict[str, Any]:
    rows = [
        {"prompt": text(a), "chosen": " " + text(b), "rejected": " " + text(b[::-1] + a)}
        for a, b in parts(ROWS)
    ]
    return {
        "train_dataset": datasets.Dataset.from_list(rows),
        "processing_class": tokenizer(),
        **others,
    }


def reward(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        num_labels=1,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    return preferences(model=LlamaForSequenceClassification(config))


def direct_preference(folder: Path) -> dict[str, Any]:
    return preferences(model=causal(), ref_model=causal())


def unpaired(folder: Path) -> dict[str, Any]:
    rows = [
        {"prompt": text(a), "completion": " " + text(b), "label": len(b) > 3}
        for a, b in parts(ROWS)
    ]
    given = preferences(model=causal(), ref_model=causal())
    return {**given, "train_dataset": datasets.Dataset.from_list(rows)}


def generated(folder: Path) -> dict[str, Any]:
    given = preferences(model=causal(), reward_funcs=lambda completions, **_: [1.0, 0.0] * 4)
    return {**given, "train_dataset": given["train_dataset"].select_columns(["prompt"])}


def saved(folder: Path, model: Any) -> str:
    model.save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    return str(folder / "model")


def tiny_bert(**changes: Any) -> BertConfig:
    torch.manual_seed(0)
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        **changes,
    )


def embedding(folder: Path) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(saved(folder, BertModel(tiny_bert())))
    model = SentenceTransformer(modules=[transformer, Pooling(32)])
    rows = [{"anchor": text(a), "positive": text(b)} for a, b in parts(ROWS)]
    data = datasets.Dataset.from_list(rows)
    return {"model": model, "train_dataset": data, "loss": MultipleNegativesRankingLoss(model)}


def cross_encoder(folder: Path) -> dict[str, Any]:
    from sentence_transformers import CrossEncoder

    model = BertForSequenceClassification(tiny_bert(num_labels=1))
    rows = [{"a": text(a), "b": text(b), "label": len(b) % 2 * 1.0} for a, b in parts(ROWS)]
    data = datasets.Dataset.from_list(rows)
    return {"model": CrossEncoder(saved(folder, model)), "train_dataset": data}


def arguments_of(prefix: str) -> tuple[str, str, str]:
    return "sentence_transformers", f"{prefix}Trainer", f"{prefix}TrainingArguments"


PAIRS = "DataCollatorForPreference, makes 2 rows of a sample, which belong together in "
CASES = {
    "reward": Case(
        ("trl", "RewardTrainer", "RewardConfig"),
        reward,
        {},
        PAIRS + "RewardTrainer.compute_loss",
    ),
    "dpo": Case(
        ("trl", "DPOTrainer", "DPOConfig"),
        direct_preference,
        {},
        PAIRS + "DPOTrainer.compute_loss",
    ),
    "kto": Case(("trl", "KTOTrainer", "KTOConfig"), unpaired, {}, None),
    "grpo": Case(
        ("trl", "GRPOTrainer", "GRPOConfig"),
        generated,
        {"num_generations": 4, "max_completion_length": 4},
        "a batch is a list, not a mapping of fields",
    ),
    "sentence transformer": Case(
        arguments_of("SentenceTransformer"),
        embedding,
        {},
        "SentenceTransformer(**batch), which has no 'input' then: BaseTrainer.compute_loss gives",
    ),
    "cross encoder": Case(
        arguments_of("CrossEncoder"),
        cross_encoder,
        {},
        "CrossEncoder(**batch), which has no 'input' then: CrossEncoderTrainer.compute_loss gives",
    ),
}
REFUSED = [name for name, case in CASES.items() if case.reason]


@pytest.mark.parametrize("criterion", ["loss", "entropy", "random"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_construction(name: str, criterion: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        CASES[name].build(tmp_path, {"sift_criterion": criterion})
    assert CASES[name].reason in str(raised.value)


@pytest.mark.parametrize("name", [name for name in CASES if name != "grpo"])
def test_keep_ratio_one_is_the_trainer_without_the_mixin(name: str, tmp_path: Path) -> None:
    before = []
    after = []
    for sift in (None, {"sift_keep_ratio": 1.0}):
        trainer = CASES[name].build(tmp_path, sift)
        before = [parameter.clone() for parameter in trainer.model.parameters()]
        torch.manual_seed(0)
        trainer.train()
        after.append(list(trainer.model.parameters()))
    plain, sifted = after
    for found, expected in zip(sifted, plain, strict=True):
        assert torch.equal(found, expected)
    assert not all(torch.equal(*pair) for pair in zip(before, plain, strict=True))


def test_what_is_generated_later_is_refused_at_any_ratio(tmp_path: Path) -> None:
    trainer = CASES["grpo"].build(tmp_path, {"sift_keep_ratio": 1.0})
    with pytest.raises(ValueError, match="train without SiftMixin"):
        trainer.train()


def test_single_answers_have_rows_but_no_labels(tmp_path: Path) -> None:
    """KTO's: the criterion that needs none may choose them."""
    with pytest.raises(ValueError, match=r"needs 'labels'.*use sift_criterion='entropy'"):
        CASES["kto"].build(tmp_path, {"sift_criterion": "loss"})
    trainer = CASES["kto"].build(tmp_path, {"sift_criterion": "entropy"})
    trainer.train()
    (selection,) = trainer.selections
    assert (len(selection.rows), selection.candidates) == (4, 8)
    assert selection.scores is not None
    kept = selection.scores[selection.rows]
    assert torch.equal(kept.sort().values, selection.scores.sort().values[-4:])
