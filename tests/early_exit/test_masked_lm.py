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
from sift_trainer.sifted_model.facts import ModelFacts
from sift_trainer.sifted_model.no_trace import inference
from sift_trainer.sifted_model.scorer import Scorer
from tests.tiny import BATCH, FAMILIES, LAYERS, LENGTH, WIDTH, text, token_labels

ENCODERS = ("bert-pretraining", "bert-mlm", "roberta", "electra")
# Rows without, with one, with some and with all positions scored.
COUNTS = ((3, 0, 1, 5), (1, 0, 0, 0), (LENGTH - 1, 0, 4, LENGTH - 1))


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
    rows, columns = scored.flat // LENGTH, scored.flat % LENGTH
    for k in range(1, LAYERS + 1):
        with adapter.at(k):
            dense = adapter.logits(model(**batch))
        with adapter.at(k, scored):
            pruned = adapter.logits(model(**batch))
        assert pruned.shape == (1, len(rows), dense.shape[-1])
        torch.testing.assert_close(pruned[0], dense[rows, columns], rtol=3e-6, atol=3e-6)
        # The logits of another position would not pass.
        assert (pruned[0] - dense[rows, (columns + 1) % LENGTH]).abs().max() > 0.05


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ENCODERS)
def test_pruned_logits_equal_the_dense_ones(name: str, attention: str) -> None:
    """With ``per_row`` also rows with fewer labels pass as many positions."""
    model = FAMILIES[name].build(_attn_implementation=attention)
    for counts in COUNTS:
        check_pruned(model, text(), counts)
    check_pruned(model, text(), COUNTS[0], per_row=LENGTH - 1)
    check_pruned(model, text(padded=False), COUNTS[0])


@pytest.mark.parametrize(("heads", "batch"), [(1, BATCH), (4, 1), (4, BATCH)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_mask_over_queries_and_heads(heads: int, batch: int, attention: str) -> None:
    model = FAMILIES["bert-mlm"].build(_attn_implementation=attention)
    generator = torch.Generator().manual_seed(7)
    seen = torch.rand(batch, heads, LENGTH, LENGTH, generator=generator) < 0.5
    seen |= torch.eye(LENGTH, dtype=torch.bool)
    mask = seen if attention == "sdpa" else torch.where(seen, 0.0, -1e9)
    ids = text(padded=False)["input_ids"]
    check_pruned(model, {"input_ids": ids, "attention_mask": mask}, COUNTS[0])
    with torch.no_grad():
        difference = model(ids, attention_mask=mask).logits - model(ids).logits
    assert difference.abs().max() > 0.05


@torch.no_grad()
def test_only_the_scored_positions_pass_queries_feed_forward_and_head() -> None:
    family = FAMILIES["bert-mlm"]
    model = family.build()
    seen: dict[str, list[tuple[int, ...]]] = {}

    def count(what: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(
            lambda _, inputs: seen.setdefault(what, []).append(tuple(inputs[0].shape))
        )

    for number, block in enumerate(model.get_submodule(family.blocks), start=1):
        count(f"feed-forward {number}", block.intermediate)
        for part in ("query", "key", "value"):
            count(f"{part} {number}", getattr(block.attention.self, part))
    count("head", model.get_output_embeddings())
    with exit_adapter(model).at(2, scored_positions(token_labels((3, 0, 1, 5)))):
        model(**family.batch())
    everywhere, nine = [(BATCH, LENGTH, WIDTH)], [(9, WIDTH)]
    assert seen == {
        **{f"{part} 1": everywhere for part in ("feed-forward", "query", "key", "value")},
        "query 2": nine,
        "key 2": everywhere,
        "value 2": everywhere,
        "feed-forward 2": nine,
        "head": [(1, 9, WIDTH)],
    }


@pytest.mark.parametrize("criterion", ["loss", "entropy"])
@pytest.mark.parametrize("name", ENCODERS)
def test_scores_with_and_without_pruning_are_equal(name: str, criterion: str) -> None:
    """Without a labelled head the exit block is not pruned either."""
    family = FAMILIES[name]
    model = family.build()
    seen: list[tuple[int, ...]] = []
    block, *_ = model.get_submodule(family.blocks)
    block.intermediate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    for counts, exit_layer in (((3, 0, 1, 5), 1), ((3, 0, 1, 5), -1), ((0, 0, 0, 0), 1)):
        batch, scores = family.batch(labels=token_labels(counts)), []
        for head in (LabelledHead.of(model), None):
            sift = SiftArguments(sift_criterion=criterion, sift_exit_layer=exit_layer)
            scorer = Scorer(model, ModelFacts(head=head), sift)
            with inference(model):
                scores.append(scorer(model, batch, torch.Generator()))
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-6, atol=1e-6)
    assert seen[:2] == [(9, WIDTH), (BATCH, LENGTH, WIDTH)]


def _decoder() -> Any:
    return hf.BertLMHeadModel(FAMILIES["bert-mlm"].build(is_decoder=True).config)


def _own_forward() -> Any:
    class Mixing(hf.BertForMaskedLM):
        def forward(self, **inputs: Any) -> Any:
            return super().forward(**inputs)

    return Mixing(FAMILIES["bert-mlm"].config())


def _own_block() -> Any:
    model = FAMILIES["bert-mlm"].build()
    kind = type("Block", (type(model.bert.encoder.layer[0]),), {})
    for block in model.bert.encoder.layer:
        block.__class__ = kind
    return model


def _flash_attention() -> Any:
    """Its blocks get no mask tensor."""
    model = FAMILIES["bert-mlm"].build()
    model.config._attn_implementation = "flash_attention_2"
    return model


@pytest.mark.parametrize(
    "build",
    [
        _decoder,
        _own_forward,
        _own_block,
        _flash_attention,
        FAMILIES["bert-token"].build,
    ],
)
def test_not_pruned_where_other_positions_may_matter(build: Any) -> None:
    adapter = exit_adapter(build())
    assert not adapter.gathers_positions
    assert adapter.depth == LAYERS
