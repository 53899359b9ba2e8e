"""One table of model families and tasks: a tiny model, its batch, and what is known of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional

from tests import tiny_configs as configs
from tests.tiny import roughen
from tests.tiny_inputs import CLASSES, LENGTH, VOCABULARY, WIDTH

ROWS = 8
Batch = dict[str, Tensor]


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- inputs and labels ----


def text() -> Batch:
    """Token ids (ROWS, LENGTH); row i has i // 2 pads at the end."""
    ids = torch.randint(3, VOCABULARY, (ROWS, LENGTH), generator=draw(2))
    mask = (torch.arange(LENGTH) < LENGTH - torch.arange(ROWS)[:, None] // 2).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def masked() -> Batch:
    """1 to 5 labelled tokens a row."""
    labels = torch.full((ROWS, LENGTH), -100)
    for row in range(ROWS):
        places = torch.randperm(LENGTH - 4, generator=draw(row))[: 1 + row % 5]
        labels[row, places] = torch.randint(3, VOCABULARY, (len(places),), generator=draw(row))
    return {**text(), "labels": labels}


def causal() -> Batch:
    batch = text()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[::2, :4] = -100  # a prompt that is not learned
    return {**batch, "labels": labels}


def pairs() -> Batch:
    """An encoder's tokens and what the decoder shall say, shorter and of different lengths."""
    labels = torch.randint(3, VOCABULARY, (ROWS, LENGTH - 4), generator=draw(3))
    labels[torch.arange(LENGTH - 4) >= LENGTH - 4 - torch.arange(ROWS)[:, None] // 3] = -100
    return {**text(), "labels": labels}


def sentences() -> Batch:
    return {**masked(), "next_sentence_label": torch.arange(ROWS) % 2}


def classes() -> Tensor:
    return torch.randint(0, CLASSES, (ROWS,), generator=draw(7))


def choices() -> Batch:
    ids = torch.randint(3, VOCABULARY, (ROWS, 3, LENGTH), generator=draw(8))
    return {"input_ids": ids, "labels": torch.arange(ROWS) % 3}


def answers() -> Batch:
    """The last row's answer has been cut off: its positions are beyond the input."""
    starts = torch.randint(0, LENGTH - 5, (ROWS,), generator=draw(9))
    ends = starts + torch.randint(0, 4, (ROWS,), generator=draw(10))
    starts[-1] = ends[-1] = LENGTH + 3
    return {**text(), "start_positions": starts, "end_positions": ends}


def image() -> Batch:
    return {"pixel_values": torch.randn(ROWS, 3, 16, 16, generator=draw(4)), "labels": classes()}


def large_image() -> Batch:
    return {"pixel_values": torch.randn(ROWS, 3, 32, 32, generator=draw(4)), "labels": classes()}


def sound() -> Batch:
    values = torch.randn(ROWS, 400, generator=draw(5))
    mask = (torch.arange(400) < 400 - 40 * (torch.arange(ROWS)[:, None] // 3)).long()
    return {"input_values": values * mask, "attention_mask": mask}


def spectrogram() -> Batch:
    return {"input_values": torch.randn(ROWS, 24, 16, generator=draw(14))}


def spoken() -> Batch:
    labels = torch.randint(3, VOCABULARY, (ROWS, 6), generator=draw(11))
    labels[torch.arange(6) >= 2 + torch.arange(ROWS)[:, None] % 4] = -100
    return {**sound(), "labels": labels}


def tagged() -> Batch:
    batch = masked()
    return {
        **batch,
        "labels": batch["labels"].where(batch["labels"] < 0, batch["labels"] % CLASSES),
    }


def numbers(width: int, inputs: Callable[[], Batch] = text) -> Callable[[], Batch]:
    shape = (ROWS, width) if width > 1 else (ROWS,)
    return lambda: {**inputs(), "labels": torch.randn(shape, generator=draw(12))}


def several(inputs: Callable[[], Batch] = text) -> Batch:
    return {**inputs(), "labels": torch.rand(ROWS, CLASSES, generator=draw(13)).round()}


def labelled(inputs: Callable[[], Batch]) -> Callable[[], Batch]:
    return lambda: {**inputs(), "labels": classes()}


# ---- the table ----


def no_rest(model: nn.Module, batch: Batch) -> float:
    return 0.0


@torch.no_grad()
def next_sentence(model: nn.Module, batch: Batch) -> float:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs).seq_relationship_logits
    return float(functional.cross_entropy(logits, batch["next_sentence_label"]))


@torch.no_grad()
def balance(model: nn.Module, batch: Batch) -> float:
    """How evenly a mixture's experts are used, which belongs to the batch as a whole."""
    return float(model(**batch).aux_loss) * model.config.router_aux_loss_coef


@dataclass(frozen=True)
class Entry:
    """One family at one task.

    Attributes:
        model: the class.
        config: builds its tiny configuration.
        batch: builds ROWS rows with labels.
        depth: the configuration's name for its number of blocks; None: no model with fewer.
        changes: of the configuration.
        entropy: whether it has one.
        scale: weight of a row in the model's own loss, before they are made to sum to 1.
        rest: what the model's own loss has besides that of the samples.
        total: whether the model's own loss is the sum, not the mean.
    """

    model: Any
    config: Callable[[], Any]
    batch: Callable[[], Batch]
    depth: str | None = "num_hidden_layers"
    changes: dict[str, Any] = field(default_factory=dict)
    entropy: bool = True
    scale: Callable[[Batch], Tensor] = lambda batch: torch.ones(ROWS)
    rest: Callable[[nn.Module, Batch], float] = no_rest
    total: bool = False

    def configuration(self) -> Any:
        config = self.config()
        for name, value in vars(config).items():
            if "drop" in name and isinstance(value, float):
                setattr(config, name, 0.0)
        for name, value in self.changes.items():
            setattr(config, name, value)
        return config

    def build(self) -> Any:
        torch.manual_seed(0)
        return roughen(self.model(self.configuration()))

    def shorter(self, model: Any, k: int) -> Any:
        """A model that was made with k blocks, with the weights of ``model``."""
        config = self.configuration()
        assert self.depth is not None
        setattr(config, self.depth, k)
        if "layer_types" in vars(config):
            config.layer_types = config.layer_types[:k]
        short = self.model(config)
        missing, _ = short.load_state_dict(model.state_dict(), strict=False)
        assert not missing
        return short.eval()


def tokens(batch: Batch) -> Tensor:
    return (batch["labels"] != -100).sum(1).float()


def next_tokens(batch: Batch) -> Tensor:
    return tokens({"labels": batch["labels"][:, 1:]})


def inside(batch: Batch) -> Tensor:
    return (batch["start_positions"] < LENGTH).float()


def language(model: Any, config: Any, **more: Any) -> Entry:
    return Entry(model, config, causal, scale=next_tokens, **more)


def cloze(model: Any, config: Any, **more: Any) -> Entry:
    return Entry(model, config, masked, scale=tokens, **more)


def translation(model: Any, config: Any, **more: Any) -> Entry:
    return Entry(model, config, pairs, scale=tokens, **more)


_roberta = configs.sizes(hf.RobertaConfig)
_llama = configs.sizes(hf.LlamaConfig, **configs.grouped)
_deberta = configs.sizes(
    hf.DebertaV2Config,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    norm_rel_ebd="layer_norm",
)
_modernbert = configs.sizes(hf.ModernBertConfig, local_attention=4, cls_token_id=1, sep_token_id=2)
_two_groups = {"num_hidden_groups": 2}
_spoken = {"apply_spec_augment": False, "pad_token_id": 0}

MATRIX: dict[str, Entry] = {
    # masked language models
    "bert": cloze(hf.BertForMaskedLM, configs.bert),
    "roberta": cloze(hf.RobertaForMaskedLM, _roberta),
    "electra": cloze(
        hf.ElectraForMaskedLM, configs.sizes(hf.ElectraConfig, embedding_size=16)
    ),
    "deberta-v2": cloze(hf.DebertaV2ForMaskedLM, _deberta),
    "distilbert": cloze(hf.DistilBertForMaskedLM, configs.distilbert),
    "albert": cloze(hf.AlbertForMaskedLM, configs.albert),
    "albert, two groups": cloze(
        hf.AlbertForMaskedLM, configs.albert, changes=_two_groups, depth=None
    ),
    "modernbert": cloze(hf.ModernBertForMaskedLM, _modernbert),
    "modernbert, sparse prediction": cloze(
        hf.ModernBertForMaskedLM, _modernbert, changes={"sparse_prediction": True}
    ),
    "bert, pre-training": Entry(
        hf.BertForPreTraining, configs.bert, sentences, scale=tokens, rest=next_sentence
    ),
    # causal language models
    "gpt2": language(hf.GPT2LMHeadModel, configs.gpt2),
    "llama, untied": language(hf.LlamaForCausalLM, _llama),
    "llama, tied": language(hf.LlamaForCausalLM, _llama, changes={"tie_word_embeddings": True}),
    "qwen3": language(hf.Qwen3ForCausalLM, configs.sizes(hf.Qwen3Config, **configs.grouped)),
    "mistral": language(
        hf.MistralForCausalLM,
        configs.sizes(hf.MistralConfig, sliding_window=4, **configs.grouped),
    ),
    "gemma2": language(
        hf.Gemma2ForCausalLM,
        configs.sizes(
            hf.Gemma2Config, sliding_window=4, final_logit_softcapping=2.0, **configs.grouped
        ),
    ),
    "gpt-neox": language(hf.GPTNeoXForCausalLM, configs.sizes(hf.GPTNeoXConfig)),
    "opt": language(
        hf.OPTForCausalLM, configs.sizes(hf.OPTConfig, ffn_dim=40, word_embed_proj_dim=WIDTH)
    ),
    "mamba": language(hf.MambaForCausalLM, configs.mamba),
    "mixtral": language(hf.MixtralForCausalLM, configs.mixtral, rest=balance),
    # sequence to sequence
    "t5": translation(hf.T5ForConditionalGeneration, configs.t5, depth="num_decoder_layers"),
    "bart": translation(hf.BartForConditionalGeneration, configs.bart, depth="decoder_layers"),
    "switch": translation(
        hf.SwitchTransformersForConditionalGeneration, configs.switch, depth="num_decoder_layers"
    ),
    # classification, regression, answers
    "bert, sequences": Entry(hf.BertForSequenceClassification, configs.bert, labelled(text)),
    "gpt2, sequences": Entry(hf.GPT2ForSequenceClassification, configs.gpt2, labelled(text),
                             changes={"num_labels": CLASSES}),
    "bert, tokens": Entry(hf.BertForTokenClassification, configs.bert, tagged, scale=tokens),
    "bert, choices": Entry(hf.BertForMultipleChoice, configs.bert, choices),
    "bert, answers": Entry(
        hf.BertForQuestionAnswering, configs.sizes(hf.BertConfig, num_labels=2), answers,
        scale=inside,
    ),
    "albert, answers": Entry(
        hf.AlbertForQuestionAnswering, configs.albert, answers, scale=inside,
        changes={"num_labels": 2},
    ),
    "bert, a number": Entry(
        hf.BertForSequenceClassification, configs.bert, numbers(1), entropy=False,
        changes={"num_labels": 1},
    ),
    "bert, numbers": Entry(
        hf.BertForSequenceClassification, configs.bert, numbers(CLASSES), entropy=False,
        changes={"problem_type": "regression"},
    ),
    "bert, several labels": Entry(hf.BertForSequenceClassification, configs.bert, several),
    # images and sounds
    "vit": Entry(hf.ViTForImageClassification, configs.vision, image),
    "dinov2": Entry(hf.Dinov2ForImageClassification, configs.dino, image),
    "swin": Entry(hf.SwinForImageClassification, configs.swin, large_image, depth=None),
    "resnet": Entry(hf.ResNetForImageClassification, configs.resnet, large_image, depth=None),
    "wav2vec2": Entry(
        hf.Wav2Vec2ForSequenceClassification, configs.wav2vec2, labelled(sound), changes=_spoken
    ),
    "ast": Entry(hf.ASTForAudioClassification, configs.ast, labelled(spectrogram)),
    "ast, several labels": Entry(
        hf.ASTForAudioClassification, configs.ast, lambda: several(spectrogram)
    ),
    "ast, a number": Entry(
        hf.ASTForAudioClassification, configs.ast, numbers(1, spectrogram), entropy=False,
        changes={"num_labels": 1},
    ),
    "wav2vec2, transcripts": Entry(
        hf.Wav2Vec2ForCTC, configs.wav2vec2, spoken, entropy=False,
        changes={**_spoken, "ctc_loss_reduction": "mean"},
    ),
    "wav2vec2, summed transcripts": Entry(
        hf.Wav2Vec2ForCTC, configs.wav2vec2, spoken, entropy=False, total=True,
        changes={**_spoken, "ctc_loss_reduction": "sum"},
    ),
}  # fmt: skip
