"""Crops and flips against loops over single images, and their shares in numbers."""

import pytest
import torch

from sift_trainer.reproduction.images.augmentation import (
    crop_flip,
    resized_crop_boxes,
    seeded_generator,
)

torch.set_num_threads(1)


def _images(count: int, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def test_every_crop_is_a_window_of_the_padded_image() -> None:
    images = _images(300)
    original = images.clone()
    cropped = crop_flip(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, original)
    assert cropped.shape == images.shape
    assert cropped.dtype == torch.uint8
    padded = torch.zeros(300, 3, 16, 16, dtype=torch.uint8)
    padded[:, :, 4:12, 4:12] = images
    seen = set()
    for image, frame in zip(cropped, padded, strict=True):
        found = [
            (top, left, flip)
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
            if torch.equal(
                image,
                frame[:, top : top + 8, left : left + 8].flip(2)
                if flip
                else frame[:, top : top + 8, left : left + 8],
            )
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert {top for top, _, _ in seen} == set(range(9))
    assert {left for _, left, _ in seen} == set(range(9))
    # Of 162 equally likely ones 300 draws show 162 * (1 - (161 / 162)**300) = 136.7 on average.
    assert 120 < len(seen) < 152


def test_boxes_have_the_area_shape_and_place_of_the_recipe() -> None:
    sizes = torch.tensor([[512, 384]]).expand(4000, 2)
    boxes = resized_crop_boxes(sizes, torch.Generator().manual_seed(0))
    left, top, width, height = boxes.unbind(1)
    assert int(left.min()) == 0
    assert int(top.min()) == 0
    assert int((left + width).max()) <= 512
    assert int((top + height).max()) == 384
    share = width * height / (512 * 384)
    assert 0.078 < float(share.min()) < 0.1
    assert 0.9 < float(share.max()) <= 1
    ratio = width / height
    assert 0.745 < float(ratio.min()) < 0.76
    assert 1.32 < float(ratio.max()) < 1.342
    # Places are uniform: on average the free space is the same on both sides.
    free = (512 - width).float()
    assert abs(float((left.float() / free.clamp(min=1)).mean()) - 0.5) < 0.02


def test_boxes_of_thin_images_are_the_middle() -> None:
    sizes = torch.tensor([[1000, 30], [30, 1000], [1, 1]])
    boxes = resized_crop_boxes(sizes, torch.Generator().manual_seed(0))
    # At 3:4 to 4:3 no part of 8% of the area fits: the middle, as long as it may be.
    assert boxes.tolist() == [[480, 0, 40, 30], [0, 480, 30, 40], [0, 0, 1, 1]]


@pytest.mark.parametrize("seed", [0, 2**62])
def test_a_generator_follows_from_seed_and_content(seed: int) -> None:
    def draw(seed: int, *content: bytes) -> float:
        generator = seeded_generator(seed, content)
        assert generator is not None
        return float(torch.rand((), generator=generator))

    assert draw(seed, b"a", b"b") == draw(seed, b"a", b"b")
    others = {draw(seed, b"b", b"a"), draw(seed, b"a"), draw(seed + 1, b"a", b"b")}
    assert len(others | {draw(seed, b"a", b"b")}) == 4
    assert seeded_generator(None, [b"a"]) is None
