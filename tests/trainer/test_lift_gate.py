"""The gate by the lift: it shuts if choosing does not pay, and opens again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification

from sift_trainer import SiftCallback
from sift_trainer.measuring.running_agreement import HYSTERESIS, MIN_LIFT, MIN_SAMPLES
from sift_trainer.selection.schedule import COMPARED_STEPS
from sift_trainer.sifted_model.scoring_share import backward_share
from tests.training import RecordingTrainer, arguments

BATCH = 16
SHUT_AFTER = (MIN_SAMPLES // BATCH - 1) * COMPARED_STEPS + 1  # every fourth update is measured


def sure() -> BertForSequenceClassification:
    """A classifier that is sure of its answers, of which half are wrong: losses differ much. Blocks
    after the first change nothing, so that the exit's losses are exact."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 8, "intermediate_size": 64}
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=100, num_attention_heads=2, max_position_embeddings=16, **sizes)
    )
    with torch.no_grad():
        model.classifier.weight *= 100
        for block in model.bert.encoder.layer[1:]:
            block.attention.output.dense.weight.zero_()
            block.output.dense.weight.zero_()
    return model


def sentences(count: int) -> list[dict[str, Tensor]]:
    ids = torch.randint(5, 90, (count, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.randint(2, (count,), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": ids[row], "labels": labels[row], "row": row} for row in range(count)]


class BlindUntil(RecordingTrainer):
    """Its scores are those of other samples until a step."""

    sees_from = 0

    def _scored(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._scored(*args, **kwargs)
        blind = self.state.global_step < self.sees_from
        return type(found)(found.scores.roll(3), found.features) if blind else found


def run(folder: Path, sees_from: int, resume: str | None = None, **changes: Any) -> BlindUntil:
    settings: dict[str, Any] = {
        "sift_selector": "mixed",
        "max_steps": 160,
        "learning_rate": 0.0,
        "per_device_train_batch_size": BATCH,
        "logging_steps": 10,
    }
    args = arguments(folder, **{**settings, **changes})
    trainer = BlindUntil(sure(), args, train_dataset=sentences(600))
    trainer.sees_from = sees_from
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_it_stays_open_where_losses_differ_and_scores_see(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = run(tmp_path, 0)
    assert all(each.sifts for each in trainer.selections)
    assert all(scores is not None for scores in trainer.scores)
    assert "sift_gate" not in caplog.text
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert {line["sift/gate_open"] for line in lines} == {1.0}
    assert lines[-1]["sift/lift"] > 1.25


def stock_steps(trainer: BlindUntil) -> list[bool]:
    """Whether each step trained on the stock Trainer's batch, the first of the candidates."""
    return [k == d[: len(k)] for k, d in zip(trainer.kept, trainer.candidates, strict=True)]


def test_it_shuts_for_blind_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = run(tmp_path, 1000)
    assert stock_steps(trainer) == [False] * SHUT_AFTER + [True] * (160 - SHUT_AFTER)
    assert caplog.text.count("(sift_gate='lift')") == 1
    assert trainer.state.log_history[-2]["sift/gate_open"] == 0


def test_it_opens_when_scores_see(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While it is shut, every fifth step is measured: scoring takes .085 of a step, which is .02 of
    four steps and a bit. A resumed run is the whole one."""
    trainer = run(tmp_path, SHUT_AFTER + 1, save_steps=60, save_strategy="steps")
    shut = stock_steps(trainer)[SHUT_AFTER:]
    opened = shut.index(False)
    assert trainer.sift_callback.agreement.interval == 5
    assert opened in range(46, 56)  # the first decision, of ten measured steps or a bit more
    assert not any(shut[opened:])
    assert caplog.text.count("(sift_gate='lift')") == 1  # a warning; what follows is told as info
    resumed = run(tmp_path, SHUT_AFTER + 1, resume=str(tmp_path / "checkpoint-60"))
    assert resumed.kept == trainer.kept[60:]
    assert resumed.sift_callback.agreement.lift == trainer.sift_callback.agreement.lift


def test_a_batch_of_one_sample_can_sift(tmp_path: Path) -> None:
    """The ranks of the losses are those among the candidates, also while nothing is chosen."""
    names = {"sift_criterion": "predicted_loss", "per_device_train_batch_size": 1}
    trainer = run(tmp_path, 0, **names, max_steps=1200, sift_warmup_steps=1000)
    lift = trainer.sift_callback.agreement.lift
    assert lift is not None
    assert lift > 1.15
    assert not all(k == d[:1] for k, d in zip(trainer.kept, trainer.candidates, strict=True))


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_shut_gate_is_measured_at_any_interval(warmup: int, tmp_path: Path) -> None:
    trainer = run(
        tmp_path, 2 * SHUT_AFTER + 10, max_steps=400, sift_interval=2, sift_warmup_steps=warmup
    )
    assert stock_steps(trainer)[120:160] == [True] * 40
    assert not all(stock_steps(trainer)[300:])


def test_the_share_of_scoring_is_that_of_multiplications(tmp_path: Path) -> None:
    """Two for each weight and token. Attention is not counted on every device."""
    trainer = run(tmp_path, 0, max_steps=1)
    tokens, width, inner = 8, 32, 64
    block = 2 * tokens * (4 * width**2 + 2 * width * inner)
    head = 2 * (width**2 + 2 * width)
    share = 2 * (block + head) / (3 * (8 * block + head))  # two candidates for each kept sample
    assert trainer.sift_callback.agreement.scoring_share == pytest.approx(share, rel=2e-3)
    assert trainer.sift_callback.agreement.required_lift == pytest.approx(
        MIN_LIFT + share - HYSTERESIS, rel=1e-3
    )


def test_a_dear_exit_is_measured_rarely_and_never_pays(tmp_path: Path) -> None:
    """The exit of the whole model: with the default criterion one step in 34 is scored before
    sifting begins. Sifting needs a lift of 1.03 + 2 / 3, which these losses do not have. By the
    end of the warm-up there are the 160 samples that a decision needs."""
    names = {"sift_criterion": "predicted_loss", "sift_exit_layer": -1, "sift_warmup_steps": 137}
    size = {"per_device_train_batch_size": 32, "max_steps": 170}
    trainer = run(tmp_path, 0, **names, **size)
    assert trainer.sift_callback.agreement.interval == 34
    assert trainer._criterion is not None
    # It learned at steps 0, 34, 68, 102 and 136; and while shut at the schedule's first step.
    assert float(trainer._criterion.state_dict()["moments"][0]) == pytest.approx(5.2982, rel=1e-3)
    assert all(stock_steps(trainer))


@pytest.mark.parametrize("trained", ["all", "head", "low rank"])
def test_the_backward_takes_what_is_trained(trained: str, tmp_path: Path) -> None:
    model: Any = sure()
    if trained == "low rank":
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "value"]))
    for name, parameter in model.named_parameters():
        if trained == "head":
            parameter.requires_grad = "classifier" in name
    both, forward = FlopCounterMode(display=False), FlopCounterMode(display=False)
    batch = {"input_ids": torch.ones(2, 8, dtype=torch.long), "labels": torch.tensor([0, 1])}
    with forward, torch.no_grad():
        model(**batch)
    with both:
        model(**batch).loss.backward()
    counted = both.get_total_flops() / forward.get_total_flops() - 1
    assert backward_share(model) == pytest.approx(counted, abs=0.15)


@pytest.mark.parametrize("off", [None, "none", "None"])
def test_without_it_blind_scores_choose_to_the_end(off: str | None, tmp_path: Path) -> None:
    trainer = run(tmp_path, 1000, sift_gate=off, max_steps=60)
    assert trainer.args.sift_gate is None
    assert all(scores is not None for scores in trainer.scores)


def test_without_the_callback_nothing_is_gated_or_piles_up(tmp_path: Path) -> None:
    args = arguments(tmp_path, sift_selector="mixed", max_steps=4)
    trainer = RecordingTrainer(sure(), args, train_dataset=sentences(64))
    trainer.remove_callback(SiftCallback)
    trainer.train()
    assert all(scores is not None for scores in trainer.scores)
    assert trainer.sift_callback.agreement._noted == []
    assert not any(name.startswith("sift/") for line in trainer.state.log_history for name in line)
