"""TRL's `SFTTrainer` sifts: against loops that score, select and train row by row."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer import SiftArguments, SiftMixin
from tests.trainers.sentences import EOS, causal, exact, parts, text, tokenizer

pytest.importorskip("trl", reason="TRL is not installed (it needs Python 3.11)")
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

KEPT, DRAWN, STEPS, RATE = 4, 8, 3, 0.05
ROWS = 2 * DRAWN * STEPS  # enough for two micro-batches a step

Row = tuple[list[int], list[int]]  # token ids, and labels with -100 for what is not trained on


@dataclass
class SiftSFTConfig(SiftArguments, SFTConfig):
    """As in docs/trainers.md."""


class SiftSFTTrainer(SiftMixin, SFTTrainer):
    """As in docs/trainers.md."""


class Recording(SiftSFTTrainer):
    """Notes the rows kept of each micro-batch, counted from the beginning of the data."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kept: list[list[int]] = []
        self.drawn = 0
        super().__init__(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        selection = self.selections[len(self.kept) % self.args.gradient_accumulation_steps]
        self.kept.append([self.drawn + row for row in selection.rows.tolist()])
        self.drawn += selection.candidates
        return loss


# ---- the data, and what of it is to be trained on ----


def sentences() -> tuple[list[dict[str, Any]], list[Row]]:
    whole = [[*prompt, *answer] for prompt, answer in parts(ROWS)]
    return [{"text": text(ids)} for ids in whole], [([*ids, EOS], [*ids, EOS]) for ids in whole]


def prompts_and_completions() -> tuple[list[dict[str, Any]], list[Row]]:
    samples = [{"prompt": text(a), "completion": " " + text(b)} for a, b in parts(ROWS)]
    return samples, [([*a, *b, EOS], [-100] * len(a) + [*b, EOS]) for a, b in parts(ROWS)]


def conversations() -> tuple[list[dict[str, Any]], list[Row]]:
    """Two turns each; the assistant's are labelled."""
    samples, rows = [], []
    for (first, second), (third, fourth) in zip(parts(ROWS), parts(ROWS)[::-1], strict=True):
        turns = (first, [*second, EOS], third, [*fourth, EOS])
        contents = (first, second, third, fourth)
        roles = ("user", "assistant", "user", "assistant")
        samples.append(
            {
                "messages": [
                    {"role": role, "content": text(ids)}
                    for role, ids in zip(roles, contents, strict=True)
                ]
            }
        )
        ids = [index for turn in turns for index in turn]
        labelled = [(turn, place % 2 == 1) for place, turn in enumerate(turns)]
        labels = [index if mine else -100 for turn, mine in labelled for index in turn]
        rows.append((ids, labels))
    return samples, rows


def blocks() -> tuple[list[dict[str, Any]], list[Row]]:
    """All sentences one after the other, cut every 8 tokens."""
    samples, rows = sentences()
    stream = [index for ids, _ in rows for index in ids]
    cut = [stream[start : start + 8] for start in range(0, len(stream), 8)]
    return samples, [(ids, ids) for ids in cut]


DATA = {
    "sentences": (sentences, {}),
    "completions": (prompts_and_completions, {}),
    "conversations": (conversations, {"assistant_only_loss": True}),
    "blocks": (blocks, {"packing": True, "packing_strategy": "wrapped", "max_length": 8}),
}


def as_candidates(rows: list[Row]) -> list[Row]:
    """The order in which rows of a data set are drawn: half of each batch from the first half."""
    half = len(rows) // 2
    others = rows[half:] + rows[:half]
    own_and_others = [
        rows[begin : begin + KEPT] + others[begin : begin + KEPT]
        for begin in range(0, 2 * STEPS * KEPT, KEPT)
    ]
    return [row for batch in own_and_others for row in batch]


# ---- by hand ----


def token_losses(logits: Tensor, labels: list[int]) -> Tensor:
    """Of one row: logits (T, V) and labels (T,) -> (N,) of the N that are labelled."""
    targets = torch.tensor(labels[1:])
    return functional.cross_entropy(logits[:-1], targets, reduction="none")[targets != -100]


def score(model: Any, row: Row) -> float:
    """The mean loss of a row's labels, of block 1 with norm and head on top."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad():
        ids = torch.tensor([row[0]])
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
        return float(token_losses(bare.lm_head(bare.model.norm(hidden))[0], row[1]).mean())


def loop(model: Any, rows: list[Row], accumulation: int, focus: bool = False) -> dict[str, Any]:
    """Train the model; kept rows of each micro-batch, and what each step logs. With ``focus`` each
    token's loss is weighted with its probability, as ``loss_type="dft"`` does."""
    kept, logs, seen, drawn = [], [], 0, 0
    parameters = [each for each in model.parameters() if each.requires_grad]
    for _ in range(STEPS):
        window = []
        for _ in range(accumulation):
            candidates = sorted(range(drawn, drawn + DRAWN), key=lambda i: -score(model, rows[i]))
            window.append(sorted(candidates[:KEPT]))
            drawn += DRAWN
        kept += window
        losses, right = [], 0
        for index in (index for batch in window for index in batch):
            ids, labels = rows[index]
            logits = model(input_ids=torch.tensor([ids])).logits[0]
            losses.append(token_losses(logits, labels))
            guesses = logits[:-1].argmax(-1).tolist()
            right += sum(guess == label for guess, label in zip(guesses, labels[1:], strict=True))
            seen += len(ids)
        each = torch.cat(losses)
        loss = ((-each).exp().detach() * each if focus else each).mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter -= RATE * gradient
        logs.append({"loss": loss.item(), "num_tokens": seen, "accuracy": right / len(each)})
    return {"kept": kept, "logs": logs}


def made(folder: Path, model: Any, samples: list[dict[str, Any]], **changes: Any) -> Recording:
    args = SiftSFTConfig(
        **exact(folder, max_steps=STEPS, **changes),
        sift_warmup_steps=0,
        sift_cooldown_steps=0,
        sift_criterion="loss",
        sift_selector="top_k",
    )
    data = Dataset.from_list(samples)
    if "prompt" in samples[0]:
        data = data.to_iterable_dataset()  # streamed data too
    return Recording(model, args, train_dataset=data, processing_class=tokenizer())


def assert_same(trainer: Recording, model: Any, expected: dict[str, Any]) -> None:
    assert trainer.kept == expected["kept"]
    logged = [log for log in trainer.state.log_history if "loss" in log]
    for found, by_hand in zip(logged, expected["logs"], strict=True):
        assert found["loss"] == pytest.approx(by_hand["loss"], rel=1e-5)
        assert found["num_tokens"] == by_hand["num_tokens"]
        if trainer.args.gradient_accumulation_steps == 1:  # else TRL means over micro-batches
            assert found["mean_token_accuracy"] == pytest.approx(by_hand["accuracy"])
    for found, hand in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "architecture", "accumulation", "changes"),
    [
        ("sentences", "llama", 1, {"loss_type": "dft"}),
        ("completions", "llama", 2, {}),
        ("conversations", "qwen3", 1, {}),
        ("blocks", "qwen3", 2, {}),
    ],
)
def test_sifted_fine_tuning_is_the_loops(
    data: str, architecture: str, accumulation: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    """What is logged is that of the kept rows too."""
    (build, fields), by_hand = DATA[data], causal(architecture)
    samples, rows = build()
    if "prompt" not in samples[0]:
        rows = as_candidates(rows)
    expected = loop(by_hand, rows, accumulation, focus="loss_type" in changes)
    changes = {"gradient_accumulation_steps": accumulation, **fields, **changes}
    trainer = made(tmp_path, causal(architecture), samples, **changes)
    trainer.train()
    assert_same(trainer, by_hand, expected)


def test_adapters_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(3)
    by_hand = peft.get_peft_model(causal(), settings)
    model = deepcopy(by_hand)
    samples, rows = prompts_and_completions()
    expected = loop(by_hand, rows, 1)
    trainer = made(tmp_path, model, samples)
    trainer.train()
    assert_same(trainer, by_hand, expected)
    frozen = model.get_base_model().model.embed_tokens.weight
    assert torch.equal(frozen, causal().model.embed_tokens.weight)


def test_defaults_of_trl(tmp_path: Path) -> None:
    """bf16 and gradient checkpointing, in scoring and in training."""
    samples, rows = prompts_and_completions()
    expected = loop(causal(), rows, 1)
    model = causal()
    widths = set()
    model.model.layers[0].mlp.register_forward_hook(lambda *call: widths.add(call[-1].dtype))
    trainer = made(tmp_path, model, samples, bf16=None, gradient_checkpointing=True)
    trainer.train()
    assert widths == {torch.bfloat16}
    assert trainer.kept[0] == expected["kept"][0]
    logged = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert logged == pytest.approx([log["loss"] for log in expected["logs"]], rel=0.01)


def test_evaluation_is_the_plain_trainers(tmp_path: Path) -> None:
    samples, _ = prompts_and_completions()
    trainer = made(tmp_path, causal(), samples, per_device_eval_batch_size=16)
    trainer.train()
    plain = SFTTrainer(
        trainer.model,
        SFTConfig(**exact(tmp_path, per_device_eval_batch_size=16)),
        train_dataset=Dataset.from_list(samples),
        processing_class=tokenizer(),
    )
    data = Dataset.from_list(samples[:16])
    metrics = ("eval_loss", "eval_mean_token_accuracy", "eval_entropy")
    found, expected = trainer.evaluate(data), plain.evaluate(data)
    assert [found[name] for name in metrics] == [expected[name] for name in metrics]


def test_keep_ratio_one_is_the_plain_trainer_bit_for_bit(tmp_path: Path) -> None:
    """With packed batches, which are not sifted then."""
    samples, _ = sentences()
    fields = {"packing": True, "max_length": 16}
    data = Dataset.from_list(samples)
    plain = SFTTrainer(
        causal(),
        SFTConfig(**exact(tmp_path, **fields)),
        train_dataset=data,
        processing_class=tokenizer(),
    )
    sift = SiftSFTTrainer(
        causal(),
        SiftSFTConfig(**exact(tmp_path, **fields), sift_keep_ratio=1.0),
        train_dataset=data,
        processing_class=tokenizer(),
    )
    plain.train()
    sift.train()
    for found, expected in zip(sift.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert not torch.equal(plain.model.lm_head.weight, causal().lm_head.weight)


@pytest.mark.parametrize(
    ("fields", "instead"),
    [
        ({"packing": True, "packing_strategy": "bfd"}, "packing_strategy='wrapped'"),
        ({"padding_free": True, "max_length": None}, "padding_free=False"),
    ],
)
def test_flattened_batches_are_refused(
    fields: dict[str, Any], instead: str, tmp_path: Path
) -> None:
    """At construction, with a value that works."""
    samples, _ = sentences()
    with pytest.raises(ValueError, match="flattens a batch into one row") as raised:
        made(tmp_path, causal(), samples, **fields)
    assert f"use {instead}" in str(raised.value)
