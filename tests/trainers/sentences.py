"""Sentences of a small vocabulary for the tests of fine-tuning, and their tokenizer, whose ids are
known."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.training import quick

PAD, EOS = 0, 1
WORDS = ["<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(3, 60))]
# The assistant's part includes its final <eos>.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + ' ' }}{% endif %}{% endfor %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word: "w17" is 17."""
    model = models.WordLevel({word: index for index, word in enumerate(WORDS)}, "<unk>")
    words = Tokenizer(model)
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, len(WORDS), (count,), generator=generator).tolist()


def text(ids: list[int]) -> str:
    return " ".join(WORDS[index] for index in ids)


def parts(rows: int) -> list[tuple[list[int], list[int]]]:
    """Prompt and answer of every row, of different lengths."""
    return [(tokens(2 + row % 5, row), tokens(1 + row % 7, 1000 + row)) for row in range(rows)]


ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
}


def causal(name: str = "llama", blocks: int = 3) -> Any:
    """Blocks of width 32, with weights large enough for all of them to matter."""
    model_class, config = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = model_class(
        config(
            vocab_size=len(WORDS),
            hidden_size=32,
            num_hidden_layers=blocks,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=48,
            max_position_embeddings=128,
            pad_token_id=PAD,
            bos_token_id=None,
            eos_token_id=EOS,
        )
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def exact(folder: Path, **changes: Any) -> dict[str, Any]:
    """`quick` arguments for TRL in fp32, in the order of the data and by plain gradient steps."""
    return quick(
        folder,
        **{
            "max_steps": 3,
            "learning_rate": 0.05,
            "optim": "sgd",
            "max_grad_norm": 0,
            "train_sampling_strategy": "sequential",
            "bf16": False,
            "gradient_checkpointing": False,
            **changes,
        },
    )
