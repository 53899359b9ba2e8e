"""Small objects for the names that a page's Python blocks use and do not make: the reader's own
model, data and trainer. Everything else, such as imports, has to be in the blocks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from sift_trainer import SiftArguments, SiftTrainer, early_exit
from sift_trainer.tasks import Regression, task_of
from tests import tiny_configs
from tests.tiny_inputs import CLASSES, LAYERS, WIDTH
from tests.training import Rows, arguments, bert, quick

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


def readme(folder: Path) -> Names:
    return {"model": bert(), "data": Rows(256)}


def adding_an_exit(folder: Path) -> Names:
    return {"MyNet": MyNet}


def faults(folder: Path) -> Names:
    return {"trainer": SiftTrainer(bert(), arguments(folder), train_dataset=Rows(64))}


def images(folder: Path) -> Names:
    from tests.data.pictures import food_archive
    from tests.models.small_resnet import resnet

    food_archive(folder / "food-101")
    args = TrainingArguments(**quick(folder / "runs"))
    return {"model": resnet("imagenet", num_labels=101), "args": args}


def performance(folder: Path) -> Names:
    from transformers import DataCollatorForLanguageModeling

    from tests.trainers.sentences import tokenizer

    return {"collator": DataCollatorForLanguageModeling(tokenizer(), mlm=False)}


def exits_work(names: Names) -> None:
    """What docs/adding_an_exit.md registers can be used."""
    assert SiftArguments(sift_criterion="margin").sift_criterion == "margin"
    assert isinstance(task_of(MyNet()), Regression)
    swin = names["SupervisedSwinForImageClassification"](tiny_configs.swin()).eval()
    for model, inputs in ((MyNet(), torch.randn(2, WIDTH)), (swin, torch.randn(2, 3, 32, 32))):
        with torch.no_grad(), early_exit(model, 1):
            early = model(inputs)["logits"]
        assert not torch.allclose(early, model(inputs)["logits"])


def probe(folder: Path) -> Names:
    return {"model": bert(), "args": TrainingArguments(**quick(folder)), "data": Rows(48)}


def recipe(folder: Path) -> Names:
    from tests.models.small_resnet import Images, resnet

    return {"model": resnet(), "data": Images(500)}


def theory(folder: Path) -> Names:
    draw = torch.Generator().manual_seed(0)
    losses = torch.rand(200, generator=draw).numpy() + 0.1
    noise = torch.randn(200, generator=draw).numpy()
    return {"losses": losses, "approximate": losses * 1.2**noise}


def trainers(folder: Path) -> Names:
    """A small model of the block's architecture, under the block's name."""
    from datasets import Dataset
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from tests.trainers.sentences import WORDS, parts, text, tokenizer

    config = Qwen3Config(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=6, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, intermediate_size=48, max_position_embeddings=128,
        pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    here = folder / "Qwen" / "Qwen3-0.6B"
    Qwen3ForCausalLM(config).save_pretrained(here)
    tokenizer().save_pretrained(here)
    return {"data": Dataset.from_list([{"text": text([*a, *b])} for a, b in parts(64)])}


GIVEN: dict[str, Callable[[Path], Names]] = {
    "README.md": readme,
    "docs/adding_an_exit.md": adding_an_exit,
    "docs/faults.md": faults,
    "docs/images.md": images,
    "docs/performance.md": performance,
    "docs/probe.md": probe,
    "docs/recipe.md": recipe,
    "docs/theory.md": theory,
    "docs/trainers.md": trainers,
}
CHECKS: dict[str, Callable[[Names], None]] = {"docs/adding_an_exit.md": exits_work}
