"""What `Trainer` can do, `SiftTrainer` can do: every test sees that it really sifted meanwhile."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import (
    BertForMaskedLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
)

from sift_trainer import SiftArguments, SiftMixin
from tests.training import (
    Recording,
    RecordingTrainer,
    Rows,
    Stream,
    arguments,
    bert,
    quick,
    trained,
)

CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def ran(
    folder: Path, model: nn.Module | None = None, data: Any = None, **changes: Any
) -> RecordingTrainer:
    """A trainer after its run."""
    args = arguments(folder, **changes)
    trainer = RecordingTrainer(model or bert(), args, train_dataset=data or Rows(48))
    trainer.train()
    return trainer


def assert_sifted(trainer: Recording) -> None:
    """Every micro-batch was narrowed to its candidates of the largest scores, and taught."""
    assert trainer.kept
    for candidates, kept, scores in zip(
        trainer.candidates, trainer.kept, trainer.scores, strict=True
    ):
        assert scores is not None
        ranked = sorted(zip(scores, candidates, strict=True), reverse=True)
        assert set(kept) == {row for _, row in ranked[: len(kept)]}
        assert len(kept) < len(candidates) or len(candidates) == 1


# ---- data ----


def test_streaming_dataset(tmp_path: Path) -> None:
    """20 rows are batches of 8, 8 and 4 candidates; after them the stream begins again."""
    trainer = ran(tmp_path, data=Stream(20), max_steps=5)
    order = [range(0, 8), range(8, 16), range(16, 20), range(0, 8), range(8, 16)]
    assert trainer.candidates == [list(rows) for rows in order]
    assert [len(kept) for kept in trainer.kept] == [4, 4, 2, 4, 4]
    assert_sifted(trainer)
    assert trained(trainer)


@pytest.mark.parametrize(
    ("rows", "ratio", "drop_last", "candidates", "kept"),
    [
        (20, 0.5, True, [8, 8], [4, 4]),
        (20, 0.5, False, [8, 8, 4], [4, 4, 2]),
        (22, 0.5, False, [8, 8, 6], [4, 4, 3]),
        (17, 0.5, False, [8, 8, 1], [4, 4, 1]),
        (45, 0.25, False, [16, 16, 13], [4, 4, 3]),
        (33, 0.25, False, [16, 16, 1], [4, 4, 1]),
        (15, 0.75, False, [5, 5, 5], [4, 4, 4]),
    ],
)
def test_last_batch_keeps_the_same_share(
    rows: int, ratio: float, drop_last: bool, candidates: Any, kept: Any, tmp_path: Path
) -> None:
    trainer = ran(
        tmp_path,
        data=Rows(rows),
        max_steps=-1,
        num_train_epochs=1,
        sift_keep_ratio=ratio,
        dataloader_drop_last=drop_last,
    )
    assert [len(batch) for batch in trainer.candidates] == candidates
    assert [len(batch) for batch in trainer.kept] == kept
    if 1 in kept:  # one candidate is kept unseen
        assert trainer.scores.pop() is None
        assert trainer.kept.pop() == trainer.candidates.pop()
    assert_sifted(trainer)


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone = ran(tmp_path, max_steps=3)
    workers = ran(tmp_path, max_steps=3, dataloader_num_workers=2)
    assert_sifted(workers)
    assert workers.kept == alone.kept
    assert workers.losses == alone.losses


def test_grouping_by_length(tmp_path: Path) -> None:
    trainer = ran(tmp_path, train_sampling_strategy="group_by_length")
    assert [len(batch) for batch in trainer.candidates] == [8] * 4
    assert_sifted(trainer)


# ---- how it computes ----


def test_gradient_checkpointing(tmp_path: Path) -> None:
    # Without dropout: a checkpointed last block is run whole and would draw for more positions.
    plain = ran(tmp_path, bert(**CALM))
    model = bert(**CALM)
    passes = {True: 0, False: 0}
    model.bert.encoder.layer[0].intermediate.register_forward_hook(
        lambda module, *_: passes.update({module.training: passes[module.training] + 1})
    )
    checkpointing = ran(tmp_path, model, gradient_checkpointing=True)
    assert_sifted(checkpointing)
    assert passes[True] == 2 * 4  # forward, and again in the backward of each of 4 steps
    assert checkpointing.kept == plain.kept
    assert checkpointing.losses == pytest.approx(plain.losses, rel=1e-5)


def test_bf16_scores_under_autocast(tmp_path: Path) -> None:
    model = bert()
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    model.bert.encoder.layer[0].attention.self.key.register_forward_hook(
        lambda module, _, output: seen[torch.is_grad_enabled()].add(output.dtype)
    )
    trainer = ran(tmp_path, model, bf16=True, max_steps=8)
    assert seen == {True: {torch.bfloat16}, False: {torch.bfloat16}}
    assert trainer.selections[0].scores is not None
    assert trainer.selections[0].scores.dtype == torch.float32
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert_sifted(trainer)
    assert trainer.losses[-1] < trainer.losses[0] - 0.1


def compiled_and_eager(folder: Path, backend: str) -> tuple[RecordingTrainer, RecordingTrainer]:
    """The same run twice; 80 rows hold many different numbers of labels."""
    changes = {"max_steps": 8, "sift_warmup_steps": 2}
    small = {**CALM, "num_hidden_layers": 2}
    eager = ran(folder, bert(**small), Rows(80), **changes)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = ran(
        folder,
        bert(**small),
        Rows(80),
        torch_compile=True,
        torch_compile_backend=backend,
        **changes,
    )
    return compiled, eager


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile(backend: str, tmp_path: Path) -> None:
    """One graph for the first number of labels and one for all others; scoring is not compiled."""
    compiled, eager = compiled_and_eager(tmp_path, backend)
    assert compiled.losses == pytest.approx(eager.losses, abs=1e-4)
    assert compiled.kept == eager.kept
    assert [scores is not None for scores in compiled.scores] == [False] * 2 + [True] * 6
    counters = torch._dynamo.utils.counters
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    assert not counters["graph_break"]


@pytest.mark.parametrize("fits", [5, 3])
def test_automatic_batch_size(fits: int, tmp_path: Path) -> None:
    """Fewer rows are tried until they fit; the candidates follow, and the share stays."""

    class Small(BertForMaskedLM):
        def forward(
            self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **_: Any
        ) -> Any:
            if self.training and len(input_ids) > fits:
                raise RuntimeError("CUDA out of memory.")
            return super().forward(input_ids, attention_mask, labels=labels)

    torch.manual_seed(0)
    model = Small(bert().config)
    trainer = ran(tmp_path, model, per_device_train_batch_size=8, auto_find_batch_size=True)
    assert [len(kept) for kept in trainer.kept] == [fits] * 4
    assert [len(batch) for batch in trainer.candidates[-4:]] == [2 * fits] * 4
    assert len(trainer.candidates) > 4  # those that did not fit
    trainer.candidates = trainer.candidates[-4:]
    assert_sifted(trainer)
    assert trainer.state.log_history[-1]["sift/backprop_samples"] == 4 * fits
    assert trainer.state.log_history[-1]["sift/candidates"] == 4 * 2 * fits


# ---- arguments, mix-ins, losses ----


def test_plain_arguments_sift_by_the_defaults(tmp_path: Path) -> None:
    """Half of the candidates, after a quarter of 40 steps and up to the last tenth."""
    args = TrainingArguments(**quick(tmp_path, max_steps=40))
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    sifted = [scores is not None for scores in trainer.scores]
    assert sifted == [False] * 10 + [True] * 26 + [False] * 4
    assert trainer.kept[0] == trainer.candidates[0][:4]
    for notes in (trainer.kept, trainer.candidates, trainer.scores):
        del notes[36:], notes[:10]
    assert_sifted(trainer)


@dataclass
class SequenceArguments(SiftArguments, Seq2SeqTrainingArguments):
    """Made as the documentation says."""


class SequenceTrainer(SiftMixin, Seq2SeqTrainer):
    """Made as the documentation says."""


class Pairs(Dataset[dict[str, Tensor]]):
    """Sequences to be copied."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        tokens = torch.randint(5, 99, (6,), generator=torch.Generator().manual_seed(row))
        return {"input_ids": tokens, "labels": tokens[:4]}


def test_sequence_to_sequence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=100,
            d_model=32,
            d_kv=16,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
        )
    )
    args = SequenceArguments(
        **quick(tmp_path, max_steps=30),
        sift_warmup_steps=0,
        sift_cooldown_steps=0,
        predict_with_generate=True,
    )
    trainer = SequenceTrainer(model, args, train_dataset=Pairs(), eval_dataset=Pairs())
    trainer.train()
    (selection,) = trainer.selections
    assert selection.scores is not None
    kept = selection.scores[selection.rows]
    assert torch.equal(kept.sort().values, selection.scores.sort().values[-4:])
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert sum(losses[-5:]) < sum(losses[:5]) - 1
    # By its own trainer: token ids, not logits.
    generated = trainer.predict(Pairs(), max_new_tokens=4).predictions
    assert (generated.ndim, len(generated)) == (2, 24)


def test_own_compute_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is called, with the kept rows and their labels as the collator made them."""

    class Doubling(RecordingTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            assert inputs["labels"].shape == inputs["input_ids"].shape == (4, 16)
            return 2 * super().compute_loss(model, inputs, *args, **kwargs)

    args = arguments(tmp_path)
    doubling = Doubling(bert(**CALM), args, train_dataset=Rows(48))
    doubling.train()
    plain = ran(tmp_path, bert(**CALM))
    assert_sifted(doubling)
    assert doubling.losses[0] == pytest.approx(2 * plain.losses[0])
    assert "Doubling overrides compute_loss" in caplog.text


def test_compute_loss_func_gets_the_count_of_kept_labels(tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []

    def loss_func(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        assert outputs.logits.shape == (*labels.shape, 100)
        counts.append((int(num_items_in_batch), int((labels != -100).sum())))
        total = functional.cross_entropy(
            outputs.logits.flatten(0, 1), labels.flatten(), reduction="sum"
        )
        return total / num_items_in_batch

    args = arguments(tmp_path, gradient_accumulation_steps=2)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48), compute_loss_func=loss_func)
    trainer.train()
    assert_sifted(trainer)
    asked = counts.pop(0)  # on two rows, whether it is the mean of per-sample losses
    assert asked[0] == asked[1]
    for first, second in zip(counts[::2], counts[1::2], strict=True):
        assert first[0] == second[0] == first[1] + second[1]
    assert trained(trainer)


def test_label_smoothing(tmp_path: Path) -> None:
    """Each kept label is 0.9 of itself and 0.1 of the mean of all classes."""
    trainer = ran(tmp_path, bert(**CALM), max_steps=1, label_smoothing_factor=0.1)
    assert_sifted(trainer)
    rows = [Rows(48)[row] for row in trainer.kept[0]]
    with torch.no_grad():
        logits = bert(**CALM)(torch.stack([row["input_ids"] for row in rows])).logits
    labels = torch.stack([row["labels"] for row in rows])
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    assert trainer.losses[0] == pytest.approx(expected.item(), rel=1e-5)
