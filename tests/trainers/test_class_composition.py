"""Classes put together wrongly are refused with the line that works, and that line works."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from sift_trainer import SiftArguments, SiftMixin, SiftTrainer, SiftTrainingArguments
from tests.training import Recording, Rows, arguments, bert, quick, trained


class Theirs(Trainer):
    """A trainer of somebody else's."""


class Mixin:
    """Has nothing to do with trainers."""


WRONG = {
    "the mixin last": ((Seq2SeqTrainer, SiftMixin), "T(SiftMixin, Seq2SeqTrainer)"),
    "the mixin behind a user's": ((Theirs, SiftMixin), "T(SiftMixin, Theirs)"),
    "SiftTrainer last": ((Seq2SeqTrainer, SiftTrainer), "T(SiftTrainer, Seq2SeqTrainer)"),
    "another mixin in front": ((Mixin, Theirs, SiftMixin), "T(Mixin, SiftMixin, Theirs)"),
    "both": ((SiftTrainer, SiftMixin), "T(SiftTrainer)"),
    "both and a trainer": (
        (SiftTrainer, SiftMixin, Seq2SeqTrainer),
        "T(SiftTrainer, Seq2SeqTrainer)",
    ),
}
RIGHT = {
    "T(SiftMixin, Seq2SeqTrainer)": (SiftMixin, Seq2SeqTrainer),
    "T(SiftMixin, Theirs)": (SiftMixin, Theirs),
    "T(SiftTrainer, Seq2SeqTrainer)": (SiftTrainer, Seq2SeqTrainer),
    "T(Mixin, SiftMixin, Theirs)": (Mixin, SiftMixin, Theirs),
    "T(SiftTrainer)": (SiftTrainer,),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_bases_in_the_wrong_order(mistake: str) -> None:
    bases, line = WRONG[mistake]
    with pytest.raises(TypeError, match=r"^T: ") as raised:
        type("T", bases, {})
    assert str(raised.value).endswith(f"write class {line}")
    made = type("T", RIGHT[line], {})
    assert made.training_step is SiftMixin.training_step


def test_python_itself_refuses_the_mixin_in_front_of_sift_trainer() -> None:
    with pytest.raises(TypeError, match=r"(?s)order.*SiftMixin, SiftTrainer"):
        type("T", (SiftMixin, SiftTrainer), {})


def test_mixins_of_mixins_are_no_mistake() -> None:
    assert issubclass(type("T", (Recording, SiftTrainer), {}), SiftMixin)
    assert issubclass(type("T", (Recording, Theirs), {}), SiftMixin)


@pytest.mark.parametrize(
    ("made", "line"),
    [(SiftMixin, "MyTrainer(SiftMixin, Trainer)"), (Recording, "Recording(SiftMixin, Trainer)")],
)
def test_the_mixin_alone(made: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="has no trainer to extend") as raised:
        made(bert(), arguments(tmp_path), train_dataset=Rows(48))
    assert line in str(raised.value)


# ---- arguments ----


def undecorated() -> Any:
    class A(SiftArguments, Seq2SeqTrainingArguments):
        pass

    return A


def undecorated_with_fields() -> Any:
    class A(SiftTrainingArguments, Seq2SeqTrainingArguments):
        pass

    return A


def undecorated_behind() -> Any:
    class A(Seq2SeqTrainingArguments, SiftArguments):
        pass

    return A


def behind() -> Any:
    @dataclass
    class A(Seq2SeqTrainingArguments, SiftArguments):
        pass

    return A


@pytest.mark.parametrize(
    ("make", "mixin"),
    [
        (undecorated, "SiftArguments"),
        (undecorated_with_fields, "SiftTrainingArguments"),
        (undecorated_behind, "SiftArguments"),
        (behind, "SiftArguments"),
    ],
)
def test_arguments_that_would_lose_fields_or_checks(
    make: Callable[[], Any], mixin: str, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=r"^A") as raised:
        make()(**quick(tmp_path))
    line = f"write @dataclass class A({mixin}, Seq2SeqTrainingArguments)"
    assert str(raised.value).endswith(line)


def test_arguments_that_are_no_mistake(tmp_path: Path) -> None:
    class Plain(SiftTrainingArguments):
        """Without fields of its own it needs no decorator."""

    @dataclass
    class Chained(Seq2SeqTrainingArguments, SiftTrainingArguments):
        """TrainingArguments still come last."""

    for made in (Plain, Chained):
        assert made(**quick(tmp_path), sift_keep_ratio=0.25).sift_keep_ratio == 0.25
        with pytest.raises(ValueError, match="sift_keep_ratio=2"):
            made(**quick(tmp_path), sift_keep_ratio=2)
    names = {field.name for field in fields(SiftArguments)}
    assert set(signature(SiftArguments).parameters) == names


@dataclass
class OtherArguments(TrainingArguments):
    """A trainer's own."""

    extra: int = 0


class Converting(Trainer):
    """Makes arguments of its own class out of any others, as TRL's trainers do."""

    def __init__(self, model: Any, args: Any, **kwargs: Any) -> None:
        if not isinstance(args, OtherArguments):
            args = self.converted(args)
        super().__init__(model, args, **kwargs)

    def converted(self, args: Any) -> Any:
        values = {field.name: getattr(args, field.name) for field in fields(args) if field.init}
        return OtherArguments(**values)


class Dropping(Converting):
    """Does so without a word."""

    def converted(self, args: Any) -> Any:
        return OtherArguments(**quick(args.output_dir))


@pytest.mark.parametrize("base", [Converting, Dropping])
def test_arguments_of_which_the_trainer_would_drop_the_sift_fields(
    base: type, tmp_path: Path
) -> None:
    made: Any = type("T", (SiftMixin, base), {})
    with pytest.raises(TypeError, match="loses the fields of SiftArguments") as raised:
        made(bert(), arguments(tmp_path), train_dataset=Rows(48))
    line = "write @dataclass class TArguments(SiftArguments, OtherArguments)"
    assert line in str(raised.value)

    @dataclass
    class TArguments(SiftArguments, OtherArguments):
        pass

    args = TArguments(
        **quick(tmp_path), sift_warmup_steps=0, sift_cooldown_steps=0, sift_keep_ratio=0.25
    )
    trainer = made(bert(), args, train_dataset=Rows(48))
    assert trainer.sift.sift_keep_ratio == 0.25
    # Plain arguments have nothing to lose.
    assert made(bert(), TrainingArguments(**quick(tmp_path))).sift == SiftArguments()


def test_other_type_errors_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        SiftTrainer(bert(), arguments(tmp_path), train_dataset=Rows(48), colour="red")


# ---- a training step that passes sifting by ----


def own_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
    """A whole training step, without super()."""
    model.train()
    inputs = self._prepare_inputs(inputs)
    self.rows.append(len(inputs["labels"]))
    loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
    self.accelerator.backward(loss)
    return loss.detach()


def test_training_step_in_front_of_the_mixin(tmp_path: Path) -> None:
    """It would train on all the candidates: refused before the first update."""

    class T(SiftTrainer):
        training_step = own_step

    trainer = T(bert(), arguments(tmp_path), train_dataset=Rows(48))
    trainer.rows = []
    with pytest.raises(ValueError, match=r"unsifted.*class Mine\(SiftMixin, ThatClass\)"):
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


@pytest.mark.parametrize("accumulation", [1, 2])
def test_batches_that_the_mixin_has_not_seen(accumulation: int, tmp_path: Path) -> None:
    """Of one alone the labels can be counted; of a window they cannot."""

    class T(SiftTrainer):
        def get_batch_samples(self, iterator: Any, number: int, device: Any) -> Any:
            return Trainer.get_batch_samples(self, iterator, number, device)

    args = arguments(tmp_path, gradient_accumulation_steps=accumulation)
    trainer = T(bert(), args, train_dataset=Rows(48))
    if accumulation == 1:
        trainer.train()
        assert len(trainer.selections[0].rows) == 4
        return
    with pytest.raises(ValueError, match=r"window of 2 micro-batches.*get_batch_samples"):
        trainer.train()
    assert not trained(trainer)


@pytest.mark.parametrize("copies", [True, False])
def test_a_batch_that_training_step_changes(copies: bool, tmp_path: Path) -> None:
    """In place it is still that of the window; a copy is not, and the message says so."""

    class T(SiftTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            inputs = dict(inputs) if copies else inputs
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            return super().training_step(model, inputs, *args)

    trainer = T(bert(), arguments(tmp_path, gradient_accumulation_steps=2), train_dataset=Rows(48))
    if not copies:
        trainer.train()
        assert [len(selection.rows) for selection in trainer.selections] == [4, 4]
        return
    with pytest.raises(ValueError, match=r"training_step is.* a copy .*change the batch in place"):
        trainer.train()
    assert not trained(trainer)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_batch_that_is_trained_on_twice_is_narrowed_once(
    accumulation: int, tmp_path: Path
) -> None:
    """As adversarial training does: a step, and another of the same rows with changed weights."""
    rows: list[int] = []

    class T(SiftTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            loss = super().training_step(model, inputs, *args)
            rows.append(len(inputs["labels"]))
            super().training_step(model, inputs, *args)
            rows.append(len(inputs["labels"]))
            return loss

    args = arguments(tmp_path, max_steps=2, gradient_accumulation_steps=accumulation)
    trainer = T(bert(), args, train_dataset=Rows(48))
    trainer.train()
    assert rows == [4, 4] * 2 * accumulation
    assert trainer.sift_callback.candidates == 8 * 2 * accumulation
