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
from datasets import Dataset, IterableDataset
from trl import SFTConfig, SFTTrainer

KEPT, DRAWN, STEPS, RATE = 4, 8, 3, 0.05
ROWS = 2 * DRAWN * STEPS  # enough for two micro-batches a step

Row = tuple[list[int], list[int]]  # token ids, and labels with -100 for what is not trained on


@dataclass
class SiftSFTConfig(SiftArguments, SFTConfig):
    """Made as the documentation says."""


class SiftSFTTrainer(SiftMixin, SFTTrainer):
    """Made as the documentation says."""


class Recording(SiftSFTTrainer):
    """Notes the rows kept of each micro-batch, counted from the beginning of the data."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kept: list[list[int]] = []
        self.drawn = 0
        super().__init__(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        selection = self._window.selection_of(inputs)
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


def whole_completions() -> tuple[list[dict[str, Any]], list[Row]]:
    samples, rows = prompts_and_completions()
    return samples, [(ids, ids) for ids, _ in rows]


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
    "whole completions": (whole_completions, {"completion_only_loss": False}),
    "conversations": (conversations, {"assistant_only_loss": True}),
    "blocks": (blocks, {"packing": True, "packing_strategy": "wrapped", "max_length": 8}),
}


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
    """Kept rows of each micro-batch, and what each step logs: the model is trained meanwhile.

    Args:
        focus: whether each token's loss is weighted with its probability, as ``dft`` does.
    """
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
        loss = ((-each).exp().detach() * each if focus else each).sum() / len(each)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter -= RATE * gradient
        logs.append({"loss": loss.item(), "num_tokens": seen, "accuracy": right / len(each)})
    return {"kept": kept, "logs": logs}


def made(folder: Path, model: Any, samples: Any, **changes: Any) -> Recording:
    args = SiftSFTConfig(**exact(folder, max_steps=STEPS, **changes), sift_warmup_steps=0)
    data = Dataset.from_list(samples) if isinstance(samples, list) else samples
    return Recording(model, args, train_dataset=data, processing_class=tokenizer())


def assert_same(trainer: Recording, model: Any, expected: dict[str, Any]) -> None:
    assert trainer.kept == expected["kept"]
    logged = [log for log in trainer.state.log_history if "loss" in log]
    for found, by_hand in zip(logged, expected["logs"], strict=True):
        assert found["loss"] == pytest.approx(by_hand["loss"], rel=1e-5)
    for found, hand in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "architecture", "accumulation"),
    [
        *((name, "llama", 1) for name in DATA),
        ("completions", "llama", 2),
        ("completions", "qwen3", 1),
        ("blocks", "qwen3", 2),
    ],
)
def test_sifted_fine_tuning_is_the_loops(
    data: str, architecture: str, accumulation: int, tmp_path: Path
) -> None:
    (build, fields), by_hand = DATA[data], causal(architecture)
    samples, rows = build()
    expected = loop(by_hand, rows, accumulation)
    changes = {"gradient_accumulation_steps": accumulation, **fields}
    trainer = made(tmp_path, causal(architecture), samples, **changes)
    trainer.train()
    assert_same(trainer, by_hand, expected)


def test_what_is_logged_is_of_the_kept_rows(tmp_path: Path) -> None:
    samples, rows = prompts_and_completions()
    expected = loop(causal(), rows, 1)
    trainer = made(tmp_path, causal(), samples)
    trainer.train()
    logged = [log for log in trainer.state.log_history if "loss" in log]
    for step, (found, by_hand) in enumerate(zip(logged, expected["logs"], strict=True), start=1):
        assert found["num_tokens"] == by_hand["num_tokens"]
        assert found["mean_token_accuracy"] == pytest.approx(by_hand["accuracy"])
        assert found["sift/backprop_samples"] == KEPT * step
        assert found["sift/candidates"] == DRAWN * step


def test_audits_leave_the_run_as_it_is(tmp_path: Path) -> None:
    samples, rows = prompts_and_completions()
    by_hand = causal()
    expected = loop(by_hand, rows, 1)
    trainer = made(tmp_path, causal(), samples, sift_audit_steps=1)
    trainer.train()
    assert_same(trainer, by_hand, expected)
    logged = [log for log in trainer.state.log_history if "loss" in log]
    assert all({"sift_audit/descent_kept", "sift_audit/overlap"} <= set(log) for log in logged)


def test_dynamic_fine_tuning_trains_its_loss_and_sifts_by_the_models(tmp_path: Path) -> None:
    samples, rows = prompts_and_completions()
    by_hand = causal()
    expected = loop(by_hand, rows, 1, focus=True)
    trainer = made(tmp_path, causal(), samples, loss_type="dft")
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


def test_streamed_sentences(tmp_path: Path) -> None:
    samples, rows = prompts_and_completions()
    by_hand = causal()
    expected = loop(by_hand, rows, 1)
    stream = IterableDataset.from_generator(lambda: iter(samples))
    trainer = made(tmp_path, causal(), stream)
    trainer.train()
    assert_same(trainer, by_hand, expected)


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


def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    samples, _ = sentences()
    changes = {"train_sampling_strategy": "random", "save_strategy": "steps", "save_steps": 2}
    args = {**exact(tmp_path, optim="adamw_torch", **changes), "sift_warmup_steps": 0}

    def trainer() -> Recording:
        data = Dataset.from_list(samples)
        settings = SiftSFTConfig(**args)
        return Recording(causal(), settings, train_dataset=data, processing_class=tokenizer())

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert len(resumed.selections) == 1
    assert torch.equal(resumed.selections[0].rows, whole.selections[0].rows)
    for found, expected in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("fields", [{}, {"packing": True, "max_length": 16}])
def test_keep_ratio_one_is_the_plain_trainer_bit_for_bit(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    """Packed batches too, which are not sifted then."""
    samples, _ = sentences()
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


# ---- what is refused ----

FLATTENED = {
    "bfd": ({"packing": True}, "packing_strategy='bfd'", "packing_strategy='wrapped'"),
    "bfd_split": (
        {"packing": True, "packing_strategy": "bfd_split"},
        "packing_strategy='bfd_split'",
        "packing_strategy='wrapped'",
    ),
    "padding_free": (
        {"padding_free": True, "max_length": None},
        "padding_free=True",
        "padding_free=False",
    ),
    "wrapped and padding_free": (
        {"packing": True, "packing_strategy": "wrapped", "padding_free": True},
        "padding_free=True",
        "padding_free=False",
    ),
}


@pytest.mark.parametrize("criterion", ["loss", "random"])
@pytest.mark.parametrize("name", FLATTENED)
def test_flattened_batches_are_refused(name: str, criterion: str, tmp_path: Path) -> None:
    """At construction, by the field that asks for them, with a value that works."""
    fields, asked, instead = FLATTENED[name]
    samples, _ = sentences()
    with pytest.raises(ValueError, match="flattens a batch into one row") as raised:
        made(tmp_path, causal(), samples, sift_criterion=criterion, **fields)
    assert asked in str(raised.value)
    assert f"use {instead}" in str(raised.value)
