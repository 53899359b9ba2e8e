"""The embedded corpus: the prose of installed docstrings, which are read without running them."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sift_trainer.reproduction.corpus import documentation as module
from sift_trainer.reproduction.corpus.documentation import documentation
from sift_trainer.reproduction.corpus.prose import prose

NUMPYDOC = """Return the sum of the two numbers, as in `math` [1]_.

Parameters
----------
x : array_like, shape (n,)
    The first of the numbers that are added.
y : float
    The second of them, which may be negative.

Examples
--------
>>> add(1, 2)
3

A sentence after the example is kept in the text.

====  =====
name  value
====  =====

.. code-block:: python

    this is the code of a block that nobody should read as prose

See :class:`~torch.nn.Linear` for a layer that is a sum as well.
"""

GOOGLE = """Move the model to the device.

Args:
    model (`torch.nn.Module`, *optional*): The model that is moved to the device.
    names (`list[str]`):
        The names of the layers that are left where they are.
    **kwargs (`dict`, *optional*):
        What is handed on to the model as it is.

> [!TIP]
> This is a hint that is set in a box of its own.

```python
the code of a fence that is to be dropped with the fence
```

- The first item of the list is a sentence.
- The second item of the list is a sentence.
"""


def test_numpydoc_keeps_the_sentences_alone() -> None:
    assert prose(NUMPYDOC).split("\n\n") == [
        "Return the sum of the two numbers, as in math.",
        "The first of the numbers that are added.",
        "The second of them, which may be negative.",
        "A sentence after the example is kept in the text.",
        "See torch.nn.Linear for a layer that is a sum as well.",
    ]
    assert prose("x, y, z, alpha, beta, gamma") == ""


def test_google_style_keeps_the_descriptions_alone() -> None:
    assert prose(GOOGLE).split("\n\n") == [
        "Move the model to the device.",
        "The model that is moved to the device.",
        "The names of the layers that are left where they are.",
        "What is handed on to the model as it is.",
        "This is a hint that is set in a box of its own.",
        "The first item of the list is a sentence.",
        "The second item of the list is a sentence.",
    ]


def _sentence(word: str) -> str:
    return f"This is the long description of the {word} that is read by the tests of the corpus."


def test_documents_come_from_docstrings_without_running_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An importable package stands in for all installed ones, and must never run."""
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
    assert list(documentation()) == [
        "\n\n".join(map(_sentence, ("shared", "alpha", "beta"))),
        "\n\n".join(map(_sentence, ("gamma", "delta", "one"))),  # "shared" came before
    ]
    assert "made_package" not in sys.modules
    monkeypatch.undo()
    assert module.installed_packages()["torch"] == version("torch")
