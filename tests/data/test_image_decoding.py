"""What is converted, what is refused, and parts of images in pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from sift_trainer.data.images.decoding import (
    StoredImage,
    check_header,
    decode,
    decode_center,
    decode_crop,
    open_image,
)
from tests.data.pictures import encoded, picture


def _gradient(width: int, height: int) -> Image.Image:
    """Red grows with x, green with y, each by 2 per pixel."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([2 * x, 2 * y, 0 * x], axis=2).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG")]
)
def test_other_channels_become_rgb(mode: str, kind: str) -> None:
    data = encoded(picture(0, mode=mode), kind)
    image = StoredImage("a", data)
    assert check_header(image) == (32, 32)
    assert decode(image).shape == (3, 32, 32)
    if mode == "L":
        assert torch.equal(decode(image)[0], decode(image)[2])


def test_transparency_is_refused_unless_all_is_opaque() -> None:
    opaque = picture(0, mode="RGBA")
    image = StoredImage("a", encoded(opaque))
    assert check_header(image) == (32, 32)
    assert torch.equal(decode(image), decode(StoredImage("b", encoded(picture(0)))))
    opaque.putpixel((3, 4), (1, 2, 3, 254))
    image = StoredImage("a.png", encoded(opaque))
    for read in (check_header, decode):
        with pytest.raises(ValueError, match=r"a\.png cannot be read: it has transparent pixels"):
            read(image)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_channels_of_unknown_range_are_refused(mode: str) -> None:
    kind = "PNG" if mode == "I;16" else "TIFF"
    data = encoded(
        Image.fromarray(np.ones((8, 8), np.uint16 if kind == "PNG" else np.float32)), kind
    )
    message = "its channels are 'I;16'" if kind == "PNG" else "cannot be read"
    for read in (check_header, decode):
        with pytest.raises(ValueError, match=f"a: {message}|a {message}"):
            read(StoredImage("a", data))


def test_readers_that_start_programs_are_not_used() -> None:
    data = encoded(picture(0), "EPS")
    assert data.startswith(b"%!PS")
    with pytest.raises(ValueError, match="a cannot be read: it is none of JPEG, PNG"):
        check_header(StoredImage("a", data))


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="a cannot be read: Image size"):
        check_header(StoredImage("a", encoded(picture(0))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_check_finds_every_cut(kind: str) -> None:
    data = encoded(picture(0, 64, 48), kind)
    assert check_header(StoredImage("a", data)) == (64, 48)
    for share in (0, 0.01, 0.3, 0.9, 0.99):
        with pytest.raises(ValueError, match="a cannot be read"):
            check_header(StoredImage("a", data[: int(len(data) * share)]))


def test_a_part_at_its_own_size_is_those_pixels() -> None:
    image = StoredImage("a", encoded(_gradient(90, 60)))
    part = decode_crop("a", open_image(image), (20, 10, 32, 32), 32)
    assert torch.equal(part, decode(image)[:, 10:42, 20:52])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_part_is_resized(kind: str) -> None:
    """Twice as large as asked for: means of 2 x 2 pixels, in a JPEG decoded at half its size."""
    image = StoredImage("a", encoded(_gradient(120, 80), kind))
    part = decode_crop("a", open_image(image), (20, 10, 64, 64), 32)
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
