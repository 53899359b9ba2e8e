"""Tiny pictures and data sets of them, in every layout that is read."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

FOODS = [f"food_{label:03d}" for label in range(101)]


def picture(seed: int, width: int = 32, height: int = 32, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def class_folders(root: Path, classes: list[str], train: int = 2, test: int = 1) -> Path:
    seed = 0
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture(seed, 20 + seed % 7, 24).save(folder / f"{number}.jpg", quality=90)
                seed += 1
    return root


def food_archive(root: Path, train: int = 1, test: int = 1) -> Path:
    entries: dict[str, list[str]] = {"train": [], "test": []}
    data = encoded(picture(0, 12, 10), "JPEG")
    for name in FOODS:
        (root / "images" / name).mkdir(parents=True)
        for number in range(train + test):
            (root / "images" / name / f"{number}.jpg").write_bytes(data)
            entries["train" if number < train else "test"].append(f"{name}/{number}")
    (root / "meta").mkdir()
    for split, names in entries.items():
        (root / "meta" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root
