"""The embedded corpus: the docstrings of installed packages, English that needs no download."""

import ast
import gc
import multiprocessing
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

# Import names, in the order of their documents, after the standard library.
_PACKAGES = """
    accelerate anyio click datasets evaluate fsspec fontTools huggingface_hub jinja2 joblib
    matplotlib mpmath mypy narwhals networkx numpy PIL packaging pandas pydantic rich scipy
    setuptools sklearn sympy tensorboard tokenizers torch transformers werkzeug
"""
_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}  # where the names differ
_SKIPPED_FOLDERS = """
    test tests testdata _vendor vendored idlelib lib2to3 site-packages dist-packages
"""
_MIN_CHARACTERS = 200

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
# Lines of doctests, directives and tables, underlines, "x : array_like" and "Args:".
_NO_PROSE = re.compile(
    r"^\s*(?:>>>|\.\.\.|\.\. |[@#|$]).*$|^[\W_]+$|^\s*[\w*., ]+ : .*$|^\s*\w+:$", re.MULTILINE
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_COMMON = frozenset({"a", "an", "and", "are", "as", "be", "by", "for", "if", "in", "is", "it"})
_COMMON |= {"not", "of", "on", "or", "that", "the", "this", "to", "with"}


def installed_packages() -> dict[str, str]:
    """Import name -> version; the standard library is listed as ``python``."""
    packages = {"python": platform.python_version()}
    for name in _PACKAGES.split():
        with suppress(PackageNotFoundError):
            packages[name] = version(_DISTRIBUTIONS.get(name, name))
    return packages


def documentation() -> Iterator[str]:
    """One document per docstring of `installed_packages`, in a fixed order; nothing is imported.

    A paragraph that an earlier document has is dropped: libraries repeat descriptions of arguments
    word for word, which would put training text into the validation set.
    """
    files = [path for package in installed_packages() for path in _source_files(package)]
    # A syntax tree has no cycles, and looking for them takes two thirds of the time.
    with multiprocessing.Pool(initializer=gc.disable) as pool:
        yield from _without_repeats(chain.from_iterable(pool.imap(_read, files, chunksize=32)))


def _source_files(package: str) -> list[Path]:
    if package == "python":
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return []
        root = Path(spec.origin).parent
    skipped = frozenset(_SKIPPED_FOLDERS.split())
    paths = sorted(root.rglob("*.py"), key=Path.as_posix)
    return [path for path in paths if skipped.isdisjoint(path.relative_to(root).parts)]


def _read(path: Path) -> list[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return []
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return [_prose(docstring) for docstring in found if docstring]


def _prose(docstring: str) -> str:
    text = _NO_PROSE.sub("", _FENCE.sub("", docstring)).replace("`", "")
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    return "\n\n".join(paragraph for paragraph in paragraphs if _is_english(paragraph))


def _is_english(paragraph: str) -> bool:
    words = _WORD.findall(paragraph)
    if len(words) < 5 or sum(map(len, words)) < 0.65 * len(paragraph):
        return False
    return sum(word.lower() in _COMMON for word in words) >= max(1, len(words) // 12)


def _without_repeats(documents: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for document in documents:
        fresh = []
        for paragraph in document.split("\n\n"):
            letters = re.sub(r"[\W\d_]+", "", paragraph.lower())
            if letters not in seen:
                seen.add(letters)
                fresh.append(paragraph)
        text = "\n\n".join(fresh)
        if len(text) >= _MIN_CHARACTERS:
            yield text
