"""The models of `time_to_accuracy.py`, small enough for one core of a CPU."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from sift_trainer import register_exit
from sift_trainer.reproduction.resnet.model import (
    EXIT_GROUP,
    EarlyExitResNetConfig,
    EarlyExitResNetForImageClassification,
    TwoClassifierExit,
)
from study.text import LENGTH, VOCABULARY

HEAD = 32  # dimensions of an attention head
_NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None}


def masked_model(shape: Mapping[str, Any], classes: int) -> nn.Module:
    """BERT with both heads, without dropout: the budgets are too short to overfit."""
    width = shape["hidden_size"]
    usual = {
        "num_attention_heads": width // HEAD,
        "intermediate_size": 4 * width,
        "max_position_embeddings": LENGTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return BertForPreTraining(BertConfig(vocab_size=classes, **{**usual, **shape}))


def causal_model(shape: Mapping[str, Any], classes: int) -> nn.Module:
    """GPT-2 without dropout."""
    return GPT2LMHeadModel(_gpt2(shape, vocab_size=classes))


def causal_classifier(shape: Mapping[str, Any], classes: int) -> nn.Module:
    """GPT-2 with a classifier on its last position instead of the vocabulary head."""
    return GPT2ForSequenceClassification(
        _gpt2(shape, vocab_size=VOCABULARY, num_labels=classes, pad_token_id=0)
    )


def _gpt2(shape: Mapping[str, Any], **more: Any) -> GPT2Config:
    width = shape["hidden_size"]
    return GPT2Config(
        n_positions=LENGTH,
        n_embd=width,
        n_layer=shape["num_hidden_layers"],
        n_head=width // HEAD,
        **_NO_SPECIAL_TOKENS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **more,
    )


def classifier(shape: Mapping[str, Any], classes: int) -> nn.Module:
    """ModernBERT, which normalises before its blocks and averages over positions. From scratch it
    learns in a few hundred steps, where BERT's first position does not."""
    width = shape["hidden_size"]
    return ModernBertForSequenceClassification(
        ModernBertConfig(
            vocab_size=VOCABULARY,
            num_labels=classes,
            num_attention_heads=width // HEAD,
            intermediate_size=2 * width,
            max_position_embeddings=LENGTH,
            classifier_pooling="mean",
            global_attn_every_n_layers=1,
            pad_token_id=0,
            cls_token_id=None,
            sep_token_id=None,
            **_NO_SPECIAL_TOKENS,
            **shape,
        )
    )


def resnet(shape: Mapping[str, Any], classes: int) -> nn.Module:
    """The paper's two-classifier ResNet; with ``supervised`` the early classifier has its own loss
    of that weight."""
    shape = dict(shape)
    weight = shape.pop("supervised", 0.0)
    config = EarlyExitResNetConfig(stem="cifar", layer_type="basic", num_labels=classes, **shape)
    if not weight:
        return EarlyExitResNetForImageClassification(config)
    return SupervisedResNetForImageClassification(config, weight)


class SupervisedResNetForImageClassification(EarlyExitResNetForImageClassification):
    """Adds the early classifier's own cross-entropy in training, which the paper's does not have
    (Lee et al., 2015, deeply-supervised nets).

    Args:
        weight: of that loss.
    """

    def __init__(self, config: EarlyExitResNetConfig, weight: float) -> None:
        super().__init__(config)
        self.weight = weight

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutputWithNoAttention | tuple[Any, ...]:
        output = super().forward(pixel_values, labels, True, True, **kwargs)
        if labels is not None and self.training:
            pooled = self.resnet.pooler(output.hidden_states[EXIT_GROUP])
            early = self.intermediate_classifier(pooled)
            output.loss = output.loss + self.weight * self.loss_function(
                labels, early, self.config, **kwargs
            )
        return ImageClassifierOutputWithNoAttention(loss=output.loss, logits=output.logits)


register_exit(SupervisedResNetForImageClassification, TwoClassifierExit)
