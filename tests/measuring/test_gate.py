"""The gate: its rule by hand, and runs that sift while it is open."""

from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainingArguments

from sift_trainer.measuring.auditor import Auditor
from sift_trainer.measuring.gate import LEAST, WINDOW, DescentGate
from tests.measuring.test_audited_runs import train
from tests.probe.probed import same_weights
from tests.training import RecordingTrainer, Rows, bert, quick

GAIN = {"kept": 3.0, "random": 2.0, "dropped": 1.0}


def audit(
    kind: str = "descent", share: float = 0.25, equal: float = 1.5, **descents: float
) -> dict[str, float]:
    """Of which ``equal`` is the ratio of updates of equal length."""
    found = {f"{kind}_{name}": value for name, value in {**GAIN, **descents}.items()}
    found[f"{kind}_kept_at_equal_length"] = equal
    found[f"{kind}_random_at_equal_length"] = 1.0
    return {**found, "scoring_share": share}


def is_open(*audits: dict[str, float], towards_evaluation: bool = False) -> bool:
    gate = DescentGate()
    for each in audits:
        gate.add(each)
    return gate.is_open(towards_evaluation)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"kept": 2.51}, True),  # over 1.25 it is 2.008
        ({"kept": 2.49}, False),  # scoring takes the gain
        ({"equal": 1.24}, False),  # longer updates, no better ones
        ({"dropped": -0.1}, False),  # the halves pull apart
        ({"kept": -1.0, "random": -2.0}, False),  # both uphill
    ],
)
def test_the_rule(changes: dict[str, float], expected: bool) -> None:
    assert is_open(*[audit(**changes)] * LEAST) is expected
    if "dropped" in changes:  # rows that harm an evaluation set are rows to drop
        assert is_open(*[audit(**changes)] * LEAST, towards_evaluation=True)
    assert not is_open(*[audit(**changes)] * (LEAST - 1))


def test_the_advantage_exceeds_what_chance_makes() -> None:
    """Kept rows' descents of 3.0 +- spread, in turns, over a price of 1.25 are 0.4 ahead in the
    mean of six audits, with the standard error 0.8 * spread * sqrt(6 / 5) / sqrt(6); twice that is
    0.358 and 0.429."""
    for spread, expected in ((0.5, True), (0.6, False)):
        audits = [audit(kept=3.0 + spread * sign) for sign in (1, -1) * 3]
        assert is_open(*audits) is expected


def test_it_looks_back_on_the_last_audits_alone() -> None:
    """The price is that of the first audits. Those without gradients do not count."""
    assert is_open(*[audit()] * LEAST, *[audit(share=9.0)] * WINDOW)
    assert not is_open(*[{"overlap": 1.0, "seconds": 1.0}] * WINDOW)
    bad, good = audit(kept=-100.0), audit()
    assert not is_open(*[bad] * LEAST, *[good] * (WINDOW - 1))
    assert is_open(*[bad] * LEAST, *[good] * WINDOW)


def test_adam_decides_once_its_moments_are_there() -> None:
    plain, both = audit(kept=-1.0), {**audit(kept=-1.0), **audit("adam_descent")}
    assert not is_open(*[plain] * LEAST, *[both] * (LEAST - 1))
    assert is_open(*[plain] * LEAST, *[both] * LEAST)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What the audits of a run find, in place of measurements, the last one again and again."""
    found: list[dict[str, float]] = []

    def find(auditor: Auditor, *_: Any) -> dict[str, float]:
        step = auditor.trainer.state.global_step
        return found[min(step, len(found) - 1)]

    monkeypatch.setattr(Auditor, "audit", find)
    return found


def test_a_run_sifts_while_it_is_open(tmp_path: Path, told: list[dict[str, float]]) -> None:
    told += [*[audit()] * LEAST, *[audit(kept=2.2)] * 3]
    changes = {"sift_gate": "descent", "sift_audit_steps": 1, "max_steps": 9}
    trainer = train(tmp_path, bert(), **changes)
    sifted = [scores is not None for scores in trainer.scores]
    assert sifted == [step in (LEAST - 1, LEAST) for step in range(9)]  # then 2.2 weighs more
    lines = [line["sift/gate_open"] for line in trainer.state.log_history if "loss" in line]
    assert lines == [float(step) for step in sifted]
    for step, kept in enumerate(trainer.kept):
        if not sifted[step]:
            assert kept == trainer.candidates[step][:4]


def test_a_resumed_run_decides_as_the_whole_one(
    tmp_path: Path, told: list[dict[str, float]]
) -> None:
    """Also where scoring takes longer on the day of the resume."""
    told += [audit(kept=2.6)] * 6
    changes: dict[str, Any] = {"sift_gate": "descent", "sift_audit_steps": 1, "max_steps": 8}
    changes |= {"save_strategy": "steps", "save_steps": 5}
    whole = train(tmp_path / "whole", bert(), **changes)
    told[:] = [audit(kept=2.6, share=0.9)]
    changes["resume_from_checkpoint"] = str(tmp_path / "whole" / "checkpoint-5")
    resumed = train(tmp_path / "resumed", bert(seed=1), **changes)
    assert all(scores is not None for scores in whole.scores[LEAST:])
    assert resumed.kept == whole.kept[5:]
    assert same_weights(whole, resumed)


def test_a_shut_gate_is_a_run_without_sifting(tmp_path: Path) -> None:
    """Audited at every step, and before there are audits enough to open it: to the bit what the
    stock Trainer makes of the first four rows of every eight."""
    changes: dict[str, Any] = {"sift_gate": "descent", "sift_audit_steps": 1}
    changes |= {"max_steps": LEAST - 1, "sift_masked_only_head": False}
    gated = train(tmp_path / "gated", bert(), **changes)
    assert isinstance(gated, RecordingTrainer)
    assert len(gated.sift_callback.gate.audits) == LEAST - 1
    rows = Rows(400)
    kept = [rows[number] for eight in gated.candidates for number in eight[:4]]
    settings = quick(tmp_path / "plain", max_steps=LEAST - 1, train_sampling_strategy="sequential")
    plain = Trainer(bert(), TrainingArguments(**settings), train_dataset=kept)
    plain.train()
    assert same_weights(gated, plain)
    assert not same_weights(gated, Trainer(bert(), TrainingArguments(**settings)))
