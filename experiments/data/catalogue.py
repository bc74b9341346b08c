"""The datasets: to add one, add its name and its entry here (and a parser if its format is new).

A dataset with archives goes by its name in tensorflow-datasets (TFDS), which knows the address and
the checksum of each. SVHN's "extra" archive, 1.3 GB of easier images, is not used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from experiments.data import digits, formats
from experiments.data.dataset import DataError, Splits
from experiments.data.protocol import Selection

# Type checkers and the command line need the names spelt out; a test holds them to ENTRIES.
Name = Literal["digits", "mnist", "fashion_mnist", "kmnist", "svhn_cropped", "cifar10", "cifar100"]


@dataclass(frozen=True)
class Entry:
    """All that is particular to one dataset."""

    archives: tuple[str, ...]  # file names of the original archives; none if it is bundled
    parse: Callable[[Mapping[str, Path]], Splits]  # file name -> path of each archive
    shape: tuple[int, int, int]  # height, width, channels of an image
    sizes: Mapping[str, int]  # split -> number of images
    classes: Mapping[str, int]  # kind of label -> number of classes
    paper: Selection | None  # how the pdADMM paper (arXiv 2009.02868) uses it, if it does
    levels: int = 255  # the pixel value that stands for 1.0

    def checked(self, splits: Splits, origin: str) -> Splits:
        """Returns the splits, or raises `DataError` if they are not those of the dataset."""
        for split, images in splits.items():
            where, count = f"{origin}, {split} split", len(images.pixels)
            images.check(where, self.shape, self.classes)
            if count != self.sizes[split]:
                raise DataError(f"{where}: {count} images, expected {self.sizes[split]}")
        return splits


_MNIST_LIKE = partial(
    Entry,
    archives=formats.IDX_ARCHIVES,
    parse=formats.idx,
    shape=(28, 28, 1),
    sizes={"train": 60_000, "test": 10_000},
    classes={"label": 10},
)

ENTRIES: Mapping[str, Entry] = {
    "digits": Entry(
        archives=(),
        parse=digits.bundled,
        shape=(8, 8, 1),
        sizes={"train": 1_437, "test": 360},
        classes={"label": 10},
        paper=None,
        levels=16,
    ),
    "mnist": _MNIST_LIKE(paper=Selection(halve=True, train=55_000)),
    "fashion_mnist": _MNIST_LIKE(paper=Selection(halve=True)),
    "kmnist": _MNIST_LIKE(paper=Selection(halve=True)),
    "svhn_cropped": Entry(
        archives=formats.MAT_ARCHIVES,
        parse=formats.mat,
        shape=(32, 32, 3),
        sizes={"train": 73_257, "test": 26_032},
        classes={"label": 10},
        # The paper does not name the classes: its counts are those of the digits 1 and 2.
        paper=Selection(halve=True, classes=(1, 2)),
    ),
    "cifar10": Entry(
        archives=("cifar-10-binary.tar.gz",),
        parse=partial(
            formats.cifar,
            members={
                "train": [f"cifar-10-batches-bin/data_batch_{batch}.bin" for batch in range(1, 6)],
                "test": ["cifar-10-batches-bin/test_batch.bin"],
            },
            kinds=("label",),
        ),
        shape=(32, 32, 3),
        sizes={"train": 50_000, "test": 10_000},
        classes={"label": 10},
        paper=Selection(halve=True, classes=(0, 6)),
    ),
    "cifar100": Entry(
        archives=("cifar-100-binary.tar.gz",),
        parse=partial(
            formats.cifar,
            members={
                "train": ["cifar-100-binary/train.bin"],
                "test": ["cifar-100-binary/test.bin"],
            },
            kinds=("coarse_label", "label"),
        ),
        shape=(32, 32, 3),
        sizes={"train": 50_000, "test": 10_000},
        classes={"coarse_label": 20, "label": 100},
        # The paper's counts fit two coarse classes, not two of the hundred fine ones.
        paper=Selection(halve=True, label="coarse_label", classes=(0, 2)),
    ),
}
