"""Documents: the embedded documentation corpus, its split, and a WordPiece vocabulary for it.

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
import string
import sysconfig
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from sift_trainer.data.prose import prose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

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


def split_by_document(
    documents: Iterable[str], validation_fraction: float = 0.02
) -> tuple[list[str], list[str]]:
    """Splits whole documents into (training, validation) by a hash of their text.

    Where a document goes depends on its text alone: not on order, nor on the other documents.

    Raises:
        ValueError: `validation_fraction` is outside (0, 1).
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"validation_fraction={validation_fraction}: must be between 0 and 1, such as 0.02"
        )
    parts: tuple[list[str], list[str]] = ([], [])
    for document in documents:
        digest = blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        parts[int.from_bytes(digest, "big") < validation_fraction * 2**64].append(document)
    return parts


def train_wordpiece(documents: Sequence[str], vocab_size: int = 8192) -> "PreTrainedTokenizerFast":
    """A lower-casing BERT tokenizer (Devlin et al., 2019) of exactly `vocab_size` word pieces.

    The same documents give the same vocabulary and the same ids, whatever the number of threads.

    Raises:
        ValueError: there is no document, or the documents cannot fill `vocab_size`.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizerFast

    if not documents:
        raise ValueError("documents=[]: a vocabulary needs text to be trained on")
    normalizer = normalizers.BertNormalizer(lowercase=True)
    alphabet = _alphabet(normalizer.normalize_str(document) for document in documents)
    # The trainer numbers the "##x" pieces in the order of a hash table, which differs from run to
    # run and decides ties between merges. Listed as special tokens they get fixed numbers.
    continuing = [f"##{character}" for character in alphabet if not _stands_alone(character)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learner.train_from_iterator(documents, trainer)
    tokenizer = BertTokenizerFast(vocab=learner.get_vocab())
    if len(tokenizer) != vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}: these documents give {len(tokenizer)} word pieces; "
            f"use {len(tokenizer)} or more text"
        )
    return tokenizer


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


def _alphabet(texts: Iterable[str], limit: int = 1000) -> list[str]:
    """The most frequent characters, sorted; BERT's own vocabularies allow 1000."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    ranked = sorted((-n, character) for character, n in counts.items() if not character.isspace())
    return sorted(character for _, character in ranked[:limit])


def _stands_alone(character: str) -> bool:
    """Punctuation, which BERT never joins to a word."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")
