"""Which batches a probe reads, when it ends, and what it refuses."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from sift_trainer import SiftTrainer
from sift_trainer.probe import probe, probing
from tests.probe.probed import FAST, trainer_of
from tests.training import Rows, Stream, arguments, bert


def test_it_ends_when_the_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"max_seconds=1e-06 ended the probe after 1.*max_seconds=\d+"
    ):
        probe(trainer_of(tmp_path), exits=[1], max_seconds=1e-6, **FAST)
    seconds = itertools.count()  # a second passes whenever the clock is looked at
    monkeypatch.setattr(probing, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    result = probe(trainer_of(tmp_path), exits=[1], max_seconds=4.0, **{**FAST, "batches": 50})
    assert (result.batches, result.ended_by) == (4, "max_seconds=4")


def test_it_ends_with_the_data_and_leaves_a_short_batch_out(tmp_path: Path) -> None:
    result = probe(trainer_of(tmp_path, data=Rows(44)), exits=[1], **{**FAST, "batches": 50})
    assert (result.batches, result.ended_by) == (3, "the end of the data")  # 2 of 5 held out
    with pytest.raises(ValueError, match="the end of the data ended the probe after 1"):
        probe(trainer_of(tmp_path, data=Rows(12)), exits=[1], **FAST)


def test_a_stream_is_probed(tmp_path: Path) -> None:
    result = probe(trainer_of(tmp_path, data=Stream(100)), exits=[1], **{**FAST, "batches": 3})
    assert result.batches == 3


def test_a_loader_of_ones_own_is_read(tmp_path: Path) -> None:
    class Own(SiftTrainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, 8, collate_fn=self.data_collator)

    trainer = Own(bert(), arguments(tmp_path), train_dataset=Rows(100))
    assert probe(trainer, exits=[1], **{**FAST, "batches": 2}).batches == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"exits": [4]}, "exit layer 4 is not in BertForMaskedLM.*1..3"),
        ({"criteria": ["perplexity"]}, "sift_criterion='perplexity'"),
        ({"fractions": [0.0]}, "sift_token_fraction=0.0"),
        ({"batches": 1}, "batches=1 must be"),
        ({"max_seconds": 0}, "max_seconds=0 must be"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    arguments: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=named):
        probe(trainer_of(tmp_path), **{**FAST, **arguments})


def test_a_trainer_that_keeps_all_has_nothing_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sift_keep_ratio=1 .*0\.5"):
        probe(trainer_of(tmp_path, sift_keep_ratio=1.0))
