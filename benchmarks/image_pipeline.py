"""Images per second and core of the image pipelines: loading, training batches, evaluation batches.

    python benchmarks/image_pipeline.py [--photos 200] [--repeats 5] [--output result.json]

Everything runs in one process and one thread, so the numbers are those of one core. Dataloader
workers multiply them, up to the number of cores and the speed of the disk. CIFAR-100's pipeline
reads random pixels in PNG files, Food-101's reads JPEG files of 512 x 384 pixels and about 60 kB.
The files are made first. Each number is the median of the repeats, with the lowest and the highest.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sift_trainer.measuring.machine import machine
from sift_trainer.reproduction.images import ImageArguments, load_images

BATCH = 250  # the candidates of section 7.2


def rates(name: str, count: int, work: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Images per second of ``work``, which handles ``count`` images; a first call is uncounted."""
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        found.append(count / (time.perf_counter() - began))
    low, middle, high = (round(of(found[1:])) for of in (min, median, max))
    print(f"{name:28} {middle:>8,} images/s per core ({low:,} to {high:,})", flush=True)
    speeds = {"images_per_second": middle, "lowest": low, "highest": high}
    return {"pipeline": name, "images": count, **speeds}


def epoch(dataset: Any, collator: Any) -> None:
    for _ in DataLoader(dataset, BATCH, shuffle=True, collate_fn=collator):
        pass


def pixels(draw: np.random.Generator) -> np.ndarray:
    """Random pixels of a CIFAR image."""
    return draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def photograph(draw: np.random.Generator) -> np.ndarray:
    """A picture with shapes of all sizes and some grain, so that JPEG compresses it as a photo."""
    picture = draw.normal(0, 6, (384, 512, 3))
    for side in (3, 6, 12, 24, 48, 96):
        noise = Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8))
        picture += np.asarray(noise.resize((512, 384), Image.Resampling.BICUBIC)) / 6
    return picture.clip(0, 255).astype(np.uint8)


def write_images(
    folder: Path, count: int, classes: int, make: Callable[[np.random.Generator], np.ndarray]
) -> None:
    """``count`` images to train on and one test image of each class, in class folders."""
    ending = "png" if make is pixels else "jpg"
    for number in range(count + classes):
        split = "train" if number < count else "test"
        path = folder / split / f"class_{number % classes:03}" / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make(np.random.default_rng(number))).save(path, quality=90)


def pipelines(name: str, folder: Path, count: int, repeats: int) -> list[dict[str, Any]]:
    arguments = ImageArguments(dataset=name, files=str(folder))
    data = load_images(arguments, progress=False)
    test = type(data.test)(data.train, data.test.image_size, data.test.mean, data.test.std)
    return [
        rates(f"{name} train", count, lambda: epoch(data.train, data.collator), repeats),
        rates(f"{name} test", count, lambda: epoch(test, data.collator), repeats),
        rates(f"{name} loading", count, lambda: load_images(arguments, progress=False), repeats),
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pixels", type=int, default=10_000, help="images of 32 x 32, in memory")
    parser.add_argument("--photos", type=int, default=200, help="JPEG files to make")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    flags = parser.parse_args(argv)
    torch.set_num_threads(1)
    results = []
    with TemporaryDirectory() as name:
        for dataset, count, classes, make in (
            ("cifar100", flags.pixels, 100, pixels),
            ("generic", flags.photos, 2, photograph),
        ):
            write_images(Path(name) / dataset, count, classes, make)
            results += pipelines(dataset, Path(name) / dataset, count, flags.repeats)
    if flags.output:
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "batch": BATCH, "results": results}
        flags.output.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
