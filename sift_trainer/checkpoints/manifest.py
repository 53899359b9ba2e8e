"""Whole and half-written checkpoints: a manifest states that all files have been written.

`WholeCheckpoints` puts an empty manifest into a checkpoint before its other files. It writes the
names and sizes of all files into it after every process has written its part and the files have
reached the disk. A checkpoint without a manifest, from any other Trainer, is judged by its content.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from transformers.utils import logging

logger = logging.get_logger(__name__)

MANIFEST = "checkpoint_manifest.json"
# `enable_jit_checkpoint` of Transformers writes this file before its save and removes it after.
IN_PROGRESS = "checkpoint-is-incomplete.txt"
_WEIGHTS = re.compile(r"(?!optimizer|training_args).*\.(safetensors|bin|distcp)|.*model_states\.pt")
_OF_A_PROCESS = re.compile(r"(.*rng_state_|.*zero_pp_rank_)(\d+)(.*)")

PathLike = str | os.PathLike[str]


def begin_manifest(checkpoint: PathLike) -> None:
    """Mark ``checkpoint`` as half-written until `write_manifest`. The folder may not exist yet."""
    folder = Path(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_bytes(b"")
    for directory in (folder, folder.parent):
        _flush_directory(directory)


def write_manifest(checkpoint: PathLike) -> None:
    """Flush every file of ``checkpoint`` to the disk, then mark the checkpoint as whole.

    One process calls it, when no process writes into the folder any more.

    Raises:
        OSError: if a file cannot be written to the disk.
    """
    folder = Path(checkpoint)
    sizes = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            # fstat of the open file: a network file system may report an old size by its path.
            sizes[path.relative_to(folder).as_posix()] = os.fstat(file.fileno()).st_size
    for directory in {folder, folder.parent, *(path.parent for path in _files(folder))}:
        _flush_directory(directory)
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": sizes}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def last_whole_checkpoint(folder: PathLike) -> str | None:
    """The whole ``checkpoint-N`` of ``folder`` with the largest N; None if there is none.

    A warning is logged for each half-written checkpoint that is skipped. A checkpoint without a
    manifest counts as whole if its files can be opened and have the length that they state; a
    warning is logged for it too.
    """
    for checkpoint in _newest_first(Path(folder)):
        fault = _fault(checkpoint)
        if fault is not None:
            logger.warning(f"{checkpoint} is half-written and not resumed from: {fault}")
            continue
        if not (checkpoint / MANIFEST).is_file():
            logger.warning(f"{checkpoint} has no {MANIFEST}; its files look whole")
        return str(checkpoint)
    return None


def check_whole(checkpoint: PathLike) -> None:
    """Refuse a half-written checkpoint.

    Raises:
        ValueError: with the fault, and the newest whole checkpoint of the same folder.
    """
    folder = Path(checkpoint)
    fault = _fault(folder)
    if fault is not None:
        whole = last_whole_checkpoint(folder.parent)
        remedy = f"resume from {whole}" if whole else "no other checkpoint there is whole"
        raise ValueError(f"{folder} is half-written: {fault}; {remedy}")


def rotate(folder: PathLike, limit: int | None, best: str | None) -> None:
    """Delete half-written checkpoints of ``folder``, then the oldest until ``limit`` are left.

    Half-written ones must not count towards the limit and push out whole ones. ``best`` is kept.
    Nothing is deleted if ``limit`` is None or 0.
    """
    if not limit or limit < 0:
        return
    for checkpoint in _newest_first(Path(folder)):
        kept = best is not None and checkpoint == Path(best)
        if not kept and _fault(checkpoint) is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)
    rotate_checkpoints(str(folder), limit, best, use_mtime=True)


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
    """Raise an error if the format of the file shows that it ends early."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):  # compares the header with the length of the file
            pass
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix in (".pt", ".pth", ".bin"):
        with path.open("rb") as file:
            start = file.read(4)
        # Files of old versions of torch.save are no archives, and have no directory at their end.
        if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(path)):
            raise ValueError("the file ends early")


def _missing_process(files: list[Path]) -> str | None:
    """The file of a process that is missing between the files of other processes."""
    found: dict[tuple[str, str], set[int]] = {}
    for path in files:
        if match := _OF_A_PROCESS.fullmatch(path.name):
            prefix, rank, suffix = match.groups()
            found.setdefault((prefix, suffix), set()).add(int(rank))
    for (prefix, suffix), ranks in found.items():
        missing = set(range(max(ranks))) - ranks
        if missing:
            return f"{prefix}{min(missing)}{suffix} is missing"
    return None


def _files(checkpoint: Path) -> Iterator[Path]:
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name not in (MANIFEST, IN_PROGRESS):
            yield path


def _newest_first(folder: Path) -> list[Path]:
    steps = {}
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = path.name.rpartition("-")[2]
        if path.is_dir() and number.isdecimal():
            steps[int(number)] = path
    return [steps[step] for step in sorted(steps, reverse=True)]


def _flush_directory(directory: Path) -> None:
    """Flush the names in ``directory`` to the disk, if the system can do that."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
