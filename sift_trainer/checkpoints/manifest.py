"""Whole and half-written checkpoints: a manifest says that everything has been written.

A `SiftTrainer` checkpoint gets its manifest, the list of its files and their sizes, after all
processes have written theirs and the files have reached the disk. Without it the checkpoint is
half-written. A plain Trainer's checkpoint never has one and is judged by its content.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from transformers.utils import logging

logger = logging.get_logger(__name__)

MANIFEST = "checkpoint_manifest.json"
# Written by `enable_jit_checkpoint` of Transformers around its save, and removed after it.
IN_PROGRESS = "checkpoint-is-incomplete.txt"
_WEIGHTS = re.compile(r"(?!optimizer|training_args).*\.(safetensors|bin|distcp)|.*model_states\.pt")
_ZIPPED = (".pt", ".pth", ".bin")
_OF_A_PROCESS = re.compile(r"(.*rng_state_|.*zero_pp_rank_)(\d+)(.*)")


def write_manifest(checkpoint: str | os.PathLike[str]) -> None:
    """Flush every file of ``checkpoint`` to the disk, then say that it is whole.

    To be called by one process, when no process writes into the folder any more.

    Raises:
        OSError: if the disk does not take it; there is then no manifest.
    """
    folder = Path(checkpoint)
    sizes = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            # Of the open file: on a network file system others' sizes may be old until then.
            sizes[path.relative_to(folder).as_posix()] = os.fstat(file.fileno()).st_size
    started = folder / f".{MANIFEST}"
    with started.open("w", encoding="utf-8") as file:
        json.dump({"files": sizes}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(started, folder / MANIFEST)
    for directory in {folder, folder.parent, *(path.parent for path in _files(folder))}:
        _flush_directory(directory)


def remove_manifest(checkpoint: str | os.PathLike[str]) -> None:
    """Before its files are overwritten."""
    (Path(checkpoint) / MANIFEST).unlink(missing_ok=True)


def last_whole_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The ``checkpoint-N`` of ``folder`` with the largest N that is whole; None if there is none.

    Half-written ones are passed over with a warning each that says what is wrong. A plain
    Trainer's checkpoint counts if its files can be opened and are as long as they say, which is
    also said; a `SiftTrainer`'s never without its manifest.
    """
    for checkpoint in _newest_first(Path(folder)):
        reason = _fault(checkpoint)
        if reason is not None:
            logger.warning(f"{checkpoint} is half-written and not resumed from: {reason}")
            continue
        if not (checkpoint / MANIFEST).is_file():
            logger.warning(
                f"{checkpoint} has no {MANIFEST}, as a plain Trainer's has none; it is taken to be "
                "whole because its files are as long as they say"
            )
        return str(checkpoint)
    return None


def check_whole(checkpoint: str | os.PathLike[str]) -> None:
    """Refuse a half-written checkpoint that was named by the user.

    One without a manifest is judged by its content, whoever wrote it: a copy may lack it.

    Raises:
        ValueError: with what is wrong, and the newest whole checkpoint beside it.
    """
    folder = Path(checkpoint)
    reason = _fault(folder, named=True)
    if reason is not None:
        raise ValueError(f"{folder} is half-written: {reason}. {_remedy(folder.parent)}")


def checkpoint_to_resume(folder: str | os.PathLike[str]) -> str:
    """`last_whole_checkpoint`, where there has to be one.

    Raises:
        ValueError: if there is none.
    """
    found = last_whole_checkpoint(folder)
    if found is None:
        written = ", ".join(f"{path.name} ({_fault(path)})" for path in _newest_first(Path(folder)))
        raise ValueError(
            f"resume_from_checkpoint=True, but there is no whole checkpoint in {folder}"
            + (f", only half-written ones: {written}" if written else "")
            + "; leave resume_from_checkpoint out to start from the beginning"
        )
    return found


def rotate(folder: str | os.PathLike[str], limit: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints of ``folder`` until ``limit`` are left, half-written ones
    first: counted as checkpoints they could push out the whole ones. None or 0 deletes nothing."""
    if not limit or limit < 0:
        return
    for checkpoint in _newest_first(Path(folder)):
        kept = best is not None and checkpoint == Path(best)
        if not kept and _fault(checkpoint) is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)
    rotate_checkpoints(str(folder), limit, best, use_mtime=True)


# ---- faults ----


def _fault(checkpoint: Path, named: bool = False) -> str | None:
    """What is missing from a checkpoint; None if it is whole."""
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        return _fault_of_content(checkpoint, named)
    try:
        sizes = json.loads(manifest.read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} cannot be read"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if (found := path.stat().st_size) != size:
            return f"{name} has {found} bytes of {size}"
    return None


def _fault_of_content(checkpoint: Path, named: bool) -> str | None:
    if (checkpoint / IN_PROGRESS).exists():
        return f"{IN_PROGRESS} is still there"
    files = list(_files(checkpoint))
    if not any(_WEIGHTS.fullmatch(path.name) for path in files):
        return "it has no weights"
    for path in files:
        reason = _fault_of_file(path)
        if reason is not None:
            return f"{path.relative_to(checkpoint)} {reason}"
    if not (checkpoint / TRAINER_STATE_NAME).is_file():
        return f"{TRAINER_STATE_NAME} is missing"
    launch = _launch(checkpoint)
    if launch is not None and not named:
        return f"{MANIFEST} is missing"
    return _missing_process(files, None if launch is None else launch.get("world_size"))


def _fault_of_file(path: Path) -> str | None:
    if path.suffix == ".safetensors":
        return _fault_of_safetensors(path)
    if path.suffix in _ZIPPED:
        with path.open("rb") as file:
            start = file.read(4)
        # Older formats of torch.save are no archives, and have no end to look for.
        if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(path)):
            return "ends early"
    if path.suffix == ".json":
        try:
            content = json.loads(path.read_bytes())
        except ValueError:
            return "is not valid JSON"
        if path.name.endswith(".index.json"):
            missing = {*content.get("weight_map", {}).values()} - {*os.listdir(path.parent)}
            return f"names {min(missing)}, which is missing" if missing else None
    return None


def _fault_of_safetensors(path: Path) -> str | None:
    """The format is: length of the header (8 bytes), header (JSON), tensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or size < 8 + length:
            return "ends early"
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        except (ValueError, KeyError, TypeError):
            return "has no valid header"
    needed = 8 + length + max(ends, default=0)
    return None if size == needed else f"has {size} bytes of {needed}"


def _missing_process(files: list[Path], world_size: int | None) -> str | None:
    """Which process has not written its part, as far as file names tell."""
    found: dict[tuple[str, str], set[int]] = {}
    for path in files:
        if match := _OF_A_PROCESS.fullmatch(path.name):
            prefix, rank, suffix = match.groups()
            found.setdefault((prefix, suffix), set()).add(int(rank))
    for (prefix, suffix), ranks in found.items():
        missing = set(range(world_size or max(ranks) + 1)) - ranks
        if missing:
            return f"{prefix}{min(missing)}{suffix} is missing"
    return None


def _launch(checkpoint: Path) -> dict[str, Any] | None:
    """What `SiftCallback` noted about the launch; None in a plain Trainer's checkpoint."""
    state = json.loads((checkpoint / TRAINER_STATE_NAME).read_bytes())
    for entries in state.get("stateful_callbacks", {}).values():
        for entry in entries if isinstance(entries, list) else [entries]:
            saved = entry.get("attributes", {}).get("saved")
            if isinstance(saved, dict) and "launch" in saved:
                launch: dict[str, Any] = saved["launch"]
                return launch
    return None


# ---- folders ----


def _files(checkpoint: Path) -> Iterator[Path]:
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name not in (MANIFEST, f".{MANIFEST}", IN_PROGRESS):
            yield path


def _newest_first(folder: Path) -> list[Path]:
    steps = {}
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = path.name.rpartition("-")[2]
        if path.is_dir() and number.isdecimal():
            steps[int(number)] = path
    return [steps[step] for step in sorted(steps, reverse=True)]


def _remedy(folder: Path) -> str:
    whole = next((path for path in _newest_first(folder) if _fault(path) is None), None)
    if whole is None:
        return f"There is no whole checkpoint in {folder}: start from the beginning"
    return f"The newest whole checkpoint is {whole}: resume from that"


def _flush_directory(directory: Path) -> None:
    """So that the names in it outlive a power cut; not every system can."""
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
