"""Tiny configurations of the Transformers models."""

from collections.abc import Callable
from typing import Any

import transformers as hf

from tests.tiny_inputs import CLASSES, LAYERS, VOCABULARY, WIDTH


def sizes(config: Any, **more: Any) -> Callable[[], Any]:
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
vision = sizes(hf.ViTConfig, image_size=16, patch_size=8)
dino = sizes(hf.Dinov2Config, image_size=16, patch_size=8, mlp_ratio=1)
ast = sizes(
    hf.ASTConfig, patch_size=8, max_length=24, num_mel_bins=16, frequency_stride=8, time_stride=8
)
bert = sizes(hf.BertConfig)
grouped = {"num_key_value_heads": 2, "head_dim": 8}


def distilbert() -> Any:
    return hf.DistilBertConfig(
        vocab_size=VOCABULARY, dim=WIDTH, n_layers=LAYERS, n_heads=4, hidden_dim=40,
        max_position_embeddings=32, num_labels=CLASSES, pad_token_id=0,
    )  # fmt: skip


def gpt2() -> Any:
    return hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=32, **_ENDS
    )


def mamba() -> Any:
    return hf.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, state_size=4, **_ENDS
    )


def t5() -> Any:
    return hf.T5Config(
        vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=40, num_layers=2,
        num_decoder_layers=LAYERS, num_heads=4, decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip


def bart() -> Any:
    return hf.BartConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=2, decoder_layers=LAYERS,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=40,
        decoder_ffn_dim=40, max_position_embeddings=32, num_labels=CLASSES,
        decoder_start_token_id=2, forced_eos_token_id=None, **_ENDS,
    )  # fmt: skip


def wav2vec2() -> Any:
    return hf.Wav2Vec2Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=40, conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2),
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=4, classifier_proj_size=WIDTH,
        num_labels=CLASSES,
    )  # fmt: skip


def albert() -> Any:
    return hf.AlbertConfig(
        vocab_size=VOCABULARY, embedding_size=16, hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=4, intermediate_size=40, max_position_embeddings=32,
        num_labels=CLASSES, **_ENDS,
    )  # fmt: skip


def mixtral() -> Any:
    return sizes(
        hf.MixtralConfig, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True,
        router_aux_loss_coef=0.5, **grouped,
    )()  # fmt: skip


def switch() -> Any:
    """Its experts take ten tokens of a sequence at most."""
    return hf.SwitchTransformersConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=40, num_layers=2, num_heads=4,
        num_decoder_layers=LAYERS, num_sparse_encoder_layers=1, num_sparse_decoder_layers=3,
        num_experts=3, expert_capacity=10, router_jitter_noise=0.0, output_router_logits=True,
        router_aux_loss_coef=0.5, decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip


def nllb_moe() -> Any:
    return hf.NllbMoeConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=2, decoder_layers=LAYERS,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=40,
        decoder_ffn_dim=40, max_position_embeddings=32, num_experts=3, encoder_sparse_step=2,
        decoder_sparse_step=2, expert_capacity=4, decoder_start_token_id=2,
        output_router_logits=True, **_ENDS,
    )  # fmt: skip


def swin() -> Any:
    return hf.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 2, 1], num_heads=[2, 2, 4],
        window_size=2, num_labels=CLASSES,
    )  # fmt: skip


def resnet() -> Any:
    return hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[1, 2, 1], layer_type="basic",
        num_labels=CLASSES,
    )  # fmt: skip
