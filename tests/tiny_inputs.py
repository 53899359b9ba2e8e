"""Sizes, inputs and labels that the tiny models share."""

from collections.abc import Callable

import torch
from torch import Tensor

BATCH, LENGTH, VOCABULARY, LAYERS, WIDTH = 4, 12, 50, 3, 32
CLASSES = 5


def text(padded: bool = True) -> dict[str, Tensor]:
    """Token ids (BATCH, LENGTH); row i has i pads at the end."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, VOCABULARY, (BATCH, LENGTH), generator=generator)
    if not padded:
        return {"input_ids": ids}
    mask = (torch.arange(LENGTH) < LENGTH - torch.arange(BATCH)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def text_pair() -> dict[str, Tensor]:
    """An encoder's and a decoder's tokens, of different lengths."""
    generator = torch.Generator().manual_seed(3)
    decoder = torch.randint(3, VOCABULARY, (BATCH, LENGTH - 3), generator=generator)
    return {**text(), "decoder_input_ids": decoder}


def image() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {"pixel_values": torch.randn(BATCH, 3, 16, 16, generator=generator)}


def sound() -> dict[str, Tensor]:
    return {"input_values": torch.randn(BATCH, 400, generator=torch.Generator().manual_seed(5))}


INPUTS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "text": text,
    "pair": text_pair,
    "image": image,
    "sound": sound,
}


def token_labels(counts: tuple[int, ...] = (3, 0, 1, 5), first: bool = False) -> Tensor:
    """Labels (BATCH, LENGTH) with ``counts`` labelled positions per row, -100 elsewhere.

    Args:
        first: whether position 0 is among them, in the rows with any.
    """
    generator = torch.Generator().manual_seed(6)
    labels = torch.full((BATCH, LENGTH), -100)
    for row, count in enumerate(counts):
        places = 1 + torch.randperm(LENGTH - 1, generator=generator)[:count]
        if first and count:
            places[0] = 0
        labels[row, places] = torch.randint(3, VOCABULARY, (count,), generator=generator)
    return labels


def class_labels() -> Tensor:
    return torch.arange(BATCH) % CLASSES
