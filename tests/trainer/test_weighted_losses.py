"""Weights multiply the losses of samples exactly, in each kind of task: against a plain loop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sift_trainer import SiftTrainer, register_selector
from sift_trainer.selection.choosing import SELECTORS
from tests.matrix import MATRIX
from tests.test_matrix import rows_of
from tests.training import arguments
from tests.weighted_losses import KEPT, KINDS, Kind, difference, fixed, masked, of_labelled, trained

SPARSE = Kind("modernbert, sparse prediction", masked, of_labelled, whole=True)


@pytest.fixture(autouse=True)
def _selector() -> Iterator[None]:
    register_selector("fixed", fixed, weighted=True)
    yield
    del SELECTORS["fixed"]


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("kind", [*KINDS.values(), SPARSE], ids=[*KINDS, "sparse"])
def test_the_update_is_that_of_a_loop(kind: Kind, accumulation: int, tmp_path: Path) -> None:
    trainer = trained(kind, tmp_path, accumulation)
    assert difference(kind, trainer.model.state_dict(), accumulation) < 1e-6


@pytest.mark.parametrize("routed", [True, False])
def test_the_loss_of_routers_is_refused(routed: bool, tmp_path: Path) -> None:
    """It balances a batch, so samples have no part in it. Without it there are weights."""
    model, rows = MATRIX["mixtral"].build(), rows_of(MATRIX["mixtral"].batch())[:6]
    model.config.output_router_logits = routed
    args = arguments(
        tmp_path, max_steps=1, per_device_train_batch_size=len(KEPT), sift_selector="fixed"
    )
    trainer = SiftTrainer(model, args, train_dataset=rows)
    if routed:
        with pytest.raises(ValueError, match="output_router_logits=True of MixtralForCausalLM"):
            trainer.train()
    else:
        trainer.train()
        assert trainer.selections[0].weights is not None
