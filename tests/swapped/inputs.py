"""Local files for the scripts: a tokenizer, untrained models and small data, all made here."""

import csv
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from tests.reproduction.images.pictures import class_folders

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NAMES = ["Ada", "Bela", "Cleo", "Dora", "Emil", "Fritz", "Gerda", "Hanno"]
THINGS = ["lamp", "table", "window", "garden", "letter", "ladder", "kettle", "mirror"]
COLOURS = ["red", "green", "blue", "yellow", "white", "black"]
WORDS = ["the", "has", "a", "what", "is", "of", "colour", "?", ".", *NAMES, *THINGS, *COLOURS]
CLASSES = ["apple", "baby", "bear"]


def sentence(draw: random.Random) -> str:
    return f"{draw.choice(NAMES)} has a {draw.choice(COLOURS)} {draw.choice(THINGS)} ."


def tokenizer(folder: Path, pairs: bool) -> int:
    """Save a tokenizer of whole words, with special tokens around pairs or none at all; returns
    its number of tokens."""
    vocabulary = {token: number for number, token in enumerate(SPECIAL + WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    inputs = ["input_ids", "attention_mask"]
    if pairs:
        words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        inputs.append("token_type_ids")
    PreTrainedTokenizerFast(
        tokenizer_object=words, model_input_names=inputs, **names
    ).save_pretrained(folder)
    return len(vocabulary)


def bert(kind: type[PreTrainedModel], tokens: int) -> PreTrainedModel:
    return kind(
        BertConfig(
            vocab_size=tokens,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
        )
    )


def make_models(folder: Path) -> None:
    torch.manual_seed(0)
    for name, kind in (
        ("masked_lm", BertForMaskedLM),
        ("sentence_classification", BertForSequenceClassification),
        ("question_answering", BertForQuestionAnswering),
    ):
        bert(kind, tokenizer(folder / name, pairs=True)).save_pretrained(folder / name)
    tokens = tokenizer(folder / "causal_lm", pairs=False)
    sizes = {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 32}
    GPT2LMHeadModel(
        GPT2Config(vocab_size=tokens, bos_token_id=0, eos_token_id=0, **sizes)
    ).save_pretrained(folder / "causal_lm")
    ViTForImageClassification(
        ViTConfig(
            image_size=16,
            patch_size=8,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=48,
        )
    ).save_pretrained(folder / "image_classification")


def make_data(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for split, count in (("train", 300), ("validation", 40)):
        texts = [sentence(draw) for _ in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(texts) + "\n")
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{split}.jsonl").write_text(lines)
    for split, count in (("train", 90), ("validation", 20), ("test", 12)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["sentence1", "sentence2", "label"])
            for _ in range(count):
                first = sentence(draw)
                second = draw.choice([first, sentence(draw)])
                label = "same" if first == second else "other"
                rows.writerow([first, second, "unknown" if split == "test" else label])
    class_folders(folder / "pictures", CLASSES, train=20, test=4)
