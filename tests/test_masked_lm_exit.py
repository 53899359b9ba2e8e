"""The pruned exit block: the same logits and scores from the scored positions alone."""

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from sift_trainer.arguments import SiftArguments
from sift_trainer.early_exit import exit_adapter
from sift_trainer.early_exit.labelled_head import LabelledHead
from sift_trainer.early_exit.masked_lm import MaskedLMExit
from sift_trainer.scoring.positions import scored_positions
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer
from tests.tiny import BATCH, FAMILIES, LAYERS, LENGTH, WIDTH, text, token_labels

ENCODERS = ("bert-pretraining", "bert-mlm", "roberta", "electra")
EXITS = range(1, LAYERS + 1)
# Rows without, with one, with some and with all positions scored.
COUNTS = ((3, 0, 1, 5), (1, 0, 0, 0), (2, 2, 2, 2), (LENGTH - 1, 0, 4, LENGTH - 1))


@pytest.fixture(params=ENCODERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@torch.no_grad()
def check_pruned(
    model: nn.Module,
    batch: dict[str, Tensor],
    counts: tuple[int, ...],
    per_row: int | None = None,
) -> None:
    """At every exit: pruned logits equal the unpruned ones at the same positions."""
    adapter = exit_adapter(model)
    assert isinstance(adapter, MaskedLMExit)
    scored = scored_positions(token_labels(counts), per_row=per_row)
    positions = scored.flat
    for k in EXITS:
        with adapter.at(k):
            dense = adapter.logits(model(**batch))
        with adapter.at(k, scored):
            pruned = adapter.logits(model(**batch))
        assert dense.shape[:2] == (BATCH, LENGTH)
        assert pruned.shape == (1, len(positions), dense.shape[-1])
        rows, columns = positions // LENGTH, positions % LENGTH
        torch.testing.assert_close(pruned[0], dense[rows, columns], rtol=3e-6, atol=3e-6)
        # A wrong position would not pass for the right one.
        other = dense[rows, (columns + 1) % LENGTH]
        assert (pruned[0] - other).abs().max() > 0.05


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("per_row", [None, LENGTH - 1])
def test_pruned_logits_equal_the_dense_ones(
    name: str, counts: tuple[int, ...], attention: str, padded: bool, per_row: int | None
) -> None:
    """With as many places for each row too, where those without a label are positions as well."""
    model = FAMILIES[name].build()
    model.set_attn_implementation(attention)
    check_pruned(model, text(padded), counts, per_row)


def random_mask(heads: int, batch: int = BATCH) -> Tensor:
    """Which key each query may see, at random, itself always: (batch, heads, LENGTH, LENGTH)."""
    generator = torch.Generator().manual_seed(7)
    seen = torch.rand(batch, heads, LENGTH, LENGTH, generator=generator) < 0.5
    return seen | torch.eye(LENGTH, dtype=torch.bool)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_mask_of_ones_own_over_queries_and_heads(heads: int, batch: int, attention: str) -> None:
    model = FAMILIES["bert-mlm"].build()
    model.set_attn_implementation(attention)
    seen = random_mask(heads, batch)
    mask = seen if attention == "sdpa" else torch.where(seen, 0.0, -1e9)
    ids = text(padded=False)["input_ids"]
    check_pruned(model, {"input_ids": ids, "attention_mask": mask}, COUNTS[0])
    with torch.no_grad():
        with_mask = model(ids, attention_mask=mask).logits
        assert (with_mask - model(ids).logits).abs().max() > 0.05


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_pruned_logits_under_autocast(attention: str, padded: bool) -> None:
    model = FAMILIES["bert-mlm"].build()
    model.set_attn_implementation(attention)
    adapter, positions = exit_adapter(model), scored_positions(token_labels(COUNTS[0]))
    batch = text(padded)
    with adapter.at(2):
        exact = model(**batch).logits.flatten(0, 1)[positions.flat]
    with torch.autocast("cpu", torch.bfloat16), adapter.at(2, positions):
        found = model(**batch).logits[0]
    assert found.dtype is torch.bfloat16
    assert (found.float() - exact).abs().mean() < 0.02 * exact.std()


@torch.no_grad()
def test_only_the_scored_positions_pass_queries_feed_forward_and_head(name: str) -> None:
    family = FAMILIES[name]
    model, batch = family.build(), family.batch()
    blocks = model.get_submodule(family.blocks)
    seen: dict[str, list[tuple[int, ...]]] = {}

    def count(what: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(
            lambda _, inputs: seen.setdefault(what, []).append(tuple(inputs[0].shape))
        )

    for number, block in enumerate(blocks, start=1):
        count(f"feed-forward {number}", block.intermediate)
        count(f"query {number}", block.attention.self.query)
        count(f"key {number}", block.attention.self.key)
        count(f"value {number}", block.attention.self.value)
    count("head", model.get_output_embeddings())
    positions = scored_positions(token_labels((3, 0, 1, 5)))
    adapter = exit_adapter(model)
    with adapter.at(2, positions):
        model(**batch)
    everywhere, nine = [(BATCH, LENGTH, WIDTH)], [(9, WIDTH)]
    width = model.get_output_embeddings().in_features
    assert seen == {
        **{f"{part} 1": everywhere for part in ("feed-forward", "query", "key", "value")},
        "query 2": nine,
        "key 2": everywhere,
        "value 2": everywhere,
        "feed-forward 2": nine,
        "head": [(1, 9, width)],
    }


@pytest.mark.parametrize("criterion", ["loss", "entropy"])
@pytest.mark.parametrize("exit_layer", [1, 2, -1])
@pytest.mark.parametrize("counts", [(3, 0, 1, 5), (0, 0, 0, 0)])
def test_the_scores_are_the_same(
    name: str, criterion: str, exit_layer: int, counts: tuple[int, ...]
) -> None:
    family = FAMILIES[name]
    model = family.build()
    batch = family.batch(labels=token_labels(counts))
    scores = []
    for pruned in (True, False):
        sift = SiftArguments(
            sift_criterion=criterion, sift_exit_layer=exit_layer, sift_masked_only_head=pruned
        )
        head = LabelledHead.of(model) if pruned else None
        scorer = Scorer(model, sift, ["labels", "next_sentence_label"], head)
        with inference(model):
            scores.append(scorer(model, batch, torch.Generator()))
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-6, atol=1e-6)
    if sum(counts):
        assert scores[0][0] != scores[0][2]


@pytest.mark.parametrize("gathered", [True, False])
def test_a_model_without_the_labelled_head_is_not_pruned_either(gathered: bool) -> None:
    """What keeps a model from taking its head at some positions, keeps it from pruning."""
    family, seen = FAMILIES["bert-mlm"], []
    model = family.build()
    model.bert.encoder.layer[0].intermediate.register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape))
    )
    head = LabelledHead.of(model) if gathered else None
    scorer = Scorer(model, SiftArguments(sift_exit_layer=1), ["labels"], head)
    with inference(model):
        scorer(model, family.batch(labels=token_labels((3, 0, 1, 5))), torch.Generator())
    assert seen == [(9, WIDTH) if gathered else (BATCH, LENGTH, WIDTH)]


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_not_pruned_where_the_block_gets_no_mask_tensor(attention: str) -> None:
    model = FAMILIES["bert-mlm"].build()
    blocks = model.bert.encoder.layer
    assert MaskedLMExit.fits(model, blocks)
    model.config._attn_implementation = attention  # the kernels themselves are not at hand
    assert not MaskedLMExit.fits(model, blocks)
    assert not exit_adapter(model).gathers_positions


def _decoder() -> Any:
    return hf.BertLMHeadModel(FAMILIES["bert-mlm"].build(is_decoder=True).config)


def _encoder_decoder() -> Any:
    config = FAMILIES["bert-mlm"].build().config
    return hf.EncoderDecoderModel(
        hf.EncoderDecoderConfig.from_encoder_decoder_configs(config, config)
    )


def _own_forward() -> Any:
    class Mixing(hf.BertForMaskedLM):
        def forward(self, **inputs: Any) -> Any:
            outputs = super().forward(**inputs)
            outputs.logits = outputs.logits.flip(1)
            return outputs

    return Mixing(FAMILIES["bert-mlm"].build().config)


def _own_block() -> Any:
    class Block(type(FAMILIES["bert-mlm"].build().bert.encoder.layer[0])):  # type: ignore[misc]
        pass

    model = FAMILIES["bert-mlm"].build()
    for block in model.bert.encoder.layer:
        block.__class__ = Block
    return model


def _bare() -> Any:
    class Tagger(nn.Module):
        """Not a Transformers model, though it has the blocks and the configuration of one."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = FAMILIES["bert-mlm"].build().bert
            self.config = self.bert.config

    return Tagger()


def _classifier() -> Any:
    return FAMILIES["bert-token"].build()


@pytest.mark.parametrize(
    "build", [_decoder, _encoder_decoder, _own_forward, _own_block, _bare, _classifier]
)
def test_not_pruned_where_more_than_the_scored_positions_may_matter(build: Any) -> None:
    adapter = exit_adapter(build())
    assert not adapter.gathers_positions
    assert adapter.depth == LAYERS
