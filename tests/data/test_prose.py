"""Markup goes, sentences stay."""

import pytest

from sift_trainer.data.text.prose import prose

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


@pytest.mark.parametrize("text", ["", "x, y, z, alpha, beta, gamma", "1.0 2.0 3.0\n4.0 5.0 6.0"])
def test_what_is_no_sentence_is_dropped(text: str) -> None:
    assert prose(text) == ""
