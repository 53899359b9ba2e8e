"""What cannot work is refused, with the field, its value and a reason."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorWithFlattening, TrainingArguments

from sift_trainer import SiftTrainer
from tests.training import RecordingTrainer, Rows, arguments, bert, trained

# ---- at construction ----

REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"sift_exit_layer": 4}, ["exit layer 4", "3 blocks", "1..3"]),
    (
        {"per_device_train_batch_size": 4, "sift_keep_ratio": 0.9},
        ["sift_keep_ratio=0.9", "per_device_train_batch_size=4"],
    ),
    ({"sift_skip_top": 0.06}, ["sift_skip_top=0.06"]),  # half a row of 8 candidates
    (
        {"train_sampling_strategy": "batch_rebalance"},
        ["train_sampling_strategy='batch_rebalance'", "'random'"],
    ),
    ({"sift_warmup_steps": 2, "sift_cooldown_steps": 2}, ["2 + 2 steps of a run of 4"]),
    ({"sift_warmup_steps": 3, "sift_cooldown_steps": 0.25}, ["3 + 1 steps of a run of 4"]),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=str)
def test_settings_that_cannot_work(
    changes: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        SiftTrainer(bert(), arguments(tmp_path, **changes), train_dataset=Rows(48))
    assert all(part in str(raised.value) for part in parts), str(raised.value)


def test_uneven_batches_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(tmp_path, accelerator_config={"even_batches": False})
    SiftTrainer(bert(), args, train_dataset=Rows(48))
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match="even_batches=False"):
        SiftTrainer(bert(), args, train_dataset=Rows(48))


def test_one_process_for_several_gpus(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    assert args.n_gpu == 0  # looked up now, so that the next line stays
    args._n_gpu = 2
    with pytest.raises(ValueError, match=r"2 GPUs .*accelerate launch"):
        SiftTrainer(bert(), args, train_dataset=Rows(48))


@pytest.mark.parametrize(
    ("rows", "changes", "steps"),
    [
        (48, {"num_train_epochs": 0.5}, 6),  # half of 48 / 4 updates
        (50, {"num_train_epochs": 1, "dataloader_drop_last": True}, 12),
        (50, {"num_train_epochs": 2, "gradient_accumulation_steps": 2}, 14),  # 13 / 2 windows
        (48, {"num_train_epochs": 1, "sift_keep_ratio": 0.25}, 12),
    ],
)
def test_no_step_left_of_the_epochs(
    rows: int, changes: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    changes = {"max_steps": -1, **changes}
    args = arguments(tmp_path, sift_warmup_steps=steps, **changes)
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(rows))
    with pytest.raises(ValueError, match=f"of a run of {steps}[^0-9]"):
        trainer.train()
    assert trainer.state.global_step == 0
    args = arguments(tmp_path, sift_warmup_steps=steps - 1, **changes)
    trainer = SiftTrainer(bert(), args, train_dataset=Rows(rows))
    assert trainer.train().global_step == steps


# ---- before the first update ----


def refused_untouched(match: str, folder: Path, model: Any = None, **given: Any) -> None:
    """Construction or training raises, and no parameter has changed."""
    model = model or bert()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    args = arguments(folder, **given.pop("changes", {}))
    with pytest.raises(ValueError, match=match):
        SiftTrainer(model, args, **{"train_dataset": Rows(48), **given}).train()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("warmup", [0, 2])
def test_no_labels(warmup: int, tmp_path: Path) -> None:
    """Also when sifting begins only later."""
    refused_untouched(
        "sift_criterion='loss' needs 'labels'",
        tmp_path,
        train_dataset=Rows(48, labelled=False),
        changes={"sift_warmup_steps": warmup},
    )


class Lists(Rows):
    """`Rows` as the flattening collator wants them."""

    def __getitem__(self, row: int) -> Any:
        return {
            name: super(Lists, self).__getitem__(row)[name].tolist()
            for name in ("input_ids", "labels")
        }


def flattening(samples: list[Any]) -> Any:
    return DataCollatorWithFlattening(return_flash_attn_kwargs=False)(samples)


def flattening_with_lengths(samples: list[Any]) -> Any:
    return DataCollatorWithFlattening(return_flash_attn_kwargs=True)(samples)


@pytest.mark.parametrize(
    ("collator", "match"),
    [
        (DataCollatorWithFlattening(), "DataCollatorWithFlattening"),
        (flattening, "1 row where 8 candidates"),
        (flattening_with_lengths, "one sample per row"),
    ],
)
def test_packed_into_one_row(collator: Any, match: str, tmp_path: Path) -> None:
    """By a known collator or by one of the user's own; without sifting it is no mistake."""
    changes = {"remove_unused_columns": False}
    given = {"train_dataset": Lists(48), "data_collator": collator}
    model = bert(max_position_embeddings=8 * 16)
    refused_untouched(match, tmp_path, model, changes=changes, **given)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = SiftTrainer(model, arguments(tmp_path, sift_keep_ratio=1.0, **changes), **given)
    trainer.train()
    assert trained(trainer, before)


def test_loader_that_yields_other_batches_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user's own loader draws no candidates: half of each batch would be dropped."""

    class Own(RecordingTrainer):
        def get_train_dataloader(self) -> Any:
            loader = DataLoader(self.train_dataset, batch_size=self.args.train_batch_size)
            return self.accelerator.prepare(loader)

    Own(bert(), arguments(tmp_path), train_dataset=Rows(48)).train()
    assert "get_train_dataloader" in caplog.text
    caplog.clear()
    RecordingTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48)).train()
    assert "get_train_dataloader" not in caplog.text
