"""A document's hash decides its split, shard and order; nothing else does."""

from pathlib import Path

import pytest

from sift_trainer.data.text import spool as module
from sift_trainer.data.text.spool import Shards, spool, spooled

TEXTS = [f"document number {i}, {'x' * (i % 50)}" for i in range(4000)]


def shards(**values: object) -> Shards:
    settings = {"train": 6, "validation": 2, "validation_fraction": 0.1, "seed": 0}
    return Shards(**{**settings, **values})  # type: ignore[arg-type]


def validation(of: Shards, texts: list[str] = TEXTS) -> set[str]:
    return {text for text in texts if of.of(text.encode())[0] >= of.train}


def test_the_split_has_its_share_and_depends_on_text_and_fraction_alone() -> None:
    found = validation(shards())
    assert abs(len(found) - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5  # four standard deviations
    assert validation(shards(seed=7, train=3, validation=1)) == found
    assert validation(shards(validation_fraction=0.02)) < found


def test_a_seed_reorders_and_shards_are_about_equal() -> None:
    counts = [0] * 8
    for text in TEXTS:
        counts[shards().of(text.encode())[0]] += 1
    for count, expected in zip(counts, [600] * 6 + [200] * 2, strict=True):
        assert abs(count - expected) < 5 * expected**0.5
    digests = [[shards(seed=s).of(text.encode())[1] for text in TEXTS] for s in (0, 1)]
    assert sorted(TEXTS, key=dict(zip(TEXTS, digests[0], strict=True)).get) != sorted(
        TEXTS, key=dict(zip(TEXTS, digests[1], strict=True)).get
    )


def test_names_of_shards() -> None:
    assert [shards().name(i) for i in (0, 5, 6, 7)] == [
        "train/00000",
        "train/00005",
        "validation/00000",
        "validation/00001",
    ]
    assert len(shards()) == 8


@pytest.mark.parametrize("round_bytes", [10**9, 5000, 1])
def test_every_document_comes_back_from_its_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_bytes: int
) -> None:
    """However often memory was emptied, and with letters of several bytes."""
    monkeypatch.setattr(module, "_ROUND_BYTES", round_bytes)
    texts = [*TEXTS[:300], "naïve 猫 \ud800 surrogate", ""]
    of = shards()
    spool(texts[:100], 0, of, range(8), tmp_path / "a")
    spool(texts[100:], 1, of, range(8), tmp_path / "b")
    for shard in range(8):
        found = list(spooled([tmp_path / "a", tmp_path / "b"], shard))
        expected = [
            (text.encode("utf-8", "replace").decode(), int(i >= 100))
            for i, text in enumerate(texts)
            if of.of(text.encode("utf-8", "replace"))[0] == shard
        ]
        assert [(document.text, document.source) for document in found] == expected


def test_only_the_wanted_shards_are_kept(tmp_path: Path) -> None:
    spool(TEXTS, 0, shards(), {2}, tmp_path / "a")
    assert list(spooled([tmp_path / "a"], 1)) == []
    kept = [document.text for document in spooled([tmp_path / "a"], 2)]
    assert kept == [text for text in TEXTS if shards().of(text.encode())[0] == 2]
