"""The picture of the method: its numbers are those of the code, its bars are to scale."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.bert.flops import BertShape, forward_backward, scoring
from tests.docs.pages import ROOT

PICTURES = ["sift.svg", "sift_narrow.svg"]
NAMESPACE = "{http://www.w3.org/2000/svg}"
BERT_BASE = BertShape(
    hidden_size=768,
    intermediate_size=3072,
    num_blocks=12,
    vocab_size=30522,
    length=512,
    label_share=0.15,
)


def overhead(exit_layer: int) -> str:
    """Of a hundred, as the picture has it."""
    scored = scoring(BERT_BASE, exit_layer) / 0.5
    return f"{100 * scored / forward_backward(BERT_BASE, 'labelled_block'):.1f}"


@pytest.fixture(params=PICTURES)
def picture(request: pytest.FixtureRequest) -> ElementTree.Element:
    return ElementTree.parse(ROOT / "docs" / request.param).getroot()


def text_of(picture: ElementTree.Element) -> str:
    said = ("".join(text.itertext()) for text in picture.iter(f"{NAMESPACE}text"))
    return re.sub(r"\s+", " ", " ".join(said))


def test_shares_are_counted(picture: ElementTree.Element) -> None:
    text = text_of(picture)
    assert f" {overhead(1)} + 100 " in text
    assert f" {overhead(12)} 100 " in text
    assert f"{overhead(1)}%" in picture.attrib["aria-label"]
    assert f"{overhead(12)}%" in picture.attrib["aria-label"]


def test_the_model_is_the_papers() -> None:
    base = yaml.safe_load((ROOT / "configs/bert_base/base.yaml").read_text())
    assert base["max_length"] == BERT_BASE.length
    assert base["mask_probability"] == BERT_BASE.label_share
    assert base["per_device_train_batch_size"] == 32  # of 64
    for name in ("hidden_size", "intermediate_size"):
        assert base.get(name, getattr(BERT_BASE, name)) == getattr(BERT_BASE, name)


def test_hours_are_the_papers(picture: ElementTree.Element) -> None:
    computed = paper.FORWARD_HOURS + paper.BACKWARD_HOURS
    first, last = (f"{100 * paper.SAMPLING_HOURS['loss'][k] / computed:.1f}" for k in (1, 12))
    assert f"scoring takes {first} of 100 by block 1, and {last} by exact losses" in text_of(
        picture
    )


def test_bars_are_to_scale(picture: ElementTree.Element) -> None:
    bars = [
        (float(bar.attrib["x"]), float(bar.attrib["width"]), float(bar.attrib["y"]))
        for bar in picture.iter(f"{NAMESPACE}rect")
        if bar.attrib.get("height") == "22"
    ]
    plain, first, sifted, exact, after = sorted(bars, key=lambda bar: (bar[2], bar[0]))
    scale = plain[1] / 100
    assert sifted[1] == after[1] == plain[1]
    assert first[1] / scale == pytest.approx(float(overhead(1)), abs=0.05)
    assert exact[1] / scale == pytest.approx(float(overhead(12)), abs=0.05)
    assert sifted[0] == pytest.approx(first[0] + first[1], abs=0.1)


def test_rows_and_blocks_are_as_many_as_it_says(picture: ElementTree.Element) -> None:
    colours = {group.attrib.get("fill"): group for group in picture.iter(f"{NAMESPACE}g")}
    assert len(colours["var(--row)"]) == 64
    assert len(colours["var(--faded)"]) == 32
    hard = [
        len(group) for group in picture.iter(f"{NAMESPACE}g") if group.get("fill") == "var(--hard)"
    ]
    assert sorted(hard) == [12, 32]  # all blocks train, on the rows that are kept
    assert len(colours["var(--score)"]) == 1
    [skipped] = [group for group in picture.iter(f"{NAMESPACE}g") if group.get("class") == "ghost"]
    assert len(skipped) == 11


def test_pages_say_the_same() -> None:
    for page in ("README.md", "docs/index.md", "docs/method.md"):
        text = (ROOT / page).read_text()
        assert f"scoring takes {overhead(1)}% of their forward and backward" in text, page
        for name in PICTURES:
            assert f'"{"docs/" * (page == "README.md")}{name}"' in text, page
    method = (ROOT / "docs/method.md").read_text()
    assert f"For BERT-base at exit 1, {overhead(1)}% of forward and backward" in method
