"""Speech recognition by connectionist temporal classification (CTC)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sift_trainer.scoring.criteria import Criterion
from sift_trainer.scoring.logit_pass import Values
from sift_trainer.scoring.task import Task, no_fit


@dataclass(frozen=True)
class Transcription(Task):
    """Logits (B, frames, V) and token ids (B, L), padded with -100. The only criterion is the loss.

    Attributes:
        blank: the class for no token.
        reduction: ``"mean"``: a sample's loss is divided by its number of tokens, and the model's
            is the mean over samples; ``"sum"``: not divided, and the sum over samples.
        zero_infinity: whether a transcript that does not fit into its frames has the loss 0.
        frames: lengths of sounds (B,) -> their numbers of frames (B,), needed only with padding.
    """

    blank: int
    reduction: str
    zero_infinity: bool
    frames: Callable[[Tensor], Tensor] | None

    def logits(
        self, outputs: Any, batch: Mapping[str, Any], find: Callable[[Any], Tensor]
    ) -> Tensor:
        """The logits, with probability 1 of blank in padding frames: they then add no loss."""
        logits = find(outputs).float()
        mask = batch.get("attention_mask")
        if mask is None:
            return logits
        if self.frames is None:
            raise ValueError(
                "the batch has an 'attention_mask', but this CTC model does not tell the frames of "
                "a sound; use sift_criterion='random', or sounds of equal length and no mask"
            )
        heard = self.frames(mask.sum(-1)).to(logits.device)
        padding = torch.arange(logits.shape[1], device=logits.device) >= heard[:, None]
        certain = torch.full_like(logits[0, 0], -torch.inf)
        certain[self.blank] = 0
        return torch.where(padding[..., None], certain, logits)

    def fitted(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if logits.dim() != 3 or labels.dim() != 2 or len(logits) != len(labels):
            raise no_fit(logits, labels, "one row of token ids per sound")
        return logits, labels

    def values(self, criterion: Criterion) -> Values:
        if criterion.is_loss:
            return self.loss
        raise ValueError(
            f"sift_criterion={criterion.name!r} reads single predictions, and the loss of CTC sums "
            "over all alignments of a transcript; use sift_criterion='loss'"
        )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """CTC loss of each sample, in nats: (B, frames, V), (B, L) -> (B,)."""
        spoken = (labels >= 0) & (labels != self.blank)
        lengths = spoken.sum(dim=-1)
        frames = lengths.new_full((len(logits),), logits.shape[1])
        # cuDNN refuses some lengths; models turn it off too.
        with torch.backends.cudnn.flags(enabled=False):
            losses = functional.ctc_loss(
                logits.log_softmax(dim=-1).transpose(0, 1),
                labels[spoken],
                frames,
                lengths,
                blank=self.blank,
                reduction="none",
                zero_infinity=self.zero_infinity,
            )
        return losses / lengths.clamp(min=1) if self.reduction == "mean" else losses

    def reduce(self, losses: Tensor, counts: Tensor) -> Tensor:
        return losses.mean() if self.reduction == "mean" else losses.sum()
