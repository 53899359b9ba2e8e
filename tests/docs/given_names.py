"""Small objects for the names that a page's Python blocks use and do not make: the reader's own
model, data and trainer. Everything else, such as imports, has to be in the blocks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from sift_trainer import SiftTrainer, early_exit
from sift_trainer.scoring.criteria import CRITERIA
from sift_trainer.scoring.positions import IGNORE_INDEX
from sift_trainer.scoring.tasks import Regression, task_of
from tests import tiny_configs
from tests.tiny_inputs import CLASSES, LAYERS, WIDTH
from tests.trainers.sentences import PAD, WORDS, causal
from tests.training import LENGTH, Rows, arguments, bert, quick

Names = dict[str, Any]

FEW = 3


class FewSteps(TrainerCallback):
    """Ends a run after a few steps; its schedule stays that of the whole run."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        state.max_steps = min(state.max_steps, FEW)


class MyNet(nn.Module):
    """A reader's own model: blocks under two names, and a forward that can stop early."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)
        )
        self.stages = self.encoder.blocks
        self.stop_after: int | None = None
        self.out = nn.Linear(WIDTH, CLASSES)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        for number, block in enumerate(self.encoder.blocks):
            if number != self.stop_after:
                features = block(features)
            else:
                break
        return {"logits": self.out(features)}


def images(folder: Path) -> Names:
    from tests.reproduction.images.pictures import food_archive
    from tests.reproduction.resnet.small_resnet import resnet

    food_archive(folder / "food-101")
    args = TrainingArguments(**quick(folder / "runs"))
    return {"model": resnet("imagenet", num_labels=101), "args": args}


def performance(folder: Path) -> Names:
    from transformers import DataCollatorForLanguageModeling

    from tests.trainers.sentences import tokenizer

    return {"collator": DataCollatorForLanguageModeling(tokenizer(), mlm=False)}


def exits_work(names: Names) -> None:
    """What docs/adding_an_exit.md registers can be used."""
    assert isinstance(task_of(MyNet()), Regression)
    swin = names["SupervisedSwinForImageClassification"](tiny_configs.swin()).eval()
    for model, inputs in ((MyNet(), torch.randn(2, WIDTH)), (swin, torch.randn(2, 3, 32, 32))):
        with torch.no_grad(), early_exit(model, 1):
            early = model(inputs)["logits"]
        assert not torch.allclose(early, model(inputs)["logits"])


class Numbered(Rows):
    """Rows with their number in a column that the model does not know."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {**super().__getitem__(row), "number": torch.tensor(row)}


def selectors_work(names: Names) -> None:
    """What docs/adding_a_selector.md registers sifts from the first step."""
    for settings in (
        {"sift_criterion": "margin"},
        {"sift_selector": "spread"},
        {"sift_criterion": "since_last_seen"},
    ):
        args = arguments("selectors", **settings)
        trainer = SiftTrainer(bert(), args, train_dataset=Numbered(64))
        trainer.train()
        (selection,) = trainer.selections
        assert selection.scores is not None
        assert (selection.weights is not None) == ("sift_selector" in settings)
    nuclear_norms_are_those_of_the_logits()


def texts(count: int) -> list[dict[str, Tensor]]:
    """Tokens of rows that end at different places; the first tokens have no label."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for row in range(count):
        tokens = torch.randint(PAD + 1, len(WORDS), (LENGTH,), generator=draw)
        mask = (torch.arange(LENGTH) < LENGTH - row % 5).long()
        labels = tokens.masked_fill(mask == 0, IGNORE_INDEX)
        labels[: 1 + row % 3] = IGNORE_INDEX
        rows.append({"input_ids": tokens, "attention_mask": mask, "labels": labels})
    return rows


def nuclear_norms_are_those_of_the_logits() -> None:
    """The scores of the page's criterion, against the logits of the early exit."""
    model = causal()
    args = arguments("nuclear", sift_criterion="nuclear_norm", sift_token_fraction=0.01)
    trainer = SiftTrainer(model, args, train_dataset=texts(16))
    trainer.train()
    rows = texts(8)
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    sifted = trainer.sifted_model_of(model, batch)
    sifted.criterion = CRITERIA["nuclear_norm"].state(model)
    scores = sifted.score_candidates(batch, torch.Generator()).scores
    with torch.no_grad(), early_exit(model.eval(), 1):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    predicted = batch["labels"][:, 1:] != IGNORE_INDEX  # a position predicts the next label
    norms = [
        torch.linalg.matrix_norm(each[:-1][of], "nuc")
        for each, of in zip(logits, predicted, strict=True)
    ]
    torch.testing.assert_close(scores, torch.stack(norms), rtol=1e-4, atol=1e-4)


def recipe(folder: Path) -> Names:
    from tests.reproduction.resnet.small_resnet import Images, resnet

    return {"model": resnet(), "data": Images(500)}


def theory(folder: Path) -> Names:
    draw = torch.Generator().manual_seed(0)
    losses = torch.rand(200, generator=draw).numpy() + 0.1
    noise = torch.randn(200, generator=draw).numpy()
    return {"losses": losses, "approximate": losses * 1.2**noise}


def trainers(folder: Path) -> Names:
    """A small model of the block's architecture, under the block's name."""
    from datasets import Dataset

    from tests.trainers.sentences import parts, text, tokenizer

    here = folder / "Qwen" / "Qwen3-0.6B"
    causal("qwen3", blocks=6).save_pretrained(here)
    tokenizer().save_pretrained(here)
    return {"data": Dataset.from_list([{"text": text([*a, *b])} for a, b in parts(64)])}


GIVEN: dict[str, Callable[[Path], Names]] = {
    "README.md": lambda _: {"model": bert(), "data": Rows(256)},
    "docs/adding_a_selector.md": lambda _: {
        **{"model": bert(), "data": Rows(64)},
        **{"numbered_data": Numbered(64), "causal_model": causal(), "texts": texts(64)},
    },
    "docs/adding_an_exit.md": lambda _: {"MyNet": MyNet},
    "docs/faults.md": lambda folder: {
        "trainer": SiftTrainer(bert(), arguments(folder), train_dataset=Rows(64))
    },
    "docs/images.md": images,
    "docs/performance.md": performance,
    "docs/probe.md": lambda folder: {
        **{"model": bert(), "data": Rows(48)},
        "args": TrainingArguments(**quick(folder)),
    },
    "docs/recipe.md": recipe,
    "docs/theory.md": theory,
    "docs/trainers.md": trainers,
}
CHECKS: dict[str, Callable[[Names], None]] = {
    "docs/adding_a_selector.md": selectors_work,
    "docs/adding_an_exit.md": exits_work,
}
