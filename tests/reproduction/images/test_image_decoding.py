"""What is converted, what is refused, and parts of images in pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from sift_trainer.reproduction.images.decoding import (
    StoredImage,
    check_image,
    decode,
    decode_center,
    decode_crop,
    open_image,
)
from tests.reproduction.images.pictures import encoded, picture


def _gradient(width: int, height: int) -> Image.Image:
    """Red grows with x, green with y, each by 2 per pixel."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([2 * x, 2 * y, 0 * x], axis=2).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG")]
)
def test_other_channels_become_rgb(mode: str, kind: str) -> None:
    image = StoredImage("a", encoded(picture(0, mode=mode), kind))
    check_image(image)
    assert decode(image).shape == (3, 32, 32)
    if mode == "L":
        assert torch.equal(decode(image)[0], decode(image)[2])


def test_transparency_is_refused_unless_all_is_opaque() -> None:
    opaque = picture(0, mode="RGBA")
    image = StoredImage("a", encoded(opaque))
    check_image(image)
    assert torch.equal(decode(image), decode(StoredImage("b", encoded(picture(0)))))
    opaque.putpixel((3, 4), (1, 2, 3, 254))
    image = StoredImage("a.png", encoded(opaque))
    for read in (check_image, decode):
        with pytest.raises(ValueError, match=r"a\.png cannot be read: it has transparent pixels"):
            read(image)


def test_what_pillow_would_convert_wrongly_or_read_by_a_program_is_refused() -> None:
    deep = encoded(Image.fromarray(np.ones((8, 8), np.uint16)))
    with pytest.raises(ValueError, match="a cannot be read: its channels are 'I;16'"):
        check_image(StoredImage("a", deep))
    script = encoded(picture(0), "EPS")
    assert script.startswith(b"%!PS")
    with pytest.raises(ValueError, match="a cannot be read: cannot identify"):
        check_image(StoredImage("a", script))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_check_finds_a_truncated_file(kind: str) -> None:
    data = encoded(picture(0, 64, 48), kind)
    check_image(StoredImage("a", data))
    for share in (0, 0.01, 0.3, 0.9, 0.99):
        with pytest.raises(ValueError, match="a cannot be read"):
            check_image(StoredImage("a", data[: int(len(data) * share)]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_part_is_resized(kind: str) -> None:
    """Twice the size of the result: means of 2 x 2 pixels, in a JPEG decoded at half its size."""
    image = StoredImage("a", encoded(_gradient(120, 80), kind))
    part = decode_crop(image, open_image(image), (20, 10, 64, 64), 32)
    inner = part[:, 1:-1, 1:-1].float()
    at = torch.arange(1, 31)
    assert (inner[0] - (2 * (20.5 + 2 * at))).abs().max() < (2 if kind == "PNG" else 6)
    assert (inner[1] - (2 * (10.5 + 2 * at))[:, None]).abs().max() < (2 if kind == "PNG" else 6)


def test_the_middle() -> None:
    image = StoredImage("a", encoded(_gradient(100, 40)))
    middle = decode_center(image, 40, 20)  # the shorter side is 40 already
    assert torch.equal(middle, decode(image)[:, 10:30, 40:60])
    # Half the size: column c is the mean of those at 2c and 2c + 1, from the middle 20 of 40.
    middle = decode_center(image, 20, 20).float()
    assert (middle[0] - 2 * (30.5 + 2 * torch.arange(20))).abs().max() < 2
