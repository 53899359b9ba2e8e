"""What cannot work is refused, and says why."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, default_collate
from transformers import (
    BertForMaskedLM,
    DataCollatorWithFlattening,
    Trainer,
    TrainingArguments,
)

from sift_trainer import SiftMixin, SiftTrainer
from tests.training import (
    RecordingTrainer,
    Rows,
    Stream,
    arguments,
    bert,
    trained,
)

# ---- at construction ----


def refusal(folder: Path, data: Any = None, model: Any = None, **changes: Any) -> str:
    """What the construction of a trainer raises."""
    args = arguments(folder, **changes)
    with pytest.raises(ValueError, match=r".") as raised:
        SiftTrainer(model or bert(), args, train_dataset=Rows(48) if data is None else data)
    return str(raised.value)


def test_exit_beyond_the_model(tmp_path: Path) -> None:
    message = refusal(tmp_path, sift_exit_layer=4)
    assert "exit layer 4" in message
    assert "3 blocks" in message
    assert "1..3" in message


def test_exit_is_not_looked_for_where_nothing_exits(tmp_path: Path) -> None:
    SiftTrainer(bert(), arguments(tmp_path, sift_exit_layer=4, sift_criterion="random"))
    SiftTrainer(bert(), arguments(tmp_path, sift_exit_layer=4, sift_keep_ratio=1.0))


@pytest.mark.parametrize(("batch", "ratio"), [(1, 0.9), (2, 0.9), (4, 0.9)])
def test_batch_too_small_for_the_ratio(batch: int, ratio: float, tmp_path: Path) -> None:
    message = refusal(tmp_path, per_device_train_batch_size=batch, sift_keep_ratio=ratio)
    assert f"sift_keep_ratio={ratio}" in message
    assert f"per_device_train_batch_size={batch}" in message


def test_batch_of_which_the_share_to_leave_out_is_nothing(tmp_path: Path) -> None:
    """4 rows of 8 candidates: a sixteenth of them is half a row, which rounds to none."""
    message = refusal(tmp_path, per_device_train_batch_size=4, sift_skip_top=0.06)
    assert "sift_skip_top=0.06 with per_device_train_batch_size=4 is none of the 8" in message
    SiftTrainer(bert(), arguments(tmp_path, sift_skip_top=0.07), train_dataset=Rows(48))
    SiftTrainer(bert(), arguments(tmp_path, sift_skip_top=0.06, sift_keep_ratio=1.0))


def test_smallest_batch_that_fits_the_ratio(tmp_path: Path) -> None:
    """5 / 0.9 = 5.6, which rounds to 6 candidates."""
    args = arguments(tmp_path, per_device_train_batch_size=5, sift_keep_ratio=0.9)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert [len(rows) for rows in trainer.candidates] == [6] * 4
    assert [len(rows) for rows in trainer.kept] == [5] * 4


def test_batch_that_automatic_size_made_too_small(tmp_path: Path) -> None:
    """With memory for 4 rows only: they would come from 4 / 0.9 = 4.4, so 4, candidates."""

    class Small(BertForMaskedLM):
        def forward(self, input_ids: Any = None, labels: Any = None, **kwargs: Any) -> Any:
            if self.training and len(input_ids) > 4:
                raise RuntimeError("CUDA out of memory.")
            return super().forward(input_ids=input_ids, labels=labels, **kwargs)

    args = arguments(
        tmp_path, per_device_train_batch_size=14, sift_keep_ratio=0.9, auto_find_batch_size=True
    )
    trainer = SiftTrainer(Small(bert().config), args, train_dataset=Rows(48))
    with pytest.raises(ValueError, match=r"sift_keep_ratio=0\.9 .*per_device_train_batch_size=4 "):
        trainer.train()


def test_batches_fixed_by_the_sampler(tmp_path: Path) -> None:
    message = refusal(tmp_path, train_sampling_strategy="batch_rebalance")
    assert "train_sampling_strategy='batch_rebalance'" in message
    assert "'random'" in message


def test_uneven_batches_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"even_batches": False}
    SiftTrainer(bert(), arguments(tmp_path, accelerator_config=config), train_dataset=Rows(48))
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    message = refusal(tmp_path, accelerator_config=config)
    assert "even_batches=False" in message
    assert "even_batches=True" in message


def test_one_process_for_several_gpus(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    assert args.n_gpu == 0  # looked up now, so that the next line stays
    args._n_gpu = 2
    with pytest.raises(ValueError, match=r"2 GPUs .*accelerate launch"):
        SiftTrainer(bert(), args, train_dataset=Rows(48))


def test_bases_in_the_wrong_order() -> None:
    with pytest.raises(TypeError, match=r"class Wrong\(SiftMixin, Trainer\)"):

        class Wrong(Trainer, SiftMixin):
            pass

    class Right(SiftMixin, Trainer):
        pass


# ---- warm-up and cool-down beyond the run ----


@pytest.mark.parametrize(
    ("warmup", "cooldown", "reads"),
    [(4, 0, "4 + 0"), (2, 2, "2 + 2"), (0, 9, "0 + 9"), (0.5, 2, "2 + 2"), (3, 0.25, "3 + 1")],
)
@pytest.mark.parametrize("data", [Rows(48), Stream(48)])
def test_no_step_left_of_max_steps(
    warmup: float, cooldown: float, reads: str, data: Any, tmp_path: Path
) -> None:
    changes = {"sift_warmup_steps": warmup, "sift_cooldown_steps": cooldown}
    message = refusal(tmp_path, data, max_steps=4, **changes)
    assert f"sift_warmup_steps={warmup}" in message
    assert f"sift_cooldown_steps={cooldown}" in message
    assert f"{reads} steps of a run of 4" in message


def test_one_step_left_is_enough(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=4, sift_warmup_steps=2, sift_cooldown_steps=1)
    trainer = RecordingTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert [scores is not None for scores in trainer.scores] == [False, False, True, False]


@pytest.mark.parametrize(
    ("rows", "changes", "steps"),
    [
        (48, {"num_train_epochs": 2}, 12),  # 48 / 8 candidates, twice
        (48, {"num_train_epochs": 0.5}, 3),
        (50, {"num_train_epochs": 1}, 7),
        (50, {"num_train_epochs": 1, "dataloader_drop_last": True}, 6),
        (50, {"num_train_epochs": 2, "gradient_accumulation_steps": 2}, 8),  # 4 windows of 7 / 2
        (48, {"num_train_epochs": 1, "sift_keep_ratio": 0.25}, 3),
    ],
)
def test_no_step_left_of_the_epochs(
    rows: int, changes: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    changes = {"max_steps": -1, **changes}
    message = refusal(tmp_path, Rows(rows), sift_warmup_steps=steps, **changes)
    assert f"of a run of {steps}," in message
    args = arguments(tmp_path, sift_warmup_steps=steps - 1, **changes)
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(rows))
    assert trainer.train().global_step == steps


# ---- at the first batch, before any update ----


def refused_untouched(trainer: SiftTrainer, match: str) -> None:
    """Training raises and has changed no parameter and no mode."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.train()
    with pytest.raises(ValueError, match=match):
        trainer.train()
    assert not trained(trainer, before)
    assert trainer.state.global_step == 0
    assert all(module.training for module in trainer.model.modules())


def test_run_found_too_short(tmp_path: Path) -> None:
    """The data was not what it is when the trainer was made."""
    args = arguments(tmp_path, max_steps=-1, num_train_epochs=1, sift_warmup_steps=3)
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(48))
    trainer.train_dataset = Rows(24)
    refused_untouched(trainer, r"3 \+ 0 steps of a run of 3")


@pytest.mark.parametrize("warmup", [0, 2])
def test_no_labels(warmup: int, tmp_path: Path) -> None:
    """Also when sifting begins only later."""
    args = arguments(tmp_path, sift_warmup_steps=warmup)
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(48, labelled=False))
    refused_untouched(trainer, r"sift_criterion='loss' needs 'labels'.*\['attention_mask', 'input_")


def test_collator_that_flattens(tmp_path: Path) -> None:
    """Known by its class it is refused at construction."""
    with pytest.raises(
        ValueError, match=r"DataCollatorWithFlattening\(\.\.\.\).*use one that pads"
    ):
        SiftTrainer(
            bert(),
            arguments(tmp_path),
            train_dataset=Lists(48),
            data_collator=DataCollatorWithFlattening(),
        )


@pytest.mark.parametrize(
    ("lengths", "match"),
    [
        (False, "1 row where 8 candidates were drawn.*one sample per row"),
        (True, r"cu_seq_lens_q: 9.*one sample per row \(no packing\)"),
    ],
)
def test_packed_into_one_row(lengths: bool, match: str, tmp_path: Path) -> None:
    """With or without sequence lengths, by a collator of the user's own."""
    flattening = DataCollatorWithFlattening(return_flash_attn_kwargs=lengths)
    trainer = SiftTrainer(
        bert(max_position_embeddings=8 * 16),
        arguments(tmp_path, remove_unused_columns=False),
        train_dataset=Lists(48),
        data_collator=lambda samples: flattening(samples),
    )
    refused_untouched(trainer, match)


def test_a_single_row_of_data(tmp_path: Path) -> None:
    trainer = SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(1))
    refused_untouched(trainer, r"the data of this process has 1 row; .* or sift_keep_ratio=1\.0")


@pytest.mark.parametrize("nested", [{"inner": torch.ones(8)}, [torch.ones(8, 2), torch.ones(8, 2)]])
def test_nested_inputs(nested: Any, tmp_path: Path) -> None:
    trainer = SiftTrainer(
        bert(),
        arguments(tmp_path),
        train_dataset=Rows(48),
        data_collator=lambda rows: {**default_collate(rows), "extra": nested},
    )
    refused_untouched(trainer, f"'extra' is a nested {type(nested).__name__}")


def test_loader_that_yields_other_batches_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of the user's own knows nothing of candidates: half of each batch would be dropped."""

    class Own(RecordingTrainer):
        def get_train_dataloader(self) -> Any:
            loader = DataLoader(self.train_dataset, batch_size=self.args.train_batch_size)
            return self.accelerator.prepare(loader)

    Own(bert(), arguments(tmp_path), train_dataset=Rows(48)).train()
    (warning,) = (r.message for r in caplog.records if "candidates were to be" in r.message)
    assert "has 4 rows where 8 candidates" in warning
    assert "so 2 are trained on" in warning
    assert "get_train_dataloader" in warning
    caplog.clear()
    RecordingTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48)).train()
    assert "candidates were to be" not in caplog.text


def test_packed_is_fine_where_nothing_is_sifted(tmp_path: Path) -> None:
    trainer = SiftTrainer(
        bert(max_position_embeddings=8 * 16),
        arguments(tmp_path, sift_keep_ratio=1.0),
        train_dataset=Lists(48),
        data_collator=DataCollatorWithFlattening(),
    )
    trainer.train()
    assert trained(trainer, bert(max_position_embeddings=8 * 16).state_dict())


class Lists(Rows):
    """`Rows` as the flattening collator wants them."""

    def __getitem__(self, row: int) -> Any:
        return {
            name: super(Lists, self).__getitem__(row)[name].tolist()
            for name in ("input_ids", "labels")
        }
