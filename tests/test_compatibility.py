"""What `Trainer` can do, `SiftTrainer` can do while it sifts."""

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
    Trainer,
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

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


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
    """22 rows, twice, are 5 batches of 8 candidates and one of 4; then the stream begins again."""
    trainer = ran(tmp_path, data=Stream(22), max_steps=8)
    epoch = [*range(22), *range(22)]
    batches = [epoch[begin : begin + 8] for begin in range(0, 44, 8)]
    assert trainer.candidates == [*batches, *batches[:2]]
    assert [len(kept) for kept in trainer.kept] == [4, 4, 4, 4, 4, 2, 4, 4]
    assert_sifted(trainer)
    assert trained(trainer)


@pytest.mark.parametrize(
    ("rows", "ratio", "drop_last", "candidates", "kept"),
    [
        (10, 0.5, True, [8, 8], [4, 4]),
        (11, 0.5, False, [8, 8, 6], [4, 4, 3]),
        (9, 0.5, False, [8, 8, 2], [4, 4, 1]),
        (9, 0.7, False, [6, 6, 1], [4, 4, 1]),
        (11, 0.25, False, [16, 16, 12], [4, 4, 3]),
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
    if 1 in candidates:  # one candidate is kept unseen
        assert trainer.scores.pop() is None
        assert trainer.kept.pop() == trainer.candidates.pop()
    assert_sifted(trainer)


# ---- how it computes ----


def test_torch_compile(tmp_path: Path) -> None:
    """One graph for the first number of labels and one for all others; scoring is not compiled."""
    changes = {"max_steps": 6, "sift_warmup_steps": 2}
    small = {**NO_DROPOUT, "num_hidden_layers": 2}
    eager = ran(tmp_path, bert(**small), Rows(80), **changes)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    changes |= {"torch_compile": True, "torch_compile_backend": "eager"}
    compiled = ran(tmp_path, bert(**small), Rows(80), **changes)
    assert compiled.losses == pytest.approx(eager.losses, abs=1e-4)
    assert compiled.kept == eager.kept
    assert [scores is not None for scores in compiled.scores] == [False] * 2 + [True] * 4
    counters = torch._dynamo.utils.counters
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    assert not counters["graph_break"]


def test_automatic_batch_size(tmp_path: Path) -> None:
    """Fewer rows are tried until they fit; the share of candidates that is kept stays."""
    fits = 5

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


@dataclass
class SequenceArguments(SiftArguments, Seq2SeqTrainingArguments):
    """As in docs/trainers.md."""


class SequenceTrainer(SiftMixin, Seq2SeqTrainer):
    """As in docs/trainers.md."""


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
        **quick(tmp_path, max_steps=15),
        sift_warmup_steps=0,
        sift_cooldown_steps=0,
        sift_selector="top_k",
        predict_with_generate=True,
    )
    trainer = SequenceTrainer(model, args, train_dataset=Pairs(), eval_dataset=Pairs())
    trainer.train()
    (selection,) = trainer.selections
    assert selection.scores is not None
    kept = selection.scores[selection.rows]
    assert torch.equal(kept.sort().values, selection.scores.sort().values[-4:])
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert sum(losses[-5:]) < sum(losses[:5])
    # By its own trainer: token ids, not logits.
    generated = trainer.predict(Pairs(), max_new_tokens=4).predictions
    assert (generated.ndim, len(generated)) == (2, 24)


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


# ---- repeated runs ----


def test_training_twice(tmp_path: Path) -> None:
    """The second run goes on with the model, counts from zero and is checked like the first."""
    trainer = ran(tmp_path)
    after_first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert_sifted(trainer)
    assert len(trainer.kept) == 8
    assert trained(trainer, after_first)
    assert trainer.losses[4] < trainer.losses[0]
    assert trainer.state.log_history[-1]["sift/candidates"] == 4 * 8
    trainer.sift.sift_warmup_steps = trainer.args.sift_warmup_steps = 4
    with pytest.raises(ValueError, match="sift_warmup_steps=4"):
        trainer.train()


def test_counters_are_of_the_rows_trained_on(tmp_path: Path) -> None:
    """They equal those of a plain Trainer of the same batch size."""
    changes = {"include_num_input_tokens_seen": "all", "max_steps": 3}
    sifting = ran(tmp_path, sift_keep_ratio=0.25, **changes)
    plain = Trainer(bert(), TrainingArguments(**quick(tmp_path, **changes)), train_dataset=Rows(48))
    plain.train()
    assert sifting.state.num_input_tokens_seen == plain.state.num_input_tokens_seen == 3 * 4 * 16
    assert sifting.state.total_flos == plain.state.total_flos > 0
    assert sifting.state.train_batch_size == plain.state.train_batch_size == 4
    last = sifting.state.log_history[-1]
    samples = last["train_samples_per_second"] * last["train_runtime"]
    assert samples == pytest.approx(3 * 4, rel=0.05)  # both figures are rounded


def test_a_single_step_with_default_settings_sifts(tmp_path: Path) -> None:
    args = TrainingArguments(**quick(tmp_path, max_steps=1))
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert trainer.scores[0] is not None
    assert len(trainer.kept[0]) == 4
