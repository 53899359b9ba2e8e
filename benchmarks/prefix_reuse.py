"""Does training on the blocks that scoring has run already, instead of running them again, pay?

    python benchmarks/prefix_reuse.py --counted       # operations of BERT-base, by formula
    python benchmarks/prefix_reuse.py                 # measured: length 128, 8 kept of 16
    python benchmarks/prefix_reuse.py --hidden 128 --blocks 4 --exits 3 --rounds 2

With an exit after block k, scoring and training both run blocks 1 to k-1 on the kept rows. Without
dropout these are the same numbers, so scoring could leave a graph and training go on from it. Ways
to take a step, by hand and without a Trainer:

- now: scoring without a graph, its exit block at labelled positions only; then the whole step;
- one graph: over all candidates, from which the kept rows are selected. The backward of blocks 1 to
  k-1 then runs for the dropped rows too;
- graphs of g rows: so that those of dropped rows can be let go.

Timed are scoring, forward and backward, in turn in one process; printed are medians over the
rounds, ratios to `now` of the same round with their range, by the clock and in seconds of the
processor (on a machine that is shared the former wait for others), the most bytes that the graphs
of a step hold at once, and the largest difference of a gradient over the largest gradient of its
parameter. Results go to a JSON file.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bert_steps import bert_config
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import BertForPreTraining

from sift_trainer import SiftArguments, select_top_k
from sift_trainer.early_exit import exit_at
from sift_trainer.measuring.machine import machine
from sift_trainer.reproduction.bert.flops import BertShape, forward_backward, scoring
from sift_trainer.scoring.criteria import CRITERIA, score_positions
from sift_trainer.scoring.positions import scored_positions
from sift_trainer.selection.rows import take_rows
from sift_trainer.sifted_model.model import Sifter

Batch = dict[str, Tensor]


def block(shape: BertShape) -> float:
    """Operations of one block, per token."""
    return scoring(shape, 2, "everywhere") - scoring(shape, 1, "everywhere")


def sifted_step(shape: BertShape, exit_block: int, keep_ratio: float) -> float:
    """Operations of a whole step, per token that is trained on."""
    return scoring(shape, exit_block) / keep_ratio + forward_backward(shape, "labelled_block")


def reused_step(shape: BertShape, exit_block: int, keep_ratio: float, used: float = 1.0) -> float:
    """Operations of a step that goes on from scoring's blocks, per token that is trained on.

    Args:
        used: rows whose graphs are run backward, per kept row: 1 for a graph for each row,
            ``1 / keep_ratio`` for one graph.
    """
    prefix = (exit_block - 1) * block(shape)
    return sifted_step(shape, exit_block, keep_ratio) - prefix + 2 * prefix * (used - 1)


def rows_used(group: int, keep_ratio: float) -> float:
    """Rows whose graphs are run backward, per kept row: those in a group with a kept one, where
    hard rows lie anywhere."""
    return (1 - (1 - keep_ratio) ** group) / keep_ratio


class Steps:
    """One model without dropout, and ways to score 2 B candidates and train on B of them."""

    def __init__(self, options: argparse.Namespace, exit_block: int) -> None:
        torch.manual_seed(0)
        self.kept = options.batch_size
        self.exit_block = exit_block
        config = bert_config(
            options.hidden,
            options.blocks,
            options.vocabulary,
            max_position_embeddings=options.length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model = BertForPreTraining(config).train()
        self.batch = candidates(options)
        sift = SiftArguments(sift_exit_layer=exit_block)
        self.sifter = Sifter(self.model, self.model, sift, ["labels"], self.batch, True, None)
        self.adapter, _ = exit_at(self.model, exit_block)
        self.blocks = list(self.model.bert.encoder.layer)

    # ---- ways to take a step ----

    def now(self) -> Tensor:
        """The rows that were trained on."""
        rows = select_top_k(self.sifter.score(self.batch, torch.Generator()), self.kept)
        with self.sifter.labelled_only(take_rows(self.batch, rows)) as labelled:
            self.model(**labelled).loss.backward()
        return rows

    def one_graph(self) -> Tensor:
        states = self.prefix(self.batch["input_ids"])
        rows = select_top_k(self.scores(states.detach()), self.kept)
        self.rest(states.index_select(0, rows), rows)
        return rows

    def graphs(self, group: int) -> Tensor:
        parts = [self.prefix(ids) for ids in self.batch["input_ids"].split(group)]
        scores = self.scores(torch.cat([part.detach() for part in parts]))
        rows = select_top_k(scores, self.kept)
        chosen = torch.zeros_like(scores, dtype=torch.bool).index_fill(0, rows, True)
        kept = [
            part if here.all() else part[here]
            for part, here in zip(parts, chosen.split(group), strict=True)
            if here.any()
        ]
        del parts  # and with them the graphs in which nothing was kept
        self.rest(torch.cat(kept), rows)
        return rows

    # ---- parts of them ----

    def prefix(self, ids: Tensor) -> Tensor:
        """Blocks 1 to k-1: (B, T) -> (B, T, H)."""
        states = self.model.bert.embeddings(input_ids=ids)
        for number in range(self.exit_block - 1):
            states = self.blocks[number](states)
        return states

    @torch.no_grad()
    def scores(self, states: Tensor) -> Tensor:
        """Losses (B,) after block k, which is computed at labelled positions only."""
        positions = scored_positions(self.batch["labels"])
        with self.adapter.at(self.exit_block, positions):
            logits = self.model.cls.predictions(self.blocks[self.exit_block - 1](states))
        return score_positions(CRITERIA["loss"], logits.flatten(0, -2), positions)

    def rest(self, states: Tensor, rows: Tensor) -> None:
        """Block k and all after it, heads and backward, for ``states`` of the kept rows."""
        with self.sifter.labelled_only(take_rows(self.batch, rows)) as labelled:
            for layer in self.blocks[self.exit_block - 1 :]:
                states = layer(states)
            pooled = self.model.bert.pooler(states)
            words, relations = self.model.cls(states, pooled)
            masked = cross_entropy(words.flatten(0, -2), labelled["labels"].flatten())
            loss = masked + cross_entropy(relations, labelled["next_sentence_label"])
        del states, pooled, words
        loss.backward()


def ways(steps: Steps, groups: list[int]) -> dict[str, Callable[[], Tensor]]:
    graphs = {f"graphs of {group} rows": partial(steps.graphs, group) for group in groups}
    return {"now": steps.now, "one graph": steps.one_graph, **graphs}


def candidates(options: argparse.Namespace) -> Batch:
    """Random word pieces, as many labelled in each row: 15%."""
    generator = torch.Generator().manual_seed(0)
    shape = (2 * options.batch_size, options.length)
    ids = torch.randint(5, options.vocabulary, shape, generator=generator)
    order = 1 + torch.rand(shape[0], shape[1] - 1, generator=generator).argsort(dim=1)
    places = order[:, : round(0.15 * options.length)]
    labelled = torch.zeros_like(ids, dtype=torch.bool).scatter_(1, places, True)
    return {
        "input_ids": ids,
        "labels": ids.masked_fill(~labelled, -100),
        "next_sentence_label": torch.arange(len(ids)) % 2,
    }


# ---- what is compared ----


class HeldBytes:
    """Bytes that graphs hold for a backward, parameters left out; the most at any time."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.most = 0
        self._now = 0
        self._times: Counter[int] = Counter()  # each storage, by its address
        self._free = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    @contextmanager
    def counting(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(self._hold, lambda held: held.tensor):
            yield

    def _hold(self, tensor: Tensor) -> "_Held":
        return _Held(tensor.detach(), self._count)

    def _count(self, tensor: Tensor, times: int) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address in self._free:
            return
        held = self._times[address]
        self._times[address] += times
        if not held or not self._times[address]:
            self._now += times * storage.nbytes()
            self.most = max(self.most, self._now)


class _Held:
    """A tensor in a graph; says when the graph lets it go."""

    def __init__(self, tensor: Tensor, count: Callable[[Tensor, int], None]) -> None:
        self.tensor, self.count = tensor, count
        count(tensor, 1)

    def __del__(self) -> None:
        self.count(self.tensor, -1)


def gradients(steps: Steps, take: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
    """The rows that a way trains on, its gradients, and the most bytes its graphs hold."""
    held = HeldBytes(steps.model)
    with held.counting():
        rows = take()
    found = {name: p.grad for name, p in steps.model.named_parameters() if p.grad is not None}
    steps.model.zero_grad()
    return rows, found, held.most


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest of a gradient, over the largest gradient of its parameter."""
    if set(found) != set(expected):
        raise ValueError(f"gradients of other parameters: {set(found) ^ set(expected)}")
    return max(
        float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-12))
        for name, value in expected.items()
        if not name.endswith("key.bias")  # their gradient is 0, and rounding the rest
    )


def measure(options: argparse.Namespace, exit_block: int) -> list[dict[str, Any]]:
    """One row for each way to take a step."""
    steps = Steps(options, exit_block)
    arms = ways(steps, options.groups)
    rows, expected, now_bytes = gradients(steps, steps.now)
    compared = {}
    for name, take in arms.items():
        found_rows, found, held = gradients(steps, take)
        if not torch.equal(found_rows, rows):
            raise ValueError(f"{name} trained on other rows")
        compared[name] = {
            "difference": difference(found, expected),
            "held_mb": held / 1e6,
            "held_of_now": held / now_bytes,
        }
    rounds = []
    for number in range(options.rounds):
        start = number % len(arms)
        order = [*list(arms)[start:], *list(arms)[:start]]
        rounds.append({name: timed(steps, arms[name]) for name in order})
        print(f"exit {exit_block}, round {number + 1} of {options.rounds}", file=sys.stderr)
    results = []
    for name in arms:
        ratios = [seconds[name][0] / seconds["now"][0] for seconds in rounds]
        processor = [seconds[name][1] / seconds["now"][1] for seconds in rounds]
        results.append(
            {
                "exit": exit_block,
                "way": name,
                "seconds": statistics.median(seconds[name][0] for seconds in rounds),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "processor_ratio": statistics.median(processor),
                "processor_range": [min(processor), max(processor)],
                **compared[name],
            }
        )
    return results


def timed(steps: Steps, take: Callable[[], Tensor]) -> tuple[float, float]:
    """Seconds of a step by the clock, and of the processor."""
    begin, computed = time.perf_counter(), time.process_time()
    take()
    seconds = time.perf_counter() - begin, time.process_time() - computed
    steps.model.zero_grad()
    return seconds


def counted() -> list[dict[str, Any]]:
    """BERT-base, half of the candidates kept: operations over those of a step as it is now."""
    rows = []
    for length in (128, 512):
        shape = BertShape(768, 3072, 12, 30522, length, 0.15)
        for exit_block in (2, 3, 6, 12):
            now = sifted_step(shape, exit_block, 0.5)
            used = {"one graph": 2.0} | {
                f"graphs of {group} rows": rows_used(group, 0.5) for group in (1, 2, 4)
            }
            ratios = {
                way: reused_step(shape, exit_block, 0.5, share) / now for way, share in used.items()
            }
            rows.append({"length": length, "exit": exit_block, **ratios})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---:|" * len(columns)]
    lines += ["| " + " | ".join(cell(row[name]) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    if isinstance(value, list):
        return " - ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.3f}"
    return str(value)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counted", action="store_true", help="only count, by formula")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=30522)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument(
        "--batch_size", type=int, default=8, help="rows trained on of twice as many"
    )
    parser.add_argument("--exits", type=int, nargs="+", default=[2, 3, 6])
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2], help="rows of one graph")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/prefix_reuse.json"))
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    options = parse(argv)
    by_formula = counted()
    print(table(by_formula))
    if options.counted:
        return
    rows = [row for exit_block in options.exits for row in measure(options, exit_block)]
    print(table(rows))
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    result = {"machine": machine(), "settings": settings, "counted": by_formula, "rows": rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
