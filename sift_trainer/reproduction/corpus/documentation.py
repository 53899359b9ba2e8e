"""The embedded documentation corpus.

The embedded corpus is English that every installation already has: the docstrings of the Python
standard library and of scientific packages. It needs no download, so the quickstart, the tests and
the benchmarks can pretrain on real text without a network.
"""

import ast
import gc
import multiprocessing
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from sift_trainer.reproduction.corpus.prose import prose

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


def installed_packages() -> dict[str, str]:
    """Import name -> version of the packages in the embedded corpus; nothing is imported.

    The standard library is listed as ``python``.
    """
    packages = {"python": platform.python_version()}
    for name in _PACKAGES.split():
        try:
            packages[name] = version(_DISTRIBUTIONS.get(name, name))
        except PackageNotFoundError:
            continue
    return packages


def documentation() -> Iterator[str]:
    """The embedded corpus: one document per docstring of `installed_packages`, in a fixed order.

    Files are parsed on all cores and never imported. Documents shorter than 200 characters are
    dropped, and so is every paragraph that an earlier document has: libraries repeat descriptions
    of arguments word for word, which would put training text into the validation set.
    """
    files = [path for package in installed_packages() for path in _source_files(package)]
    # A syntax tree has no cycles, and looking for them takes two thirds of the time.
    with multiprocessing.Pool(initializer=gc.disable) as pool:
        found = pool.imap(_read, files, chunksize=32)
        yield from _without_repeats(document for documents in found for document in documents)


def _source_files(package: str) -> list[Path]:
    if package == "python":
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return []
        root = Path(spec.origin).parent
    skipped = frozenset(_SKIPPED_FOLDERS.split())
    return [
        path
        for path in sorted(root.rglob("*.py"), key=Path.as_posix)
        if skipped.isdisjoint(path.relative_to(root).parts) and not path.name.endswith("_pb2.py")
    ]


def _read(path: Path) -> list[str]:
    """The prose of every module, class and function docstring of a file; none if unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return []
    docstrings = (ast.get_docstring(node) for node in _documented(tree))
    return [prose(docstring) for docstring in docstrings if docstring]


def _documented(
    node: ast.AST,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The nodes that may have a docstring, in source order; expressions are not searched."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _documented(child)


def _without_repeats(documents: Iterable[str]) -> Iterator[str]:
    """Documents without the paragraphs (compared by their letters) of earlier documents."""
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
