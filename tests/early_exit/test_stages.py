"""Exits of models that are no stack of like blocks: ALBERT, ResNet, Swin."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional

from sift_trainer import SiftTrainer, early_exit, register_exit
from sift_trainer.early_exit import ResNetStages, SwinStages
from sift_trainer.early_exit.registry import _REGISTERED
from sift_trainer.sifted_model.no_trace import inference
from tests import tiny_configs
from tests.matrix import large_image, sound, text
from tests.test_matrix import hardest, rows_of, scored, trainer_of
from tests.tiny import roughen
from tests.tiny_inputs import CLASSES, LAYERS, VOCABULARY, WIDTH
from tests.training import arguments

# ---- ALBERT ----


@pytest.mark.parametrize(
    ("depth", "groups", "inner"),
    # In floating point, 17 / (3 * 17 / 21) is not 21 / 3.
    [(3, 1, 1), (5, 2, 2), (21, 3, 1)],
)
@torch.no_grad()
def test_albert_leaves_after_k_calls_of_its_groups(depth: int, groups: int, inner: int) -> None:
    config = tiny_configs.albert()
    config.num_hidden_layers, config.num_hidden_groups = depth, groups
    config.inner_group_num = inner
    model, inputs = roughen(hf.AlbertForMaskedLM(config)), {"input_ids": text()["input_ids"]}
    whole = model(**inputs).logits
    encoder = model.albert.encoder
    hidden = encoder.embedding_hidden_mapping_in(model.albert.embeddings(**inputs))
    for k in range(1, depth + 1):
        hidden = encoder.albert_layer_groups[int((k - 1) / (depth / groups))](hidden, None)
        with early_exit(model, k):
            found = model(**inputs).logits
        torch.testing.assert_close(found, model.predictions(hidden), rtol=1e-4, atol=1e-4)
    with pytest.raises(KeyboardInterrupt), early_exit(model, 1):
        raise KeyboardInterrupt
    assert torch.equal(model(**inputs).logits, whole)
    assert encoder.config is model.config
    with pytest.raises(ValueError, match=rf"it has {depth} blocks"), early_exit(model, depth + 1):
        pytest.fail("the context was entered")


# ---- stages: a classifier of one's own ----


class SupervisedSwinForImageClassification(hf.SwinForImageClassification):
    """As docs/adding_an_exit.md shows it: a second classifier, trained by a loss of its own."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.early = nn.Linear(2 * config.embed_dim, CLASSES)
        self.post_init()

    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> Any:
        outputs = super().forward(pixel_values, labels=labels, output_hidden_states=True)
        if labels is not None and self.training:
            logits = self.early(outputs.reshaped_hidden_states[1].mean(dim=(2, 3)))
            outputs.loss = outputs.loss + 0.3 * functional.cross_entropy(logits, labels)
        return outputs


class SwinExit(SwinStages):
    def classifier(self, k: int) -> nn.Module:
        return self.model.early if k == 1 else super().classifier(k)


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(_REGISTERED)
    register_exit(SupervisedSwinForImageClassification, SwinExit)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


def swin() -> Any:
    torch.manual_seed(0)
    return roughen(SupervisedSwinForImageClassification(tiny_configs.swin()))


def early_by_hand(model: Any, images: Tensor) -> Tensor:
    tokens, grid = model.swin.embeddings(images)
    return model.early(model.swin.encoder.layers[0](tokens, grid)[0].mean(dim=1))


@pytest.mark.usefixtures("registered")
@torch.no_grad()
def test_a_stage_exits_through_the_classifier_of_the_adapter() -> None:
    model, images = swin(), large_image()["pixel_values"]
    whole = model(images).logits
    expected = early_by_hand(model, images)
    assert (expected - whole).abs().max() > 0.1
    stages = model.get_submodule(SwinStages.stages)
    ran: list[int] = []
    for number, stage in enumerate(stages):
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
    with early_exit(model, 1):
        torch.testing.assert_close(model(images).logits, expected)
    assert ran == [0]
    for k in (3, -1):
        with early_exit(model, k):
            assert torch.equal(model(images).logits, whole)
    assert torch.equal(model(images).logits, whole)
    with (
        pytest.raises(ValueError, match=r"no exit after stage 2 of Supervised\w+: .*=-1"),
        early_exit(model, 2),
    ):
        pytest.fail("the context was entered")


@pytest.mark.usefixtures("registered")
def test_an_own_classifier_ranks_the_samples_and_is_trained(tmp_path: Path) -> None:
    model, batch = swin(), large_image()
    before = {name: value.clone() for name, value in model.early.state_dict().items()}
    with torch.no_grad():
        logits = early_by_hand(model, batch["pixel_values"])
    expected = functional.cross_entropy(logits, batch["labels"], reduction="none")
    args = arguments(tmp_path, max_steps=1, train_sampling_strategy="sequential")
    trainer = SiftTrainer(model, args, train_dataset=rows_of(batch))
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert kept == hardest(expected)
    assert all(not torch.equal(model.early.state_dict()[name], before[name]) for name in before)


# ---- models whose only exit is the last ----


@pytest.mark.parametrize(("name", "adapter"), [("resnet", ResNetStages), ("swin", SwinStages)])
def test_without_a_classifier_only_the_last_stage_is_an_exit(
    name: str, adapter: type, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no exit after stage 1 ") as error:
        trainer_of(name, tmp_path, exit_layer=1)
    assert adapter.__name__ in str(error.value)
    assert "sift_exit_layer=-1" in str(error.value)


def weighted_layers() -> tuple[Any, dict[str, Tensor]]:
    config = tiny_configs.wav2vec2()
    config.use_weighted_layer_sum = True
    return roughen(hf.Wav2Vec2ForSequenceClassification(config)), sound()


def rwkv(rescale_every: int = 1) -> tuple[Any, dict[str, Tensor]]:
    """What an early exit had divided in one block would be multiplied back in all."""
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": WIDTH}
    config = hf.RwkvConfig(**sizes, num_hidden_layers=LAYERS, rescale_every=rescale_every)
    return hf.RwkvForCausalLM(config), {"input_ids": text()["input_ids"]}


def funnel() -> tuple[Any, dict[str, Tensor]]:
    """Its decoder undoes the pooling of all blocks."""
    config = hf.FunnelConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, n_head=4, d_head=8, d_inner=40,
        block_sizes=[1, 1, 1], num_decoder_layers=1, num_labels=CLASSES,
    )  # fmt: skip
    return roughen(hf.FunnelForMaskedLM(config)), text()


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (weighted_layers, "use_weighted_layer_sum"),
        (rwkv, "config.rescale_every=0"),
        (funnel, r"block_sizes=\[1, 1, 1\]"),
    ],
)
@torch.no_grad()
def test_models_whose_head_needs_all_blocks_have_only_the_last_exit(build: Any, named: str) -> None:
    model, inputs = build()
    with pytest.raises(ValueError, match=rf"{named}.*exit_layer=-1"), early_exit(model, 1):
        pytest.fail("the context was entered")
    with early_exit(model, -1):
        last = model(**inputs).logits
    assert torch.equal(last, model(**inputs).logits)


@pytest.mark.parametrize(("rescale_every", "k"), [(1, -1), (0, 1)])
def test_scoring_leaves_the_weights_of_rwkv_alone(rescale_every: int, k: int) -> None:
    model, inputs = rwkv(rescale_every)
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    with inference(model), early_exit(model, k):
        model(**inputs)
    with torch.no_grad():
        model(**inputs)  # as training does next
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
