"""The tasks benchmark: costs and entities by hand, and a made-up task from end to end."""

import csv
import json
import math
import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tasks import page, run
from tasks.data import TUNING_SEED, best_rate, load, read
from tasks.training import (
    affordable,
    entities,
    entity_f1,
    measure_cost,
    reference_losses,
    scoring_of,
)
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

from sift_trainer import register_criterion, register_selector
from sift_trainer.scoring.criteria import CRITERIA
from tests.loss_runs import registries

__all__ = ["registries"]  # forgets what a rule registers

SIFT = {"sift_keep_ratio": 0.5, "sift_warmup_steps": 0.25, "sift_cooldown_steps": 0.25}
RULES = {
    "stock": {"sift_keep_ratio": 1.0},
    "random": {"sift_criterion": "random"},
    "top_k": {"sift_criterion": "own", "sift_selector": "top_k"},
    "mixed": {"sift_criterion": "own", "sift_selector": "mixed"},
}
WORDS = [f"word{number}" for number in range(12)]


def register_own() -> None:
    """What a rule names in ``register``; each call of `run.py` calls it."""
    if "own" in CRITERIA:
        return

    register_criterion("own", lambda logits, targets: -logits.softmax(-1).max(-1).values)


def test_equal_cost() -> None:
    """Of n updates half sift, and a quarter comes before them, of which one in 25 is scored by a
    predictor: n (1 + s / 2 + s / 100)."""
    by_loss = {**SIFT, "sift_criterion": "loss"}
    assert affordable(500, by_loss, 0.5) == 400
    assert affordable(500, by_loss, 0.0) == 500
    assert affordable(502, SIFT, 0.5) == 400
    with pytest.raises(ValueError, match="budget=1 "):
        affordable(1, SIFT, 0.5)


def test_costs_are_shared_by_rules_that_score_alike() -> None:
    mixed = {**SIFT, "sift_criterion": "loss", "sift_selector": "top_k"}
    assert scoring_of(mixed) == scoring_of({**mixed, "sift_selector": "percentile"})
    assert scoring_of(mixed) != scoring_of({**mixed, "sift_exit_layer": -1})
    for free in ({"sift_criterion": "random"}, {"sift_keep_ratio": 1.0}):
        assert scoring_of({**SIFT, **free}) == {}


def test_entities() -> None:
    """An entity counts only with its type and both ends. I- after O, or after another type, begins
    an entity."""
    assert entities(["B-a", "I-a", "I-b", "O", "I-a", "B-a"]) == {
        ("a", 0, 2),
        ("b", 2, 3),
        ("a", 4, 5),
        ("a", 5, 6),
    }
    given = [["B-a", "I-a", "O", "B-b"], ["O", "B-a"]]
    predicted = [["B-a", "I-a", "O", "B-a"], ["O"]]  # one right of three; one wrong of two
    assert entity_f1(given, predicted) == pytest.approx(2 * 1 / (3 + 2))
    assert entity_f1(given, given) == 1
    assert entity_f1([["O"]], [["O"]]) == 0


def test_savings_are_read_off_between_budgets() -> None:
    """Stock ends at 6. The rule has 5 at half of the cost and 7 at all of it: 6 at 0.75."""
    stock = pd.Series([2.0, 4.0, 6.0], [0.25, 0.5, 1.0])
    assert page.saved(pd.Series([3.0, 5.0, 7.0], stock.index), stock) == "25%"
    assert page.saved(pd.Series([6.0, 6.0, 7.0], stock.index), stock) == "> 75%"
    assert page.saved(pd.Series([1.0, 2.0, 3.0], stock.index), stock) == "not reached"
    assert page.saved(stock[1:], stock[1:]) == ""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A call of `run.py` for a task of which the first word tells the class."""
    draw = random.Random(0)
    for name, rows in (("train", 96), ("test", 24)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["text", "category"])
            for _ in range(rows):
                said = draw.choices(WORDS, k=draw.randint(2, 6))
                table.writerow([" ".join(said), f"class{WORDS.index(said[0]) % 3}"])
    model = tmp_path / "model"
    model.mkdir()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (model / "vocab.txt").write_text("\n".join([*special, *WORDS]))
    BertTokenizer.from_pretrained(model).save_pretrained(model)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=17, num_hidden_layers=2, **shape)).save_pretrained(model)
    told = yaml.safe_load((Path(run.__file__).parent / "tasks.yaml").read_text())
    made = {"kind": "texts", "files": ["train.csv"], "model": "tiny", "updates": 24, "batch": 8}
    told["tasks"] = {"made_up": {**made, "wrong": 0.25, "rates": [1e-3, 3e-3]}}
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump(told))
    hooked = {"register": f"{__name__}:register_own", **RULES["top_k"]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({**RULES, "top_k": hooked}))
    folders = ["--data", str(tmp_path), "--definitions", str(tmp_path), "--model", f"tiny={model}"]
    return [*folders, "--results", str(tmp_path / "found.jsonl"), "--cache", str(tmp_path / "c")]


def test_a_task(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.jsonl"
    rules = ["--rules", "random", "top_k", "mixed"]
    here = [*command, "--jobs", "0", *rules, "--seeds", "0", "1", "--tune", "made_up"]
    run.main(here)
    lines = read(file)
    kinds = Counter((line["kind"], line.get("rule")) for line in lines)
    # Two rates and two seeds of stock; both rules that score by `own` share one cost.
    runs = {("run", name): 2 for name in RULES}
    assert kinds == {**runs, ("run", "stock"): 4, ("cost", None): 1}
    rate = best_rate(lines, lines[0]["settings"]["task"], [])
    cost = next(line for line in lines if line["kind"] == "cost")
    for line in lines:
        if line["kind"] == "cost" or line["seed"] == TUNING_SEED:
            continue
        assert line["learning_rate"] == rate
        scores = line["rule"] in ("top_k", "mixed")
        sift = {**line["settings"]["sift"]}
        paid = affordable(24, sift, cost["scoring"]) if scores else 24
        assert line["updates"] == paid
        assert sum(n * rows for n, rows in enumerate(line["kept_times"])) == 8 * paid
        assert sum(line["kept_times"]) == 96
        assert (line["scoring_seconds"] > 0) == (line["rule"] != "stock")
        assert ("wrong" in line) == (line["rule"] != "stock")
        assert bool(line["agreement"]) == (line["rule"] != "stock")
        assert all(-1 <= each <= 1 for each in line["agreement"])
        assert 0 <= line["metrics"]["balanced_accuracy"] <= 1
        assert line["machine"]["versions"]["torch"]

    with file.open("a") as stream:  # of a killed process
        stream.write('{"kind": "run", "ta')
    before = file.read_text()
    run.main(here)
    assert file.read_text() == before

    (tmp_path / "benchmarks").mkdir()
    written = tmp_path / "results.md"
    marks = [f"<!-- made by page.py: {name} -->\n<!-- end -->" for name in ("gains", "saved")]
    written.write_text("Before.\n\n" + "\n\n".join(marks) + "\n\nAfter.\n")
    page.main(["--results", str(file), "--page", str(written)])
    text = written.read_text()
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    for rule in RULES:
        assert f"| {rule} |" in text
    accuracies = {
        (line["rule"], line["seed"]): line["metrics"]["accuracy"]
        for line in lines
        if line["kind"] == "run" and line["seed"] != TUNING_SEED
    }
    first, second = (100 * (accuracies["mixed", s] - accuracies["stock", s]) for s in (0, 1))
    # Of two differences the standard error is half of what they differ by.
    shown = f"{(first + second) / 2:+.2f} ± {abs(first - second) / 2:.2f} (2)"
    assert f"| mixed | {shown} |" in text
    assert (tmp_path / "results_gains.png").stat().st_size > 1000
    assert len(read(tmp_path / "benchmarks" / "tasks.jsonl")) == len(lines)


def test_processes_of_their_own(command: list[str], tmp_path: Path) -> None:
    """The line of a run in a process is that of the same run in this one."""
    alone = [*command, "--rules", "stock", "--seeds", "0", "--budget", "0.25"]
    run.main(alone)
    (line,) = read(tmp_path / "found.jsonl")
    (tmp_path / "found.jsonl").unlink()
    run.main([*alone, "--jobs", "0"])
    (same,) = read(tmp_path / "found.jsonl")
    assert same["metrics"] == line["metrics"]
    assert json.dumps(same["settings"]) == json.dumps(line["settings"])


def test_reference_and_weights(command: list[str], tmp_path: Path) -> None:
    """Each row has a loss by a model that did not see it. A weighted selector costs something even
    without scores, because it needs the losses of the samples."""
    options = run.parse([*command, "--rules", "stock"])
    tasks, _, models = run.definitions(options)
    task, model = tasks["made_up"], models["tiny"]
    tokenizer = BertTokenizer.from_pretrained(model)
    data = load(task, tmp_path, tmp_path / "c", tokenizer, seed=0)
    stock = {**task["sift"], "sift_keep_ratio": 1.0}
    losses = reference_losses(task, model, data, stock, rate=1e-3)
    assert losses.shape == (96,)
    assert losses.mean().item() == pytest.approx(math.log(3), rel=0.2)

    def even(scores: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.arange(k), torch.ones(k)

    register_selector("even", even, weighted=True)
    weighted = {**SIFT, "sift_criterion": "random", "sift_selector": "even"}
    assert 0 < measure_cost(task, model, data, weighted)["scoring"] < 0.5
    by_loss = {**SIFT, "sift_criterion": "loss"}
    assert measure_cost(task, model, data, by_loss)["scoring"] > 0.1


def test_a_rule_that_does_not_exist(command: list[str], tmp_path: Path) -> None:
    rules = {"stock": RULES["stock"], "wrong": {"sift_selector": "none"}}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    with pytest.raises(ValueError, match="sift_selector='none'"):
        run.main(command)
