"""What an image classifier is given, checked before it reaches a kernel."""

import torch
from torch import Tensor

IGNORE_INDEX = -100  # of torch's cross-entropy


def check_pixel_values(pixel_values: Tensor | None, num_channels: int, smallest: int) -> None:
    """Refuse what is no batch of images for a model; reads shape and type, never the pixels.

    Args:
        pixel_values: ``(B, num_channels, height, width)``, floating point.
        smallest: pixels that a side must have.

    Raises:
        ValueError: names the shape or type that was given and one that works.
        TypeError: if there is no tensor at all.
    """
    works = f"(batch, {num_channels}, height, width)"
    if not isinstance(pixel_values, Tensor):
        raise TypeError(f"pixel_values={pixel_values!r}; give a float tensor {works}")
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] != num_channels:
        mended = f"give {works}"
        if len(shape) == 4 and shape[3] == num_channels:
            mended += ", here pixel_values.permute(0, 3, 1, 2)"
        elif len(shape) == 4 and shape[1] == 1:
            mended += f", here pixel_values.expand(-1, {num_channels}, -1, -1)"
        raise ValueError(
            f"pixel_values has shape {shape}, but config.num_channels={num_channels}: {mended}"
        )
    if min(shape[2:]) < smallest:
        raise ValueError(
            f"pixel_values has images of {shape[2]} x {shape[3]} pixels, of which the model's "
            f"strides leave less than one; resize them to at least {smallest} x {smallest}"
        )
    if not pixel_values.is_floating_point():
        raise ValueError(
            f"pixel_values is {pixel_values.dtype}; give floats, such as (image / 255 - mean) / std"
        )


def check_label_type(labels: Tensor, num_labels: int) -> None:
    """Refuse labels that are not one class id for each image; reads shape and type only.

    Raises:
        ValueError: names the type and shape.
    """
    if labels.dtype != torch.long or labels.dim() != 1:
        raise ValueError(
            f"labels is {labels.dtype} of shape {tuple(labels.shape)}; give one class id for each "
            f"image, a torch.int64 tensor (batch,) with values in 0..{num_labels - 1}"
        )


def check_labels(labels: Tensor, num_labels: int) -> None:
    """Refuse labels that are no classes of the model.

    A kernel on a GPU reports such a label late and leaves the process unusable, but reading the
    values back there would make the host wait in every step. So the model calls this for labels on
    the CPU alone; for training on a GPU, call it once on all labels of the data set.

    Args:
        labels: ``(B,)`` class ids in 0..num_labels - 1, or -100 for a sample to leave out.

    Raises:
        ValueError: names the value and the range.
    """
    check_label_type(labels, num_labels)
    wrong = labels[((labels < 0) & (labels != IGNORE_INDEX)) | (labels >= num_labels)]
    if len(wrong):
        needed = int(wrong.max()) + 1
        larger = f", or a model of num_labels={needed}" if needed > num_labels else ""
        raise ValueError(
            f"labels has {wrong[0].item()}, but config.num_labels={num_labels}: give class ids in "
            f"0..{num_labels - 1} (or {IGNORE_INDEX}){larger}"
        )
