"""The training step: draw candidates, score them, select the hard ones, train on those, log.

`SiftMixin` reads in this order. Scoring is in `sift_trainer.sifted_model.scorer`, selection in
`sift_trainer.selection.choosing`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import Trainer

from sift_trainer.arguments import (
    SiftArguments,
    approximates_loss,
    check_fields,
    columns_of,
    gated_by_lift,
    is_gated,
    scores_with_model,
    sift_arguments,
    uses_sample_losses,
)
from sift_trainer.callback import SiftCallback
from sift_trainer.checkpoints.criterion_state import load_criterion, save_criterion
from sift_trainer.checks.batches import check_window, warn_of_unknown_losses
from sift_trainer.checks.classes import (
    check_arguments_kept,
    check_is_trainer,
    check_trainer_bases,
    with_signature_of,
)
from sift_trainer.checks.first_batch import probe_first_batch
from sift_trainer.checks.setup import check_batch_size, check_run, check_steps
from sift_trainer.measuring.audit_numbers import audit_metrics
from sift_trainer.measuring.auditor import Auditor
from sift_trainer.measuring.held_out import held_out_of
from sift_trainer.processes.launch import check_wrapped
from sift_trainer.processes.sharding import (
    buffers_of_first,
    tied_in_one_group,
)
from sift_trainer.scoring.criteria import CRITERIA, StatefulCriterion
from sift_trainer.scoring.last_loss import ROW
from sift_trainer.selection.candidates import CandidateSampler, RepeatedStream
from sift_trainer.selection.choosing import choose_rows
from sift_trainer.selection.columns import ColumnCollator, numbered
from sift_trainer.selection.padding import without_padding
from sift_trainer.selection.rows import Batch, first_length, num_rows, take_rows
from sift_trainer.selection.schedule import (
    compares_at,
    measures_at,
    num_candidates,
    num_kept,
    should_sift,
)
from sift_trainer.selection.window import Selection, Window
from sift_trainer.sifted_model.model import Candidates, SiftedModel
from sift_trainer.sifted_model.trained_loss import gives_outputs

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class SiftMixin(_Base):
    """Sifting for any `transformers.Trainer` subclass: ``class Mine(SiftMixin, TheirTrainer)``.

    A step draws ``round(per_device_train_batch_size / sift_keep_ratio)`` candidates, scores them
    with the model's own first layers and head, and trains on ``per_device_train_batch_size`` of
    them: those with the largest scores (section 7.1 of the paper) and, by ``sift_random_share``,
    others at random. With ``sift_keep_ratio=1.0`` it is the stock Trainer.

    Raises:
        ValueError: at construction, for settings that do not fit the model, data or launch; at the
            first batch, before any update, for batches that cannot be sifted.
        TypeError: when the class is made, if `SiftMixin` comes after a trainer in its bases; at
            construction, if there is no trainer, or the arguments lost their sift fields.
    """

    _signature_columns: list[str]
    data_collator: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_trainer_bases(cls, SiftMixin)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_is_trainer(self, SiftMixin)
        self._window = Window()
        self._sifted: SiftedModel | None = None
        self._criterion: StatefulCriterion | None = None
        self._auditor: Auditor | None = None
        self._unused_callback = SiftCallback()
        super().__init__(*args, **kwargs)
        check_arguments_kept(self, (*args, *kwargs.values()))
        if self.sift_callback is self._unused_callback:
            self.add_callback(SiftCallback())
        if self.sift.sift_keep_ratio < 1:
            check_run(self, self._train_batch_size, SiftMixin)
            if self.args.max_steps > 0:  # else `train` checks its number of steps
                check_steps(self.sift, self.args.max_steps)

    @property
    def sift(self) -> SiftArguments:
        """The sift fields of the arguments, or their defaults."""
        return sift_arguments(self.args)

    @property
    def sift_callback(self) -> SiftCallback:
        """The callback that measures, or an unused one if the user removed it."""
        for callback in self.callback_handler.callbacks:  # a restored checkpoint replaces it
            if isinstance(callback, SiftCallback):
                return callback
        return self._unused_callback

    @property
    def _is_measured(self) -> bool:
        return self.sift_callback is not self._unused_callback

    @property
    def held_out(self) -> str:
        """Towards whose loss audits and probe look: ``candidates`` or ``evaluation``."""
        return held_out_of(self.sift, self.eval_dataset)

    @property
    def selections(self) -> list[Selection]:
        """What the micro-batches of the current update were narrowed to."""
        return self._window.selections or []

    # ---- draw ----

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Training batches are of candidates. Private in Transformers: the public
        `get_train_dataloader` reads its batch size from the number of samples trained on."""
        ratio = self.sift.sift_keep_ratio
        if kwargs.get("is_training"):
            check_fields(self.args)  # a hyperparameter search sets them after construction
        if not kwargs.get("is_training") or ratio == 1:
            return super()._get_dataloader(dataset, *args, **kwargs)
        kept = kwargs["batch_size"]
        check_batch_size(self.sift, kept)  # auto_find_batch_size may shrink it
        kwargs["batch_size"] = num_candidates(kept, ratio)
        stream = isinstance(dataset, IterableDataset)
        with self._columns_kept():
            drawn = RepeatedStream(dataset, kept, ratio) if stream else dataset
            if ROW in columns_of(self.sift):
                drawn = numbered(drawn)
            loader = super()._get_dataloader(drawn, *args, **kwargs)
        if not stream:
            batches = loader.batch_sampler
            batches = getattr(batches, "batch_sampler", batches)  # of all processes
            batches.sampler = CandidateSampler(batches.sampler, kept, ratio)
        return loader

    @contextmanager
    def _columns_kept(self) -> Iterator[None]:
        """Within it the Trainer keeps the columns that the selection reads, and a collator does not
        see them. Private in Transformers: there is no public list of the columns that are kept."""
        columns = columns_of(self.sift)
        if not columns:
            yield
            return
        self._set_signature_columns_if_needed()
        before = self._signature_columns, self.data_collator
        self._signature_columns = [*self._signature_columns, *columns]
        self.data_collator = ColumnCollator(self.data_collator, columns)
        try:
            yield
        finally:
            self._signature_columns, self.data_collator = before

    def _num_candidates(self) -> int:
        """How many samples one process draws for a micro-batch."""
        drawn = num_candidates(self._train_batch_size, self.sift.sift_keep_ratio)
        shared = self.args.accelerator_config.split_batches and self.args.world_size > 1
        return drawn // self.args.world_size if shared else drawn

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | int | None]:
        """The batches of an accumulation window, kept until they are scored together.

        No batches if training has ended: a run resumed at its end would take one more step.
        """
        stopped = self.control.should_training_stop
        ended = stopped or 0 < self.state.max_steps <= self.state.global_step
        if ended and not self.sift.trains_as_stock:
            return [], None
        with self.sift_callback.timer.span("data"):
            batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._window = Window(batches)
        return batches, num_items

    # ---- the step ----

    def training_step(
        self,
        model: nn.Module,
        inputs: Batch,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Narrow the window's batches, in place, to the kept samples; train on this one."""
        timer = self.sift_callback.timer
        if self.sift.trains_as_stock:
            everything = Selection.of_all(first_length(inputs))
            window = self._window_of(inputs, None)
            window.selections = [*self.selections, everything]
            self.sift_callback.record(everything, self.args.world_size)
            with timer.training_step():
                loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
                return loss
        window = self._window_of(inputs, num_items_in_batch)
        sifted = self._sifted_model(model, window)
        if window.selections is None:
            self._select(window, sifted, num_items_in_batch)
        if num_items_in_batch is not None:
            num_items_in_batch = window.num_items
        window.trained = inputs if self._reads_losses(window.selection_of(inputs)) else None
        try:
            with timer.training_step(), sifted.labelled_only(inputs) as labelled:
                loss = super().training_step(model, labelled, num_items_in_batch)
            if window.trained is not None and not window.losses_read and self._criterion:
                warn_of_unknown_losses(type(self), self.sift.sift_criterion)
            return loss
        finally:
            window.trained = None

    def _window_of(self, batch: Batch, num_items: Tensor | int | None) -> Window:
        if self._window.index_of(batch) is None:  # a caller with batches of its own
            if num_items is not None:
                check_window(getattr(self, "current_gradient_accumulation_steps", 1))
            self._window = Window([batch])
        return self._window

    def _sifted_model(self, model: nn.Module, window: Window) -> SiftedModel:
        """The model as the first batch shows it; probed again if the run wraps another one, or if
        the first batch had no label."""
        sifted = self._sifted
        if sifted is not None and (
            window.selections is not None or (sifted.facts.known and sifted.passes.trained is model)
        ):
            return sifted
        check_wrapped(model, self.args)
        self._sifted = sifted = self.sifted_model_of(model, window.batches[0])
        sifted.criterion = self._criterion
        self._share_buffers = buffers_of_first(self.accelerator, sifted.module)
        if not sifted.facts.divides_by_count:
            self.model_accepts_loss_kwargs = False
        self._auditor = Auditor.of_run(self, sifted, model, window.batches[0])
        self.sift_callback.agreement.set_scoring_share(sifted.scoring_share)
        return sifted

    def _select(self, window: Window, sifted: SiftedModel, num_items: Tensor | int | None) -> None:
        """Score and narrow all batches of a window, then count their labels again."""
        sifts = self._sifts()
        if self._auditor is not None and self.state.global_step % self.sift.sift_audit_steps == 0:
            generators = self._generator(0), self._generator(-1)
            self.sift_callback.record_audit(self._auditor.audit(window.batches[0], *generators))
            sifts = self._sifts()  # the audit may open or shut the gate
        if scores_with_model(self.sift) and (sifts or self._scores_without_sifting()):
            with self.sift_callback.timer.span("sampling"):
                self._share_buffers()  # all processes call it, whatever their batches are
        for batch in window.batches:
            sifted.count_dropped_labels(batch)
        window.selections = [
            self._selection(batch, self._generator(index), sifted, sifts)
            for index, batch in enumerate(window.batches)
        ]
        trims = sifted.trims
        for batch, selection in zip(window.batches, window.selections, strict=True):
            if len(selection.rows) < selection.candidates:
                kept = take_rows(batch, selection.rows)
                for name, rows in (without_padding(kept) if trims else kept).items():
                    batch[name] = rows  # a ModelOutput cannot be updated at once
            self.sift_callback.record(selection, self.args.world_size)
        if num_items is not None and sifted.facts.divides_by_count:
            counted = [sifted.countable_labels(batch) for batch in window.batches]
            # The Trainer's own count (private in Transformers), for its gathering over processes.
            window.num_items = self._get_num_items_in_batch(counted, self.args.device)

    def _selection(
        self, batch: Batch, generator: torch.Generator, sifted: SiftedModel, sifts: bool
    ) -> Selection:
        """Which samples of a batch to train on."""
        if self.sift.sift_keep_ratio == 1:
            return Selection.of_all(first_length(batch))
        candidates = num_rows(batch)
        kept = num_kept(candidates, self.sift.sift_keep_ratio)
        first = torch.arange(kept, device=self.args.device)
        if kept == candidates or not (sifts or self._scores_without_sifting()):
            return Selection(first, candidates)
        scored = self._scored(batch, generator, sifted)
        choice = choose_rows(scored.scores, self.sift, generator)
        rows, weights = (choice.rows, choice.weights) if sifts else (first, None)
        features = None if scored.features is None else scored.features[rows]
        return Selection(rows, candidates, scored.scores, weights, features, choice.rows)

    def _scored(self, batch: Batch, generator: torch.Generator, sifted: SiftedModel) -> Candidates:
        with self.sift_callback.timer.span("sampling"), self.accelerator.autocast():
            # Preparing may round numbers to the model's precision.
            columns = {name: batch[name].to(self.args.device) for name in columns_of(self.sift)}
            return sifted.score_candidates({**self._prepare_inputs(batch), **columns}, generator)

    def _scores_without_sifting(self) -> bool:
        """Whether a step that does not sift is scored: to learn, or for the gate to open."""
        learns = self._criterion is not None and self._criterion.learns_from_features()
        scheduled = should_sift(self.state.global_step, *self._schedule)  # so a gate is shut
        if not (learns or (scheduled and gated_by_lift(self.sift))):
            return False
        every = self.sift_callback.agreement.interval
        return measures_at(self.state.global_step, *self._schedule, every=every)

    def _reads_losses(self, selection: Selection) -> bool:
        """Whether the losses of this batch's samples are used, see `compute_loss`."""
        if selection.weights is not None or uses_sample_losses(self.sift):
            return True
        if self._criterion is not None and selection.features is not None:
            return True
        if selection.scores is None or not approximates_loss(self.sift):
            return False
        return not selection.sifts or compares_at(self.state.global_step, *self._schedule)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, *args: Any, **more: Any
    ) -> Any:
        """The loss; in training with the weights of the selector. The criterion learns from it."""
        batch, sifted = self._window.trained, self._sifted
        if batch is None or sifted is None or not gives_outputs(super().compute_loss):
            # A loss of the user's may not take ``return_outputs``, which is then left out.
            given = (return_outputs, *args) if return_outputs or args else ()
            return super().compute_loss(model, inputs, *given, **more)
        loss, outputs = super().compute_loss(model, inputs, True, *args, **more)
        kept, selection = self._prepare_inputs(batch), self._window.selection_of(batch)
        losses = sifted.sample_losses(outputs, kept, uses_sample_losses(self.sift))
        if losses is not None and selection.weights is not None:
            loss = sifted.weighted(loss, losses, selection.weights, outputs, kept)
        if losses is not None:
            self._window.losses_read = True
            scores, chosen = selection.scores, selection.chosen
            compared = approximates_loss(self.sift) and self._is_measured
            if compared and scores is not None and chosen is not None:
                self.sift_callback.agreement.add(scores, selection.rows, losses, chosen)
            sifted.learn(kept, losses, selection.features)
        return (loss, outputs) if return_outputs else loss

    @property
    def _schedule(self) -> tuple[int, float, float, int]:
        sift = self.sift
        steps = self.state.max_steps
        return steps, sift.sift_warmup_steps, sift.sift_cooldown_steps, sift.sift_interval

    def _sifts(self) -> bool:
        """Whether this step is one that sifts."""
        return should_sift(self.state.global_step, *self._schedule) and self._gate_is_open()

    def _gate_is_open(self) -> bool:
        if self.sift.sift_gate == "descent":
            return self.sift_callback.gate.is_open(self.held_out == "evaluation")
        return self.sift_callback.agreement.pays or not gated_by_lift(self.sift)

    def _generator(self, index: int) -> torch.Generator:
        """A generator for one batch of this step: nothing to save, and the same after a resume."""
        place = (self.args.seed, self.state.global_step, index, self.args.process_index)
        seed = int.from_bytes(blake2b(repr(place).encode(), digest_size=8).digest(), "big") >> 1
        return torch.Generator().manual_seed(seed)

    # ---- the model ----

    def sifted_model_of(
        self, model: nn.Module, batch: Batch, sift: SiftArguments | None = None
    ) -> SiftedModel:
        """What a first batch of candidates shows of the model; the trainer stays as it is.

        Args:
            model: as it is trained.
            batch: as the training dataloader yields it.
            sift: settings to sift by; None for the trainer's own.

        Raises:
            ValueError: for a batch, or a model, that cannot be sifted so.
        """
        sift = self.sift if sift is None else sift
        return probe_first_batch(self, model, batch, sift, self._num_candidates(), SiftMixin)

    def _prepare_for_training(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        """The model is wrapped here, so it must be probed again. Private in Transformers: there is
        no public method that wraps the model."""
        if self.sift.sift_keep_ratio < 1:
            check_steps(self.sift, max_steps)
        self._sifted = self._criterion = None
        self._unused_callback.reset()
        stateful = CRITERIA[self.sift.sift_criterion].state
        if stateful is not None and self.sift.sift_keep_ratio < 1:
            bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            self._criterion = stateful(bare)
        ties = self.is_fsdp_enabled and not self.sift.trains_as_stock
        with tied_in_one_group(self.model) if ties else nullcontext():
            return super()._prepare_for_training(max_steps, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """With them the state of the criterion. Private in Transformers: no public hook writes on
        every process into a checkpoint that is not finished."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self._criterion is not None:
            save_criterion(self._criterion, output_dir, self.args.process_index)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """See `_save_optimizer_and_scheduler`."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if self._criterion is not None and checkpoint is not None:
            load_criterion(self._criterion, checkpoint, self.args.process_index)

    # ---- log ----

    def compute_loss_context_manager(self) -> ExitStack:
        """Time the forward; what follows it in a training step is the backward."""
        stack: ExitStack = super().compute_loss_context_manager()
        stack.enter_context(self.sift_callback.timer.forward())
        return stack

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Measurements are merged here: what a callback adds in `on_log` reaches neither the
        history nor the reporters."""
        if self._sifted is not None:
            self._sifted.check_no_dropped_labels()
        callback = self.sift_callback
        if self._is_measured and "loss" in logs:
            logs.update(callback.metrics())
            if is_gated(self.sift):
                logs["sift/gate_open"] = float(self._gate_is_open())
        elif self._is_measured and "train_runtime" in logs:
            logs.update(callback.totals())
        if "loss" in logs and self._auditor is not None:
            logs.update(audit_metrics(callback.audits))
            callback.audits.clear()
        super().log(logs, *args, **kwargs)


class SiftTrainer(SiftMixin, Trainer):
    """`transformers.Trainer` that sifts; takes everything that `Trainer` takes."""

    @with_signature_of(Trainer.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
