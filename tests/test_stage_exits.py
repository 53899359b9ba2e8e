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
from tests.matrix import MATRIX, ROWS, large_image, sound, text
from tests.test_matrix import hardest, rows_of, scored, trainer_of
from tests.tiny import roughen
from tests.tiny_inputs import CLASSES, LAYERS, VOCABULARY, WIDTH
from tests.training import arguments

# ---- ALBERT ----


@pytest.mark.parametrize(
    ("depth", "groups", "inner"),
    # In floating point, 17 / (3 * 17 / 21) is not 21 / 3.
    [(3, 1, 1), (4, 2, 1), (5, 2, 2), (6, 4, 1), (21, 3, 1)],
)
@torch.no_grad()
def test_albert_leaves_after_as_many_calls_of_its_groups(
    depth: int, groups: int, inner: int
) -> None:
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
    assert torch.equal(model(**inputs).logits, whole)
    assert model.config.num_hidden_layers == depth
    with pytest.raises(ValueError, match=rf"it has {depth} blocks"), early_exit(model, depth + 1):
        pytest.fail("the context was entered")


def test_albert_is_whole_again_after_an_exception() -> None:
    model = MATRIX["albert"].build()
    with pytest.raises(KeyboardInterrupt), early_exit(model, 1):
        raise KeyboardInterrupt
    assert "forward" not in vars(model.albert.encoder)


# ---- stages: a classifier of one's own ----


class SupervisedResNetForImageClassification(hf.ResNetForImageClassification):
    """As docs/adding_an_exit.md shows it: a second classifier, trained by a loss of its own."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.early = nn.Sequential(nn.Flatten(), nn.Linear(config.hidden_sizes[0], CLASSES))
        self.post_init()

    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> Any:
        outputs = super().forward(pixel_values, labels=labels, output_hidden_states=True)
        if labels is not None and self.training:
            logits = self.early(self.resnet.pooler(outputs.hidden_states[1]))
            outputs.loss = outputs.loss + 0.3 * functional.cross_entropy(logits, labels)
        return outputs


class SupervisedSwinForImageClassification(hf.SwinForImageClassification):
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


class ResNetExit(ResNetStages):
    def classifier(self, k: int) -> nn.Module:
        return self.model.early if k == 1 else super().classifier(k)


class SwinExit(SwinStages):
    def classifier(self, k: int) -> nn.Module:
        return self.model.early if k == 1 else super().classifier(k)


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(_REGISTERED)
    register_exit(SupervisedResNetForImageClassification, ResNetExit)
    register_exit(SupervisedSwinForImageClassification, SwinExit)
    yield
    _REGISTERED.clear()
    _REGISTERED.update(before)


def resnet() -> Any:
    torch.manual_seed(0)
    return roughen(SupervisedResNetForImageClassification(tiny_configs.resnet()))


def swin() -> Any:
    torch.manual_seed(0)
    return roughen(SupervisedSwinForImageClassification(tiny_configs.swin()))


def early_by_hand(model: Any, images: Tensor) -> Tensor:
    if isinstance(model, SupervisedResNetForImageClassification):
        stage = model.resnet.encoder.stages[0](model.resnet.embedder(images))
        return model.early[1](stage.mean(dim=(2, 3)))
    tokens, grid = model.swin.embeddings(images)
    return model.early(model.swin.encoder.layers[0](tokens, grid)[0].mean(dim=1))


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("build", [resnet, swin])
@torch.no_grad()
def test_a_stage_is_left_by_the_classifier_that_was_given(build: Any) -> None:
    model, images = build(), large_image()["pixel_values"]
    whole = model(images).logits
    later = list(model.modules())[-1]
    expected = early_by_hand(model, images)
    assert (expected - whole).abs().max() > 0.1
    with early_exit(model, 1):
        torch.testing.assert_close(model(images).logits, expected)
    for k in (3, -1):
        with early_exit(model, k):
            assert torch.equal(model(images).logits, whole)
    assert torch.equal(model(images).logits, whole)
    assert list(model.modules())[-1] is later
    with (
        pytest.raises(ValueError, match=r"no exit after stage 2 of Supervised\w+: .*=-1"),
        early_exit(model, 2),
    ):
        pytest.fail("the context was entered")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("build", [resnet, swin])
def test_later_stages_do_not_run(build: Any) -> None:
    model = build()
    stages = model.get_submodule(ResNetStages.stages if build is resnet else SwinStages.stages)
    ran: list[int] = []
    for number, stage in enumerate(stages):
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad(), early_exit(model, 1):
        model(large_image()["pixel_values"])
    assert ran == [0]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("build", [resnet, swin])
def test_a_classifier_of_ones_own_ranks_the_rows_and_is_trained(build: Any, tmp_path: Path) -> None:
    model, batch = build(), large_image()
    before = {name: value.clone() for name, value in model.early.state_dict().items()}
    with torch.no_grad():
        logits = early_by_hand(model, batch["pixel_values"])
    expected = functional.cross_entropy(logits, batch["labels"], reduction="none")
    settings = {"max_steps": 1, "train_sampling_strategy": "sequential"}
    args = arguments(tmp_path, **settings)
    trainer = SiftTrainer(model, args, train_dataset=rows_of(batch))
    trainer.train()
    found, kept = scored(trainer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert kept == hardest(expected)
    after = model.early.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())
    assert len(kept) == ROWS // 2


# ---- refusals ----


@pytest.mark.parametrize(("name", "kind"), [("resnet", "ResNet"), ("swin", "Swin")])
def test_without_a_classifier_only_the_last_stage_is_an_exit(
    name: str, kind: str, tmp_path: Path
) -> None:
    message = rf"no exit after stage 1 of {kind}ForImageClassification: .*{kind}Stages"
    with pytest.raises(ValueError, match=message) as error:
        trainer_of(name, tmp_path, exit_layer=1)
    assert "sift_exit_layer=-1" in str(error.value)
    assert ("EarlyExitResNetForImageClassification" in str(error.value)) == (name == "resnet")
    with pytest.raises(ValueError, match="it has 3 blocks"):
        trainer_of(name, tmp_path, exit_layer=4)


@torch.no_grad()
def test_a_head_that_reads_all_blocks_has_only_the_last_exit() -> None:
    config = tiny_configs.wav2vec2()
    config.use_weighted_layer_sum = True
    model, inputs = roughen(hf.Wav2Vec2ForSequenceClassification(config)), sound()
    with pytest.raises(ValueError, match="outputs of all 3 blocks"), early_exit(model, 1):
        pytest.fail("the context was entered")
    with early_exit(model, -1):
        last = model(**inputs).logits
    assert torch.equal(last, model(**inputs).logits)


@torch.no_grad()
def test_a_model_that_rescales_its_weights_in_evaluation_has_only_the_last_exit() -> None:
    """RWKV: what an early exit had divided in one block would be multiplied back in all."""

    def build(rescale_every: int) -> Any:
        sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": WIDTH}
        return hf.RwkvForCausalLM(
            hf.RwkvConfig(**sizes, num_hidden_layers=LAYERS, rescale_every=rescale_every)
        )

    model = build(1)
    with (
        pytest.raises(ValueError, match=r"rescale_every=1 .*set config.rescale_every=0"),
        early_exit(model, 1),
    ):
        pytest.fail("the context was entered")
    inputs = {"input_ids": text()["input_ids"]}
    for rescale_every, k in ((1, -1), (0, 1)):
        model = build(rescale_every).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with inference(model), early_exit(model, k):
            model(**inputs)
        model(**inputs)  # as training does next
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_a_decoder_that_undoes_the_pooling_of_all_blocks_allows_only_the_last_exit() -> None:
    """Funnel's; without the decoder, states of any length do for its classifier."""
    config = hf.FunnelConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, n_head=4, d_head=8, d_inner=40,
        block_sizes=[1, 1, 1], num_decoder_layers=1, num_labels=CLASSES,
    )  # fmt: skip
    model = roughen(hf.FunnelForMaskedLM(config))
    with (
        pytest.raises(ValueError, match=r"after block 2 .*block_sizes=\[1, 1, 1\].*exit_layer=-1"),
        early_exit(model, 2),
    ):
        pytest.fail("the context was entered")
    with early_exit(model, -1):
        last = model(**text()).logits
    assert torch.equal(last, model(**text()).logits)

    classifier = roughen(hf.FunnelForSequenceClassification(config))
    hidden = classifier(**text(), output_hidden_states=True).hidden_states
    for k in (1, 2, 3):
        with early_exit(classifier, k):
            found = classifier(**text()).logits
        assert torch.equal(found, classifier.classifier(hidden[k][:, 0]))
