"""Where labelled images come from: tables on the hub or on disk, or folders of image files."""

import glob
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datasets import Dataset, Features, Image, Value, load_dataset

from sift_trainer.reproduction.images.arguments import ImageArguments


class Found(NamedTuple):
    """The images of train and test, still encoded, and the names of the classes.

    The rows have the columns ``image`` (``bytes`` or ``path``), ``label`` (a whole number) and
    ``name`` (unique, and the same wherever the folder of the data set lies).
    """

    splits: list[Dataset]
    classes: list[str]


def find_images(args: ImageArguments) -> Found:
    """The images that `args` describes, always in the same order; no source runs code.

    Raises:
        ValueError: names the file, folder or column that has the wrong content.
        OSError: a file or folder is missing; or the hub cannot be reached (ConnectionError).
    """
    if args.files is None:
        return _tables(args, args.setting("hub"), None)
    root = Path(args.files).expanduser()
    root = root / "food-101" if (root / "food-101").is_dir() else root
    if (root / "images").is_dir() and (root / "meta").is_dir():
        return _image_files(root, [_food_list(root, split) for split in ("train", "test")])
    if (root / "train").is_dir():
        test = next((name for name in ("validation", "val") if (root / name).is_dir()), "test")
        return _image_files(root, [_class_folders(root, split) for split in ("train", test)])
    # Named one by one: load_dataset(root) would look for the names of splits in all of their paths.
    folder = root if any(root.glob("train*.parquet")) else root / "data"
    splits = ("train", args.setting("test_split"))
    files = {split: glob.escape(str(folder.resolve())) + f"/{split}*.parquet" for split in splits}
    return _tables(args, "parquet", files)


def _class_folders(root: Path, split: str) -> list[str]:
    paths = sorted(path for path in (root / split).rglob("*") if path.is_file())
    names = [path.relative_to(root).as_posix() for path in paths if path.name[0] != "."]
    for name in names:
        if name.count("/") != 2:
            raise ValueError(
                f"{root / name} is not in the folder of a class, such as {root / split}/apple/1.jpg"
            )
    return names


def _food_list(root: Path, split: str) -> list[str]:
    entries = (root / "meta" / f"{split}.txt").read_text(encoding="utf-8").split()
    return [f"images/{entry}.jpg" for entry in entries]


def _image_files(root: Path, splits: list[list[str]]) -> Found:
    """Files whose folder is named after their class."""
    labels, classes = _class_ids(
        [[PurePosixPath(name).parent.name for name in names] for names in splits]
    )
    images = [[str(root / name) for name in names] for names in splits]
    return Found(list(map(_rows, images, labels, splits)), classes)


def _rows(images: list[Any], labels: list[int], names: list[str]) -> Dataset:
    columns = {"image": images, "label": labels, "name": names}
    kinds = {"image": Image(decode=False), "label": Value("int64"), "name": Value("string")}
    return Dataset.from_dict(columns, Features(kinds))


def _tables(args: ImageArguments, source: str, files: dict[str, str] | None) -> Found:
    """Two columns of a data set on the hub, or of Parquet files."""
    tables = load_dataset(
        source,
        data_files=files,
        split=["train", args.setting("test_split")],
        revision=args.revision,
        cache_dir=args.image_cache_dir,
    )
    image_column, label_column = args.setting("image_column"), args.setting("label_column")
    tables = [table.select_columns([image_column, label_column]) for table in tables]
    labels, classes = _class_ids([table[label_column][:] for table in tables])
    classes = getattr(tables[0].features[label_column], "names", None) or classes
    splits = []
    for split, table, numbers in zip(("train", "test"), tables, labels, strict=True):
        images = table.select_columns([image_column]).rename_columns({image_column: "image"})
        rows = images.cast_column("image", Image(decode=False)).add_column("label", numbers)
        names = [f"{split}, row {row}" for row in range(len(rows))]
        splits.append(rows.add_column("name", names))
    return Found(splits, classes)


def _class_ids(splits: list[list[Any]]) -> tuple[list[list[int]], list[str]]:
    """The labels of both splits as numbers, and the name of each class."""
    train, test = splits
    kinds = {type(label) for label in (*train, *test)}
    if kinds == {int}:
        return splits, [str(number) for number in range(max(train, default=-1) + 1)]
    if kinds != {str}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "missing"
        raise ValueError(f"the labels must be whole numbers or names, and are {found}")
    classes = sorted(set(train))
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise ValueError(f"test has the class {unknown[0]!r}, which train lacks; add or remove it")
    number = {name: label for label, name in enumerate(classes)}
    return [[number[name] for name in names] for names in splits], classes
