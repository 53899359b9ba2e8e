"""The embedded corpus: the prose of installed docstrings, which are read without running them."""

import sys
from pathlib import Path

import pytest

from sift_trainer.reproduction.corpus import documentation as module
from sift_trainer.reproduction.corpus.documentation import documentation


def _sentence(word: str) -> str:
    return f"This is the long description of the {word} that is read by the tests of the corpus."


def test_documents_come_from_docstrings_without_running_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An importable package stands in for all installed ones, and must never run."""
    root = tmp_path / "made_package"
    (root / "tests").mkdir(parents=True)
    shared, own = _sentence("shared"), _sentence("alpha")
    code = ">>> run(the_code, of_an, example)\n1\n\nx : array_like, shape (n,)"
    body = f'"""{shared}\n\n{own}\n\n{code}\n{_sentence("beta")}"""\nraise SystemExit("ran")\n'
    (root / "__init__.py").write_text(body)
    method = f'"""{shared}\n\n{_sentence("gamma")}\n\n{_sentence("delta")}\n\n{_sentence("one")}"""'
    (root / "b.py").write_text(f'class A:\n    def f(self):\n        {method}\n\n"""loose"""\n')
    (root / "a.py").write_text('def f():\n    """This is short, as it should not be."""\n')
    (root / "broken.py").write_text('def f(:\n    """This is not Python."""\n')
    (root / "tests" / "c.py").write_text(f'"""{_sentence("tests")} {_sentence("more")}\n"""' * 2)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "installed_packages", lambda: {"made_package": "1"})
    assert list(documentation()) == [
        "\n\n".join(map(_sentence, ("shared", "alpha", "beta"))),
        "\n\n".join(map(_sentence, ("gamma", "delta", "one"))),  # "shared" came before
    ]
    assert "made_package" not in sys.modules
