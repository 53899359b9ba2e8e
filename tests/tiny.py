"""Tiny random models and inputs, by family, with their final norm and head spelt out by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

# At width 32 a second thread only waits for the first, and on shared cores it waits long.
torch.set_num_threads(1)

BATCH, LENGTH, VOCABULARY, LAYERS, WIDTH = 4, 12, 50, 3, 32
CLASSES = 5

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


# ---- inputs ----


def text(padded: bool = True) -> dict[str, Tensor]:
    """Token ids (BATCH, LENGTH); row i has i pads at the end."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, VOCABULARY, (BATCH, LENGTH), generator=generator)
    if not padded:
        return {"input_ids": ids}
    mask = (torch.arange(LENGTH) < LENGTH - torch.arange(BATCH)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def text_pair() -> dict[str, Tensor]:
    """An encoder's and a decoder's tokens, of different lengths."""
    generator = torch.Generator().manual_seed(3)
    decoder = torch.randint(3, VOCABULARY, (BATCH, LENGTH - 3), generator=generator)
    return {**text(), "decoder_input_ids": decoder}


def image() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {"pixel_values": torch.randn(BATCH, 3, 16, 16, generator=generator)}


def sound() -> dict[str, Tensor]:
    return {"input_values": torch.randn(BATCH, 400, generator=torch.Generator().manual_seed(5))}


INPUTS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "text": text,
    "pair": text_pair,
    "image": image,
    "sound": sound,
}


def token_labels(counts: tuple[int, ...] = (3, 0, 1, 5), first: bool = False) -> Tensor:
    """Labels (BATCH, LENGTH) with ``counts`` labelled positions per row, -100 elsewhere.

    Args:
        first: whether position 0 is among them, in the rows with any.
    """
    generator = torch.Generator().manual_seed(6)
    labels = torch.full((BATCH, LENGTH), -100)
    for row, count in enumerate(counts):
        places = 1 + torch.randperm(LENGTH - 1, generator=generator)[:count]
        if first and count:
            places[0] = 0
        labels[row, places] = torch.randint(3, VOCABULARY, (count,), generator=generator)
    return labels


def class_labels() -> Tensor:
    return torch.arange(BATCH) % CLASSES


# ---- configurations ----


def _sizes(config: Any, **more: Any) -> Callable[[], Any]:
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 32,
        "num_labels": CLASSES,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return lambda: config(**{**common, **more})


_ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_vision = _sizes(hf.ViTConfig, image_size=16, patch_size=8)
_dino = _sizes(hf.Dinov2Config, image_size=16, patch_size=8, mlp_ratio=1)
_bert = _sizes(hf.BertConfig)
_grouped = {"num_key_value_heads": 2, "head_dim": 8}


def _distilbert() -> Any:
    return hf.DistilBertConfig(
        vocab_size=VOCABULARY, dim=WIDTH, n_layers=LAYERS, n_heads=4, hidden_dim=40,
        max_position_embeddings=32, num_labels=CLASSES, pad_token_id=0,
    )  # fmt: skip


def _gpt2() -> Any:
    return hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=32, **_ENDS
    )


def _mamba() -> Any:
    return hf.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, state_size=4, **_ENDS
    )


def _t5() -> Any:
    return hf.T5Config(
        vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=40, num_layers=2,
        num_decoder_layers=LAYERS, num_heads=4, decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip


def _bart() -> Any:
    return hf.BartConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=2, decoder_layers=LAYERS,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=40,
        decoder_ffn_dim=40, max_position_embeddings=32, num_labels=CLASSES,
        decoder_start_token_id=2, forced_eos_token_id=None, **_ENDS,
    )  # fmt: skip


def _wav2vec2() -> Any:
    return hf.Wav2Vec2Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=40, conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2),
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=4, classifier_proj_size=WIDTH,
        num_labels=CLASSES,
    )  # fmt: skip


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
    "bert-pretraining": Family(hf.BertForPreTraining, _bert, "bert.encoder.layer", _bert_mlm),
    "bert-mlm": Family(hf.BertForMaskedLM, _bert, "bert.encoder.layer", _bert_mlm),
    "bert-sequence": Family(
        hf.BertForSequenceClassification, _bert, "bert.encoder.layer", _bert_pooled
    ),
    "bert-token": Family(
        hf.BertForTokenClassification,
        _bert,
        "bert.encoder.layer",
        lambda model, hidden: model.classifier(hidden),
    ),
    "bert-qa": Family(
        hf.BertForQuestionAnswering,
        _sizes(hf.BertConfig, num_labels=2),
        "bert.encoder.layer",
        lambda model, hidden: model.qa_outputs(hidden)[..., 0],
    ),
    "roberta": Family(
        hf.RobertaForMaskedLM, _sizes(hf.RobertaConfig), "roberta.encoder.layer", _roberta
    ),
    "electra": Family(
        hf.ElectraForMaskedLM,
        _sizes(hf.ElectraConfig, embedding_size=16),
        "electra.encoder.layer",
        lambda model, hidden: model.generator_lm_head(model.generator_predictions(hidden)),
    ),
    "deberta-v2": Family(
        hf.DebertaV2ForMaskedLM,
        _sizes(
            hf.DebertaV2Config,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",
        ),
        "deberta.encoder.layer",
        _deberta_mlm,
    ),
    "distilbert": Family(
        hf.DistilBertForMaskedLM, _distilbert, "distilbert.transformer.layer", _distilbert_mlm
    ),
    "modernbert": Family(
        hf.ModernBertForMaskedLM,
        _sizes(hf.ModernBertConfig, local_attention=4, cls_token_id=1, sep_token_id=2),
        "model.layers",
        lambda model, hidden: model.decoder(model.head(model.model.final_norm(hidden))),
    ),
    "gpt2": Family(
        hf.GPT2LMHeadModel,
        _gpt2,
        "transformer.h",
        lambda model, hidden: model.lm_head(model.transformer.ln_f(hidden)),
    ),
    "llama": Family(
        hf.LlamaForCausalLM, _sizes(hf.LlamaConfig, **_grouped), "model.layers", _llama
    ),
    "qwen3": Family(
        hf.Qwen3ForCausalLM, _sizes(hf.Qwen3Config, **_grouped), "model.layers", _llama
    ),
    "mistral": Family(
        hf.MistralForCausalLM,
        _sizes(hf.MistralConfig, sliding_window=4, **_grouped),
        "model.layers",
        _llama,
    ),
    "gemma2": Family(
        hf.Gemma2ForCausalLM,
        _sizes(hf.Gemma2Config, sliding_window=4, final_logit_softcapping=2.0, **_grouped),
        "model.layers",
        _gemma2,
    ),
    "gpt-neox": Family(
        hf.GPTNeoXForCausalLM,
        _sizes(hf.GPTNeoXConfig),
        "gpt_neox.layers",
        lambda model, hidden: model.lm_head(model.gpt_neox.final_layer_norm(hidden)),
    ),
    "opt": Family(
        hf.OPTForCausalLM,
        _sizes(hf.OPTConfig, ffn_dim=40, word_embed_proj_dim=WIDTH),
        "model.decoder.layers",
        lambda model, hidden: model.lm_head(model.model.decoder.final_layer_norm(hidden)),
    ),
    "mamba": Family(
        hf.MambaForCausalLM,
        _mamba,
        "backbone.layers",
        lambda model, hidden: model.lm_head(model.backbone.norm_f(hidden)),
    ),
    "t5": Family(
        hf.T5ForConditionalGeneration,
        _t5,
        "decoder.block",
        lambda model, hidden: model.lm_head(
            model.decoder.final_layer_norm(hidden) * WIDTH**-0.5  # T5 scales where heads are tied
        ),
        "pair",
        "decoder_hidden_states",
    ),
    "bart": Family(
        hf.BartForConditionalGeneration,
        _bart,
        "model.decoder.layers",
        lambda model, hidden: model.lm_head(hidden) + model.final_logits_bias,
        "pair",
        "decoder_hidden_states",
    ),
    "vit": Family(
        hf.ViTForImageClassification,
        _vision,
        "vit.layers",
        lambda model, hidden: model.classifier(model.vit.layernorm(hidden)[:, 0]),
        "image",
    ),
    "dinov2": Family(
        hf.Dinov2ForImageClassification, _dino, "dinov2.encoder.layer", _dinov2, "image"
    ),
    "wav2vec2": Family(
        hf.Wav2Vec2ForSequenceClassification,
        _wav2vec2,
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
