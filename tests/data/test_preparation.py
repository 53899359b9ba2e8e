"""Prepared once, read back the same, never half."""

from pathlib import Path

import numpy as np
import pytest

from sift_trainer.data import documentation as module
from sift_trainer.data.documentation import PreparedCorpus, prepare_documentation

NAMES = "reader writer buffer signal filter matrix kernel tensor loader parser"
VERBS = "opens closes copies moves reads writes counts sorts splits joins"
DOCUMENTS = [
    " ".join(f"The {a} {v} the {b} number {len(v)}." for b in NAMES.split() if b != a)
    for a in NAMES.split()
    for v in VERBS.split()
]
SETTINGS = {"vocab_size": 120, "max_length": 32, "validation_documents_fraction": 0.2}


@pytest.fixture(autouse=True)
def _small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "documentation", lambda _progress: list(DOCUMENTS))


def _prepare(folder: Path, **settings: float) -> PreparedCorpus:
    return prepare_documentation(folder, progress=False, **{**SETTINGS, **settings})


def _arrays(prepared: PreparedCorpus) -> list[np.ndarray]:
    splits = (prepared.train, prepared.validation)
    return [a for s in splits for a in (s.tokens, s.offsets, s.first_lengths, s.is_random)]


def _same(one: PreparedCorpus, other: PreparedCorpus) -> bool:
    arrays = zip(_arrays(one), _arrays(other), strict=True)
    return one.tokenizer.get_vocab() == other.tokenizer.get_vocab() and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays
    )


def test_two_cold_preparations_and_the_cached_one_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = _prepare(tmp_path / "a")
    assert _same(_prepare(tmp_path / "b"), cold)

    def forbidden(_progress: bool) -> list[str]:
        raise AssertionError("a cached corpus was prepared again")

    monkeypatch.setattr(module, "documentation", forbidden)
    cached = _prepare(tmp_path / "a")
    assert _same(cached, cold)
    assert cached.statistics == cold.statistics


def test_rows_are_pairs_of_the_documents_and_statistics_count_them(tmp_path: Path) -> None:
    prepared = _prepare(tmp_path)
    tokenizer, numbers = prepared.tokenizer, prepared.statistics
    assert len(tokenizer) == numbers["vocab_size"] == 120
    assert numbers["documents"] == numbers["train_documents"] + numbers["validation_documents"]
    assert numbers["documents"] == len(DOCUMENTS)
    assert numbers["train_pairs"] == len(prepared.train)
    known = {word for document in DOCUMENTS for word in document.lower().replace(".", "").split()}
    for i in range(len(prepared.train)):
        ids = prepared.train[i]["input_ids"]
        assert len(ids) <= 32
        assert ids[0] == tokenizer.cls_token_id
        assert ids[-1] == tokenizer.sep_token_id
        assert ids.count(tokenizer.sep_token_id) == 2
        assert tokenizer.unk_token_id not in ids
        words = tokenizer.decode(ids, skip_special_tokens=True).replace(".", "").split()
        inner = [word for word in words[2:-2] if not word.startswith("##")]
        assert sum(word in known for word in inner) >= 0.8 * len(inner)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"max_length": 24}, {"vocab_size": 110}])
def test_another_setting_is_another_folder(tmp_path: Path, changed: dict[str, int]) -> None:
    assert not _same(_prepare(tmp_path), _prepare(tmp_path, **changed))
    assert len(list(tmp_path.iterdir())) == 2


def test_another_version_of_a_package_is_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(tmp_path)
    monkeypatch.setattr(module, "installed_packages", lambda: {"torch": "0.0"})
    _prepare(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupted_preparation_leaves_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(module.PairDataset, "save", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            _prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(_prepare(tmp_path).train) > 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_second_of_two_at_once_takes_what_the_first_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[PreparedCorpus] = []
    publish = module._publish

    def overtaken(unfinished: Path, folder: Path) -> None:
        with monkeypatch.context() as other:
            other.setattr(module, "_publish", publish)
            first.append(_prepare(tmp_path))
        publish(unfinished, folder)

    monkeypatch.setattr(module, "_publish", overtaken)
    assert _same(_prepare(tmp_path), first[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_parallelism_of_the_tokenizer_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    _prepare(tmp_path / "a")
    assert module.os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    _prepare(tmp_path / "b")
    assert "TOKENIZERS_PARALLELISM" not in module.os.environ


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_length": 7}, "max_length=7"),
        ({"seed": -1}, "seed=-1"),
        ({"validation_documents_fraction": 0.0}, "validation_fraction=0"),
        ({"validation_documents_fraction": 1e-9}, "at least 2 documents"),
    ],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _prepare(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []
