"""The ``sift_*`` fields and their validation."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from transformers import TrainingArguments

from sift_trainer.field_help import with_help
from sift_trainer.scoring import last_loss, predicted_loss  # noqa: F401  registers them
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.selection.choosing import SELECTORS
from sift_trainer.selection.rules import MAX_BETA

HELD_OUT = ("candidates", "evaluation")
"""Samples towards whose loss audits look."""

GATES = ("lift", "descent")
"""What may decide whether a step sifts, beside the schedule."""


@dataclass
class SiftArguments:
    """What to sift by, how much, and when. A plain dataclass, to be mixed into any arguments:

    ``@dataclass class MyArguments(SiftArguments, Seq2SeqTrainingArguments): ...``

    Attributes:
        sift_criterion: predicted_loss (the loss of the whole model, predicted at the exit and
            learned during the training), loss or entropy (the paper's, of the model's own head at
            the exit), last_loss (what the sample's loss was when last trained on, without a scoring
            pass), random (a control), or the name of a registered one.
        sift_exit_layer: Block after which the head is applied, 1..L; -1 = L, exact scores.
        sift_keep_ratio: Share of the candidates that is trained on; 1.0 = the stock Trainer.
        sift_selector: mixed (the largest scores, and some others at random), top_k (the paper's),
            percentile (a draw by (percentile of score)^beta); with weights in the loss: stratified
            (mixed, and random samples stand for the rest), importance, infobatch; or the name of a
            registered one.
        sift_beta: Exponent of the percentile selector: 0 draws uniformly.
        sift_skip_top: Share of the candidates left out for scores that are too high.
        sift_random_share: Of mixed and stratified: the share of the kept samples that is drawn at
            random from all others. Of importance: the chance of a sample with a score of 0, where 1
            is that of an average sample. Of infobatch: the chance of a sample below the mean score,
            where 1 is that of one above it.
        sift_warmup_steps: Steps before sifting begins; below 1, a share of all steps.
        sift_cooldown_steps: Last steps without sifting; below 1, a share of all steps.
        sift_interval: n: every n-th step sifts; -n: every n-th step does not.
        sift_token_fraction: Share of a sample's labelled positions that the score uses.
        sift_image_scale: Images are scored at this share of their height and width.
        sift_reference_column: Column of the training data with losses of a reference model, which
            are subtracted from the scores (RHO-LOSS, Mindermann et al., ICML 2022).
        sift_audit_steps: Every n steps, log how the choice agrees with exact losses and what
            updates by the kept samples bring, beside random ones; 0 = never. Changes nothing in the
            run.
        sift_held_out: Whose loss audits and probe look towards: 'evaluation', samples of
            eval_dataset, or 'candidates', half of the step's own. By default evaluation where there
            is such a set: what helps training samples need not help it.
        sift_gate: lift: sift with the selectors mixed and percentile only while the losses of
            chosen samples are clearly above those of all candidates; descent: only while audits say
            that it pays, which needs sift_audit_steps; none: always.
        sift_masked_only_head: Only labelled positions pass the vocabulary head, in training and in
            scoring, and the exit block: the same results for less. By default on where the model
            allows it, except at sift_keep_ratio=1.0, which is the stock Trainer.

    Raises:
        ValueError: at construction, naming the field, its value and what it accepts.
        TypeError: when a class is made in which `TrainingArguments` come first, whose checks would
            replace these; when one is called that lacks ``@dataclass`` and so has the fields of its
            first base only.
    """

    sift_criterion: str = "predicted_loss"
    sift_exit_layer: int = 1
    sift_keep_ratio: float = 0.5
    sift_selector: str = "mixed"
    sift_beta: float = 1.0
    sift_skip_top: float = 0.0
    # The paper keeps the largest scores alone (top_k). Samples that are never kept are then never
    # learned, which costs a fine-tuned classifier 15 to 18 points; half at random costs none.
    sift_random_share: float = 0.5
    # Later than the paper's 20K of 800K steps, and with a cool-down: docs/method.md has the
    # measurements behind these and the other defaults.
    sift_warmup_steps: float = 0.25
    sift_cooldown_steps: float = 0.1
    sift_interval: int = 1
    sift_token_fraction: float = 1.0
    sift_image_scale: float = 1.0
    sift_reference_column: str | None = None
    sift_audit_steps: int = 0
    sift_held_out: str | None = None
    sift_gate: str | None = "lift"
    sift_masked_only_head: bool | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        mro = cls.__mro__
        if TrainingArguments in mro and mro.index(TrainingArguments) < mro.index(SiftArguments):
            first = next(base for base in cls.__bases__ if issubclass(base, SiftArguments))
            raise TypeError(
                f"{cls.__name__}: {first.__name__} must come before the arguments it extends, "
                f"or its checks are left out; write @dataclass {_line_of(cls)}"
            )

    def __new__(cls, *args: Any, **kwargs: Any) -> "SiftArguments":
        own = getattr(cls, "__dataclass_fields__", {})
        for base in cls.__mro__:
            theirs = vars(base).get("__dataclass_fields__", {})
            missing = [name for name in theirs if name not in own]
            if missing:
                raise TypeError(
                    f"{cls.__name__} lacks @dataclass, and so {missing[0]!r} and the other fields "
                    f"of {base.__name__}; write @dataclass {_line_of(cls)}"
                )
        return super().__new__(cls)

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
            "sift_image_scale",
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
            # And NumPy's numbers do not go into a checkpoint's JSON.
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

        reference = self.sift_reference_column
        if reference is None:
            return
        if not isinstance(reference, str):
            raise ValueError(
                f"sift_reference_column={reference!r} must be the name of a column, such as "
                "'reference_loss', or None"
            )
        if not CRITERIA[self.sift_criterion].is_loss:
            raise ValueError(
                f"sift_reference_column={reference!r} is subtracted from losses, and "
                f"sift_criterion={self.sift_criterion!r} gives none; use 'predicted_loss' or 'loss'"
            )

    def _check_selector(self) -> None:
        if not isinstance(self.sift_selector, str) or self.sift_selector not in SELECTORS:
            raise ValueError(
                f"sift_selector={self.sift_selector!r} is unknown; choose one of "
                f"{sorted(SELECTORS)} or register it with register_selector"
            )
        if not 0 <= self.sift_beta <= MAX_BETA:
            raise ValueError(
                f"sift_beta={self.sift_beta} must be in [0, {MAX_BETA:g}], such as 1.0; its limit "
                "for large values is sift_selector='top_k'"
            )

    def _check_shares(self) -> None:
        for name in ("sift_keep_ratio", "sift_token_fraction", "sift_image_scale"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value} must be in (0, 1], such as 0.5")
        if not 0 < self.sift_random_share < 1:
            raise ValueError(
                f"sift_random_share={self.sift_random_share} must be in (0, 1), such as 0.5; "
                "sift_selector='top_k' keeps none at random, and sift_criterion='random' all"
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
        if self.sift_audit_steps and uses_sample_losses(self):
            raise ValueError(
                f"sift_audit_steps={self.sift_audit_steps} audits scores of a pass through the "
                f"model, without weights; with sift_criterion={self.sift_criterion!r} and "
                f"sift_selector={self.sift_selector!r} use 0"
            )
        if self.sift_gate in ("none", "None"):  # as on a command line
            self.sift_gate = None
        if self.sift_gate is None:
            return
        if self.sift_gate not in GATES:
            raise ValueError(
                f"sift_gate={self.sift_gate!r} is unknown; choose one of {list(GATES)}, or 'none' "
                "to sift by the schedule alone"
            )
        if self.sift_gate == "descent" and self.sift_audit_steps == 0:
            raise ValueError(
                f"sift_gate={self.sift_gate!r} decides by audits, and sift_audit_steps=0 makes "
                "none; use sift_audit_steps=100, say"
            )

    def _check_steps(self) -> None:
        self._check_audits()
        if self.sift_interval in (0, -1):
            raise ValueError(
                f"sift_interval={self.sift_interval} leaves no step to sift; use 1 (every step), 2 "
                "(every second one) or -4 (all but every fourth), for example"
            )
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

    @property
    def trains_as_stock(self) -> bool:
        """Whether a run is the stock Trainer's: nothing is selected, and no position left out."""
        return self.sift_keep_ratio == 1 and not self.sift_masked_only_head


with_help(SiftArguments)


def _line_of(cls: type) -> str:
    """The line that makes a class of arguments, with the sift fields in front."""
    bases = sorted(cls.__bases__, key=lambda base: not issubclass(base, SiftArguments))
    return f"class {cls.__name__}({', '.join(base.__name__ for base in bases)})"


@dataclass
class SiftTrainingArguments(SiftArguments, TrainingArguments):
    """`transformers.TrainingArguments` with the ``sift_*`` fields, see `SiftArguments`."""


def sift_arguments(args: TrainingArguments) -> SiftArguments:
    """The sift fields of ``args``, or the defaults for arguments that have none."""
    return args if isinstance(args, SiftArguments) else SiftArguments()


def check_fields(args: TrainingArguments) -> None:
    """Check the sift fields again, as at construction: they can be set later."""
    SiftArguments(**sift_settings(args))


def scores_with_model(sift: SiftArguments) -> bool:
    """Whether there is a scoring pass at all: not at keep ratio 1, nor for the random control."""
    return sift.sift_keep_ratio < 1 and CRITERIA[sift.sift_criterion].values is not None


def uses_sample_losses(sift: SiftArguments) -> bool:
    """Whether training has to know the loss of each kept sample: to weight it, or because the
    criterion makes no sense without it."""
    state = CRITERIA[sift.sift_criterion].state
    needed = state is not None and state.learns() and state.needs_losses
    return sift.sift_keep_ratio < 1 and (needed or SELECTORS[sift.sift_selector].weighted)


def columns_of(sift: SiftArguments) -> tuple[str, ...]:
    """Columns of the training data that the selection reads and the model does not get."""
    state = CRITERIA[sift.sift_criterion].state
    reference = sift.sift_reference_column
    return (*(state.columns if state else ()), *([] if reference is None else [reference]))


def approximates_loss(sift: SiftArguments) -> bool:
    """Whether the scores are approximate losses of the samples."""
    criterion = CRITERIA[sift.sift_criterion]
    predicts = criterion.state is None or criterion.state.predicts_losses
    return criterion.is_loss and predicts and sift.sift_reference_column is None


def gated_by_lift(sift: SiftArguments) -> bool:
    """Whether steps sift only while the lift is high enough: not by a rule that keeps no samples at
    random, from which the lift cannot be told, nor by one whose weights undo it."""
    selector = SELECTORS[sift.sift_selector]
    biased = selector.at_random and not selector.weighted
    return (
        sift.sift_gate == "lift" and biased and approximates_loss(sift) and scores_with_model(sift)
    )


def is_gated(sift: SiftArguments) -> bool:
    """Whether anything but the schedule decides if a step sifts."""
    return sift.sift_keep_ratio < 1 and (sift.sift_gate == "descent" or gated_by_lift(sift))


def wants_masked_only_head(sift: SiftArguments) -> bool:
    """`sift_masked_only_head` with its default resolved."""
    if sift.sift_masked_only_head is None:
        return sift.sift_keep_ratio < 1
    return sift.sift_masked_only_head


def sift_settings(args: TrainingArguments) -> dict[str, Any]:
    """Name and value of every ``sift_*`` field, as a checkpoint records them."""
    sift = sift_arguments(args)
    return {field.name: getattr(sift, field.name) for field in fields(SiftArguments)}
