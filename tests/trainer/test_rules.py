"""Rules in training: without a scoring pass, with a reference, at another size, every n-th step."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, default_data_collator

from sift_trainer import SiftTrainer, per_sample_loss
from sift_trainer.selection.schedule import should_sift
from tests.probe.probed import Images, resnet
from tests.training import RecordingTrainer, Rows, Stream, arguments, bert

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def test_last_losses_need_no_column_no_pass_and_no_collator_of_their_own(tmp_path: Path) -> None:
    """Rows of 16 in four batches of 4: what a row is scored by is the loss that it had when it was
    last trained on; one that was not yet seen has the largest so far."""
    args = arguments(
        tmp_path,
        sift_criterion="last_loss",
        sift_selector="infobatch",
        num_train_epochs=4,
        max_steps=-1,
        optim="sgd",
    )
    trainer = RecordingTrainer(bert(**NO_DROPOUT), args, train_dataset=Rows(16))
    seen: dict[int, float] = {}
    compared = 0
    losses = trainer_losses(trainer)
    trainer.train()
    for scores, drawn, kept, mean in zip(
        trainer.scores, trainer.candidates, trainer.kept, losses, strict=True
    ):
        assert scores is not None
        for row, score in zip(drawn, scores, strict=True):
            expected = seen.get(row, max(seen.values(), default=1.0))
            assert score == pytest.approx(expected, rel=1e-5)
            compared += row in seen
        seen.update(zip(kept, mean, strict=True))
    assert compared > 50
    assert trainer.state.log_history[-1]["sift/sampling_hours"] < 1


def trainer_losses(trainer: RecordingTrainer) -> list[list[float]]:
    """A list that training fills with the losses of the kept rows, by the whole model before the
    update; dropout is off."""
    found: list[list[float]] = []
    step = trainer.training_step

    def noted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        loss = step(model, inputs, *args, **kwargs)
        assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"]).logits
        found.append(per_sample_loss(logits, inputs["labels"]).tolist())
        return loss

    trainer.training_step = noted  # type: ignore[method-assign]
    return found


def test_a_stream_has_no_last_losses(tmp_path: Path) -> None:
    args = arguments(tmp_path, sift_criterion="last_loss")
    with pytest.raises(ValueError, match=r"last_loss.*stream.*predicted_loss"):
        SiftTrainer(bert(), args, train_dataset=Stream(16)).train()


class Referenced(Rows):
    """With losses of a reference model, which only a column tells."""

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**super().__getitem__(row), "reference": float(row % 7)}


def test_a_reference_loss_is_subtracted(tmp_path: Path) -> None:
    found = []
    for column in (None, "reference"):
        args = arguments(tmp_path, max_steps=1, sift_reference_column=column)
        trainer = RecordingTrainer(bert(**NO_DROPOUT), args, train_dataset=Referenced(48))
        trainer.train()
        found.append((trainer.candidates[0], torch.tensor(trainer.scores[0])))
        assert trainer.evaluate(Rows(8))["eval_loss"] > 0
    (rows, plain), (again, reduced) = found
    assert rows == again
    torch.testing.assert_close(plain - reduced, torch.tensor([float(row % 7) for row in rows]))


@pytest.mark.parametrize(
    ("value", "message"),
    [(None, "holds None"), ([1.0, 2.0], r"holds \[1.0, 2.0\]"), (float("nan"), "holds nan")],
)
def test_a_column_must_hold_numbers(value: Any, message: str, tmp_path: Path) -> None:
    data = [{**Rows(48)[row], "reference": value} for row in range(48)]
    args = arguments(tmp_path, sift_reference_column="reference")
    with pytest.raises(ValueError, match=f"column 'reference'.*{message}.*one finite number"):
        SiftTrainer(bert(), args, train_dataset=data).train()


@pytest.mark.parametrize("criterion", ["random", "entropy", "last_loss"])
def test_a_reference_is_subtracted_from_losses_only(criterion: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sift_reference_column='reference' is subtracted"):
        arguments(tmp_path, sift_criterion=criterion, sift_reference_column="reference")


def test_samples_without_a_label_have_no_last_loss(tmp_path: Path) -> None:
    """Half of the rows have none. Once each row was drawn, the others win."""
    data = Rows(16)
    data.labels[::2] = -100
    args = arguments(tmp_path, sift_criterion="last_loss", num_train_epochs=8, max_steps=-1)
    trainer = RecordingTrainer(bert(), args, train_dataset=data)
    trainer.train()
    late = [row for kept in trainer.kept[-12:] for row in kept]
    assert sum(row % 2 for row in late) / len(late) > 0.8


def test_last_losses_of_a_data_set_with_columns(tmp_path: Path) -> None:
    """The Trainer still sees a `datasets.Dataset`: it groups by the length column."""
    rows = [Rows(48)[row] for row in range(48)]
    columns = {name: [row[name].tolist() for row in rows] for name in rows[0]}
    data = datasets.Dataset.from_dict({**columns, "length": list(range(48)), "text": ["a"] * 48})
    args = arguments(
        tmp_path, sift_criterion="last_loss", train_sampling_strategy="group_by_length"
    )
    trainer = SiftTrainer(bert(), args, train_dataset=data, data_collator=default_data_collator)
    trainer.train()
    assert trainer._criterion is not None
    assert trainer._criterion.state_dict()["losses"].isfinite().sum() >= 8


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    args = arguments(tmp_path, sift_reference_column="reference")
    with pytest.raises(ValueError, match=r"no column 'reference'.*sift_reference_column"):
        SiftTrainer(bert(), args, train_dataset=Rows(48)).train()


@pytest.mark.parametrize(
    ("interval", "sifts"),
    [
        (1, [1, 1, 1, 1, 1, 1]),
        (2, [1, 0, 1, 0, 1, 0]),
        (3, [1, 0, 0, 1, 0, 0]),
        (-2, [1, 0, 1, 0, 1, 0]),
        (-3, [1, 1, 0, 1, 1, 0]),
        (-4, [1, 1, 1, 0, 1, 1]),
    ],
)
def test_every_nth_step_sifts_or_does_not(interval: int, sifts: list[int]) -> None:
    found = [should_sift(step, 10, 2, 2, interval) for step in range(10)]
    assert found == [False, False, *map(bool, sifts), False, False]


def test_composers_default_schedule_is_two_settings() -> None:
    """From 50% to 90% of the run, every second step plain."""
    found = [step for step in range(100) if should_sift(step, 100, 0.5, 0.1, 2)]
    assert found == list(range(50, 90, 2))


def test_images_are_scored_at_a_reduced_size(tmp_path: Path) -> None:
    sizes: list[tuple[int, bool]] = []
    model = resnet()
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(
            (kwargs["pixel_values"].shape[-1], module.training)
        ),
        with_kwargs=True,
    )
    data = Images(64)
    side = data[0]["pixel_values"].shape[-1]
    args = arguments(tmp_path, sift_image_scale=0.5, max_steps=2)
    SiftTrainer(model, args, train_dataset=data).train()
    assert (side, True) in sizes
    assert (side // 2, False) in sizes
    assert (side // 2, True) not in sizes


def test_models_and_batches_that_have_one_size_are_refused(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    data = [{"pixel_values": torch.randn(3, 8, 8), "labels": row % 2} for row in range(32)]
    args = arguments(tmp_path, sift_image_scale=0.5)
    with pytest.raises(ValueError, match=r"ViTForImageClassification.*sift_image_scale=0.5"):
        SiftTrainer(ViTForImageClassification(config), args, train_dataset=data).train()
    with pytest.raises(ValueError, match=r"sift_image_scale=0.5.*has none"):
        SiftTrainer(bert(), args, train_dataset=Rows(48)).train()


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    ("criterion", "selector"),
    [
        ("predicted_loss", "mixed"),
        ("predicted_loss", "importance"),
        ("entropy", "stratified"),
        ("last_loss", "infobatch"),
    ],
)
def test_rules_resume_bit_for_bit(
    criterion: str, selector: str, accumulation: int, tmp_path: Path
) -> None:
    """With dropout, from the middle of an epoch, into a model with other weights."""
    settings = {
        "sift_criterion": criterion,
        "sift_selector": selector,
        "sift_warmup_steps": 2,
        "gradient_accumulation_steps": accumulation,
        "max_steps": 9,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = RecordingTrainer(bert(), arguments(tmp_path, **settings), train_dataset=Rows(26))
    whole.train()
    resumed = RecordingTrainer(bert(1), arguments(tmp_path, **settings), train_dataset=Rows(26))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    done = 3 * accumulation
    assert resumed.kept == whole.kept[done:]
    assert resumed.scores == whole.scores[done:]
    assert any(scores is not None for scores in resumed.scores)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    before, after = (
        [{name: line[name] for name in line if name in ("loss", "sift/agreement")} for line in each]
        for each in (whole.state.log_history[3:9], resumed.state.log_history[3:9])
    )
    assert after == before
