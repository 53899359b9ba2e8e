"""The probe lets scores learn before it compares them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertForSequenceClassification

from sift_trainer import StatefulCriterion, register_criterion
from sift_trainer.probe import probe
from sift_trainer.scoring.criteria import CRITERIA
from tests.probe.probed import NO_DROPOUT, rough, trainer_of
from tests.training import Rows, bert


class Classified(Rows):
    """The class is given by a token."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        fields = super().__getitem__(row)
        return {**fields, "labels": fields["input_ids"][2] % 4}


def test_learned_scores_see_more_than_the_exit(tmp_path: Path) -> None:
    """The last block is what ranks; the exit's own head knows nothing of it. Within 60 batches the
    predictor learns half of the order."""
    torch.manual_seed(0)
    config = bert(num_labels=4, **NO_DROPOUT).config
    model = rough(BertForSequenceClassification(config))
    with torch.no_grad():  # the whole model prefers classes by a bias that no exit has
        last = model.bert.encoder.layer[-1].output.LayerNorm
        last.bias += functional.normalize(torch.randn(32), dim=0) * 6
    trainer = trainer_of(tmp_path, model, Classified(1000), per_device_train_batch_size=8)
    found = probe(trainer, exits=[1], criteria=["predicted_loss", "loss"], batches=60, rounds=1)
    learned, exit_loss = found.figures
    assert learned.spearman is not None
    assert exit_loss.spearman is not None
    assert learned.spearman.low > exit_loss.spearman.high
    assert learned.spearman.value > 0.5
    assert any(
        "learned scores: from the exact losses of 60 batches" in note for note in found.notes
    )


def test_states_that_only_training_gives_are_refused(tmp_path: Path) -> None:
    class Own(StatefulCriterion):
        def learn(self, trained: object) -> None: ...

    register_criterion("own", Own)
    try:
        with pytest.raises(ValueError, match="'own' has a state, which only training gives it"):
            probe(trainer_of(tmp_path), exits=[1], criteria=["own"], batches=4)
    finally:
        del CRITERIA["own"]
