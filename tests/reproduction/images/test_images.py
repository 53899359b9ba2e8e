"""Image data from every layout, and bad input that is named before training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image

from sift_trainer.reproduction.images.arguments import DATA_SETS
from sift_trainer.reproduction.images.batches import PixelDataset
from sift_trainer.reproduction.images.loading import ImageData, choose_per_class
from tests.reproduction.images.image_folders import generic, load
from tests.reproduction.images.pictures import encoded, food_archive, picture

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[3]


def write_parquet(root: Path, split: str, images: list[Any], labels: list[Any]) -> None:
    root.mkdir(exist_ok=True)
    table = Dataset.from_dict({"img": images, "fine_label": labels})
    table.to_parquet(str(root / f"{split}-00000.parquet"))


def cifar_parquet(root: Path, labels: list[int] | None = None, **options: Any) -> None:
    """One image of each of 100 classes, the test rows sorted by class, as on the hub."""
    names = [f"class_{label}" for label in range(100)]
    features = Features({"img": Image(), "fine_label": ClassLabel(names=names)})
    images = [{"bytes": encoded(picture(seed, **options)), "path": None} for seed in range(100)]
    for split, order in (("train", labels or list(range(99, -1, -1))), ("test", list(range(100)))):
        table = Dataset.from_dict({"img": images, "fine_label": order}, features)
        table.to_parquet(str(root / f"{split}-00000.parquet"))


def cifar(root: Path, **settings: Any) -> ImageData:
    return load(files=root, image_cache_dir=root / "cache", **settings)


def test_cifar_from_parquet(tmp_path: Path) -> None:
    cifar_parquet(tmp_path)
    data = cifar(tmp_path)
    assert isinstance(data.train, PixelDataset)
    assert data.classes[:2] == ["class_0", "class_1"]
    assert data.train.labels.tolist() == list(range(99, -1, -1))
    for row in (0, 57):
        expected = torch.from_numpy(np.array(picture(row))).permute(2, 0, 1)
        assert torch.equal(data.train[row]["pixel_values"], expected)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in DATA_SETS["cifar100"][-2:])
        torch.testing.assert_close(data.test[row]["pixel_values"], (expected / 255 - mean) / std)
        assert data.test[row]["labels"] == row


def test_food_archive(tmp_path: Path) -> None:
    food_archive(tmp_path / "food-101", train=2)
    data = load(dataset="food101", files=tmp_path)
    assert (len(data.train), len(data.test), len(data.classes)) == (202, 101, 101)
    row = data.train[3]
    assert row["pixel_values"].name == "images/food_001/1.jpg"
    assert row["labels"] == 1
    assert data.test[5]["pixel_values"].shape == (3, 224, 224)


def test_class_folders_are_sorted_and_keep_their_split(folders: Path) -> None:
    """A class called like a split stays in the split of its folder."""
    for split in ("train", "test"):
        (folders / split / "bear").rename(folders / split / "bullet train")
        (folders / split / "baby" / ".hidden").touch()
    data = generic(folders)
    assert data.classes == ["apple", "baby", "bullet train"]
    assert (len(data.train), len(data.test)) == (6, 3)
    rows = [data.train[row] for row in range(6)]
    assert [row["labels"] for row in rows] == [0, 0, 1, 1, 2, 2]
    assert rows[5]["pixel_values"].name == "train/bullet train/1.jpg"


@pytest.mark.parametrize("source", ["files", "hub"])
def test_tables_with_names_and_plain_bytes(source: str, tmp_path: Path) -> None:
    """A folder of Parquet files is read as a data set on the hub is."""
    data = [encoded(picture(seed)) for seed in range(3)]
    write_parquet(tmp_path / "t", "train", data, ["owl", "cat", "owl"])
    write_parquet(tmp_path / "t", "validation", data[:2], ["cat", "owl"])
    found = load(
        dataset="generic",
        image_column="img",
        label_column="fine_label",
        test_split="validation",
        image_cache_dir=tmp_path / "cache",
        **{source: tmp_path / "t"},
    )
    assert found.classes == ["cat", "owl"]
    assert [found.train[row]["labels"] for row in range(3)] == [1, 0, 1]
    assert found.train[1]["pixel_values"] == ("train, row 1", data[1])
    assert [found.test[row]["labels"] for row in range(2)] == [0, 1]


def test_a_subset_is_fixed_balanced_and_not_the_first(folders: Path) -> None:
    labels = torch.arange(4).repeat_interleave(torch.tensor([50, 3, 50, 50]))
    rows = choose_per_class(labels, 5, seed=(0, 0))
    assert labels[rows].bincount().tolist() == [5, 3, 5, 5]
    assert rows == sorted(set(rows))
    assert rows != choose_per_class(labels, 5, seed=(1, 0))
    assert rows[:5] != list(range(5))
    assert choose_per_class(labels[:50], 5, seed=(0, 0)) == rows[:5]  # whatever the other classes
    data = generic(folders, max_images_per_class=1)
    assert [data.train[row]["labels"] for row in range(len(data.train))] == [0, 1, 2]


# ---- bad input ----


def test_class_folders_are_checked(folders: Path) -> None:
    video = folders / "train" / "apple" / "clip.mp4"
    video.write_bytes(b"a video")
    with pytest.raises(ValueError, match=r"1 of 7 images cannot be read;.*\n .*apple/clip\.mp4"):
        generic(folders)
    video.rename(folders / "train" / "clip.mp4")
    with pytest.raises(ValueError, match=r"train/clip\.mp4 is not in the folder of a class"):
        generic(folders)
    (folders / "train" / "clip.mp4").unlink()
    (folders / "test" / "apple").rename(folders / "test" / "owl")
    with pytest.raises(ValueError, match="test has the class 'owl', which train lacks"):
        generic(folders)
    (folders / "test").rename(folders / "tset")
    with pytest.raises(ValueError, match="test has no image"):
        generic(folders)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([*range(100), 100], "there are 101 classes"),
        ([0, 0, *range(2, 100), 99], "train has no image of the class '1'"),
        ([-1, *range(100)], "train has the label -1; labels must be 0 to 99"),
        ([None, *range(100)], "must be whole numbers or names, and are NoneType, int"),
    ],
)
def test_labels_of_tables_are_checked(labels: list[Any], message: str, tmp_path: Path) -> None:
    images = [encoded(picture(0))] * 101
    write_parquet(tmp_path, "train", images, labels)
    write_parquet(tmp_path, "test", images, [*range(100), 0])
    with pytest.raises(ValueError, match=message):
        cifar(tmp_path)


def test_truncated_files_are_found_before_training(folders: Path) -> None:
    victims = [folders / "train" / "baby" / "1.jpg", folders / "train" / "bear" / "0.jpg"]
    victims[0].write_bytes(victims[0].read_bytes()[:-100])  # the header is whole
    victims[1].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"train: 2 of 6 images cannot be read") as e:
        generic(folders)
    assert "pictures/train/baby/1.jpg cannot be read: image file is truncated" in str(e.value)
    assert "pictures/train/bear/0.jpg cannot be read" in str(e.value)
