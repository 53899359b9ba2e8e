"""Drawing more rows than are trained on, where all that counts rows goes on counting the latter."""

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader
from transformers.trainer_utils import has_length

from sift_trainer.arguments import SiftArguments, check_fields, sift_arguments
from sift_trainer.batch import Batch, num_rows
from sift_trainer.length_groups import grouping
from sift_trainer.selection import num_candidates
from sift_trainer.validation import check_batch_size, held_out_of

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class DrawingMixin(_Base):
    """A `Trainer` whose training batches are candidates: ``per_device_train_batch_size /
    sift_keep_ratio`` rows each."""

    @property
    def sift(self) -> SiftArguments:
        """The sift fields of the arguments, or their defaults."""
        return sift_arguments(self.args)

    @property
    def held_out(self) -> str:
        """Whose loss audits and probe look towards: ``candidates`` or ``evaluation``."""
        return held_out_of(self.sift, self.eval_dataset)

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """Of an epoch's samples only the kept share is trained on, and counts for the speed."""
        *values, samples, total, in_epoch, steps = super().set_initial_training_values(
            args, dataloader
        )
        if args.max_steps <= 0:
            samples *= self.sift.sift_keep_ratio
        return (*values, samples, total, in_epoch, steps)

    def _planned_steps(self) -> int | None:
        """Optimisation steps of the run, as far as they are known before the data is touched."""
        args, data = self.args, self.train_dataset
        if args.max_steps > 0:
            return int(args.max_steps)
        if not has_length(data):
            return None
        drawn = self._candidates() * args.world_size
        loader = DataLoader(data, drawn, drop_last=args.dataloader_drop_last)
        return int(self.set_initial_training_values(args, loader)[-1])

    def _candidates(self) -> int:
        """Rows that one process draws for a micro-batch."""
        drawn = num_candidates(self._train_batch_size, self.sift.sift_keep_ratio)
        shared = self.args.accelerator_config.split_batches and self.args.world_size > 1
        return drawn // self.args.world_size if shared else drawn

    def _expected_rows(self, batch: Batch) -> int:
        """Rows that the first batch should have: where a run goes on with the last one of an epoch,
        those that it has, as it may be short."""
        last = self.state.global_step > 0 and self.accelerator.gradient_state.end_of_dataloader
        return num_rows(batch) if last else self._candidates()

    def _rows_of_data(self) -> int | None:
        """Rows of the training data, for each process; None for a stream."""
        data = self.train_dataset
        return -(-len(data) // self.args.world_size) if has_length(data) else None

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Training batches are of candidates. Private in Transformers: the public
        `get_train_dataloader` reads its batch size from what also counts the samples trained on."""
        if kwargs.get("is_training"):
            check_fields(self.args)  # a hyperparameter search sets them past the constructor
            rows = kwargs["batch_size"]
            check_batch_size(self.sift, rows)  # auto_find_batch_size may shrink it
            kwargs["batch_size"] = drawn = num_candidates(rows, self.sift.sift_keep_ratio)
            if kwargs.get("sampler_fn") is not None:
                kwargs["sampler_fn"] = grouping(kwargs["sampler_fn"], rows, drawn)
        return super()._get_dataloader(*args, **kwargs)
