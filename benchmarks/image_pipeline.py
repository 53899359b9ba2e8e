"""Images per second and core of each image pipeline: decoding, augmentation, checking.

    python benchmarks/image_pipeline.py [--photos 200] [--repeats 5] [--output result.json]

All in one process and one thread, so that the numbers are of a core: as many dataloader workers
give as many times that, up to the cores and the disk. CIFAR-100's pipeline runs over random pixels
in memory, Food-101's over JPEG files that are made here, of 512 x 384 pixels and about 50 kB as
there.
Each number is the median of the repeats, with the lowest and the highest.
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
from torch.utils.data import DataLoader

from sift_trainer.measuring.machine import machine
from sift_trainer.reproduction.images.arguments import DATA_SETS, ImageArguments
from sift_trainer.reproduction.images.batches import EvaluationDataset, ImageCollator, PixelDataset
from sift_trainer.reproduction.images.decoding import StoredImage, decode
from sift_trainer.reproduction.images.loading import check_images, load_images

BATCH = 250  # the candidates of section 7.2


def rates(name: str, count: int, work: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Images per CPU second of `work`, which goes through `count` of them; the first time is not
    counted."""
    work()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(count / (time.process_time() - began))
    result = {
        "pipeline": name,
        "images": count,
        "images_per_second": round(median(found)),
        "lowest": round(min(found)),
        "highest": round(max(found)),
    }
    print(
        f"{name:28} {result['images_per_second']:>8,} images/s per core "
        f"({result['lowest']:,} to {result['highest']:,})",
        flush=True,
    )
    return result


def epoch(dataset: Any, collator: Any) -> None:
    for _ in DataLoader(dataset, BATCH, shuffle=True, collate_fn=collator):
        pass


def write_photos(folder: Path, count: int) -> float:
    """Class folders of pictures with shapes of all sizes and some grain; returns the mean size of a
    file in kB."""
    from PIL import Image

    sizes = []
    for number in range(count + 2):
        draw = np.random.default_rng(number)
        picture = np.zeros((384, 512, 3))
        for side in (3, 6, 12, 24, 48, 96):
            noise = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
            picture += np.asarray(
                Image.fromarray(noise).resize((512, 384), Image.Resampling.BICUBIC)
            )
        picture = picture / 6 + draw.normal(0, 6, picture.shape)
        split = "train" if number < count else "test"
        path = folder / split / f"class_{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        sizes.append(path.stat().st_size / 1e3)
    return sum(sizes) / len(sizes)


def pixel_pipelines(count: int, repeats: int) -> list[dict[str, Any]]:
    defaults = DATA_SETS["cifar100"]
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    train = PixelDataset(pixels, torch.zeros(count, dtype=torch.int64))
    collator = ImageCollator(32, defaults.mean, defaults.std, seed=0)
    test = EvaluationDataset(train, 32, defaults.mean, defaults.std)
    png = [StoredImage("png", _png(image)) for image in pixels[:BATCH]]
    return [
        rates("cifar100 train", count, lambda: epoch(train, collator), repeats),
        rates("cifar100 test", count, lambda: epoch(test, collator), repeats),
        rates("cifar100 decoding, once", len(png), lambda: [decode(i) for i in png], repeats),
    ]


def _png(image: torch.Tensor) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


def photo_pipelines(count: int, repeats: int) -> list[dict[str, Any]]:
    with TemporaryDirectory() as name:
        kilobytes = write_photos(Path(name), count)
        print(f"photographs of 512 x 384 pixels, {kilobytes:.0f} kB on average")
        args = ImageArguments(dataset="generic", files=name)
        data = load_images(args, progress=False)
        test = EvaluationDataset(data.train, 224, data.test.mean, data.test.std)
        results = [
            rates("food101 train", count, lambda: epoch(data.train, data.collator), repeats),
            rates("food101 test", count, lambda: epoch(test, data.collator), repeats),
            rates(
                "food101 checking, once",
                count,
                lambda: check_images(data.train, False, "train", progress=False),
                repeats,
            ),
        ]
    return [{**result, "kilobytes_per_file": round(kilobytes, 1)} for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pixels", type=int, default=10_000, help="images of 32 x 32 in memory")
    parser.add_argument("--photos", type=int, default=200, help="JPEG files to make")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    results = [
        *pixel_pipelines(flags.pixels, flags.repeats),
        *photo_pipelines(flags.photos, flags.repeats),
    ]
    if flags.output:
        content = {"machine": machine(), "batch": BATCH, "results": results}
        flags.output.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
