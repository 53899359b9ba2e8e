"""Masked-language-model batches: new masks in every batch, or fixed ones for evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

IGNORED = -100


def mask_tokens(
    input_ids: Tensor,
    special_mask: Tensor,
    *,
    mask_id: int,
    replacement_ids: Tensor,
    probability: float = 0.15,
    per_row: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Masks tokens as BERT does (Devlin et al., 2019, section 3.1).

    Every token outside `special_mask` is chosen with `probability`; of the chosen ones 80% become
    `mask_id`, 10% a random one of `replacement_ids`, 10% stay. A row in which none was chosen gets
    one: the token with the lowest draw, so that every row with a maskable token has a label. With
    `per_row` exactly so many tokens are chosen in every row, uniformly, which gives batches of a
    static number of labels; a row with fewer maskable tokens has all of them chosen.

    Args:
        input_ids: int64, (batch, length).
        special_mask: bool, (batch, length): never chosen.
        per_row: instead of `probability`.
        replacement_ids: int64, (n,): a random token is drawn from them, uniformly.
        generator: source of randomness, on the device of `input_ids`; ``None`` is torch's global
            one. How much is drawn depends on the shape only.

    Returns:
        ``(masked_ids, labels)``, both int64 (batch, length); labels are -100 where nothing was
        chosen. `input_ids` is left as it is.
    """
    shape, device = input_ids.shape, input_ids.device
    draw = torch.rand(shape, generator=generator, device=device)
    fate = torch.rand(shape, generator=generator, device=device)
    random_ids = replacement_ids[
        torch.randint(len(replacement_ids), shape, generator=generator, device=device)
    ]
    draw = draw.masked_fill(special_mask, 2.0)  # above every probability
    count = 1 if per_row is None else min(per_row, shape[1])
    lowest = draw.topk(count, dim=1, largest=False).indices
    chosen = torch.zeros_like(special_mask).scatter_(1, lowest, True) & ~special_mask
    if per_row is None:
        chosen |= draw < probability
    labels = input_ids.masked_fill(~chosen, IGNORED)
    masked = input_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    masked = torch.where(chosen & (fate >= 0.9), random_ids, masked)
    return masked, labels


@dataclass
class PairCollator:
    """Pads rows of a corpus and masks them anew in every batch (dynamic masking).

    A batch has `input_ids`, `attention_mask`, `token_type_ids`, `labels` (-100 where nothing is
    predicted), all int64 (batch, length), and `next_sentence_label`, int64 (batch,).

    With a `seed` the masks are a function of the seed and of the rows of the batch: the same in a
    resumed run, in any dataloader worker and on any rank. A row is masked differently in every
    epoch, since shuffling gives it other neighbours. Without a seed masks come from torch's global
    generator, which is not exact when a run resumes within an epoch.

    Args:
        tokenizer: gives the ids of padding, mask and special tokens.
        max_length: pad to this many tokens; ``None`` pads to the longest row of the batch.
        mask_probability: share of the tokens to predict, in (0, 1).
        masks_per_row: predict exactly so many tokens of every row instead, 1 or more.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int | None = None
    mask_probability: float = 0.15
    seed: int | None = None
    masks_per_row: int | None = None
    _is_special: Tensor = field(init=False, repr=False)
    _replacement_ids: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._is_special = torch.zeros(len(self.tokenizer), dtype=torch.bool)
        self._is_special[self.tokenizer.all_special_ids] = True
        self._replacement_ids = (~self._is_special).nonzero().squeeze(1)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Pads and masks one batch of rows."""
        batch = self._padded(features)
        batch["input_ids"], batch["labels"] = mask_tokens(
            batch["input_ids"],
            self._is_special[batch["input_ids"]] | (batch["attention_mask"] == 0),
            mask_id=int(self.tokenizer.mask_token_id),
            replacement_ids=self._replacement_ids,
            probability=self.mask_probability,
            per_row=self.masks_per_row,
            generator=self._generator(batch["input_ids"]),
        )
        return batch

    def _padded(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The columns of the rows; three times as fast as the tokenizer's own padding."""
        lengths = torch.tensor([len(feature["input_ids"]) for feature in features])
        length = self.max_length or int(lengths.max())
        batch = {"attention_mask": (torch.arange(length) < lengths[:, None]).long()}
        for name, padding in (("input_ids", self.tokenizer.pad_token_id), ("token_type_ids", 0)):
            rows = [torch.as_tensor(feature[name], dtype=torch.int64) for feature in features]
            # A last row of full length makes pad_sequence pad to it.
            rows.append(torch.zeros(length, dtype=torch.int64))
            batch[name] = pad_sequence(rows, batch_first=True, padding_value=padding)[:-1]
        labels = [feature["next_sentence_label"] for feature in features]
        return {**batch, "next_sentence_label": torch.tensor(labels)}

    def _generator(self, input_ids: Tensor) -> torch.Generator | None:
        if self.seed is None:
            return None
        key = str(self.seed).encode()
        digest = blake2b(input_ids.numpy().tobytes(), digest_size=7, key=key).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


class FixedMasks(Dataset[dict[str, Tensor]]):
    """Rows whose masks are the same in every evaluation of every run: a function of `seed`, the row
    and `collator`'s other settings. `default_data_collator` batches the rows.

    Args:
        dataset: sized; its rows are those of a corpus.
        collator: with `max_length` set, so that all rows have the same length.
    """

    def __init__(self, dataset: Dataset[dict[str, Any]], collator: PairCollator, seed: int) -> None:
        self.dataset = dataset
        self.collator = replace(collator, seed=seed)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.collator([self.dataset[index]])
        return {name: column[0] for name, column in batch.items()}
