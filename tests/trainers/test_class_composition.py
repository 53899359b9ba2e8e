"""Classes put together wrongly are refused with the line that works; a training step or batches
that would bypass sifting are refused before the first update."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from sift_trainer import SiftArguments, SiftMixin, SiftTrainer
from tests.training import Recording, Rows, arguments, bert, quick, trained


class Mixin:
    """Has nothing to do with trainers."""


@pytest.mark.parametrize(
    ("bases", "line"),
    [
        ((Seq2SeqTrainer, SiftMixin), "T(SiftMixin, Seq2SeqTrainer)"),
        ((Mixin, Seq2SeqTrainer, SiftTrainer), "T(Mixin, SiftTrainer, Seq2SeqTrainer)"),
        ((SiftTrainer, SiftMixin), "T(SiftTrainer)"),
    ],
)
def test_bases_in_the_wrong_order(bases: tuple[type, ...], line: str) -> None:
    with pytest.raises(TypeError, match=r"^T: ") as raised:
        type("T", bases, {})
    assert f"class {line}" in str(raised.value)
    right = eval(f"({line[2:-1]},)", dict(vars(transformers), **globals()))
    made = type("T", right, {})
    assert made.training_step is SiftMixin.training_step


def test_the_mixin_alone(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"MyTrainer\(SiftMixin, Trainer\)"):
        SiftMixin(bert(), arguments(tmp_path), train_dataset=Rows(48))


# ---- arguments ----


def undecorated() -> Any:
    class A(SiftArguments, Seq2SeqTrainingArguments):
        pass

    return A


def behind() -> Any:
    @dataclass
    class A(Seq2SeqTrainingArguments, SiftArguments):
        pass

    return A


@pytest.mark.parametrize("make", [undecorated, behind])
def test_arguments_that_would_lose_fields_or_checks(make: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^A") as raised:
        make()(**quick(tmp_path))
    line = "@dataclass class A(SiftArguments, Seq2SeqTrainingArguments)"
    assert line in str(raised.value)


@dataclass
class OtherArguments(TrainingArguments):
    """A trainer's own."""


class Dropping(Trainer):
    """Makes arguments of its own class, as TRL's trainers do, and leaves other fields out."""

    def __init__(self, model: Any, args: Any, **kwargs: Any) -> None:
        if not isinstance(args, OtherArguments):
            args = OtherArguments(**quick(args.output_dir))
        super().__init__(model, args, **kwargs)


def test_a_trainer_that_would_drop_the_sift_fields(tmp_path: Path) -> None:
    class T(SiftMixin, Dropping):
        pass

    @dataclass
    class TArguments(SiftArguments, OtherArguments):
        pass

    with pytest.raises(TypeError, match=r"class TArguments\(SiftArguments, OtherArguments\)"):
        T(bert(), arguments(tmp_path), train_dataset=Rows(48))
    args = TArguments(**quick(tmp_path), sift_keep_ratio=0.25)
    assert T(bert(), args, train_dataset=Rows(48)).sift.sift_keep_ratio == 0.25
    # Plain arguments have nothing to lose.
    sift = T(bert(), TrainingArguments(**quick(tmp_path))).sift
    assert all(getattr(sift, each.name) == each.default for each in fields(SiftArguments))


# ---- a training step that bypasses sifting ----


def own_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
    """A whole training step, without super()."""
    model.train()
    inputs = self._prepare_inputs(inputs)
    self.rows.append(len(inputs["labels"]))
    loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
    self.accelerator.backward(loss)
    return loss.detach()


def test_training_step_in_front_of_the_mixin(tmp_path: Path) -> None:
    """It would train on all candidates."""

    class T(SiftTrainer):
        training_step = own_step

    trainer = T(bert(), arguments(tmp_path), train_dataset=Rows(48))
    trainer.rows = []
    with pytest.raises(ValueError, match=r"class Mine\(SiftMixin, ThatClass\)"):
        trainer.train()
    assert trainer.rows == [8]
    assert not trained(trainer)


def test_training_step_behind_the_mixin_gets_the_kept_rows(tmp_path: Path) -> None:
    class Behind(Trainer):
        training_step = own_step

    class T(Recording, Behind):
        pass

    trainer = T(bert(), arguments(tmp_path, sift_masked_only_head=False), train_dataset=Rows(48))
    trainer.rows = []
    trainer.train()
    assert trainer.rows == [4] * 4
    for candidates, kept, scores in zip(
        trainer.candidates, trainer.kept, trainer.scores, strict=True
    ):
        ranked = sorted(zip(scores or [], candidates, strict=True), reverse=True)
        assert set(kept) == {row for _, row in ranked[:4]}
    assert trained(trainer)


class OwnBatches(SiftTrainer):
    """The mixin does not see its batches before the step."""

    def get_batch_samples(self, iterator: Any, number: int, device: Any) -> Any:
        return Trainer.get_batch_samples(self, iterator, number, device)


class Copying(SiftTrainer):
    def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
        return super().training_step(model, dict(inputs), *args)


@pytest.mark.parametrize(
    ("kind", "refusal"), [(OwnBatches, "get_batch_samples"), (Copying, "change the batch in place")]
)
def test_batches_that_the_mixin_does_not_know(
    kind: type[SiftTrainer], refusal: str, tmp_path: Path
) -> None:
    args = arguments(tmp_path, gradient_accumulation_steps=2)
    trainer = kind(bert(), args, train_dataset=Rows(48))
    with pytest.raises(ValueError, match=refusal):
        trainer.train()
    assert not trained(trainer)


def test_a_batch_that_is_trained_on_twice_is_narrowed_once(tmp_path: Path) -> None:
    """Adversarial training takes a second step on the same rows with changed weights."""
    rows: list[int] = []

    class T(SiftTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            for _ in range(2):
                loss = super().training_step(model, inputs, *args)
                rows.append(len(inputs["labels"]))
            return loss

    T(bert(), arguments(tmp_path, max_steps=2), train_dataset=Rows(48)).train()
    assert rows == [4, 4] * 2
