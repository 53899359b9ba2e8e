"""Random crops and flips of a whole batch at once, exact on resume through their generator.

docs/images.md says why no library does this.
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

SCALE = (0.08, 1.0)  # share of the area that is kept
RATIO = (3 / 4, 4 / 3)  # of width to height
_TRIES = 10


def seeded_generator(seed: int | None, content: Sequence[bytes]) -> torch.Generator | None:
    """A generator that is a function of `seed` and of the batch's content; None without a seed.

    Its draws are the same in a resumed run, in any dataloader worker and on any rank. They differ
    between epochs, because shuffling gives an image other neighbours.
    """
    if seed is None:
        return None
    digest = blake2b(digest_size=7, key=str(seed).encode())
    for part in content:
        digest.update(part)
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big"))


def crop_flip(images: Tensor, generator: torch.Generator | None, padding: int = 4) -> Tensor:
    """uint8 images (n, 3, height, width) padded with black, cropped to their size at a random
    place, and flipped with probability 0.5 (He et al., 2016, section 4.2)."""
    count, _, height, width = images.shape
    offsets = torch.randint(2 * padding + 1, (count, 2), generator=generator)
    padded = torch.nn.functional.pad(images, [padding] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    cropped = windows[torch.arange(count), :, offsets[:, 0], offsets[:, 1]]
    return random_flip(cropped, generator)


def random_flip(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Flip each image left to right with probability 0.5, in place; (n, 3, height, width)."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    images[flipped] = images[flipped].flip(3)
    return images


def resized_crop_boxes(sizes: Tensor, generator: torch.Generator | None) -> Tensor:
    """A random part of each image, of 8% to 100% of its area and 3:4 to 4:3 in shape (Szegedy et
    al., 2015, section 6): the first of ten draws that fits, else the largest part of an allowed
    shape in the middle.

    Args:
        sizes: int64, (n, 2): widths and heights in pixels.

    Returns:
        int64, (n, 4): left, top, width, height.
    """
    count = len(sizes)
    full = sizes[:, None].double()
    draw = torch.rand(count, _TRIES, 4, generator=generator, dtype=torch.float64)
    area = full.prod(2) * (SCALE[0] + draw[..., 0] * (SCALE[1] - SCALE[0]))
    low, high = torch.tensor(RATIO, dtype=torch.float64).log()
    ratio = torch.exp(low + draw[..., 1] * (high - low))
    parts = torch.stack([area * ratio, area / ratio], dim=2).sqrt().round()
    fits = ((parts >= 1) & (parts <= full)).all(2)
    corners = (draw[..., 2:] * (full - parts + 1)).floor()
    first = fits.long().argmax(1)
    boxes = torch.cat([corners, parts], dim=2)[torch.arange(count), first]
    return torch.where(fits.any(1)[:, None], boxes, _middle(full[:, 0])).long()


def _middle(sizes: Tensor) -> Tensor:
    longest = (sizes.flip(1) * RATIO[1]).round()  # height * 4/3 for width, and the other way
    part = torch.minimum(sizes, longest).clamp(min=1)
    return torch.cat([((sizes - part) / 2).floor(), part], dim=1)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (..., 3, height, width) as float32: scaled to 0..1, minus `mean`, divided by `std`."""
    scale = 1 / (255 * torch.tensor(std)).view(3, 1, 1)
    shift = (torch.tensor(mean) / torch.tensor(std)).view(3, 1, 1)
    return images.float().mul_(scale).sub_(shift)
