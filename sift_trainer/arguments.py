"""The ``sift_*`` fields and their validation."""

import math
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from transformers import TrainingArguments

from sift_trainer.composition import ArgumentsMixin
from sift_trainer.gate import GATES
from sift_trainer.scoring import CRITERIA
from sift_trainer.selection import MAX_BETA, SELECTORS

HELD_OUT = ("candidates", "evaluation")
"""Rows towards whose loss audits look."""


@dataclass
class SiftArguments(ArgumentsMixin):
    """What to sift by, how much, and when. A plain dataclass, to be mixed into any arguments:

    ``@dataclass class MyArguments(SiftArguments, Seq2SeqTrainingArguments): ...``

    Raises:
        ValueError: at construction, naming the field, its value and what it accepts.
        TypeError: for a class of arguments that was put together wrongly, see `ArgumentsMixin`.
    """

    sift_criterion: str = field(
        default="loss",
        metadata={"help": "loss, entropy, random (a control), or the name of a registered one."},
    )
    sift_exit_layer: int = field(
        default=1,
        metadata={"help": "Block after which the head is applied, 1..L; -1 = L, exact scores."},
    )
    sift_keep_ratio: float = field(
        default=0.5,
        metadata={"help": "Share of the candidates that is trained on; 1.0 = plain Trainer."},
    )
    sift_selector: str = field(
        default="top_k",
        metadata={"help": "top_k, or percentile: a draw with weights (percentile of score)^beta."},
    )
    sift_beta: float = field(
        default=1.0,
        metadata={"help": "Exponent of the percentile selector: 0 draws uniformly."},
    )
    sift_skip_top: float = field(
        default=0.0,
        metadata={"help": "Share of the candidates left out for scores that are too high."},
    )
    # The paper keeps the largest scores alone (0). In fine-tuning that never trains on the same
    # samples again and again, and costs 15 to 18 points; half at random costs none.
    sift_random_share: float = field(
        default=0.5,
        metadata={
            "help": "Share of the kept rows drawn at random from all others; the rest by score. "
            "0 is the paper's rule."
        },
    )
    # Later than the paper's 20K of 800K steps, and with a cool-down: the reasons were measured, and
    # stand in docs/method.md beside those of the other defaults.
    sift_warmup_steps: float = field(
        default=0.25,
        metadata={"help": "Steps before sifting begins; below 1, a share of all steps."},
    )
    sift_cooldown_steps: float = field(
        default=0.1,
        metadata={"help": "Last steps without sifting; below 1, a share of all steps."},
    )
    sift_interval: int = field(default=1, metadata={"help": "Sift every n-th step."})
    sift_token_fraction: float = field(
        default=1.0,
        metadata={"help": "Share of a sample's labelled positions that the score uses."},
    )
    sift_audit_steps: int = field(
        default=0,
        metadata={
            "help": "Every n steps, log how the choice goes with exact losses and what updates by "
            "the kept rows bring, beside random ones; 0 = never. Changes nothing in the run."
        },
    )
    sift_held_out: str | None = field(
        default=None,
        metadata={
            "help": "Whose loss audits and probe look towards: 'evaluation', rows of eval_dataset, "
            "or 'candidates', half of the step's own. By default evaluation where there is such a "
            "set: what helps training rows need not help it."
        },
    )
    sift_gate: str | None = field(
        default=None,
        metadata={
            "help": "descent: sift only while audits say that it pays; needs sift_audit_steps."
        },
    )
    sift_masked_only_head: bool | None = field(
        default=None,
        metadata={
            "help": "Only labelled positions pass the vocabulary head, in training and in scoring, "
            "and the exit block: the same results for less. By default on where the model allows "
            "it, except at sift_keep_ratio=1.0, which is the plain Trainer to the last bit."
        },
    )

    def __post_init__(self) -> None:
        # A cooperative chain: mixed into TrainingArguments the next class has a __post_init__ of
        # its own, standing alone it has none.
        following = getattr(super(), "__post_init__", None)
        if following is not None:
            following()
        self._check_numbers()
        self._check_criterion()
        self._check_selector()
        self._check_shares()
        self._check_steps()

    def _check_numbers(self) -> None:
        for name in ("sift_exit_layer", "sift_interval", "sift_audit_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ValueError(f"{name}={value!r} must be a whole number, such as 1")
            setattr(self, name, int(value))
        for name in (
            "sift_keep_ratio",
            "sift_token_fraction",
            "sift_beta",
            "sift_skip_top",
            "sift_random_share",
            "sift_warmup_steps",
            "sift_cooldown_steps",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name}={value!r} must be a number, such as 0.5")
            # A hyperparameter search makes its values of the type that it finds: 0.25 of a 0 is 0.
            # What NumPy computed would not go into a checkpoint's JSON.
            setattr(self, name, float(value))
        if self.sift_masked_only_head not in (None, True, False):
            raise ValueError(
                f"sift_masked_only_head={self.sift_masked_only_head!r} must be True or False, or "
                "None for its default"
            )

    def _check_criterion(self) -> None:
        if not isinstance(self.sift_criterion, str) or self.sift_criterion not in CRITERIA:
            raise ValueError(
                f"sift_criterion={self.sift_criterion!r} is unknown; choose one of "
                f"{sorted(CRITERIA)} or register it with register_criterion"
            )
        if self.sift_exit_layer < 1 and self.sift_exit_layer != -1:
            raise ValueError(
                f"sift_exit_layer={self.sift_exit_layer} must be 1 or more, "
                "or -1 for the last block; 1 is the paper's cheapest"
            )

    def _check_selector(self) -> None:
        if self.sift_selector not in SELECTORS:
            raise ValueError(
                f"sift_selector={self.sift_selector!r} is unknown; choose one of {list(SELECTORS)}"
            )
        if not 0 <= self.sift_beta <= MAX_BETA:
            raise ValueError(
                f"sift_beta={self.sift_beta} must be in [0, {MAX_BETA:g}], such as 1.0; its limit "
                "for large values is sift_selector='top_k'"
            )

    def _check_shares(self) -> None:
        for name in ("sift_keep_ratio", "sift_token_fraction"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value} must be in (0, 1], such as 0.5")
        if not 0 <= self.sift_random_share < 1:
            raise ValueError(
                f"sift_random_share={self.sift_random_share} must be in [0, 1), such as 0.5; all "
                "rows at random is sift_criterion='random', which scores none"
            )
        # Nothing is selected at keep ratio 1, whose run may share its settings with others.
        largest = 1 - self.sift_keep_ratio if self.sift_keep_ratio < 1 else 1.0
        if not 0 <= self.sift_skip_top <= largest + 1e-9:  # 1 - 0.9 is 0.09999999999999998
            raise ValueError(
                f"sift_skip_top={self.sift_skip_top} must be in [0, {largest:.3g}], such as "
                f"{largest / 2:.3g}: with sift_keep_ratio={self.sift_keep_ratio} no more of the "
                "candidates can be left out"
            )

    def _check_audits(self) -> None:
        if self.sift_audit_steps < 0:
            raise ValueError(
                f"sift_audit_steps={self.sift_audit_steps} must be 0 (never) or more, such as 500"
            )
        if self.sift_held_out not in (None, *HELD_OUT):
            raise ValueError(
                f"sift_held_out={self.sift_held_out!r} is unknown; choose one of {list(HELD_OUT)}, "
                "or None for evaluation where there is such a set"
            )
        if self.sift_gate is None:
            return
        if self.sift_gate not in GATES:
            raise ValueError(
                f"sift_gate={self.sift_gate!r} is unknown; choose one of {list(GATES)}, or None to "
                "sift by the schedule alone"
            )
        if self.sift_audit_steps == 0:
            raise ValueError(
                f"sift_gate={self.sift_gate!r} decides by audits, and sift_audit_steps=0 makes "
                "none; use sift_audit_steps=100, say"
            )

    def _check_steps(self) -> None:
        self._check_audits()
        if self.sift_interval < 1:
            raise ValueError(f"sift_interval={self.sift_interval} must be 1 or more, such as 1")
        for name in ("sift_warmup_steps", "sift_cooldown_steps"):
            value = getattr(self, name)
            if not 0 <= value < math.inf or (value >= 1 and value != int(value)):
                raise ValueError(
                    f"{name}={value} must be a number of steps (0, 1, 2, ...) or a share of all "
                    "steps in [0, 1), such as 0.025"
                )
        share = self.sift_warmup_steps + self.sift_cooldown_steps
        if self.sift_warmup_steps < 1 and self.sift_cooldown_steps < 1 and share >= 1:
            raise ValueError(
                f"sift_warmup_steps={self.sift_warmup_steps} and sift_cooldown_steps="
                f"{self.sift_cooldown_steps} leave no step to sift; their sum must be below 1"
            )


@dataclass
class SiftTrainingArguments(SiftArguments, TrainingArguments):
    """`transformers.TrainingArguments` with the ``sift_*`` fields."""


def sift_arguments(args: TrainingArguments) -> SiftArguments:
    """The sift fields of ``args``, or the defaults for arguments that have none."""
    return args if isinstance(args, SiftArguments) else SiftArguments()


def check_fields(args: TrainingArguments) -> None:
    """Check the sift fields once more, as they can be set after construction.

    Raises:
        ValueError: as at construction.
    """
    SiftArguments(**sift_settings(args))


def scores_with_model(sift: SiftArguments) -> bool:
    """Whether there is a scoring pass at all: not at keep ratio 1, nor for the random control."""
    return sift.sift_keep_ratio < 1 and CRITERIA[sift.sift_criterion] is not None


def wants_masked_only_head(sift: SiftArguments) -> bool:
    """`sift_masked_only_head` with its default resolved."""
    if sift.sift_masked_only_head is None:
        return sift.sift_keep_ratio < 1
    return sift.sift_masked_only_head


def sift_settings(args: TrainingArguments) -> dict[str, Any]:
    """Name and value of every ``sift_*`` field, as a checkpoint records them."""
    sift = sift_arguments(args)
    return {field.name: getattr(sift, field.name) for field in fields(SiftArguments)}
