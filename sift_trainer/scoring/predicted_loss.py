"""The loss of the whole model, predicted at the exit and learned beside the training."""

from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sift_trainer.scoring.criteria import (
    UNLABELLED,
    Samples,
    SampleStates,
    StatefulCriterion,
    register_criterion,
)
from sift_trainer.scoring.positions import IGNORE_INDEX

WIDTH = 256  # of the hidden layer
EMBEDDED = 64  # numbers for the labels of a sample
BUCKETS = 2048  # embeddings of class ids; larger ids share them
RATE = 1e-3  # AdamW's learning rate
MEMORY = 0.95  # weight of the past in the running regression, for each batch


class LossPredictor(nn.Module):
    """A correction to the exit's loss from the mean state (B, d) and the labels of a sample. It is
    0 at first."""

    def __init__(self, states: int, labels: Tensor | None) -> None:
        super().__init__()
        self.states = states
        self.of_ids: nn.Embedding | None = None
        self.of_numbers: nn.Linear | None = None
        if labels is not None and labels.is_floating_point():
            self.of_numbers = nn.Linear(labels[0].numel(), EMBEDDED)
        elif labels is not None:
            self.of_ids = nn.Embedding(BUCKETS, EMBEDDED)
        self.projection = nn.Linear(states, EMBEDDED, bias=False) if states else None
        self.hidden = nn.Linear(states + 2 * EMBEDDED + 1, WIDTH)
        self.output = nn.Linear(WIDTH, 1)

    def forward(self, states: Tensor, exit_loss: Tensor, labels: Tensor | None) -> Tensor:
        """The correction (B,)."""
        label = self._embedded(labels, states)
        product = torch.zeros_like(label)
        if self.projection is not None:
            states = functional.layer_norm(states, states.shape[-1:])
            # This compares the state with the label, as a head's logit of the label does.
            product = self.projection(states) * label
        inputs = torch.cat([states, label, product, exit_loss[:, None]], dim=-1)
        found: Tensor = self.output(functional.gelu(self.hidden(inputs))).squeeze(-1)
        return found

    def _embedded(self, labels: Tensor | None, states: Tensor) -> Tensor:
        """The mean embedding (B, EMBEDDED) of a sample's labels."""
        if labels is not None and self.of_numbers is not None:
            found: Tensor = self.of_numbers(labels.float().reshape(len(labels), -1))
            return found
        if labels is None or self.of_ids is None:
            return states.new_zeros(len(states), EMBEDDED)
        ids = labels.reshape(len(labels), -1)
        labelled = (ids != IGNORE_INDEX).float()
        embedded = self.of_ids(ids.clamp(min=0) % BUCKETS)
        count = labelled.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.einsum("bp,bpd->bd", labelled / count, embedded)


class PredictedLoss(StatefulCriterion):
    """The loss that the whole model will have on a sample, in nats.

    The logarithm log(1 + loss) is predicted: a linear regression on that of the exit's loss, whose
    coefficients are running least squares, plus a correction by a small network (`LossPredictor`).
    Both learn from the losses that trained samples turn out to have, on detached states, so no
    gradient reaches the model. Before the first update the score is the exit's loss. Yoo and Kweon
    ("Learning Loss for Active Learning", CVPR 2019) predict losses for another purpose.

    All processes average gradients and statistics, so they rank samples alike.
    """

    scored_by = "loss"
    reads_states = True
    needs_losses = False
    predicts_losses = True

    def __init__(self, model: nn.Module) -> None:
        self._network: LossPredictor | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved: dict[str, Any] = {}  # of a checkpoint, until the shapes are known
        self._moments = torch.zeros(5, dtype=torch.float32)

    def features(self, candidates: Samples, states: SampleStates | None) -> Tensor:
        """The exit's loss, and the mean state if there is one: (B, 1 + d)."""
        exit_loss = _log1p(candidates.values)[:, None]
        return exit_loss if states is None else torch.cat([exit_loss, states.mean()], dim=1)

    def scores(self, candidates: Samples) -> Tensor:
        if candidates.features is None:
            return candidates.values
        with _in_fp32(candidates.features):
            predicted = self._predicted(candidates.features, candidates.labels).expm1()
        known = candidates.values.isfinite() & (candidates.values > UNLABELLED)
        return torch.where(known, predicted, candidates.values)

    def learn(self, trained: Samples) -> None:
        features = trained.features
        if features is None:
            return
        known = trained.values.isfinite() & (trained.values > UNLABELLED)
        known = (known & features.isfinite().all(dim=1)).float()
        features = features.nan_to_num(0.0, 0.0, 0.0)
        count = known.sum().clamp(min=1)
        # An infinite loss, as under a GradScaler, would make everything NaN, also times 0.
        target = _log1p(trained.values.where(known > 0, 0))
        with _in_fp32(features):
            self._add(features[:, 0], target, known / count, known.sum())
            error = self._predicted(features, trained.labels) - target
            loss: Tensor = (known * error.square()).sum() / count
            network, optimizer = self._built(features, trained.labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            _average_gradients(network)
            optimizer.step()

    def _predicted(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """log(1 + loss) of samples: (B,)."""
        network, _ = self._built(features, labels)
        features = features.nan_to_num(0.0, 0.0, 0.0)
        exit_loss = features[:, 0]
        slope, offset = self._regression()
        predicted = slope * exit_loss + offset
        if features.shape[1] - 1 != network.states:  # a model whose states have no fixed width
            return predicted + 0 * sum(each.sum() for each in network.parameters())
        correction: Tensor = network(features[:, 1:], exit_loss, labels)
        return predicted + correction

    def _add(self, exit_loss: Tensor, target: Tensor, share: Tensor, count: Tensor) -> None:
        """Add the means over a batch to the running ones. ``share`` (B,) sums to 1, or to 0."""
        means = [share.sum()] + [
            (share * each).sum()
            for each in (exit_loss, target, exit_loss.square(), exit_loss * target)
        ]
        self._moments = MEMORY * self._moments + reduce(torch.stack(means).detach(), "mean")

    def _regression(self) -> tuple[Tensor, Tensor]:
        """Slope and offset of the regression on the exit's loss; 1 and 0 before any loss."""
        weight, x, y, xx, xy = self._moments
        weight = weight.clamp(min=1e-12)
        x, y, xx, xy = x / weight, y / weight, xx / weight, xy / weight
        # The same small number in both draws the slope towards 1 while nothing is known.
        slope = (xy - x * y + 1e-3) / ((xx - x * x).clamp(min=0) + 1e-3)
        return slope, y - slope * x

    def _built(
        self, features: Tensor, labels: Tensor | None
    ) -> tuple[LossPredictor, torch.optim.Optimizer]:
        """Network and optimizer for features and labels like these, made at the first call."""
        if self._network is None or self._optimizer is None:
            with torch.device("meta"):  # draws no random numbers
                network = LossPredictor(features.shape[1] - 1, labels)
            network = _initialized(network.to_empty(device="cpu")).to(features.device)
            self._network = network
            fused = features.device.type in ("cpu", "cuda")
            self._optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, fused=fused)
            self._moments = self._moments.to(features.device)
            if self._saved:
                network.load_state_dict(self._saved["network"])
                self._optimizer.load_state_dict(self._saved["optimizer"])
        return self._network, self._optimizer

    def state_dict(self) -> dict[str, Any]:
        if self._network is None or self._optimizer is None:
            return dict(self._saved)
        return {
            "moments": self._moments,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._saved = dict(state)
        if "moments" in state:
            self._moments = state["moments"]


def _initialized(network: LossPredictor) -> LossPredictor:
    """The network with torch's usual weights, the same on all processes, and a last layer of 0. The
    global random states are not used."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
    for parameter in network.output.parameters():
        nn.init.zeros_(parameter)
    return network


def _log1p(losses: Tensor) -> Tensor:
    """log(1 + loss) in fp32, with 0 for a negative loss: (B,) -> (B,)."""
    return losses.float().clamp(min=0).log1p()


def _average_gradients(network: nn.Module) -> None:
    """Replace the gradients by their means over all processes."""
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    vector_to_parameters(reduce(parameters_to_vector(gradients), "mean"), gradients)


def _in_fp32(values: Tensor) -> torch.autocast:
    return torch.autocast(values.device.type, enabled=False)


register_criterion("predicted_loss", PredictedLoss)
