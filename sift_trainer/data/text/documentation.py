"""The embedded documentation corpus.

The embedded corpus is English that every installation already has: the docstrings of the Python
standard library and of the scientific packages beside it. It needs no download, so the quickstart,
the tests and the benchmarks can pretrain on real text without a network.
"""

import ast
import gc
import multiprocessing
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from sift_trainer.data.text.prose import prose

# Import names, in the order in which their documents are listed, after the standard library.
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


def installed_packages() -> dict[str, str]:
    """Import name -> version of what the embedded corpus is made of; nothing is imported.

    The standard library is listed as ``python``.
    """
    packages = {"python": platform.python_version()}
    for name in _PACKAGES.split():
        try:
            packages[name] = version(_DISTRIBUTIONS.get(name, name))
        except PackageNotFoundError:
            continue
    return packages


def documentation(progress: bool = True, processes: int | None = None) -> list[str]:
    """The embedded corpus: one document per docstring of `installed_packages`, in a fixed order.

    Sources are parsed, never imported. Documents shorter than 200 characters are dropped, and so is
    every paragraph that an earlier document already has: libraries repeat descriptions of arguments
    word for word, which would put the training text into the validation set.

    Args:
        progress: show a tqdm bar.
        processes: how many processes parse; ``None`` is one per core.

    Raises:
        ValueError: `processes` is below 1.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes={processes}: must be at least 1, or None for one per core")
    files = [path for package in installed_packages() for path in _source_files(package)]
    return list(_without_repeats(_documents_of(files, progress, processes or os.cpu_count() or 1)))


def _documents_of(files: list[Path], progress: bool, processes: int) -> Iterator[str]:
    bar = tqdm(total=len(files), desc="reading docstrings", unit="file", disable=not progress)
    with bar:
        if processes == 1:
            for path in files:
                yield from _read(path)
                bar.update()
            return
        # Forked children parse text only; spawned ones would import torch first.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        # A syntax tree has no cycles, and looking for them takes two thirds of the time.
        with multiprocessing.get_context(method).Pool(processes, initializer=gc.disable) as pool:
            for found in pool.imap(_read, files, chunksize=32):
                yield from found
                bar.update()


def _source_files(package: str) -> list[Path]:
    if package == "python":
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return []
        root = Path(spec.origin).parent
    skipped = frozenset(_SKIPPED_FOLDERS.split())
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    kept = [
        file
        for file in files
        if skipped.isdisjoint(file.parts) and not file.name.endswith("_pb2.py")
    ]
    return [root / file for file in sorted(kept, key=Path.as_posix)]


def _read(path: Path) -> list[str]:
    """The prose of every module, class and function docstring of one file; none if unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's sources
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return []
    docstrings = (ast.get_docstring(node) for node in _holders(tree))
    return [prose(docstring) for docstring in docstrings if docstring]


def _holders(
    node: ast.AST,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """What may have a docstring, in source order, without walking through expressions."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _holders(child)


def _without_repeats(documents: Iterable[str]) -> Iterator[str]:
    """Documents without the paragraphs (compared by their letters) of documents before them."""
    seen: set[bytes] = set()
    for document in documents:
        fresh = []
        for paragraph in document.split("\n\n"):
            letters = re.sub(r"[\W\d_]+", "", paragraph.lower())
            key = blake2b(letters.encode("utf-8", "surrogatepass"), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                fresh.append(paragraph)
        text = "\n\n".join(fresh)
        if len(text) >= _MIN_CHARACTERS:
            yield text
