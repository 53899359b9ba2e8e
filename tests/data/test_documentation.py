"""The embedded corpus: docstrings of installed packages, read without running them."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sift_trainer.data.text import documentation as module
from sift_trainer.data.text.documentation import documentation, installed_packages


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
    monkeypatch.setattr(module, "installed_packages", lambda: {"made_package": "1"})
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


@pytest.mark.slow
def test_real_docstrings_of_small_packages_are_english(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"json": "", "logging": "", "email": "", "click": ""}
    monkeypatch.setattr(module, "installed_packages", lambda: versions)
    documents = documentation(progress=False)
    assert documents == documentation(progress=False, processes=1)
    assert len(documents) > 150
    assert min(map(len, documents)) >= 200
    text = " ".join(documents)
    assert ">>>" not in text
    assert "```" not in text
    assert sum(c.isalpha() or c == " " for c in text) > 0.9 * len(text)
