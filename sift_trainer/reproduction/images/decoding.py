"""One stored image becomes RGB pixels. Every function raises a ValueError that names the image.

Only JPEG, PNG, WebP and BMP are opened: other readers of Pillow start programs (EPS). Images with
transparent pixels and channels of 16 or 32 bits are refused: their conversion to RGB would be wrong
without a word.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from PIL.Image import Image
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


class StoredImage(NamedTuple):
    """An image before it is decoded.

    Attributes:
        name: unique in its data set, and the same wherever the folder of the data set lies.
        content: a file, or the bytes of one.
    """

    name: str
    content: Path | bytes


@contextmanager
def _naming(image: StoredImage) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the readers of Pillow raise many kinds
        place = image.content if isinstance(image.content, Path) else image.name
        raise ValueError(f"{place} cannot be read: {error}") from error


def open_image(image: StoredImage) -> Image:
    """An image whose header is read, but which is not decoded yet."""
    with _naming(image):
        content = image.content
        data = content.read_bytes() if isinstance(content, Path) else content
        return PIL.Image.open(io.BytesIO(data), formats=FORMATS)


def check_image(image: StoredImage) -> None:
    """Decode an image, a JPEG at an eighth of its size, which reads all of its data."""
    picture = open_image(image)
    picture.draft(None, (1, 1))
    to_rgb(image, picture)


def to_rgb(image: StoredImage, picture: Image) -> Image:
    """The opened picture of `image`, decoded, in RGB."""
    with _naming(image):
        if picture.mode.startswith(("I", "F")):
            raise ValueError(f"its channels are {picture.mode!r}; only 8 bits per channel are read")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema()[0] != 255:
                raise ValueError("it has transparent pixels; put it on a background first")
        picture.load()
        return picture.convert("RGB")


def decode(image: StoredImage) -> Tensor:
    """A whole image: uint8, (3, height, width)."""
    return _pixels(to_rgb(image, open_image(image)))


def decode_crop(
    image: StoredImage, picture: Image, box: tuple[int, int, int, int], size: int
) -> Tensor:
    """A part of the opened picture of `image`, resized: uint8, (3, size, size).

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the part keeps `size` pixels.

    Args:
        box: left, top, width and height of the part in pixels.
    """
    left, top, width, height = box
    full = picture.size
    picture.draft(None, (ceil(full[0] * size / width), ceil(full[1] * size / height)))
    picture = to_rgb(image, picture)
    across, down = picture.width / full[0], picture.height / full[1]
    part = (left * across, top * down, (left + width) * across, (top + height) * down)
    return _pixels(picture.resize((size, size), PIL.Image.Resampling.BILINEAR, box=part))


def decode_center(image: StoredImage, resize: int, size: int) -> Tensor:
    """The middle, uint8 (3, size, size), of an image whose shorter side becomes `resize` pixels."""
    picture = to_rgb(image, open_image(image))
    short = min(picture.size)
    width, height = (resize * side // short for side in picture.size)
    picture = picture.resize((width, height), PIL.Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _pixels(picture.crop((left, top, left + size, top + size)))


def _pixels(picture: Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
