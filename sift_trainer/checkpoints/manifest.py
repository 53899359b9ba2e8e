"""Whole and half-written checkpoints: a manifest lists all files, or their content is judged."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints, sort_checkpoints
from transformers.utils import logging

logger = logging.get_logger(__name__)

MANIFEST = "checkpoint_manifest.json"
# `enable_jit_checkpoint` of Transformers writes this file before its save and removes it after.
IN_PROGRESS = "checkpoint-is-incomplete.txt"
_WEIGHTS = re.compile(r"(?!optimizer|training_args).*\.(safetensors|bin|distcp)|.*model_states\.pt")
_OF_A_PROCESS = re.compile(r"(.*rng_state_|.*zero_pp_rank_|sift_criterion_)(\d+)(.*)")

PathLike = str | os.PathLike[str]


def begin_manifest(checkpoint: PathLike) -> None:
    """Mark ``checkpoint`` as half-written until `write_manifest`. The folder may not exist yet."""
    folder = Path(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_bytes(b"")
    _flush_directories(folder, folder.parent)


def write_manifest(checkpoint: PathLike) -> None:
    """Flush every file of ``checkpoint`` to the disk, then mark the checkpoint as whole."""
    folder = Path(checkpoint)
    sizes = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            # fstat of the open file: a network file system may report an old size by its path.
            sizes[path.relative_to(folder).as_posix()] = os.fstat(file.fileno()).st_size
    _flush_directories(folder.parent, folder, *(path.parent for path in _files(folder)))
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": sizes}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def last_whole_checkpoint(folder: PathLike) -> str | None:
    """The whole ``checkpoint-N`` of ``folder`` with the largest N; None if there is none.

    A checkpoint without a manifest counts as whole if its files can be opened and have the length
    that they state. A warning is logged for it, and for each half-written one that is skipped.
    """
    for checkpoint in reversed(_checkpoints(folder)):
        if (fault := _fault(checkpoint)) is not None:
            logger.warning(f"{checkpoint} is half-written and not resumed from: {fault}")
            continue
        if not (checkpoint / MANIFEST).is_file():
            logger.warning(f"{checkpoint} has no {MANIFEST}; its files look whole")
        return str(checkpoint)
    return None


def check_whole(checkpoint: PathLike) -> None:
    """Raise a ValueError for a half-written checkpoint; it names the newest whole one beside it."""
    folder = Path(checkpoint)
    if (fault := _fault(folder)) is not None:
        whole = last_whole_checkpoint(folder.parent)
        remedy = f"resume from {whole}" if whole else "no other checkpoint there is whole"
        raise ValueError(f"{folder} is half-written: {fault}; {remedy}")


def rotate(folder: PathLike, limit: int | None, best: str | None) -> None:
    """Delete half-written checkpoints of ``folder``, which would push out whole ones, then the
    oldest except ``best`` until ``limit`` are left, if there is a limit."""
    if not limit or limit < 0:
        return
    for checkpoint in _checkpoints(folder):
        kept = best is not None and checkpoint == Path(best)
        if not kept and _fault(checkpoint) is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)
    rotate_checkpoints(str(folder), limit, best, use_mtime=True)


def _checkpoints(folder: PathLike) -> list[Path]:
    """The folders ``checkpoint-N``, the oldest step first; no ``checkpoint-3-copy`` of a user."""
    found = map(Path, sort_checkpoints(str(folder)))
    return [path for path in found if path.name.rpartition("-")[2].isdecimal()]


def _fault(checkpoint: Path) -> str | None:
    """Why the checkpoint is half-written; None if it is whole."""
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        return _fault_of_content(checkpoint)
    try:
        sizes = json.loads(manifest.read_bytes())["files"]
    except ValueError:
        return f"{MANIFEST} is not finished"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if (found := path.stat().st_size) != size:
            return f"{name} has {found} bytes of {size}"
    return None


def _fault_of_content(checkpoint: Path) -> str | None:
    if (checkpoint / IN_PROGRESS).exists():
        return f"{IN_PROGRESS} is still there"
    files = list(_files(checkpoint))
    if not any(_WEIGHTS.fullmatch(path.name) for path in files):
        return "it has no weights"
    for path in files:
        try:
            _open(path)
        except (ValueError, SafetensorError) as error:
            return f"{path.relative_to(checkpoint)} cannot be read: {error}"
    if not (checkpoint / TRAINER_STATE_NAME).is_file():
        return f"{TRAINER_STATE_NAME} is missing"
    return _missing_process(files)


def _open(path: Path) -> None:
    """Raise an error for a file that ends early, as far as its format shows it."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):  # compares the header with the length of the file
            pass
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix in (".pt", ".pth", ".bin"):
        with path.open("rb") as file:
            start = file.read(2)
        # Files of old versions of torch.save are no archives.
        if not start or (start == b"PK" and not zipfile.is_zipfile(path)):
            raise ValueError("the file ends early")


def _missing_process(files: list[Path]) -> str | None:
    """The file of a process that is missing between the files of other processes."""
    names = {path.name for path in files}
    for name in names:
        if match := _OF_A_PROCESS.fullmatch(name):
            prefix, rank, suffix = match.groups()
            before = f"{prefix}{int(rank) - 1}{suffix}"
            if int(rank) > 0 and before not in names:
                return f"{before} is missing"
    return None


def _files(checkpoint: Path) -> Iterator[Path]:
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name not in (MANIFEST, IN_PROGRESS):
            yield path


def _flush_directories(*directories: Path) -> None:
    """Flush the names in them to the disk, if the system can do that."""
    for directory in set(directories):
        with suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
