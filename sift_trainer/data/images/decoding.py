"""One stored image becomes RGB pixels, or a ValueError that names it.

Only JPEG, PNG, WebP and BMP are opened: other readers of Pillow start programs (EPS) or are rarely
exercised. Grey, palette and CMYK pictures are converted to RGB. Transparency is refused, since what
lies under it was never meant to be seen, unless every pixel is opaque; so are 16- and 32-bit
channels, whose range nobody knows.
"""

import io
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_PLAIN = ("1", "L", "P", "CMYK", "YCbCr", "RGB")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
# A whole file ends with these, perhaps followed by a few bytes of its camera.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096


class StoredImage(NamedTuple):
    """An image before it is decoded.

    Attributes:
        name: tells it from others; the same wherever the data set's folder lies.
        content: a file, the bytes of one, or pixels: uint8, (height, width, 3).
    """

    name: str
    content: "Path | bytes | np.ndarray[Any, Any]"

    @property
    def place(self) -> str:
        """Where it is, for errors."""
        return str(self.content) if isinstance(self.content, Path) else self.name


def open_image(image: StoredImage) -> "Image":
    """Header of an image that is read into memory; nothing is decoded yet.

    Raises:
        ValueError: it cannot be opened, naming it.
    """
    content = image.content
    picture: Image
    try:
        if isinstance(content, np.ndarray):
            picture = _pillow().fromarray(content)
        else:
            data = content.read_bytes() if isinstance(content, Path) else content
            picture = _pillow().open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's readers raise what they like, here and below
        raise _unreadable(image.place, error) from error
    return picture


def check_header(image: StoredImage) -> tuple[int, int]:
    """Width and height of an image whose header can be read and whose file has an end.

    Decodes only where the header is not enough: no end of the file in sight, or transparency.

    Raises:
        ValueError: it cannot be opened, is truncated, or has channels that are refused.
    """
    content = image.content
    if isinstance(content, np.ndarray):
        return content.shape[1], content.shape[0]
    try:
        file = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
        with file, _pillow().open(file, formats=FORMATS) as picture:
            width, height = picture.size
            mode = picture.mode
            end = _ENDS.get(picture.format or "")
            transparent = mode in _WITH_ALPHA or "transparency" in picture.info
            length = file.seek(0, io.SEEK_END)
            file.seek(max(0, length - _TAIL))
            whole = end is not None and end in file.read()
    except Exception as error:
        raise _unreadable(image.place, error) from error
    _check_mode(image.place, mode)
    if transparent or not whole:
        to_rgb(image.place, open_image(image))
    return int(width), int(height)


def to_rgb(place: str, picture: "Image") -> "Image":
    """The decoded picture in RGB.

    Raises:
        ValueError: it is truncated or corrupt, or its channels are refused (see above).
    """
    _check_mode(place, picture.mode)
    try:
        if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            lowest = picture.getchannel("A").getextrema()[0]
            if lowest != 255:
                raise ValueError("it has transparent pixels; put it on a background first")
        picture.load()
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except Exception as error:
        raise _unreadable(place, error) from error


def pixels(picture: "Image") -> Tensor:
    """An RGB picture as uint8, (3, height, width)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def decode(image: StoredImage) -> Tensor:
    """All of an image: uint8, (3, height, width).

    Raises:
        ValueError: as `open_image` and `to_rgb`.
    """
    if isinstance(image.content, np.ndarray):
        return torch.from_numpy(image.content).permute(2, 0, 1).contiguous()
    return pixels(to_rgb(image.place, open_image(image)))


def decode_crop(place: str, picture: "Image", box: tuple[int, int, int, int], size: int) -> Tensor:
    """A part of an opened picture, resized with antialiased bilinear interpolation.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the part keeps `size` pixels.

    Args:
        place: for errors.
        box: left, top, width, height in pixels.
        size: height and width of what is returned.

    Returns:
        uint8, (3, size, size).

    Raises:
        ValueError: as `to_rgb`.
    """
    left, top, width, height = box
    full = picture.size
    picture.draft(None, (ceil(full[0] * size / width), ceil(full[1] * size / height)))
    picture = to_rgb(place, picture)
    across, down = picture.width / full[0], picture.height / full[1]
    part = (left * across, top * down, (left + width) * across, (top + height) * down)
    return pixels(picture.resize((size, size), _pillow().Resampling.BILINEAR, box=part))


def decode_center(image: StoredImage, resize: int, size: int) -> Tensor:
    """The middle of an image whose shorter side is first resized to `resize`.

    Returns:
        uint8, (3, size, size).

    Raises:
        ValueError: as `open_image` and `to_rgb`.
    """
    picture = to_rgb(image.place, open_image(image))
    short = min(picture.size)
    width, height = (resize * side // short for side in picture.size)
    picture = picture.resize((width, height), _pillow().Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return pixels(picture.crop((left, top, left + size, top + size)))


def _check_mode(place: str, mode: str) -> None:
    if mode not in (*_PLAIN, *_WITH_ALPHA):
        raise ValueError(
            f"{place}: its channels are {mode!r}; only 8-bit pictures are read: grey, palette and "
            "CMYK, which become RGB, and RGB"
        )


def _unreadable(place: str, error: Exception) -> ValueError:
    if isinstance(error, MemoryError | ImportError):
        raise error
    if type(error).__name__ == "UnidentifiedImageError":
        return ValueError(f"{place} cannot be read: it is none of {', '.join(FORMATS)}")
    return ValueError(f"{place} cannot be read: {error}")


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise ImportError(
            'reading images needs Pillow: pip install "sift-trainer[data]"'
        ) from error
    return PIL.Image
