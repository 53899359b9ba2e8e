"""Looks at a step's candidates before they are narrowed, and leaves no trace."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments, sift_settings
from sift_trainer.measuring.adam import AdamScales
from sift_trainer.measuring.audit_numbers import (
    ADAM,
    NAMES,
    PLAIN,
    Audit,
    choice_figures,
    update_figures,
)
from sift_trainer.measuring.gradients import Gradients
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.processes.sharding import buffers_of_first
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.selection.choosing import choose_rows, select_top_k, without_top
from sift_trainer.selection.rows import Batch, num_rows
from sift_trainer.selection.schedule import num_kept, num_skipped
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.no_trace import Buffers, inference, untouched
from sift_trainer.sifted_model.scorer import Scorer

logger = logging.get_logger(__name__)

T = TypeVar("T")


class SiftedRun(Protocol):
    """A trainer that sifts, as audits and checks see it."""

    args: Any
    model: Any
    state: Any
    optimizer: Any
    accelerator: Any
    train_dataset: Any
    eval_dataset: Any
    data_collator: Any
    callback_handler: Any
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool

    @property
    def sift(self) -> SiftArguments:
        """The sift fields of the arguments."""

    @property
    def held_out(self) -> str:
        """Towards whose loss audits look."""

    def sifted_model_of(
        self, model: nn.Module, batch: Batch, sift: SiftArguments | None = None
    ) -> SiftedModel:
        """What a first batch of candidates shows of the model."""

    def _prepare_inputs(self, inputs: Any) -> Any:
        """A batch on the device of the model. Private in Transformers."""


class Auditor:
    """Audits steps of one training run. A run with audits is bit for bit the one without.

    Args:
        trainer: whose run it is.
        sifted: of its model.
        exact: scores by exact losses; None where there are none.
    """

    def __init__(self, trainer: SiftedRun, sifted: SiftedModel, exact: Scorer | None) -> None:
        self.trainer, self.sifted, self.exact = trainer, sifted, exact
        self.sift = trainer.sift
        self._evaluation: list[Batch] = []
        self._whole_gradients = not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)
        self._share_buffers = buffers_of_first(trainer.accelerator, sifted.module)
        if not self._whole_gradients:
            logger.warning(
                "sift_audit_steps: under DeepSpeed and FSDP no process has whole gradients, so "
                "audits say how rows are chosen, and not what updates by them bring"
            )
        elif trainer.held_out == "evaluation":
            rows = trainer.args.per_device_train_batch_size  # then an audit takes a few steps' time
            self._evaluation = evaluation_batches(trainer, rows)

    @classmethod
    def of_run(
        cls,
        trainer: SiftedRun,
        sifted: SiftedModel,
        model: nn.Module,
        batch: Batch,
    ) -> "Auditor | None":
        """For a run that asks for audits; None if it does not, or keeps all rows.

        Args:
            model: as it is trained.
            batch: the first one of candidates.
        """
        sift = trainer.sift
        if sift.sift_audit_steps == 0 or sift.sift_keep_ratio == 1:
            return None
        exactly = {"sift_criterion": "loss", "sift_exit_layer": -1, "sift_token_fraction": 1.0}
        exact = SiftArguments(**{**sift_settings(trainer.args), **exactly})
        if CRITERIA[sift.sift_criterion].is_loss:
            return cls(trainer, sifted, sifted.scorer_for(exact))
        try:  # what a run by another criterion was not asked
            scorer = trainer.sifted_model_of(model, batch, exact).scorer
        except ValueError as error:
            logger.warning(f"sift_audit_steps: rows are not held to exact losses: {error}")
            scorer = None
        return cls(trainer, sifted, scorer)

    def audit(self, batch: Batch, generator: torch.Generator, draw: torch.Generator) -> Audit:
        """Figures of a batch of candidates, as means over the processes, which call it together.

        Args:
            batch: as the dataloader yields it.
            generator: as the step has it, so that the same rows are chosen.
            draw: for what the step does not draw: which rows are held out, and random ones.
        """
        buffers = Buffers(self.sifted.module)
        self._share_buffers()  # as a step does that sifts, which this one need not be
        try:
            return self._over_processes(self._figures(batch, generator, draw))
        finally:
            buffers.restore()

    def _figures(self, batch: Batch, generator: torch.Generator, draw: torch.Generator) -> Audit:
        begin = time.perf_counter()
        rows = self.trainer._prepare_inputs(batch)
        scores, scoring_seconds = self._timed(
            lambda: self._score(self.sifted.scorer, rows, generator)
        )
        found: Audit = {}
        if self.exact is not None and self.exact.task.labelled(rows):
            found |= self._choices(rows, scores, self._choose(scores, generator))
        if self._whole_gradients:
            with untouched(self.sifted.module):
                found |= self._updates(rows, scores, scoring_seconds, draw)
        found["seconds"] = time.perf_counter() - begin
        return found

    def _score(
        self, scorer: Scorer | None, rows: Mapping[str, Any], generator: torch.Generator
    ) -> Tensor:
        """Never compiled: a graph for a pass every n steps does not pay."""
        assert scorer is not None
        with inference(self.sifted.module), self.trainer.accelerator.autocast():
            return scorer(self.sifted.passes.forward, rows, generator)

    def _choose(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        return choose_rows(scores, self.sift, generator).rows

    def _choices(self, rows: Mapping[str, Any], scores: Tensor, kept: Tensor) -> Audit:
        assert self.exact is not None
        losses = self._score(self.exact, rows, torch.Generator())
        skip = num_skipped(len(losses), len(kept), self.sift.sift_skip_top)
        exact = select_top_k(without_top(losses, len(kept), skip), len(kept))
        return choice_figures(
            losses.float().cpu(),
            scores.float().cpu(),
            kept.cpu(),
            exact.cpu(),
            approximates_loss=CRITERIA[self.sift.sift_criterion].is_loss,
        )

    def _updates(
        self,
        rows: Mapping[str, Any],
        scores: Tensor,
        scoring_seconds: float,
        draw: torch.Generator,
    ) -> Audit:
        """Of some rows, how much they bring the held-out ones: rows of the evaluation set, or one
        half of the candidates, from whose other half is chosen and drawn then."""
        order = torch.randperm(num_rows(rows), generator=draw)
        held_out, pool = order.tensor_split(2)
        if self._evaluation:
            held_out, pool = order[:1], order
        pool = pool.sort().values
        ratio = self.sift.sift_keep_ratio
        if len(held_out) == 0 or num_kept(len(pool), ratio) == len(pool):
            return {}
        kept = pool[self._choose(scores[pool.to(scores.device)], draw).cpu()]
        at_random = pool[torch.randperm(len(pool), generator=draw)[: len(kept)]]
        gradients = Gradients(self.trainer, self.sifted)
        towards = gradients.of(*self._towards(rows, held_out))
        by_kept, step_seconds = self._timed(lambda: gradients.of(rows, kept))
        by_random = gradients.of(rows, at_random)
        # As many rows as a step trains on take that many times as long as these.
        step_seconds *= num_kept(num_rows(rows), ratio) / len(kept)
        found = {"scoring_share": scoring_seconds / step_seconds}
        found |= update_figures(PLAIN, towards, by_kept, by_random, ratio)
        scales = AdamScales(self.trainer.optimizer, gradients.trained)
        if scales.known:
            found |= update_figures(ADAM, towards, by_kept, by_random, ratio, scales)
        return found

    def _towards(
        self, rows: Mapping[str, Any], held_out: Tensor
    ) -> tuple[Mapping[str, Any], Tensor | None]:
        if not self._evaluation:
            return rows, held_out
        turn = self.trainer.state.global_step // self.sift.sift_audit_steps
        batch = self._evaluation[turn % len(self._evaluation)]
        return self.trainer._prepare_inputs(batch), None

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """What it returns, and its seconds; the device is waited for."""
        self._wait()
        begin = time.perf_counter()
        result = work()
        self._wait()
        return result, time.perf_counter() - begin

    def _wait(self) -> None:
        if self.trainer.args.device.type != "cpu":
            torch.accelerator.synchronize(self.trainer.args.device)

    def _over_processes(self, found: Audit) -> Audit:
        """Means of what each process found; what none of them did is left out."""
        device = self.trainer.args.device
        numbers = torch.tensor([found.get(name, torch.nan) for name in NAMES], device=device)
        gathered: Tensor = self.trainer.accelerator.gather(numbers)
        table = gathered.view(-1, len(NAMES)).cpu().double()
        means = table.masked_fill(~table.isfinite(), torch.nan).nanmean(dim=0)
        return {
            name: float(mean) for name, mean in zip(NAMES, means, strict=True) if mean.isfinite()
        }
