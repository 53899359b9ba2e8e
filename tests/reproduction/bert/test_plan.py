"""The plan of a run: against a Trainer that runs it, against hand calculations, and as printed."""

import pytest
from transformers import BertConfig

from sift_trainer import SiftTrainingArguments
from sift_trainer.reproduction.bert.dry_run import Plan

BERT_BASE = BertConfig()
PAPER = {
    "max_steps": 800_000,
    "per_device_train_batch_size": 32,
    "sift_warmup_steps": 20_000,
    "sift_cooldown_steps": 0,
    "sift_keep_ratio": 0.5,
    "sift_criterion": "loss",
    "sift_selector": "top_k",
}


def plan(tmp_path, config=BERT_BASE, name="loss_exit_1", rows=None, processes=8, **settings):
    settings = {"output_dir": str(tmp_path), "use_cpu": True, **PAPER, **settings}
    return Plan(name, config, SiftTrainingArguments(**settings), 512, 0.15, processes, rows)


def test_the_samples_of_the_paper(tmp_path):
    """32 of 64 on each of 8 GPUs; 780,000 of 800,000 steps sift; the random control scores none."""
    paper = plan(tmp_path)
    assert (paper.kept, paper.drawn) == (256, 512)
    assert (paper.sifting, paper.scored_steps) == (range(20_000, 800_000), 780_000)
    interval = plan(tmp_path, gradient_accumulation_steps=4, sift_interval=4)
    assert (interval.kept, interval.scored_steps) == (1024, 195_000)
    assert plan(tmp_path, sift_criterion="random").scored_steps == 0


def test_a_run_without_max_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"max_steps=-1: .* such as 800000"):
        str(plan(tmp_path, max_steps=-1, sift_warmup_steps=0))


def test_operations_by_hand(tmp_path):
    """MFLOP per token: 11 whole blocks of 15.73; of the last one keys and values, 2.36, and 15.2%
    of the other 13.37; 15% of a head of 46.88 and 15.2% of 1.18; three times that; 131,072 tokens.
    Scoring: 2.36 + 15% of 61.43, for 262,144 tokens. Without sifting, 710.4 with the whole head."""
    paper = plan(tmp_path)
    read = 0.15 + 1 / 512
    forward = 11 * 15.7286 + 2.3593 + read * 13.3693 + 0.15 * 46.8818 + read * 1.1796
    assert paper.training_flops == pytest.approx(3 * forward * 1e6 * 131_072, rel=1e-4)
    scoring = 2.3593 + 0.15 * 61.4307
    assert paper.scoring_flops == pytest.approx(scoring * 1e6 * 262_144, rel=1e-4)
    plain = plan(tmp_path, sift_keep_ratio=1.0)
    assert plain.training_flops / 131_072 == pytest.approx(710.4e6, rel=1e-4)


def test_what_is_printed(tmp_path):
    text = str(plan(tmp_path, rows=16_000_000))
    for line in (
        "loss_exit_1: loss at exit 1 keeps 256 of 512 in steps 20,000 to 799,999 (97.5% of 8",
        "  trained on          204,800,000 rows, 104,857,600,000 tokens",
        "  scored              399,360,000 rows, 204,472,320,000 tokens",
        "  epochs              12.80 of 16,000,000 rows",
        "  parameters          110,106,428, with gradients and AdamW 1.76 GB a process",
        "a step, 4.2% of forward + backward",
        "  whole run           60.4 EFLOP, 3.9% of it scoring",
    ):
        assert line in text
    text = str(plan(tmp_path, name="baseline", sift_keep_ratio=1.0))
    assert text.startswith("baseline: no sifting\n")
    assert "scored  " not in text
