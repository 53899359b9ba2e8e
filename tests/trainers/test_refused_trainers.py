"""Trainers whose batches have no rows to select are refused at construction, with the reason.

What their collators make decides, not their names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForSequenceClassification

from sift_trainer import SiftArguments, SiftMixin
from tests.trainers.sentences import EOS, PAD, WORDS, causal, exact, parts, text, tokenizer

datasets = pytest.importorskip("datasets")
pytest.importorskip("trl", reason="TRL is not installed (it needs Python 3.11)")

ROWS = 24
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}


@dataclass(frozen=True)
class Case:
    """One trainer.

    Attributes:
        names: module, trainer, and class of arguments.
        keywords: of the trainer: model, data and what else it takes.
        reason: part of the message that refuses it; None if single rows can be kept.
        fields: of its arguments.
    """

    names: tuple[str, str, str]
    keywords: Callable[[Path], dict[str, Any]]
    reason: str | None
    fields: dict[str, Any] = field(default_factory=dict)

    def build(self, folder: Path, **sift: Any) -> Any:
        """With the mixin and these sift fields."""
        library = pytest.importorskip(self.names[0], reason=f"{self.names[0]} is not installed")
        trainer, config = (getattr(library, name) for name in self.names[1:])
        fields = {**exact(folder, learning_rate=1e-3), **self.fields}
        mixed = make_dataclass("Arguments", [], bases=(SiftArguments, config))
        made = type(f"Sift{trainer.__name__}", (SiftMixin, trainer), {})
        args = mixed(**fields, **sift, sift_warmup_steps=0, sift_selector="top_k")
        return made(args=args, **self.keywords(folder))


def preferences(**others: Any) -> dict[str, Any]:
    rows = [
        {"prompt": text(a), "chosen": " " + text(b), "rejected": " " + text(b[::-1] + a)}
        for a, b in parts(ROWS)
    ]
    data = datasets.Dataset.from_list(rows)
    return {"train_dataset": data, "processing_class": tokenizer(), **others}


def reward(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_labels=1, pad_token_id=PAD, eos_token_id=EOS)
    return preferences(model=LlamaForSequenceClassification(config))


def direct_preference(folder: Path) -> dict[str, Any]:
    return preferences(model=causal(), ref_model=causal())


def unpaired(folder: Path) -> dict[str, Any]:
    rows = [
        {"prompt": text(a), "completion": " " + text(b), "label": len(b) > 3}
        for a, b in parts(ROWS)
    ]
    return {**direct_preference(folder), "train_dataset": datasets.Dataset.from_list(rows)}


def generated(folder: Path) -> dict[str, Any]:
    given = preferences(model=causal(), reward_funcs=lambda completions, **_: [1.0, 0.0] * 4)
    return {**given, "train_dataset": given["train_dataset"].select_columns(["prompt"])}


def embedding(folder: Path) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES, max_position_embeddings=64)).save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    model = SentenceTransformer(modules=[Transformer(str(folder / "model")), Pooling(32)])
    rows = [{"anchor": text(a), "positive": text(b)} for a, b in parts(ROWS)]
    data = datasets.Dataset.from_list(rows)
    return {"model": model, "train_dataset": data, "loss": MultipleNegativesRankingLoss(model)}


PAIRS = "2 rows of a sample"
GENERATING = {"num_generations": 4, "max_completion_length": 4}
CASES = {
    "reward": Case(("trl", "RewardTrainer", "RewardConfig"), reward, PAIRS),
    "dpo": Case(("trl", "DPOTrainer", "DPOConfig"), direct_preference, PAIRS),
    "kto": Case(("trl", "KTOTrainer", "KTOConfig"), unpaired, None),
    "grpo": Case(("trl", "GRPOTrainer", "GRPOConfig"), generated, "batch is a list", GENERATING),
    "sentence transformer": Case(
        (
            "sentence_transformers",
            "SentenceTransformerTrainer",
            "SentenceTransformerTrainingArguments",
        ),
        embedding,
        "SentenceTransformer(**batch), which has no 'input'",
    ),
}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.reason])
def test_refused_at_construction(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        CASES[name].build(tmp_path, sift_criterion="entropy")
    assert CASES[name].reason in str(raised.value)


def test_kto_has_no_labels_so_entropy_chooses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs 'labels'.*use sift_criterion='entropy'"):
        CASES["kto"].build(tmp_path, sift_criterion="loss")
    trainer = CASES["kto"].build(tmp_path, sift_criterion="entropy")
    trainer.train()
    (selection,) = trainer.selections
    assert (len(selection.rows), selection.candidates) == (4, 8)
    assert selection.scores is not None
    kept = selection.scores[selection.rows]
    assert torch.equal(kept.sort().values, selection.scores.sort().values[-4:])
