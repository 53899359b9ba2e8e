"""Two processes train the two-classifier ResNet as one plain PyTorch loop does, which scores,
selects, normalises and steps by hand."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD

from tests.distributed.launch import together
from tests.distributed.resnet_run import (
    ACCUMULATION,
    CLIP,
    KEPT,
    MOMENTUM,
    PROCESSES,
    RATE,
    SAVED,
    STEPS,
    first_pixels,
    rows,
)
from tests.reproduction.resnet.small_resnet import early_logits, resnet, statistics

pytestmark = pytest.mark.distributed

RANKS = range(PROCESSES)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What each process did, whole and resumed."""
    folder = tmp_path_factory.mktemp("resnet")
    together("tests/distributed/resnet_run.py", folder, processes=PROCESSES)
    return [torch.load(folder / f"report-{rank}.pt", weights_only=True) for rank in RANKS]


@pytest.fixture(scope="module")
def run(reports):
    """What each process did, and the loop."""
    return [report["whole"] for report in reports], Loop()


def both_logits(model, pixel_values):
    """L_f R_f + L_i R_i, module by module."""
    maps = [model.resnet.embedder(pixel_values)]
    for group in model.resnet.encoder.stages:
        maps.append(group(maps[-1]))
    early = model.intermediate_classifier[1](maps[2].mean((2, 3)))
    return model.classifier[1](maps[-1].mean((2, 3))) + early


class Loop:
    """Two processes in one: they share the parameters, and each has statistics of its own.

    In front of a step the second process takes over the first one's statistics; within the step
    each goes on with its own from micro-batch to micro-batch. `found` has, per process and for each
    micro-batch, what the run notes too, and ``own``: the scores by the statistics that the process
    had before it took over the others.
    """

    def __init__(self) -> None:
        self.data, self.model = rows(), resnet().double()
        self.optimizer = SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)
        self.statistics = [statistics(self.model) for _ in RANKS]
        self.found: list[dict[str, list[Any]]] = [
            {name: [] for name in ("drawn", "scores", "kept", "own")} for _ in RANKS
        ]
        self.losses: list[float] = []
        self.norms: list[float] = []
        for step in range(STEPS):
            self.step(step)

    def step(self, step: int) -> None:
        chosen = [self.select(step, rank) for rank in RANKS]
        labelled = self.data.labels[torch.cat([few for mine in chosen for few in mine])] != -100
        of_first = self.statistics[0]
        self.optimizer.zero_grad()
        losses = []
        for rank in RANKS:
            self.model.load_state_dict(of_first, strict=False)
            for few in chosen[rank]:
                predicted = both_logits(self.model, self.data.pixel_values[few])
                labels = self.data.labels[few]
                loss = functional.cross_entropy(predicted, labels, reduction="sum")
                losses.append(loss / labelled.sum())
                losses[-1].backward()
            self.statistics[rank] = statistics(self.model)
        self.losses.append(sum(losses).item())
        self.norms.append(clip_grad_norm_(self.model.parameters(), CLIP).item())
        self.optimizer.step()

    def select(self, step: int, rank: int) -> list[torch.Tensor]:
        """The rows that a process keeps, for each micro-batch of a step."""
        found, chosen = self.found[rank], []
        for place in range(ACCUMULATION):
            candidates = 2 * KEPT // ACCUMULATION
            block = PROCESSES * (step * ACCUMULATION + place) + rank
            drawn = torch.arange(candidates * block, candidates * (block + 1))
            scores = self.scores(drawn, self.statistics[0])
            order = scores.argsort(descending=True, stable=True)
            chosen.append(drawn[order[: candidates // 2].sort().values])
            found["scores"].append(scores)
            found["own"].append(self.scores(drawn, self.statistics[rank]))
            found["drawn"].append(first_pixels(self.data.pixel_values[drawn]))
            found["kept"].append(first_pixels(self.data.pixel_values[chosen[-1]]))
        return chosen

    def scores(self, drawn, with_statistics) -> torch.Tensor:
        """Losses of the early logits; a row without a label comes after all others."""
        self.model.load_state_dict(with_statistics, strict=False)
        logits = early_logits(self.model, self.data.pixel_values[drawn])
        labels = self.data.labels[drawn]
        scores = functional.cross_entropy(logits, labels, reduction="none")
        scores[labels == -100] = torch.finfo(torch.float32).min
        return scores


def test_each_process_keeps_the_rows_that_the_first_ones_statistics_score_highest(run):
    reports, loop = run
    for report, found in zip(reports, loop.found, strict=True):
        assert report["world_size"] == PROCESSES
        assert report["drawn"] == found["drawn"]
        for mine, expected in zip(report["scores"], found["scores"], strict=True):
            torch.testing.assert_close(torch.tensor(mine).double(), expected, rtol=1e-5, atol=1e-6)
        assert report["kept"] == found["kept"]
    shared, own = (torch.stack(loop.found[1][which]) for which in ("scores", "own"))
    assert (shared - own).abs().mean() > 0.01  # its own would have been told from the first one's


def test_loss_gradient_norm_parameters_and_statistics_are_the_loops(run):
    reports, loop = run
    assert min(loop.norms) < CLIP < max(loop.norms)
    for report, expected in zip(reports, loop.statistics, strict=True):
        assert report["grad_norms"] == pytest.approx(loop.norms, rel=1e-5)
        for name, value in {**dict(loop.model.named_parameters()), **expected}.items():
            torch.testing.assert_close(report["model"][name], value, rtol=0, atol=1e-6, msg=name)
    assert reports[0]["losses"] == pytest.approx(loop.losses, rel=1e-5)


def test_a_resumed_run_is_the_whole_one_bit_for_bit(reports):
    first = SAVED * ACCUMULATION
    for report in reports:
        whole, resumed = report["whole"], report["resumed"]
        assert len(resumed["kept"]) == (STEPS - SAVED) * ACCUMULATION
        for field in ("drawn", "scores", "kept"):
            assert resumed[field] == whole[field][first:], field
        for field in ("losses", "grad_norms"):
            assert resumed[field] == whole[field], field
        for key, value in whole["model"].items():
            assert torch.equal(resumed["model"][key], value), key
