"""Does scoring the next candidates while gradients are reduced make a step shorter?

    python benchmarks/overlap.py      # BERT of 4 blocks of width 256, length 128, 4 kept of 8
    python benchmarks/overlap.py --blocks 12 --rounds 8

Two processes over gloo train one BERT under DDP. Weights stay as they are during the backward, so
that candidates of the next step which are scored then are scored with weights one step old. Arms,
in turn in one process group:

- scored first: candidates are scored in front of the step, as `SiftTrainer` does;
- in the backward: a thread scores the next ones from the start of the backward on;
- in the wait: from where the last gradients are handed to the network on, when there is nothing
  left to compute but only to wait for;
- not scored: the first half of the candidates is trained on, the bound of what can be gained.

The network of one machine is fast, so slower ones are emulated: a link of so many bytes a second,
one bucket after the other, that carries all gradients in a given share of the backward's seconds. A
time is that of the slower process. Printed are medians over the rounds, and ratios to `scored
first` of the same round with their range; *hidden* is the share of scoring's seconds that is gained
(1: as fast as not scored). Results go to a JSON file.
"""

import argparse
import json
import os
import queue
import socket
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future as Result
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import torch
from bert_steps import bert_config
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import BertForPreTraining

from sift_trainer import SiftArguments, select_top_k
from sift_trainer.measuring.machine import machine
from sift_trainer.selection.rows import take_rows
from sift_trainer.sifted_model.model import Sifter

PROCESSES = 2
ARMS = ("scored first", "in the backward", "in the wait", "not scored")
Batch = dict[str, Tensor]


class Link:
    """Averages gradients over the processes, not faster than a network of this speed would.

    Attributes:
        seconds_per_byte: 0 for what gloo takes on this machine.
        at_last: called when the last bucket of a backward is handed over.
    """

    def __init__(self) -> None:
        self.seconds_per_byte = 0.0
        self.at_last: Callable[[], None] | None = None
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        Thread(target=self._carry, daemon=True).start()

    def hook(self, _: object, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        gradients = bucket.buffer().div_(distributed.get_world_size())
        reduced = distributed.all_reduce(gradients, async_op=True).get_future()
        if bucket.is_last() and self.at_last is not None:
            self.at_last()
        if not self.seconds_per_byte:
            return reduced.then(lambda done: done.value()[0])
        arrived: torch.futures.Future[Tensor] = torch.futures.Future()
        self._queue.put((gradients, reduced, arrived))
        return arrived

    def _carry(self) -> None:
        free = 0.0  # when the bucket in front has gone through
        while True:
            gradients, reduced, arrived = self._queue.get()
            free = max(free, time.perf_counter()) + gradients.nbytes * self.seconds_per_byte
            reduced.wait()
            time.sleep(max(0.0, free - time.perf_counter()))
            arrived.set_result(gradients)


def candidates(options: argparse.Namespace, seed: int) -> Batch:
    """Random word pieces, 15% of them labelled: the cost of a step does not depend on the text."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2 * options.batch_size, options.length)
    ids = torch.randint(5, options.vocabulary, shape, generator=generator)
    labelled = torch.rand(shape, generator=generator) < 0.15
    labelled[:, 1] = True
    return {
        "input_ids": ids,
        "labels": ids.masked_fill(~labelled, -100),
        "next_sentence_label": torch.arange(len(ids)) % 2,
    }


class Steps:
    """One process's model and optimizer, and the ways to take a step."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.options = options
        config = bert_config(
            options.hidden,
            options.blocks,
            options.vocabulary,
            max_position_embeddings=options.length,
        )
        self.model = BertForPreTraining(config).train()
        sift = SiftArguments(sift_exit_layer=options.exit)
        asked = candidates(options, 0)
        self.sifter = Sifter(self.model, self.model, sift, ["labels"], asked, True, None)
        self.link = Link()
        self.wrapped: nn.Module = self.model
        first = 1
        if distributed.is_initialized():
            first += 100 * distributed.get_rank()
            # In as many parts as DDP's 25 MB make of the 440 MB of a BERT-base.
            size = sum(p.nbytes for p in self.model.parameters()) / 2**20
            self.wrapped = DistributedDataParallel(self.model, bucket_cap_mb=size / 18)
            self.wrapped.register_comm_hook(None, self.link.hook)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.worker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.batches = [candidates(options, first + seed) for seed in range(8)]
        self.taken = 0
        self.scored: dict[str, Tensor] = {}  # by arm: of the candidates that come next
        self.backward_seconds = 0.0

    def scores(self, batch: Batch) -> Tensor:
        return self.sifter.score(batch, torch.Generator())

    def train(self, batch: Batch, rows: Tensor, meanwhile: Callable[[], None] | None) -> None:
        """Forward and backward of these rows; ``meanwhile`` is called between the two."""
        kept = {**batch, **take_rows(batch, rows)}
        with self.sifter.labelled_only(kept) as labelled:
            loss = self.wrapped(**labelled).loss
        if meanwhile is not None:
            meanwhile()
        begin = time.perf_counter()
        loss.backward()
        self.backward_seconds = time.perf_counter() - begin

    def step(self, arm: str) -> None:
        """Score, train on the chosen half, update."""
        batch = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        coming = self.batches[self.taken % len(self.batches)]
        kept = self.options.batch_size
        results: list[Result[Tensor]] = []

        def begin() -> None:
            results.append(self.worker.submit(self.scores, coming))

        if arm == "not scored":
            rows = torch.arange(kept)
        elif arm == "scored first":
            rows = select_top_k(self.scores(batch), kept)
        else:
            found = self.scored.get(arm)
            rows = select_top_k(self.scores(batch) if found is None else found, kept)
        self.link.at_last = begin if arm == "in the wait" else None
        self.train(batch, rows, begin if arm == "in the backward" else None)
        for result in results:
            self.scored[arm] = result.result()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def timed(self, arm: str) -> float:
        """Seconds of a step, of the slower process."""
        distributed.barrier()
        begin = time.perf_counter()
        self.step(arm)
        distributed.barrier()
        return time.perf_counter() - begin


def measure(steps: Steps, options: argparse.Namespace) -> list[dict]:
    """One row for each network and arm."""
    for arm in ARMS * 2:
        steps.step(arm)
    backward = []
    for _ in range(5):
        steps.timed("not scored")
        backward.append(steps.backward_seconds)
    # All processes have to emulate the same link.
    agreed = torch.tensor([statistics.median(backward)], dtype=torch.double)
    distributed.broadcast(agreed, 0)
    size = sum(parameter.nbytes for parameter in steps.model.parameters())
    rows = []
    for network in options.networks:
        steps.link.seconds_per_byte = network * float(agreed) / size
        for arm in ARMS:
            steps.step(arm)
        rounds = []
        for number in range(options.rounds):
            order = ARMS[number % len(ARMS) :] + ARMS[: number % len(ARMS)]
            # Of an arm's two steps the first follows one of another arm.
            rounds.append({arm: [steps.timed(arm) for _ in range(2)][1] for arm in order})
            if distributed.get_rank() == 0:
                print(f"network {network}, round {number + 1}", file=sys.stderr)
        rows += [summary(network, arm, rounds) for arm in ARMS]
        check_in_step(steps.model)
    return rows


def check_in_step(model: nn.Module) -> None:
    """Processes have averaged their gradients if, with rows of their own, they have one model."""
    for name, parameter in model.named_parameters():
        first = parameter.detach().clone()
        distributed.broadcast(first, 0)
        if not torch.equal(first, parameter):
            raise RuntimeError(f"{name} differs between processes")


def summary(network: float, arm: str, rounds: list[dict[str, float]]) -> dict:
    found = {name: [seconds[name] / seconds["scored first"] for seconds in rounds] for name in ARMS}
    gained = {name: 1 - statistics.median(ratios) for name, ratios in found.items()}
    return {
        "network": network,
        "arm": arm,
        "step_seconds": statistics.median(seconds[arm] for seconds in rounds),
        "ratio": statistics.median(found[arm]),
        "ratio_quartiles": quartiles(found[arm]),
        "ratio_range": [min(found[arm]), max(found[arm])],
        "hidden": gained[arm] / (gained["not scored"] or float("nan")),
        "seconds": [seconds[arm] for seconds in rounds],
    }


def quartiles(values: list[float]) -> list[float]:
    inner = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return inner[::2]


def table(rows: list[dict]) -> str:
    lines = ["| network | arm | step (ms) | of scored first | quartiles | range | hidden |"]
    lines.append("|---:|---|---:|---:|---|---|---:|")
    for row in rows:
        middle = " - ".join(f"{value:.3f}" for value in row["ratio_quartiles"])
        spread = " - ".join(f"{value:.3f}" for value in row["ratio_range"])
        lines.append(
            f"| {row['network']:g} | {row['arm']} | {1000 * row['step_seconds']:.0f} "
            f"| {row['ratio']:.3f} | {middle} | {spread} | {row['hidden']:.2f} |"
        )
    return "\n".join(lines)


def process(rank: int, port: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", where, rank=rank, world_size=PROCESSES)
    rows = measure(Steps(options), options)
    if rank == 0:
        print(table(rows))
        settings = {name: value for name, value in vars(options).items() if name != "output"}
        result = {"machine": machine(), "settings": settings, "rows": rows}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # past the interpreter's end, in which gloo's threads now and then abort


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=4000)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--exit", type=int, default=1)
    parser.add_argument(
        "--batch_size", type=int, default=4, help="rows trained on of twice as many"
    )
    parser.add_argument(
        "--networks",
        type=float,
        nargs="+",
        default=[0, 0.25, 1],
        help="seconds that an emulated network takes for all gradients, over those of the backward",
    )
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/overlap.json"))
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, (port, parse(argv)), nprocs=PROCESSES)


if __name__ == "__main__":
    main(sys.argv[1:])
