"""The embedded corpus, the split by document, the vocabulary."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sift_trainer.data import corpus
from sift_trainer.data.corpus import (
    documentation,
    installed_packages,
    split_by_document,
    train_wordpiece,
)

WORDS = """
signal noise reads writes tensor frame opens closes a an the of to in with over
"""
TEXTS = [
    f"{a} {b} {c} {a}ing, {c} and {a}{b}."
    for a, b, c in zip(WORDS.split(), WORDS.split()[1:], WORDS.split()[2:], strict=False)
]


def _sentence(word: str) -> str:
    return f"This is the long description of the {word} that is read by the tests of the corpus."


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package that stands in for all installed ones, and must never run."""
    root = tmp_path / "made_package"
    (root / "tests").mkdir(parents=True)
    shared, own = _sentence("shared"), _sentence("alpha")
    body = f'"""{shared}\n\n{own}\n\n{_sentence("beta")}"""\nraise SystemExit("this was run")\n'
    (root / "__init__.py").write_text(body)
    method = f'"""{shared}\n\n{_sentence("gamma")}\n\n{_sentence("delta")}\n\n{_sentence("one")}"""'
    (root / "b.py").write_text(f'class A:\n    def f(self):\n        {method}\n\n"""loose"""\n')
    (root / "a.py").write_text('def f():\n    """This is short, as it should not be."""\n')
    (root / "broken.py").write_text('def f(:\n    """This is not Python."""\n')
    (root / "tests" / "c.py").write_text(f'"""{_sentence("tests")} {_sentence("more")}\n"""' * 2)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(corpus, "installed_packages", lambda: {"made_package": "1"})
    return root


@pytest.mark.parametrize("processes", [1, 2])
def test_documents_come_from_docstrings_without_running_anything(
    package: Path, processes: int
) -> None:
    documents = documentation(progress=False, processes=processes)
    assert documents == [
        "\n\n".join(map(_sentence, ("shared", "alpha", "beta"))),
        "\n\n".join(map(_sentence, ("gamma", "delta", "one"))),  # "shared" came before
    ]
    assert "made_package" not in sys.modules


def test_installed_packages_are_named_with_their_versions() -> None:
    packages = installed_packages()
    assert next(iter(packages)) == "python"
    assert packages["torch"] == version("torch")
    assert packages["numpy"] == version("numpy")


def test_processes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="processes=0"):
        documentation(progress=False, processes=0)


def test_split_is_disjoint_complete_and_independent_of_order() -> None:
    documents = [f"document number {i}" for i in range(5000)]
    train, validation = split_by_document(documents, 0.1)
    assert sorted(train + validation) == sorted(documents)
    assert not set(train) & set(validation)
    assert abs(len(validation) - 500) < 4 * (5000 * 0.1 * 0.9) ** 0.5  # four standard deviations
    backwards = split_by_document(documents[::-1], 0.1)
    assert backwards == (train[::-1], validation[::-1])
    assert set(split_by_document(documents[:100], 0.1)[1]) == set(validation) & set(documents[:100])


def test_a_larger_fraction_only_adds_to_the_validation_set() -> None:
    documents = [f"document number {i}" for i in range(500)]
    small, large = (set(split_by_document(documents, f)[1]) for f in (0.05, 0.2))
    assert small < large


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="validation_fraction"):
        split_by_document(["a"], fraction)


def test_wordpiece_has_the_size_asked_for_and_round_trips_through_a_folder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertTokenizerFast

    tokenizer = train_wordpiece(TEXTS, vocab_size=100)
    assert len(tokenizer) == 100
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(corpus.SPECIAL_TOKENS)
    assert set(tokenizer.all_special_ids) == set(range(5))
    encoded = tokenizer("Signal NOISE", "the tensor")
    assert encoded["input_ids"][0] == 2
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] signal noise [SEP] the tensor [SEP]"
    tokenizer.save_pretrained(tmp_path)
    for kind in (AutoTokenizer, BertTokenizerFast):
        again = kind.from_pretrained(tmp_path)
        assert again.get_vocab() == tokenizer.get_vocab()
        assert again("Signal NOISE", "the tensor")["input_ids"] == encoded["input_ids"]


@pytest.mark.parametrize("parallel", ["true", "false"])
def test_wordpiece_ids_do_not_depend_on_hash_order_or_threads(
    monkeypatch: pytest.MonkeyPatch, parallel: str
) -> None:
    expected = train_wordpiece(TEXTS, vocab_size=100).get_vocab()
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
    for _ in range(5):  # the trainer seeds its hash tables anew each time
        assert train_wordpiece(TEXTS, vocab_size=100).get_vocab() == expected


def test_vocabulary_that_the_text_cannot_fill_is_refused_with_one_that_fits() -> None:
    with pytest.raises(ValueError, match="vocab_size=8192") as refused:
        train_wordpiece(TEXTS, 8192)
    fitting = int(str(refused.value).split("use ")[1].split(" ")[0])
    assert len(train_wordpiece(TEXTS, fitting)) == fitting
    with pytest.raises(ValueError, match="needs text"):
        train_wordpiece([])


@pytest.mark.slow
def test_real_docstrings_of_small_packages_are_english(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"json": "", "logging": "", "email": "", "click": ""}
    monkeypatch.setattr(corpus, "installed_packages", lambda: versions)
    documents = documentation(progress=False)
    assert documents == documentation(progress=False, processes=1)
    assert len(documents) > 150
    assert min(map(len, documents)) >= 200
    text = " ".join(documents)
    assert ">>>" not in text
    assert "```" not in text
    assert sum(c.isalpha() or c == " " for c in text) > 0.9 * len(text)
