"""Measures the candidates of a training step before they are sifted, without a trace."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import Trainer
from transformers.utils import logging

from sift_trainer.arguments import SiftArguments, sift_settings
from sift_trainer.measuring.audit_numbers import (
    ADAM,
    PLAIN,
    Audit,
    choice_numbers,
    mean_audit,
    update_numbers,
)
from sift_trainer.measuring.gradients import AdamScales
from sift_trainer.measuring.held_out import evaluation_batches
from sift_trainer.measuring.passes import Passes
from sift_trainer.measuring.seconds import timed
from sift_trainer.processes.sharding import buffers_of_first
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.selection.choosing import choose_rows
from sift_trainer.selection.rows import Batch, num_rows
from sift_trainer.selection.rules import select_top_k, without_top
from sift_trainer.selection.schedule import num_kept, num_skipped
from sift_trainer.sifted_model.model import SiftedModel
from sift_trainer.sifted_model.no_trace import Buffers, untouched
from sift_trainer.sifted_model.scorer import Scorer

logger = logging.get_logger(__name__)


class Auditor:
    """Audits steps of one training run. The training is bit for bit the same without audits."""

    def __init__(self, trainer: Trainer, sifted: SiftedModel, exact: Scorer | None) -> None:
        self.trainer, self.sifted, self.exact = trainer, sifted, exact
        self.sift = trainer.sift
        self._evaluation: list[Batch] = []
        self._whole_gradients = not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)
        self._share_buffers = buffers_of_first(trainer.accelerator, sifted.module)
        if not self._whole_gradients:
            logger.warning(
                "sift_audit_steps: under DeepSpeed and FSDP no process has whole gradients, so "
                "audits only compare the chosen rows with exact losses and measure no descent"
            )
        elif trainer.held_out == "evaluation":
            # Batches of the size of training, so that an audit takes the time of a few steps.
            self._evaluation = evaluation_batches(trainer, trainer.args.per_device_train_batch_size)

    @classmethod
    def of_run(
        cls, trainer: Trainer, sifted: SiftedModel, model: nn.Module, batch: Batch
    ) -> "Auditor | None":
        """The auditor of a run with a wrapped model; None for one without audits or sifting."""
        sift = trainer.sift
        if sift.sift_audit_steps == 0 or sift.sift_keep_ratio == 1:
            return None
        exactly = {"sift_criterion": "loss", "sift_exit_layer": -1, "sift_token_fraction": 1.0}
        exact = SiftArguments(**{**sift_settings(trainer.args), **exactly})
        if CRITERIA[sift.sift_criterion].is_loss:
            return cls(trainer, sifted, sifted.scorer_for(exact))
        try:  # another criterion did not check that the model has per-sample losses
            scorer = trainer.sifted_model_of(model, batch, exact).scorer
        except ValueError as error:
            logger.warning(f"sift_audit_steps: no comparison with exact losses: {error}")
            scorer = None
        return cls(trainer, sifted, scorer)

    def audit(self, batch: Batch, generator: torch.Generator, draw: torch.Generator) -> Audit:
        """Numbers of a batch of candidates, as means over all processes. All must call it.

        ``generator`` is in the state in which the step gets it, so that the same rows are chosen;
        ``draw`` draws held-out and random rows, which the step does not.
        """
        buffers = Buffers(self.sifted.module)
        self._share_buffers()  # every sifted step does so; this step may not be sifted
        try:
            return mean_audit(gather_object([self._figures(batch, generator, draw)]))
        finally:
            buffers.restore()

    def _figures(self, batch: Batch, generator: torch.Generator, draw: torch.Generator) -> Audit:
        begin = time.perf_counter()
        rows = self.trainer._prepare_inputs(batch)
        passes, device = Passes(self.trainer, self.sifted), self.trainer.args.device
        found_by, scoring_seconds = timed(lambda: passes.candidates(rows, generator), device)
        scores = found_by.scores
        found: Audit = {}
        if self.exact is not None and self.exact.task.labelled(rows):
            losses = passes.score(self.exact, rows, torch.Generator())
            kept = choose_rows(scores, self.sift, generator).rows
            skip = num_skipped(len(losses), len(kept), self.sift.sift_skip_top)
            exact = select_top_k(without_top(losses, len(kept), skip), len(kept))
            found |= choice_numbers(
                *(losses.float().cpu(), scores.float().cpu(), kept.cpu(), exact.cpu()),
                approximates_loss=CRITERIA[self.sift.sift_criterion].is_loss,
            )
        if self._whole_gradients:
            with untouched(self.sifted.module):
                found |= self._updates(passes, rows, scores, scoring_seconds, draw)
        found["seconds"] = time.perf_counter() - begin
        return found

    def _updates(
        self,
        passes: Passes,
        rows: Mapping[str, Any],
        scores: Tensor,
        scoring_seconds: float,
        draw: torch.Generator,
    ) -> Audit:
        """Descent of a held-out loss by kept and by random rows.

        Held out are rows of the evaluation set, or half of the candidates. In the second case kept
        and random rows come from the other half.
        """
        pool = torch.randperm(num_rows(rows), generator=draw)
        if not self._evaluation:
            held_out, pool = pool.tensor_split(2)
        pool = pool.sort().values
        ratio = self.sift.sift_keep_ratio
        if num_kept(len(pool), ratio) == len(pool):
            return {}
        kept = pool[choose_rows(scores[pool.to(scores.device)], self.sift, draw).rows.cpu()]
        at_random = pool[torch.randperm(len(pool), generator=draw)[: len(kept)]]
        if self._evaluation:
            turn = self.trainer.state.global_step // self.sift.sift_audit_steps
            held_out_batch = self._evaluation[turn % len(self._evaluation)]
            towards = passes.gradient(self.trainer._prepare_inputs(held_out_batch))
        else:
            towards = passes.gradient(rows, held_out)
        by_kept, step_seconds = timed(lambda: passes.gradient(rows, kept), scores.device)
        by_random = passes.gradient(rows, at_random)
        # A step trains on more rows than these and takes proportionally longer.
        step_seconds *= num_kept(num_rows(rows), ratio) / len(kept)
        found = {"scoring_share": scoring_seconds / step_seconds}
        found |= update_numbers(PLAIN, towards, by_kept, by_random, ratio)
        scales = AdamScales(self.trainer.optimizer, passes.trained)
        if scales.known:
            found |= update_numbers(ADAM, towards, by_kept, by_random, ratio, scales)
        return found
