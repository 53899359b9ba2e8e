"""The one training step: draw candidates, score them, keep the hard ones, train on those."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from sift_trainer.arguments import scores_with_model
from sift_trainer.audit import Auditor, audit_metrics
from sift_trainer.batch import Batch, first_length, num_rows, take_rows
from sift_trainer.callback import Selection, SiftCallback
from sift_trainer.collation import check_own_loss, check_packing
from sift_trainer.composition import arguments_kept, check_trainer, check_trainer_bases
from sift_trainer.first_batch import FirstBatchMixin
from sift_trainer.launch import LaunchArguments, check_launch
from sift_trainer.selection import (
    add_random,
    num_kept,
    num_random,
    num_skipped,
    select_percentile,
    select_top_k,
    should_sift,
)
from sift_trainer.sharding import tied_in_one_group
from sift_trainer.validation import (
    check_gate,
    check_held_out,
    check_parallelism,
    check_setup,
    check_steps,
    check_window,
)


class SiftMixin(FirstBatchMixin):
    """Sifting for any `transformers.Trainer` subclass: ``class Mine(SiftMixin, TheirTrainer)``.

    A step draws ``round(per_device_train_batch_size / sift_keep_ratio)`` candidates, scores them
    with the model's own first layers and head, and trains on the ``per_device_train_batch_size``
    with the largest scores (section 7.1 of the paper), or on what ``sift_selector`` and
    ``sift_skip_top`` make of them.

    Attributes:
        selections: what the micro-batches of the current step were narrowed to.

    Raises:
        ValueError: at construction, for settings that do not fit the model, data or launch; at the
            first batch, before any update, for batches that cannot be sifted.
        TypeError: when the class is made, if `SiftMixin` comes after a trainer in its bases; at
            construction, if there is no trainer, or the arguments lost their sift fields.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_trainer_bases(cls, SiftMixin)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_trainer(self, SiftMixin)
        self.selections: list[Selection] = []
        self._window: list[Batch] = []
        self._narrowed = self._window
        self._sifter = None
        self._sifted_model = None
        self._auditor: Auditor | None = None
        self._num_items: Tensor | int | None = None
        self._in_training_step = False
        self._detached_callback = SiftCallback()
        with arguments_kept(self, (*args, *kwargs.values())):
            super().__init__(*args, **kwargs)
        check_launch(LaunchArguments(), self.args, self.accelerator.state)
        check_parallelism(self.sift, self.accelerator.parallelism_config)
        if self.sift_callback is self._detached_callback:
            self.add_callback(SiftCallback())
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        check_packing(self.sift, self.args, self.data_collator)
        check_own_loss(self.sift, type(self), bare, self.train_dataset, self.data_collator)
        callbacks = self.callback_handler.callbacks
        check_setup(self.sift, self.args, bare, self._train_batch_size, callbacks)
        check_held_out(self.sift, self.eval_dataset)
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        check_gate(self.sift, self.held_out, self._train_batch_size, sharded)
        if (steps := self._planned_steps()) is not None:
            check_steps(self.sift, steps)

    @property
    def sift_callback(self) -> SiftCallback:
        """The callback that measures. Looked up anew, as a restored checkpoint replaces it; one
        that nobody reads if the user has removed it."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, SiftCallback):
                return callback
        return self._detached_callback

    # ---- the step ----

    def training_step(
        self,
        model: nn.Module,
        inputs: Batch,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Narrow the window's batches, in place, to the rows to train on; train on this one."""
        if not any(inputs is batch for batch in self._window):
            if num_items_in_batch is not None:
                check_window(getattr(self, "current_gradient_accumulation_steps", 1))
            self._window = [inputs]  # a caller with batches of its own
        if self._window is not self._narrowed:
            # The weights do not change until the last micro-batch of the window, so all are scored
            # here and their labels counted beforehand; once, though a batch may take two steps.
            self._sift_window(model, num_items_in_batch)
            self._narrowed = self._window
        assert self._sifter is not None
        if num_items_in_batch is not None:
            num_items_in_batch = self._num_items
        self._in_training_step = True
        try:
            with self._sifter.labelled_only(inputs) as labelled:
                loss: Tensor = super().training_step(model, labelled, num_items_in_batch)
                return loss
        finally:
            self._in_training_step = False
            self.sift_callback.timer.stop("backward")

    def _sift_window(self, model: nn.Module, num_items: Tensor | int | None) -> None:
        if model is not self._sifted_model:
            self._meet(model, self._window[0])
            assert self._sifter is not None
            self._auditor = Auditor.of_run(self, self._sifter, model, self._window[0], self._choose)
        assert self._sifter is not None
        if self._auditor is not None and self.state.global_step % self.sift.sift_audit_steps == 0:
            generators = self._generator(0), self._generator(-1)
            self.sift_callback.record_audit(self._auditor.audit(self._window[0], *generators))
        if scores_with_model(self.sift) and self._sifts():
            with self.sift_callback.timer.span("sampling"):
                self._share_buffers()  # decided without a look at the rows, as all have to call it
        for batch in self._window:
            self._sifter.note_lost(batch)
        self.selections = [self._select(batch, index) for index, batch in enumerate(self._window)]
        for batch, selection in zip(self._window, self.selections, strict=True):
            if len(selection.rows) < selection.candidates:
                for name, rows in take_rows(batch, selection.rows).items():
                    batch[name] = rows  # a ModelOutput cannot be updated at once
            self.sift_callback.record(selection, self.args.world_size)
        self._num_items = None
        if num_items is not None and self._sifter.divides_by_count:
            counted = [self._sifter.countable(batch) for batch in self._window]
            # The Trainer's own count (private in Transformers), for its gathering over processes.
            self._num_items = self._get_num_items_in_batch(counted, self.args.device)

    def _select(self, batch: Batch, index: int) -> Selection:
        """Which rows of the window's batch number ``index`` to train on."""
        assert self._sifter is not None
        sift = self.sift
        rows = num_rows(batch) if sift.sift_keep_ratio < 1 else first_length(batch)
        kept = num_kept(rows, sift.sift_keep_ratio)
        if kept == rows or not self._sifts():
            return Selection(torch.arange(kept, device=self.args.device), rows)
        with self.sift_callback.timer.span("sampling"), self.accelerator.autocast():
            inputs, generator = self._prepare_inputs(batch), self._generator(index)
            scores = self._sifter.score(inputs, generator)
            return Selection(self._choose(scores, generator), rows, scores)

    def _choose(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Which of the rows with these scores (B,) to train on."""
        sift, rows = self.sift, len(scores)
        kept = num_kept(rows, sift.sift_keep_ratio)
        skip = num_skipped(rows, kept, sift.sift_skip_top)
        by_score = kept - num_random(kept, sift.sift_random_share)
        if sift.sift_selector == "percentile":
            chosen = select_percentile(scores, by_score, sift.sift_beta, generator, skip)
        else:
            chosen = select_top_k(scores, by_score, skip)
        if by_score == kept:
            return chosen
        return add_random(scores, chosen, kept, generator, skip)

    def _sifts(self) -> bool:
        """Whether this step is one that sifts."""
        sift, state = self.sift, self.state
        schedule = sift.sift_warmup_steps, sift.sift_cooldown_steps, sift.sift_interval
        in_schedule = should_sift(state.global_step, state.max_steps, *schedule)
        return in_schedule and (sift.sift_gate is None or self._gate_is_open())

    def _gate_is_open(self) -> bool:
        return self.sift_callback.gate.is_open(self.held_out == "evaluation")

    def _generator(self, index: int) -> torch.Generator:
        """A generator of the step's own: nothing to save, and the same after a resume."""
        place = (self.args.seed, self.state.global_step, index, self.args.process_index)
        seed = int.from_bytes(blake2b(repr(place).encode(), digest_size=8).digest(), "big") >> 1
        return torch.Generator().manual_seed(seed)

    # ---- around the step ----

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; what was learned of the model in an earlier run is asked again."""
        self._sifted_model = None
        self._detached_callback.reset()
        return super().train(*args, **kwargs)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Wrapped for distribution here. Private in Transformers: there is no public method that
        wraps the model."""
        with tied_in_one_group(self.model) if self.is_fsdp_enabled else nullcontext():
            return super()._prepare_for_training(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | int | None]:
        """The batches of an accumulation window, remembered until they are scored together.

        None, if nothing is left to train: resumed at its end, a run would take one step more.
        """
        if self.control.should_training_stop or 0 < self.state.max_steps <= self.state.global_step:
            return [], None
        with self.sift_callback.timer.span("data"):
            batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._window = batches
        return batches, num_items

    def compute_loss_context_manager(self) -> ExitStack:
        """Time the forward; what follows it in a training step is the backward."""
        stack: ExitStack = super().compute_loss_context_manager()
        if self._in_training_step:
            stack.enter_context(self._forward_then_backward())
        return stack

    @contextmanager
    def _forward_then_backward(self) -> Iterator[None]:
        timer = self.sift_callback.timer
        with timer.span("forward"):
            yield
        timer.start("backward")

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Merged here: what a callback adds in `on_log` reaches neither history nor reporters."""
        if self._sifter is not None:
            self._sifter.check_none_lost()
        callback = self.sift_callback
        measured = callback is not self._detached_callback
        if measured and "loss" in logs:
            logs.update(callback.metrics())
        elif measured and "train_runtime" in logs:
            logs.update(callback.totals())
        if "loss" in logs and self._auditor is not None:
            logs.update(audit_metrics(callback.audits))
            callback.audits.clear()
            if self.sift.sift_gate is not None:
                logs["sift/gate_open"] = float(self._gate_is_open())
        super().log(logs, *args, **kwargs)


class SiftTrainer(SiftMixin, Trainer):
    """`transformers.Trainer` that sifts; takes everything that `Trainer` takes."""
