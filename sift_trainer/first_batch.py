"""The first batch of a training run: what it says of the model, and what it is refused for."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import Trainer

from sift_trainer.arguments import SiftArguments, scores_with_model
from sift_trainer.batch import Batch, has_rows, num_rows
from sift_trainer.collation import check_rows_of_samples, labels_per_row
from sift_trainer.composition import owner_of
from sift_trainer.drawing import DrawingMixin
from sift_trainer.launch import check_wrapped
from sift_trainer.sharding import buffers_of_first, compiled_forward_of, forward_of, unanimous
from sift_trainer.sifter import Sifter, TrainedLoss
from sift_trainer.tasks import Task, task_of
from sift_trainer.validation import check_first_batch, check_mapping, check_steps


class FirstBatchMixin(DrawingMixin):
    """A `Trainer` that makes the `Sifter` of its model when it sees a first batch."""

    _sifter: Sifter | None
    _sifted_model: nn.Module | None
    _share_buffers: Callable[[], None]
    model_accepts_loss_kwargs: bool

    def _meet(self, model: nn.Module, batch: Batch) -> None:
        """Learn what the model does with its labels, once per training run."""
        check_wrapped(model, self.args)
        check_steps(self.sift, self.state.max_steps)
        self._sifter = self.sifter_of(model, batch)
        self._share_buffers = buffers_of_first(self.accelerator, self._sifter.model)
        if not self._sifter.divides_by_count:
            self.model_accepts_loss_kwargs = False
        self._sifted_model = model if self._sifter.asked else None

    def sifter_of(
        self, model: nn.Module, batch: Batch, sift: SiftArguments | None = None
    ) -> Sifter:
        """What a first batch of candidates says of the model; the trainer stays as it is.

        Args:
            model: as it is trained.
            batch: as the training dataloader yields it.
            sift: settings to sift by; None for the trainer's own.

        Raises:
            ValueError: for a batch, or a model, that cannot be sifted so.
        """
        sift = self.sift if sift is None else sift
        check_mapping(batch)
        bare = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        task = self._task(bare, batch, sift)
        if sift.sift_keep_ratio < 1:
            rows, expected = num_rows(batch), self._expected_rows(batch)
            check_rows_of_samples(type(self), rows, expected)
            check_first_batch(batch, rows, expected, sift, task, self._rows_of_data())
        forward = forward_of(self.accelerator, model)
        labelled = None
        if task.labelled(batch) and has_rows(batch):
            labelled = self._prepare_inputs(batch)
        with self.accelerator.autocast():
            return Sifter(
                bare,
                forward,
                sift,
                list(self.label_names),
                labelled,
                accepts_count=self.model_accepts_loss_kwargs,
                own_loss=self._own_loss(),
                compiled=compiled_forward_of(self.accelerator, model),
                agreed=unanimous(self.accelerator),
                task=task,
                trained_loss=self._trained_loss(model if self.is_fsdp_enabled else bare, forward),
                labels_per_row=labels_per_row(self.data_collator, batch),
            )

    def _task(self, model: nn.Module, batch: Batch, sift: SiftArguments) -> Task:
        """What the model predicts, and the loss that is trained on compares that with."""
        labels = batch.get("labels")
        task = task_of(model, labels if isinstance(labels, Tensor) else None)
        if self.label_smoother is None or not scores_with_model(sift):
            return task
        return task.smoothed(self.args.label_smoothing_factor)

    def _trained_loss(self, model: nn.Module, forward: Callable[..., Any]) -> TrainedLoss | None:
        """The loss of some rows as training takes it of the outputs; None where that is the model's
        own, or a subclass's affair."""
        function = self.compute_loss_func
        if self._computes_loss() or (function is None and self.label_smoother is None):
            return None

        def trained_loss(rows: dict[str, Any], count: Tensor) -> tuple[Tensor, Any]:
            if function is None:
                loss, outputs = Trainer.compute_loss(self, model, rows, return_outputs=True)
                return loss, outputs
            labels = rows.pop("labels", None)
            outputs = forward(**rows)
            return function(outputs, labels, num_items_in_batch=count), outputs

        return trained_loss

    def _computes_loss(self) -> bool:
        """Whether a subclass computes the loss itself."""
        return type(self).compute_loss is not Trainer.compute_loss

    def _own_loss(self) -> str | None:
        """Why the loss is not the model's own; None if it is."""
        if self._computes_loss():
            return f"{owner_of(type(self), 'compute_loss').__name__} overrides compute_loss"
        if self.compute_loss_func is not None:
            return "compute_loss_func is set"
        return "label_smoothing_factor is set" if self.label_smoother is not None else None
