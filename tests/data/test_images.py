"""Image data from every layout, and bad input by its name."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image

from sift_trainer.config import parse_config
from sift_trainer.data.images.arguments import DATA_SETS, ImageArguments
from sift_trainer.data.images.batches import PixelDataset
from sift_trainer.data.images.loading import ImageData, choose_per_class
from tests.data.image_folders import generic, load
from tests.data.pictures import encoded, food_archive, picture, python_2_pickle

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]


def write_parquet(
    root: Path, split: str, images: list[Any], labels: list[Any], features: Features | None = None
) -> Path:
    root.mkdir(exist_ok=True)
    columns = {"img": images, "fine_label": labels}
    Dataset.from_dict(columns, features).to_parquet(str(root / f"{split}-00000.parquet"))
    return root


def cifar_parquet(root: Path, labels: list[int] | None = None, **options: Any) -> Path:
    """One image of each of 100 classes, the test rows sorted by class, as on the hub."""
    names = [f"class_{label}" for label in range(100)]
    features = Features({"img": Image(), "fine_label": ClassLabel(names=names)})
    images = [{"bytes": encoded(picture(seed, **options)), "path": None} for seed in range(100)]
    write_parquet(root, "train", images, labels or list(range(99, -1, -1)), features)
    return write_parquet(root, "test", images, list(range(100)), features)


def cifar(root: Path, **settings: Any) -> ImageData:
    return load(files=root, image_cache_dir=root / "cache", **settings)


# Layouts


def test_cifar_from_parquet(tmp_path: Path) -> None:
    data = cifar(cifar_parquet(tmp_path / "cifar"))
    assert isinstance(data.train, PixelDataset)
    assert data.classes[:2] == ["class_0", "class_1"]
    assert data.train.labels.tolist() == list(range(99, -1, -1))
    for row in (0, 57):
        expected = torch.from_numpy(np.array(picture(row))).permute(2, 0, 1)
        assert torch.equal(data.train[row]["pixel_values"], expected)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in DATA_SETS["cifar100"][-2:])
        torch.testing.assert_close(data.test[row]["pixel_values"], (expected / 255 - mean) / std)
        assert data.test[row]["labels"] == row


def test_cifar_from_pickles_and_folders_is_the_same(tmp_path: Path) -> None:
    images = np.stack([np.array(picture(seed)) for seed in range(100)])
    flat = images.transpose(0, 3, 1, 2).reshape(100, 3072)
    root = tmp_path / "cifar-100-python"
    root.mkdir()
    names = [f"class_{label:02d}" for label in range(100)]
    for split in ("train", "test"):
        (root / split).write_bytes(python_2_pickle(flat, list(range(100))))
        for label, name in enumerate(names):
            folder = tmp_path / "folders" / split / name
            folder.mkdir(parents=True)
            picture(label).save(folder / "0.png")
    (root / "meta").write_bytes(pickle.dumps({"fine_label_names": names}, 2))
    pickles, from_folders = load(files=tmp_path), load(files=tmp_path / "folders")
    assert pickles.classes == from_folders.classes == names
    assert isinstance(pickles.train, PixelDataset)
    assert isinstance(from_folders.train, PixelDataset)
    assert torch.equal(pickles.train.pixels, from_folders.train.pixels)
    assert torch.equal(pickles.train.labels, from_folders.train.labels)


def test_food_archive(tmp_path: Path) -> None:
    food_archive(tmp_path / "food-101", train=2)
    data = load(dataset="food101", files=tmp_path)
    assert (len(data.train), len(data.test), len(data.classes)) == (202, 101, 101)
    row = data.train[3]
    assert row["pixel_values"].name == "images/food_001/1.jpg"
    assert row["labels"] == 1
    assert data.test[5]["pixel_values"].shape == (3, 224, 224)


def test_tables_with_names_and_plain_bytes(tmp_path: Path) -> None:
    data = [encoded(picture(seed)) for seed in range(3)]
    write_parquet(tmp_path / "t", "train", data, ["owl", "cat", "owl"])
    write_parquet(tmp_path / "t", "test", data[:2], ["cat", "owl"])
    columns = {"image_column": "img", "label_column": "fine_label"}
    found = generic(tmp_path / "t", image_cache_dir=tmp_path / "cache", **columns)
    assert found.classes == ["cat", "owl"]
    assert [found.train[row]["labels"] for row in range(3)] == [1, 0, 1]
    write_parquet(tmp_path / "t", "test", data[:2], ["cat", "fox"])
    with pytest.raises(ValueError, match="test: fine_label='fox' is not a class of train"):
        generic(tmp_path / "t", image_cache_dir=tmp_path / "cache", **columns)


def test_splits_and_columns_are_those_of_the_hub(tmp_path: Path) -> None:
    """A data set's folder is loaded as its id is; Food-101's test set is called validation."""
    features = Features({"image": Image(), "label": ClassLabel(names=[str(i) for i in range(101)])})
    columns = {"image": [{"bytes": encoded(picture(0)), "path": None}] * 101}
    dataset = Dataset.from_dict({**columns, "label": list(range(101))}, features)
    for split in ("train", "validation"):
        dataset.to_parquet(str(tmp_path / "food" / "data" / f"{split}-00000-of-00001.parquet"))
    data = load(dataset="food101", hub=tmp_path / "food", image_cache_dir=tmp_path / "cache")
    assert (len(data.train), len(data.test)) == (101, 101)
    assert data.train[100]["pixel_values"].name == f"{tmp_path / 'food'} train, row 100"
    with pytest.raises(ValueError, match=r"split 'dev' cannot be loaded: Unknown split"):
        load(dataset="food101", hub=tmp_path / "food", test_split="dev")


def test_a_loading_script_is_not_run(tmp_path: Path) -> None:
    folder, made = tmp_path / "scripted", tmp_path / "made"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"import os\nos.mkdir({str(made)!r})\n")
    with pytest.raises(ValueError, match="scripted"):
        load(hub=folder, image_cache_dir=tmp_path / "cache")
    assert not made.exists()


def test_the_hub_cannot_be_reached() -> None:
    with pytest.raises(ConnectionError, match=r"hub='uoft-cs/cifar100' cannot.*\n.*files: folder"):
        load()


# Subsets


def test_a_subset_is_fixed_balanced_and_not_the_first(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(4), [50, 3, 50, 50]).astype(np.int64)
    rows = choose_per_class(labels, 5, seed=(0, 0))
    assert np.bincount(labels[rows]).tolist() == [5, 3, 5, 5]
    assert np.array_equal(rows, np.unique(rows))
    assert np.array_equal(rows, choose_per_class(labels, 5, seed=(0, 0)))
    assert not np.array_equal(rows, choose_per_class(labels, 5, seed=(1, 0)))
    assert rows[:5].tolist() != list(range(5))
    # Rows of a class do not depend on the others.
    alone = choose_per_class(labels[:50], 5, seed=(0, 0))
    assert np.array_equal(alone, rows[:5])


def test_max_images_per_class(folders: Path) -> None:
    data = generic(folders, max_images_per_class=1)
    assert (len(data.train), len(data.test)) == (3, 3)
    assert [data.train[row]["labels"] for row in range(3)] == [0, 1, 2]


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "cifar10"}, "dataset='cifar10': must be one of cifar100, food101, generic"),
        ({"dataset": "generic"}, "needs files or hub"),
        ({"files": "/nowhere"}, "files='/nowhere' does not exist"),
        ({"files": "/", "hub": "a/b"}, "give one of them"),
        ({"image_size": 64}, "image_size=64: the images of cifar100 have 32"),
        ({"dataset": "food101", "image_size": 4}, "image_size=4: must be 8 or more"),
        ({"max_images_per_class": 0}, "max_images_per_class=0: must be 1 or more, such as 20"),
        ({"subset_seed": -1}, "subset_seed=-1: must not be negative"),
        ({"augmentation_seed": 2**63}, "augmentation_seed="),
        ({"skip_unreadable": "yes"}, "skip_unreadable='yes': must be true or false"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageArguments(**settings)


def test_settings_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("dataset: food101\nmax_images_per_class: 20\n")
    flags = ["--config", str(tmp_path / "run.yaml"), "--skip_unreadable", "--image_size", "160"]
    (args,) = parse_config([ImageArguments], flags).instances
    assert args == ImageArguments(
        dataset="food101", max_images_per_class=20, skip_unreadable=True, image_size=160
    )


# Bad input, before training


def test_missing_folders_are_named(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are 3 classes, .* and the data set has 100"):
        load(files=folders)
    with pytest.raises(ValueError, match="none of its known layouts"):
        generic(folders / "train" / "apple")
    (folders / "test" / "owl").mkdir()
    with pytest.raises(ValueError, match=r"test/owl: a class that .*train lacks"):
        generic(folders)
    (folders / "test" / "owl").rmdir()
    (folders / "test" / "bear").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="test/bear: the folder of this class is missing"):
        generic(folders)
    (folders / "test" / "bear").mkdir()
    with pytest.raises(ValueError, match="test/bear: it has no images"):
        generic(folders)
    (folders / "train" / "apple" / "clip.mp4").touch()
    with pytest.raises(ValueError, match=r"apple/clip\.mp4: not one of \.jpg"):
        generic(folders)


def test_food_lists_are_checked(tmp_path: Path) -> None:
    root = food_archive(tmp_path)
    lists = {split: (root / "meta" / f"{split}.txt").read_text() for split in ("train", "test")}
    (root / "images" / "food_007" / "0.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 101 images cannot be read:\n .*images/food_007/0\.jpg"
    ):
        load(dataset="food101", files=root)
    for split, entry, message in [
        ("test", "soup/1", r"test\.txt: 'soup/1' is of a class that train\.txt lacks"),
        ("train", "soup/1", "images/soup: the folder of this class is missing"),
        ("train", "../../etc", r"train\.txt: '\.\./\.\./etc' is not a class and an image"),
    ]:
        (root / "meta" / f"{split}.txt").write_text(f"{lists[split]}{entry}\n")
        with pytest.raises(ValueError, match=message):
            load(dataset="food101", files=root)
        (root / "meta" / f"{split}.txt").write_text(lists[split])


def test_tables_are_checked(tmp_path: Path) -> None:
    root = cifar_parquet(tmp_path / "size", width=31)
    with pytest.raises(ValueError, match=r"train, row 0 has 31 x 32 pixels, .* 32 x 32"):
        cifar(root)
    with pytest.raises(ValueError, match=r"image_column='image' is not in train, which has \['img"):
        cifar(root, image_column="image")
    root = cifar_parquet(tmp_path / "class", labels=[0] * 2 + list(range(2, 100)))
    with pytest.raises(ValueError, match=r"test has the class 'class_1' \(label 1\), of which tra"):
        cifar(root)
    root = tmp_path / "plain"
    images = [encoded(picture(0))] * 101
    for split, last in (("train", 99), ("test", 100)):
        write_parquet(root, split, images, [*range(100), last])
    with pytest.raises(ValueError, match="test, row 100: the label 100 is out of range"):
        cifar(root)
    write_parquet(root, "test", images, [-1, *range(100)])
    with pytest.raises(ValueError, match="test, row 0: the label -1 is out of range"):
        cifar(root)
    write_parquet(root, "test", images, [None, *range(100)])
    with pytest.raises(ValueError, match="test: label_column='fine_label' must hold whole numbers"):
        cifar(root)
    write_parquet(root, "test", [*images[1:], None], [*range(100), 0])
    with pytest.raises(ValueError, match="test, row 100 cannot be read: 'img' holds no bytes"):
        cifar(root)


def test_truncated_files_are_found_before_training(folders: Path) -> None:
    victims = [folders / "train" / "baby" / "1.jpg", folders / "train" / "bear" / "0.jpg"]
    victims[0].write_bytes(victims[0].read_bytes()[:-100])  # the header is whole
    victims[1].write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"train: 2 of 6 images cannot(.|\n)*set skip_unreadable"
    ) as e:
        generic(folders)
    assert "pictures/train/baby/1.jpg cannot be read: image file is truncated" in str(e.value)
    assert "pictures/train/bear/0.jpg cannot be read" in str(e.value)
    data = generic(folders, skip_unreadable=True)
    assert (len(data.train), data.unreadable) == (4, 2)


def test_bytes_after_the_end_of_a_jpeg_are_fine(folders: Path) -> None:
    path = folders / "train" / "baby" / "1.jpg"
    path.write_bytes(path.read_bytes() + b"camera" * 2000)
    assert len(generic(folders).train) == 6


def test_cifar_counts_what_it_skips(tmp_path: Path) -> None:
    root = tmp_path / "t"
    good = encoded(picture(0))
    write_parquet(root, "train", [good[:-40], *[good] * 100], [0, *range(100)])
    write_parquet(root, "test", [good] * 100, list(range(100)))
    with pytest.raises(
        ValueError, match="train: 1 of 101 images cannot be read:\n  train, row 0 cannot"
    ):
        cifar(root)
    data = cifar(root, skip_unreadable=True)
    assert (len(data.train), data.unreadable) == (100, 1)


REAL = ROOT.parent / "shared" / "data" / "cifar-100"


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not beside the checkout")
def test_all_of_cifar_100(tmp_path: Path) -> None:
    data = load(files=REAL, image_cache_dir=tmp_path)
    assert isinstance(data.train, PixelDataset)
    assert isinstance(data.test.dataset, PixelDataset)
    assert (len(data.train), len(data.test), len(data.classes)) == (50_000, 10_000, 100)
    assert data.train.labels.bincount().tolist() == [500] * 100
    assert data.test.dataset.labels.bincount().tolist() == [100] * 100
    assert data.classes[:2] == ["apple", "aquarium_fish"]
    counts = torch.stack([channel.flatten().bincount() for channel in data.train.pixels.unbind(1)])
    values = torch.arange(256, dtype=torch.float64) / 255
    means = counts.double() @ values / (50_000 * 1024)
    stds = (counts.double() @ values**2 / (50_000 * 1024) - means**2).sqrt()
    # As published, and what `DATA_SETS` has, to four digits.
    assert means.tolist() == pytest.approx([0.5071, 0.4865, 0.4409], abs=5e-5)
    assert stds.tolist() == pytest.approx([0.2673, 0.2564, 0.2762], abs=5e-5)
