"""Where labelled images come from: tables on the hub or the disk, class folders, two archives.

Nothing that comes from elsewhere runs code: hub data sets with a loading script are refused, and
CIFAR-100's pickles are read by `cifar_pickles`. Images stay encoded here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sift_trainer.data.images.arguments import ImageArguments
from sift_trainer.data.images.cifar_pickles import FILES, read_names, read_split
from sift_trainer.data.images.decoding import SUFFIXES, StoredImage

_TEST_FOLDERS = ("test", "validation", "val")
_LAYOUTS = (
    "train*.parquet and test*.parquet, train/ and test/ with a folder per class, Food-101's "
    "images/ and meta/, or CIFAR-100's train, test and meta"
)


class Images(Protocol):
    """Images by number, read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> StoredImage: ...


@dataclass(frozen=True)
class Split:
    """Images and their labels, int64 (n,)."""

    images: Images
    labels: NDArray[np.int64]

    def choose(self, rows: NDArray[np.int64]) -> "Split":
        """Only these rows, in this order."""
        return Split(_Chosen(self.images, rows), self.labels[rows])


@dataclass(frozen=True)
class Found:
    """What a source holds, before anything was decoded."""

    train: Split
    test: Split
    classes: list[str]


@dataclass(frozen=True)
class _Chosen:
    images: Images
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> StoredImage:
        return self.images[int(self.rows[index])]


@dataclass(frozen=True)
class _Files:
    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> StoredImage:
        name = self.names[index]
        return StoredImage(name, self.root / name)


@dataclass(frozen=True)
class _Pixels:
    place: str
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> StoredImage:
        return StoredImage(f"{self.place}, row {index}", self.pixels[index])


@dataclass(frozen=True)
class _Table:
    place: str
    rows: Any
    column: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> StoredImage:
        name = f"{self.place}, row {index}"
        cell = self.rows[index][self.column]
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise ValueError(f"{name} cannot be read: {self.column!r} holds no bytes of an image")
        return StoredImage(name, data)


def find_images(args: ImageArguments) -> Found:
    """The images of both splits, always in the same order.

    Raises:
        ValueError: naming the file, folder or column that is missing or holds something else.
        ConnectionError: the hub cannot be reached.
    """
    if args.files is None:
        hub, test_split = args.setting("hub"), args.setting("test_split")
        splits = [_hub(args, hub, split) for split in (args.train_split, test_split)]
        return _tables(args, splits, [f"{hub} {args.train_split}", f"{hub} {test_split}"])
    root = Path(args.files).expanduser()
    for inner in ("cifar-100-python", "food-101"):  # as the archives unpack
        root = root / inner if (root / inner).is_dir() else root
    if (root / "images").is_dir() and (root / "meta").is_dir():
        return _food_archive(root)
    if all((root / name).is_file() for name in FILES):
        return _pickles(args, root)
    if (root / "train").is_dir():
        return _class_folders(root)
    tables = _parquet_files(root)
    if tables is not None:
        return _tables(args, [_parquet(args, paths) for paths in tables], ["train", "test"])
    raise ValueError(f"files={args.files!r}: none of its known layouts; it must have {_LAYOUTS}")


def _class_folders(root: Path) -> Found:
    test = next((name for name in _TEST_FOLDERS if (root / name).is_dir()), None)
    if test is None:
        raise ValueError(f"{root / 'test'} is missing; it must have a folder per class, as train/")
    classes = _folders(root / "train")
    for name in _folders(root / test):
        if name not in classes:
            raise ValueError(
                f"{root / test / name}: a class that {root / 'train'} lacks; add its training "
                "images or remove it"
            )
    return Found(_split_folder(root, "train", classes), _split_folder(root, test, classes), classes)


def _folders(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    for name in names:
        if not (folder / name).is_dir():
            raise ValueError(f"{folder / name}: not a folder; {folder} must have one per class")
    if not names:
        raise ValueError(f"{folder}: it has no folders; write one per class")
    return names


def _split_folder(root: Path, split: str, classes: list[str]) -> Split:
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        folder = root / split / name
        if not folder.is_dir():
            raise ValueError(f"{folder}: the folder of this class is missing; each split has all")
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        for path in found:
            if path.suffix.lower() not in SUFFIXES:
                raise ValueError(f"{path}: not one of {', '.join(SUFFIXES)}; convert or remove it")
        if not found:
            raise ValueError(f"{folder}: it has no images")
        names += [f"{split}/{name}/{path.name}" for path in found]
        labels += [label] * len(found)
    return Split(_Files(root, names), np.array(labels, dtype=np.int64))


def _food_archive(root: Path) -> Found:
    lists = {split: _listed(root / "meta" / f"{split}.txt") for split in ("train", "test")}
    classes = sorted({entry.split("/")[0] for entry in lists["train"]})
    for name in classes:
        if not (root / "images" / name).is_dir():
            raise ValueError(f"{root / 'images' / name}: the folder of this class is missing")
    number = {name: label for label, name in enumerate(classes)}
    splits = []
    for split, entries in lists.items():
        for entry in entries:
            if entry.split("/")[0] not in number:
                raise ValueError(
                    f"{root / 'meta' / split}.txt: {entry!r} is of a class that train.txt lacks"
                )
        labels = np.array([number[entry.split("/")[0]] for entry in entries], dtype=np.int64)
        splits.append(Split(_Files(root, [f"images/{entry}.jpg" for entry in entries]), labels))
    return Found(splits[0], splits[1], classes)


def _listed(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; it lists images, such as apple_pie/1005649")
    entries = path.read_text(encoding="utf-8").split()
    for entry in entries:
        parts = entry.split("/")
        if len(parts) != 2 or ".." in parts or "" in parts:
            raise ValueError(f"{path}: {entry!r} is not a class and an image, as apple_pie/1005649")
    if not entries:
        raise ValueError(f"{path} is empty; it lists images, such as apple_pie/1005649")
    return entries


def _pickles(args: ImageArguments, root: Path) -> Found:
    column = args.setting("label_column")  # fine_label; the pickles say fine_labels
    splits = []
    for name in ("train", "test"):
        pixels, labels = read_split(root / name, f"{column}s")
        splits.append(Split(_Pixels(str(root / name), pixels), labels))
    return Found(splits[0], splits[1], read_names(root / "meta", f"{column}_names"))


def _parquet_files(root: Path) -> tuple[list[str], list[str]] | None:
    for folder in (root, root / "data"):
        train = sorted(str(path) for path in folder.glob("train*.parquet"))
        for name in _TEST_FOLDERS:
            test = sorted(str(path) for path in folder.glob(f"{name}*.parquet"))
            if train and test:
                return train, test
    return None


def _parquet(args: ImageArguments, paths: list[str]) -> Any:
    import glob

    from datasets import load_dataset

    try:
        # The pattern characters of a name are its own here, not a glob's.
        return load_dataset(
            "parquet",
            data_files=[glob.escape(str(Path(path).resolve())) for path in paths],
            split="train",
            cache_dir=args.image_cache_dir,
        )
    except Exception as error:  # readers raise what they like
        raise ValueError(f"{paths[0]} cannot be read: {error}") from error


def _hub(args: ImageArguments, hub: str, split: str) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(
            hub, split=split, revision=args.revision, cache_dir=args.image_cache_dir
        )
    except (ConnectionError, OSError) as error:
        raise ConnectionError(
            f"hub={hub!r} cannot be reached: {error}\nWhere there is no network, download it "
            "elsewhere and give its folder: files: folder"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"hub={hub!r}, split {split!r} cannot be loaded: {error}") from error


def _tables(args: ImageArguments, tables: list[Any], places: list[str]) -> Found:
    image_column, label_column = args.setting("image_column"), args.setting("label_column")
    for table, place in zip(tables, places, strict=True):
        for field in ("image_column", "label_column"):
            if args.setting(field) not in table.column_names:
                raise ValueError(
                    f"{field}={args.setting(field)!r} is not in {place}, which has "
                    f"{table.column_names}"
                )
    columns = [
        _labels(table, label_column, place) for table, place in zip(tables, places, strict=True)
    ]
    feature_names = getattr(tables[0].features[label_column], "names", None)
    if feature_names is None and isinstance(columns[0][0], str):
        classes = sorted(set(columns[0]))
    else:
        highest = max(value for value in columns[0] if not isinstance(value, str))
        classes = feature_names or [str(label) for label in range(highest + 1)]
    number = {name: label for label, name in enumerate(classes)}
    splits = []
    for table, place, column in zip(tables, places, columns, strict=True):
        if isinstance(column[0], str):
            for name in column:
                if name not in number:
                    raise ValueError(f"{place}: {label_column}={name!r} is not a class of train")
            column = [number[name] for name in column]
        images = _Table(place, _encoded(table, image_column), image_column)
        splits.append(Split(images, np.asarray(column, dtype=np.int64)))
    return Found(splits[0], splits[1], classes)


def _labels(table: Any, column: str, place: str) -> list[Any]:
    values: list[Any] = table.with_format("arrow")[:][column].to_pylist()
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {str}):
        raise ValueError(
            f"{place}: label_column={column!r} must hold whole numbers or names, and holds "
            f"{sorted(kind.__name__ for kind in kinds) or 'nothing'}"
        )
    return values


def _encoded(table: Any, column: str) -> Any:
    from datasets import Image

    table = table.select_columns([column])
    if isinstance(table.features[column], Image):
        table = table.cast_column(column, Image(decode=False))
    return table
