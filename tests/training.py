"""What the tests of training share: rows that can be told apart, a small BERT, quick arguments."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from transformers import BertConfig, BertForMaskedLM

from sift_trainer import SiftMixin, SiftTrainer, SiftTrainingArguments
from sift_trainer.scoring.positions import IGNORE_INDEX

# At width 32 a second thread only waits for the first, and on shared cores it waits long.
torch.set_num_threads(1)

VOCABULARY = 100
LENGTH = 16
MARKS = 40  # the first two tokens of a row spell its number in this base
FIRST_MARK = 50
POISON = 99  # a token that no row contains, see `poisoned`


class Rows(Dataset[dict[str, Tensor]]):
    """Row i starts with two unlabelled tokens that spell i; its labels are its own tokens, so that
    the task can be learned, at a number of positions that differs from row to row."""

    def __init__(self, count: int, labelled: bool = True, poisoned: tuple[int, ...] = ()) -> None:
        draw = torch.Generator().manual_seed(count)
        self.tokens = torch.randint(5, FIRST_MARK, (count, LENGTH), generator=draw)
        numbers = torch.arange(count)
        self.tokens[:, 0] = FIRST_MARK + numbers // MARKS
        self.tokens[:, 1] = FIRST_MARK + numbers % MARKS
        chosen = torch.rand(count, LENGTH, generator=draw) < 0.4
        chosen[:, :2] = False
        chosen[:, 2] = True
        self.labels = self.tokens.masked_fill(~chosen, IGNORE_INDEX)
        self.tokens[list(poisoned), 3] = POISON
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        fields = {
            "input_ids": self.tokens[row],
            "attention_mask": torch.ones(LENGTH, dtype=torch.long),
        }
        return {**fields, "labels": self.labels[row]} if self.labelled else fields


class Stream(IterableDataset[dict[str, Tensor]]):
    """The same rows, in order and without a length."""

    def __init__(self, count: int) -> None:
        self.rows = Rows(count)

    def __iter__(self) -> Any:
        return iter([self.rows[row] for row in range(len(self.rows))])


def row_numbers(batch: Any) -> list[int]:
    """Which of the `Rows` a batch holds."""
    marks = batch["input_ids"][:, :2] - FIRST_MARK
    return (marks[:, 0] * MARKS + marks[:, 1]).tolist()


def bert(seed: int = 0, poisoned: bool = False, **changes: Any) -> BertForMaskedLM:
    """BERT with 3 blocks of width 32. ``poisoned``: token `POISON` embeds to NaN."""
    torch.manual_seed(seed)
    config = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": LENGTH,
        **changes,
    }
    if poisoned:  # with its own head, as a tied one would make every row's logits NaN
        config["tie_word_embeddings"] = False
    model = BertForMaskedLM(BertConfig(**config))
    if poisoned:
        with torch.no_grad():
            model.bert.embeddings.word_embeddings.weight[POISON] = torch.nan
    return model


def quick(folder: str | Path, **changes: Any) -> dict[str, Any]:
    """Keyword arguments of a short run on the CPU: sifting from the first step, 4 rows of 8."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **changes,
    }


def arguments(folder: str | Path, **changes: Any) -> SiftTrainingArguments:
    """`quick` arguments that sift from the first step to the last, by the paper's rule."""
    throughout = {
        "sift_criterion": "loss",
        "sift_selector": "top_k",
        "sift_warmup_steps": 0,
        "sift_cooldown_steps": 0,
    }
    return SiftTrainingArguments(**{**throughout, **quick(folder, **changes)})


class Recording(SiftMixin):
    """Notes what each micro-batch was: the rows trained on and their places among the candidates,
    the candidates, loss and scores."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kept: list[list[int]] = []
        self.places: list[list[int]] = []
        self.candidates: list[list[int]] = []
        self.losses: list[float] = []
        self.scores: list[list[float] | None] = []
        super().__init__(*args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self.candidates += [row_numbers(batch) for batch in batches]
        return batches, num_items

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        selection = self._window.selection_of(inputs)
        scores = selection.scores if selection.sifts else None
        self.kept.append(row_numbers(inputs))
        self.places.append(selection.rows.tolist())
        self.losses.append(loss.item())
        self.scores.append(None if scores is None else scores.tolist())
        return loss


class RecordingTrainer(Recording, SiftTrainer):
    """`SiftTrainer` that takes notes."""


def trained(trainer: Any, before: dict[str, Tensor] | None = None) -> bool:
    """Whether any parameter differs from ``before``, by default from `bert`'s of seed 0."""
    before = bert().state_dict() if before is None else before
    return any(
        not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items()
    )


def as_drawn(data: Any, kept: int) -> list[Any]:
    """The rows in the order in which sequential candidates are data[0], data[1], ... at keep ratio
    1/2: the first ``kept`` of a batch come from the first half, the others from the second."""
    half, arranged = len(data) // 2, [data[row] for row in range(len(data))]
    for place in range(len(data)):
        step, within = divmod(place, 2 * kept)
        beyond = half - kept if within >= kept else 0
        arranged[kept * step + within + beyond] = data[place]
    return arranged
