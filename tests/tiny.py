"""Tiny random models and inputs, by family, with their final norm and head spelt out by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from tests import tiny_configs
from tests.tiny_inputs import (
    BATCH,
    CLASSES,
    INPUTS,
    LAYERS,
    LENGTH,
    VOCABULARY,
    WIDTH,
    class_labels,
    text,
    token_labels,
)

__all__ = [
    "BATCH",
    "CLASSES",
    "FAMILIES",
    "LAYERS",
    "LENGTH",
    "VOCABULARY",
    "WIDTH",
    "Family",
    "PlainNet",
    "class_labels",
    "text",
    "token_labels",
]

# At width 32 a second thread only waits for the first, and on shared cores it waits long.
torch.set_num_threads(1)

Head = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        model: the Transformers class.
        config: builds its tiny configuration.
        blocks: dotted path of the block stack, read off the class.
        head: what the model does with the output of a block when it is the last: norm and head.
        inputs: kind of inputs, a key of `INPUTS`.
        states: where the hidden states are in the outputs.
    """

    model: Any
    config: Callable[..., Any]
    blocks: str
    head: Head
    inputs: str = "text"
    states: str = "hidden_states"

    def build(self, **changes: Any) -> Any:
        """The model in evaluation mode, with weights large enough for its layers to matter."""
        torch.manual_seed(0)
        config = self.config()
        for name, value in changes.items():
            setattr(config, name, value)
        return roughen(self.model(config))

    def batch(self, **changes: Any) -> dict[str, Tensor]:
        return {**INPUTS[self.inputs](), **changes}


def roughen(model: nn.Module) -> nn.Module:
    """Add noise to all parameters: initial biases of 0, norms of 1 and tiny weights hide faults."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


# ---- norm and head, by hand ----


def _bert_mlm(model: Any, hidden: Tensor) -> Tensor:
    head = model.cls.predictions
    states = head.transform.LayerNorm(torch.nn.functional.gelu(head.transform.dense(hidden)))
    return states @ model.bert.embeddings.word_embeddings.weight.T + head.bias


def _bert_pooled(model: Any, hidden: Tensor) -> Tensor:
    return model.classifier(torch.tanh(model.bert.pooler.dense(hidden[:, 0])))


def _roberta(model: Any, hidden: Tensor) -> Tensor:
    head = model.lm_head
    return head.decoder(head.layer_norm(torch.nn.functional.gelu(head.dense(hidden))))


def _distilbert_mlm(model: Any, hidden: Tensor) -> Tensor:
    states = torch.nn.functional.gelu(model.vocab_transform(hidden))
    return model.vocab_projector(model.vocab_layer_norm(states))


def _deberta_mlm(model: Any, hidden: Tensor) -> Tensor:
    head = model.cls.predictions
    states = head.transform.LayerNorm(torch.nn.functional.gelu(head.transform.dense(hidden)))
    return head.decoder(states)


def _gemma2(model: Any, hidden: Tensor) -> Tensor:
    logits = model.lm_head(model.model.norm(hidden))
    cap = model.config.final_logit_softcapping
    return cap * torch.tanh(logits / cap)


def _llama(model: Any, hidden: Tensor) -> Tensor:
    return model.lm_head(model.model.norm(hidden))


def _dinov2(model: Any, hidden: Tensor) -> Tensor:
    states = model.dinov2.layernorm(hidden)
    return model.classifier(torch.cat([states[:, 0], states[:, 1:].mean(dim=1)], dim=1))


FAMILIES: dict[str, Family] = {
    "bert-pretraining": Family(
        hf.BertForPreTraining, tiny_configs.bert, "bert.encoder.layer", _bert_mlm
    ),
    "bert-mlm": Family(hf.BertForMaskedLM, tiny_configs.bert, "bert.encoder.layer", _bert_mlm),
    "bert-sequence": Family(
        hf.BertForSequenceClassification, tiny_configs.bert, "bert.encoder.layer", _bert_pooled
    ),
    "bert-token": Family(
        hf.BertForTokenClassification,
        tiny_configs.bert,
        "bert.encoder.layer",
        lambda model, hidden: model.classifier(hidden),
    ),
    "bert-qa": Family(
        hf.BertForQuestionAnswering,
        tiny_configs.sizes(hf.BertConfig, num_labels=2),
        "bert.encoder.layer",
        lambda model, hidden: model.qa_outputs(hidden)[..., 0],
    ),
    "roberta": Family(
        hf.RobertaForMaskedLM,
        tiny_configs.sizes(hf.RobertaConfig),
        "roberta.encoder.layer",
        _roberta,
    ),
    "electra": Family(
        hf.ElectraForMaskedLM,
        tiny_configs.sizes(hf.ElectraConfig, embedding_size=16),
        "electra.encoder.layer",
        lambda model, hidden: model.generator_lm_head(model.generator_predictions(hidden)),
    ),
    "deberta-v2": Family(
        hf.DebertaV2ForMaskedLM,
        tiny_configs.sizes(
            hf.DebertaV2Config,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",
        ),
        "deberta.encoder.layer",
        _deberta_mlm,
    ),
    "distilbert": Family(
        hf.DistilBertForMaskedLM,
        tiny_configs.distilbert,
        "distilbert.transformer.layer",
        _distilbert_mlm,
    ),
    "modernbert": Family(
        hf.ModernBertForMaskedLM,
        tiny_configs.sizes(hf.ModernBertConfig, local_attention=4, cls_token_id=1, sep_token_id=2),
        "model.layers",
        lambda model, hidden: model.decoder(model.head(model.model.final_norm(hidden))),
    ),
    "gpt2": Family(
        hf.GPT2LMHeadModel,
        tiny_configs.gpt2,
        "transformer.h",
        lambda model, hidden: model.lm_head(model.transformer.ln_f(hidden)),
    ),
    "llama": Family(
        hf.LlamaForCausalLM,
        tiny_configs.sizes(hf.LlamaConfig, **tiny_configs.grouped),
        "model.layers",
        _llama,
    ),
    "qwen3": Family(
        hf.Qwen3ForCausalLM,
        tiny_configs.sizes(hf.Qwen3Config, **tiny_configs.grouped),
        "model.layers",
        _llama,
    ),
    "mistral": Family(
        hf.MistralForCausalLM,
        tiny_configs.sizes(hf.MistralConfig, sliding_window=4, **tiny_configs.grouped),
        "model.layers",
        _llama,
    ),
    "gemma2": Family(
        hf.Gemma2ForCausalLM,
        tiny_configs.sizes(
            hf.Gemma2Config, sliding_window=4, final_logit_softcapping=2.0, **tiny_configs.grouped
        ),
        "model.layers",
        _gemma2,
    ),
    "gpt-neox": Family(
        hf.GPTNeoXForCausalLM,
        tiny_configs.sizes(hf.GPTNeoXConfig),
        "gpt_neox.layers",
        lambda model, hidden: model.lm_head(model.gpt_neox.final_layer_norm(hidden)),
    ),
    "opt": Family(
        hf.OPTForCausalLM,
        tiny_configs.sizes(hf.OPTConfig, ffn_dim=40, word_embed_proj_dim=WIDTH),
        "model.decoder.layers",
        lambda model, hidden: model.lm_head(model.model.decoder.final_layer_norm(hidden)),
    ),
    "mamba": Family(
        hf.MambaForCausalLM,
        tiny_configs.mamba,
        "backbone.layers",
        lambda model, hidden: model.lm_head(model.backbone.norm_f(hidden)),
    ),
    "t5": Family(
        hf.T5ForConditionalGeneration,
        tiny_configs.t5,
        "decoder.block",
        lambda model, hidden: model.lm_head(
            model.decoder.final_layer_norm(hidden) * WIDTH**-0.5  # T5 scales where heads are tied
        ),
        "pair",
        "decoder_hidden_states",
    ),
    "bart": Family(
        hf.BartForConditionalGeneration,
        tiny_configs.bart,
        "model.decoder.layers",
        lambda model, hidden: model.lm_head(hidden) + model.final_logits_bias,
        "pair",
        "decoder_hidden_states",
    ),
    "vit": Family(
        hf.ViTForImageClassification,
        tiny_configs.vision,
        "vit.layers",
        lambda model, hidden: model.classifier(model.vit.layernorm(hidden)[:, 0]),
        "image",
    ),
    "dinov2": Family(
        hf.Dinov2ForImageClassification, tiny_configs.dino, "dinov2.encoder.layer", _dinov2, "image"
    ),
    "wav2vec2": Family(
        hf.Wav2Vec2ForSequenceClassification,
        tiny_configs.wav2vec2,
        "wav2vec2.encoder.layers",
        lambda model, hidden: model.classifier(model.projector(hidden).mean(dim=1)),
        "sound",
    ),
}


class PlainNet(nn.Module):
    """Not a Transformers model: embedding, blocks, head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.trunk = nn.Module()
        self.trunk.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)
        )
        self.out = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        hidden = self.embedding(input_ids)
        for block in self.trunk.blocks:
            hidden = block(hidden)
        return {"logits": self.out(hidden)}
