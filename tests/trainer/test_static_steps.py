"""A collator that fixes the number of labels: the same steps, of static shapes, without waiting."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, default_data_collator

from sift_trainer import SiftTrainer
from tests.training import LENGTH, VOCABULARY, RecordingTrainer, Rows, arguments, bert

CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LABELS = 5

WAITS = {
    "aten._local_scalar_dense.default": "reads a number",
    "aten.nonzero.default": "counts what it finds",
    "aten.masked_select.default": "counts what it finds",
    "aten.bincount.default": "looks for the largest",
    "aten.equal.default": "answers",
    "aten.unique_dim.default": "counts",
    "aten._unique2.default": "counts",
    "aten.repeat_interleave.Tensor": "adds up",
}
"""Operations whose result, or its shape, the host needs from the device."""


class FixedRows(Rows):
    """Rows without padding mask, with `LABELS` labels each, or one fewer in every third."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        draw = torch.Generator().manual_seed(count)
        order = torch.rand(count, LENGTH - 2, generator=draw).argsort(dim=1) + 2
        for row in range(count):
            self.labels[row] = -100
            columns = order[row, : LABELS - (row % 3 == 0)]
            self.labels[row, columns] = self.tokens[row, columns]

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[row], "labels": self.labels[row]}


class Collator:
    """The plain one, which says how many labels a row has."""

    def __init__(self, labels_per_row: Any) -> None:
        self.labels_per_row = labels_per_row

    def __call__(self, rows: list[Any]) -> Any:
        return default_data_collator(rows)


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": LENGTH}
    calm = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **calm))
    model.loss_type = "ForCausalLM"  # unset it is warned about, which breaks a graph
    return model


MODELS: dict[str, Any] = {"bert": lambda: bert(**CALM), "gpt2": gpt2}


# ---- the same steps ----


@pytest.mark.parametrize(
    ("model", "criterion", "fraction"),
    [("bert", "loss", 0.5), ("bert", "entropy", 1.0), ("gpt2", "loss", 1.0)],
)
def test_the_kept_samples_and_losses_are_the_same(
    model: str, criterion: str, fraction: float, tmp_path: Path
) -> None:
    runs = []
    for promised in (None, LABELS, LABELS + 3):
        args = arguments(tmp_path, sift_criterion=criterion, sift_token_fraction=fraction)
        trainer = RecordingTrainer(
            MODELS[model](), args, Collator(promised), train_dataset=FixedRows(48)
        )
        trainer.train()
        runs.append(trainer)
    for fixed in runs[1:]:
        assert fixed.kept == runs[0].kept
        assert fixed.losses == pytest.approx(runs[0].losses, rel=1e-5)
        for found, expected in zip(fixed.scores, runs[0].scores, strict=True):
            assert found == pytest.approx(expected, rel=1e-5)


# ---- shapes and waiting ----


class Waits(TorchDispatchMode):
    """Counts what a host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function)
        masks = name.startswith("aten.index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for arg in args
            if isinstance(arg, (list, tuple))
            for index in arg
        )
        if masks or name in WAITS:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def stepped(trainer: Any, around: Any, steps: int = 3, device: str = "cpu") -> list[Any]:
    """What ``around`` made of each of some steps after the first, which probes the model."""
    trainer.state.max_steps = trainer.args.max_steps
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.to(device)
    batches, noted = iter(trainer.get_train_dataloader()), []
    for step in range(steps + 1):
        trainer.state.global_step = step
        window, count = trainer.get_batch_samples(batches, 1, trainer.args.device)
        if step == 0:
            trainer.training_step(trainer.model, window[0], count)
            continue
        with around() as note:
            trainer.training_step(trainer.model, window[0], count)
        noted.append(note)
    return noted


def sifting(folder: Path, promised: int | None, **settings: Any) -> SiftTrainer:
    args = arguments(folder, **settings)
    return SiftTrainer(bert(), args, Collator(promised), train_dataset=FixedRows(48))


SETTINGS: list[dict[str, Any]] = [
    {},
    {"sift_criterion": "entropy"},
    {"sift_exit_layer": 2, "sift_token_fraction": 0.5},
    {"sift_exit_layer": -1, "sift_selector": "percentile", "sift_skip_top": 0.25},
    {"sift_criterion": "random"},
    {"sift_masked_only_head": False},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_sifted_step_waits_for_nothing_that_a_stock_one_does_not(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    stock = Trainer(bert(), arguments(tmp_path), Collator(None), train_dataset=FixedRows(48))
    allowed = [waits.found for waits in stepped(stock, around=Waits)]
    sifted = stepped(sifting(tmp_path, LABELS, **settings), around=Waits)
    assert [waits.found for waits in sifted] == allowed


def test_without_labels_per_row_labels_are_counted_on_the_device(tmp_path: Path) -> None:
    """So that the test before this one can fail."""
    waits, *_ = stepped(sifting(tmp_path, None), around=Waits)
    assert waits.found["aten.nonzero.default"] == 2  # in scoring and in training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", SETTINGS)
def test_no_synchronisation_on_a_gpu(settings: dict[str, Any], tmp_path: Path) -> None:
    class Forbidden:
        def __enter__(self) -> None:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_: object) -> None:
            torch.cuda.set_sync_debug_mode("default")

    trainer = sifting(tmp_path, LABELS, use_cpu=False, **settings)
    stepped(trainer, device="cuda", around=Forbidden)


@pytest.mark.parametrize("model", MODELS)
def test_two_compiled_graphs_serve_all_steps(model: str, tmp_path: Path) -> None:
    """One scores and one trains, from the first step that sifts on."""
    runs, counters = [], torch._dynamo.utils.counters
    for compiled in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        torch.compiler.reset()
        counters.clear()
        args = arguments(tmp_path, max_steps=6, sift_warmup_steps=2, **compiled)
        trainer = RecordingTrainer(
            MODELS[model](), args, Collator(LABELS), train_dataset=FixedRows(80)
        )
        trainer.train()
        runs.append(trainer)
    eager, compiled_run = runs
    assert compiled_run.kept == eager.kept
    assert compiled_run.losses == pytest.approx(eager.losses, abs=1e-4)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 2


# ---- labels_per_row of a collator ----


@pytest.mark.parametrize("value", [0, 2.5, "19", True, LABELS - 1])
def test_a_wrong_number_is_refused_before_any_update(value: Any, tmp_path: Path) -> None:
    trainer = sifting(tmp_path, value)
    with pytest.raises(ValueError, match=rf"labels_per_row={value!r}.*or None"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_number_that_a_later_batch_exceeds_is_an_error_at_the_next_log_line(
    tmp_path: Path,
) -> None:
    """Nothing waits for it within the steps."""
    rows = FixedRows(48)
    rows.labels[40] = rows.tokens[40]  # all 16
    args = arguments(tmp_path, max_steps=6, logging_steps=3, seed=3)
    trainer = RecordingTrainer(bert(), args, Collator(LABELS), train_dataset=rows)
    with pytest.raises(ValueError, match=r"labels_per_row=5 .*11 labels"):
        trainer.train()
    step = next(step for step, drawn in enumerate(trainer.candidates, 1) if 40 in drawn)
    assert 1 < step <= trainer.state.global_step == (3 if step <= 3 else 6)
