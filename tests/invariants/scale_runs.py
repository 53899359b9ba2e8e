"""Two optimisation steps of SiftTrainer on tiny models, in one layout of the same 8 kept rows."""

import tempfile
from dataclasses import dataclass

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
)

from sift_trainer import SiftTrainer, register_criterion
from sift_trainer.scoring.criteria import CRITERIA
from tests.training import arguments, as_drawn

VOCABULARY, LENGTH = 64, 16
LEARNING_RATE, CLIP = 0.1, 0.5
COUNTS = ("equal", "ragged")

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": LENGTH,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": LENGTH,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}


def build(name: str, dropout: bool = False, seed: int = 0) -> PreTrainedModel:
    """A model by name, the same in every process; ``dropout``, of BERT for pre-training only."""
    torch.manual_seed(seed)
    if name == "bert_pretraining" and dropout:
        return BertForPreTraining(BertConfig(**_SIZES))
    if name == "bert_pretraining":
        return BertForPreTraining(BertConfig(**_SIZES, **_NO_DROPOUT))
    if name == "bert_masked_lm":
        return BertForMaskedLM(BertConfig(**_SIZES, **_NO_DROPOUT))
    if name == "modernbert":
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        special |= {"cls_token_id": 1, "sep_token_id": 2}
        return ModernBertForMaskedLM(ModernBertConfig(**_SIZES, **special))
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**_GPT2))
    return LlamaForCausalLM(LlamaConfig(**_SIZES))


MODELS = ("bert_pretraining", "bert_masked_lm", "modernbert", "gpt2", "llama")
DIVIDES_BY_COUNT = {"modernbert", "gpt2", "llama"}
CAUSAL = {"gpt2", "llama"}


def row(index: int, counts: str) -> dict[str, torch.Tensor]:
    """Row ``index``: odd ones have labels in the upper half of the vocabulary and always win."""
    generator = torch.Generator().manual_seed(index)
    low = VOCABULARY // 2 if index % 2 else 3
    ids = torch.randint(low, low + 28, (LENGTH,), generator=generator)
    number = 6 if counts == "equal" else int(torch.randint(3, 12, (1,), generator=generator))
    # Position 0 is labelled too: a causal loss never looks at it.
    places = torch.cat(
        [
            torch.zeros(1, dtype=torch.long),
            1 + torch.randperm(LENGTH - 1, generator=generator)[:number],
        ]
    )
    labels = torch.full((LENGTH,), -100)
    labels[places] = ids[places]
    return {"input_ids": ids, "labels": labels, "next_sentence_label": torch.tensor(index // 2 % 2)}


def rows(name: str, counts: str) -> list[dict[str, torch.Tensor]]:
    """32 candidates: two steps of 16."""
    made = [row(index, counts) for index in range(32)]
    if name != "bert_pretraining":
        for item in made:
            del item["next_sentence_label"]
    return made


def mean_label(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A criterion whose winners do not depend on the model or the layout."""
    return targets.float()


@dataclass(frozen=True)
class Layout:
    """8 kept rows a step as batch_size x accumulation."""

    batch_size: int
    accumulation: int


def run(name: str, counts: str, layout: Layout, **settings) -> list[dict[str, float]]:
    """Loss and gradient norm that two steps logged."""
    register_criterion("mean_label", mean_label)
    try:
        return _run(name, counts, layout, **settings)
    finally:
        del CRITERIA["mean_label"]


def _run(name: str, counts: str, layout: Layout, **settings) -> list[dict[str, float]]:
    args = arguments(
        tempfile.mkdtemp(),
        max_steps=2,
        per_device_train_batch_size=layout.batch_size,
        gradient_accumulation_steps=layout.accumulation,
        learning_rate=LEARNING_RATE,
        max_grad_norm=CLIP,
        optim="sgd",
        train_sampling_strategy="sequential",
        sift_selector="top_k",
        **{"sift_criterion": "mean_label", **settings},
    )
    trainer = SiftTrainer(
        build(name), args, train_dataset=as_drawn(rows(name, counts), layout.batch_size)
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [
        {key: entry[key] for key in ("loss", "grad_norm", "sift/backprop_samples")}
        for entry in logged
    ]
