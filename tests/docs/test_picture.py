"""The picture of the method, in both widths: its numbers are those of the code and the paper."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from sift_trainer import paper
from sift_trainer.flops import BertShape, scoring_overhead
from tests.docs.pages import ROOT

BERT_BASE = BertShape(
    hidden_size=768,
    intermediate_size=3072,
    num_blocks=12,
    vocab_size=30522,
    length=512,
    label_share=0.15,
)


def overhead(exit_layer: int) -> str:
    """What scoring costs, in per cent of training the kept rows."""
    return f"{100 * scoring_overhead(BERT_BASE, exit_layer, keep_ratio=0.5):.1f}"


@pytest.mark.parametrize("name", ["sift.svg", "sift_narrow.svg"])
def test_shares_are_those_of_the_code_and_of_the_paper(name: str) -> None:
    root = ElementTree.parse(ROOT / "docs" / name).getroot()
    said = ("".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text"))
    text = re.sub(r"\s+", " ", " ".join(said))
    assert f" {overhead(1)} + 100 " in text
    assert f" {overhead(12)} 100 " in text
    hours = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
    first, last = (f"{100 * paper.SAMPLING_HOURS['loss'][k] / hours:.1f}" for k in (1, 12))
    assert f"scoring takes {first} of 100 by block 1, and {last} by exact losses" in text


def test_pages_say_the_same() -> None:
    for page in ("README.md", "docs/index.md", "docs/method.md"):
        text = (ROOT / page).read_text()
        assert f"scoring takes {overhead(1)}% of their forward and backward" in text, page
