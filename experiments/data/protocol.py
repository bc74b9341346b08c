"""From images as published to the arrays of a selection."""

import math
from dataclasses import dataclass

import numpy as np

from experiments.data.dataset import Images


@dataclass(frozen=True)
class Selection:
    """Which images are used, which of their labels, and at which resolution."""

    label: str = "label"  # kind of label
    classes: tuple[int, ...] | None = None  # ascending; None keeps all
    train: int | None = None  # at most that many training images, the first ones
    halve: bool = False  # half the height and width


FULL = Selection()


def select(images: Images, selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Picks images and numbers their classes from 0.

    Args:
      images: N images.
      selection: What to keep; its `train` is up to the caller, who knows the split.

    Returns:
      Pixels, (M, height, width, channels); and labels, (M,) int32.
    """
    labels = images.labels[selection.label]
    if selection.classes is None:
        return images.pixels, labels.astype(np.int32)
    keep = np.isin(labels, selection.classes)
    return images.pixels[keep], np.searchsorted(selection.classes, labels[keep]).astype(np.int32)


def features(pixels: np.ndarray, *, halved: bool, levels: int) -> np.ndarray:
    """Flattens and scales samples.

    Args:
      pixels: (N, height, width, channels).
      halved: Whether to halve height and width first.
      levels: The pixel value that stands for 1.0.

    Returns:
      (N, features): row by row, pixel by pixel, channel by channel; float32, or float64 if pixels
      are.
    """
    if halved:
        pixels = halve(pixels)
    x = pixels / np.float32(levels) if levels > 1 else pixels
    return x.reshape(len(x), math.prod(x.shape[1:]))


def halve(pixels: np.ndarray) -> np.ndarray:
    """Halves height and width by order-1 (bilinear) interpolation: the mean of each 2 x 2 block.

    Pixel i covers [i, i + 1] and has its value at i + 1/2. Output pixel i covers [2i, 2i + 2] and
    so samples the image at 2i + 1, half-way between the centres of pixels 2i and 2i + 1. Linear
    interpolation weighs these two alike, along either axis: each of four pixels counts 1/4. Every
    pixel is used once, so there is nothing to smooth beforehand.

    Args:
      pixels: (N, 2h, 2w, channels), any real dtype.

    Returns:
      (N, h, w, channels) float32.
    """
    count, height, width, channels = pixels.shape
    blocks = pixels.reshape(count, height // 2, 2, width // 2, 2, channels)
    return blocks.mean(axis=(2, 4), dtype=np.float32)
