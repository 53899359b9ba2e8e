"""What editors and type checkers show: the signatures of the stock Trainer, and help texts."""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from transformers import HfArgumentParser, Seq2SeqTrainingArguments, Trainer

from sift_trainer import SiftArguments, SiftTrainer, SiftTrainingArguments
from sift_trainer.field_help import described


@dataclass
class Mixed(SiftArguments, Seq2SeqTrainingArguments):
    """Other arguments with the sift fields."""


def test_the_constructor_has_the_stock_trainers_signature() -> None:
    assert inspect.signature(SiftTrainer) == inspect.signature(Trainer)


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_methods_have_the_stock_trainers_signature(name: str) -> None:
    ours, theirs = getattr(SiftTrainer, name), getattr(Trainer, name)
    assert inspect.signature(ours) == inspect.signature(theirs)


def test_every_field_has_a_help_text_from_the_docstring() -> None:
    texts = described(SiftArguments)
    names = [field.name for field in fields(SiftArguments)]
    assert list(texts) == names
    for kind in (SiftArguments, SiftTrainingArguments, Mixed):
        helps = {field.name: field.metadata.get("help") for field in fields(kind)}
        assert {name: helps[name] for name in names} == texts
    assert all(len(text) > 15 for text in texts.values())


def test_help_of_the_command_line_prints_the_texts(tmp_path: Path) -> None:
    shown = " ".join(HfArgumentParser(Mixed).format_help().split())
    for text in described(SiftArguments).values():
        assert " ".join(text.split())[:40] in shown
