"""Prepared datasets: directories in the layout of tensorflow-datasets (TFDS), array_record files.

Two kinds are read: those that TFDS itself prepared, `<root>/<name>/<version>`, and our own,
`<root>/pdadmm_jax/<name>/<version>`. Ours lie apart because they leave out what is not used here
(SVHN's third split, ids, names of classes), which other users of TFDS would miss. Neither needs
TensorFlow.
"""

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import hashing

from experiments.data.catalogue import Entry
from experiments.data.dataset import DataError, Images, Splits

Builder = tfds.core.DatasetBuilder
Examples = Iterator[tuple[int, dict[str, Any]]]  # number and features

OWN = "pdadmm_jax"
_INFO = "dataset_info.json"  # TFDS writes it last


def directories(name: str, root: Path) -> tuple[Path, Path]:
    """Returns where TFDS and where we ourselves keep a dataset."""
    version = str(tfds.builder_cls(name).VERSION)
    return root / name / version, root / OWN / name / version


def find(name: str, root: Path) -> tuple[Builder | None, list[str]]:
    """Looks for a prepared dataset.

    Returns:
      What reads it, or None; and the places without it, each with the reason.
    """
    misses = []
    for directory in directories(name, root):
        if not directory.is_dir():
            misses.append(f"{directory} (absent)")
            continue
        if not (directory / _INFO).is_file():
            raise DataError(f"{directory}: incomplete, no {_INFO}; delete it and try again")
        try:
            builder = tfds.builder_from_directory(directory)
            _source(builder, "train")
        except NotImplementedError:  # TFDS's answer to files without random access
            misses.append(f"{directory} (for TensorFlow only: not in array_record form)")
        except Exception as error:
            raise _unreadable(directory, error) from None
        else:
            return builder, misses
    return None, misses


def read(builder: Builder, entry: Entry) -> Splits:
    """Reads the training and test images in the order in which they were published."""
    try:
        return {split: _read_split(builder, split, entry) for split in ("train", "test")}
    except Exception as error:  # TFDS, array_record, protobuf and Pillow each have their own
        raise _unreadable(builder.data_dir, error) from None


def _unreadable(directory: str | Path, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {error}"
    return DataError(
        f"{directory}: unreadable ({reason}); if it is damaged, delete it and try again"
    )


def _read_split(builder: Builder, split: str, entry: Entry) -> Images:
    source = _source(builder, split)
    count = len(source)
    pixels = np.empty((count, *entry.shape), np.uint8)
    labels = {kind: np.empty(count, np.int32) for kind in entry.classes}
    rows = source.__getitems__(range(count))  # in one call, which array_record reads in parallel
    for place, row in zip(_published_order(builder, split, count), rows, strict=True):
        pixels[place] = _decode(row["image"], entry.shape)
        for kind, column in labels.items():
            column[place] = row[kind]
    return Images(pixels, labels)


def _source(builder: Builder, split: str) -> Any:
    # Images stay encoded: TFDS takes longer to decode them than Pillow alone, and wants OpenCV.
    decoders = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]


def _decode(png: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.atleast_3d(np.asarray(image))
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"an image is {pixels.shape} {pixels.dtype}, expected {shape} uint8")
    return pixels


def _published_order(builder: Builder, split: str, count: int) -> Sequence[int]:
    """Says which published image each stored one is.

    TFDS stores images sorted by a hash of their number, salted with the name of the split, unless
    told not to shuffle. The paper's "first 55,000 images" must not depend on who prepared them.
    """
    if builder.info.disable_shuffling:
        return range(count)
    return sorted(range(count), key=hashing.Hasher(split).hash_key)


def write(name: str, entry: Entry, splits: Splits, root: Path) -> None:
    """Prepares a dataset, as a whole or not at all: TFDS renames the finished directory.

    Args:
      name: The dataset.
      entry: Its shape and classes.
      splits: Its images.
      root: The TFDS data directory.
    """
    own = directories(name, root)[1]
    writer = _Writer(name, entry, splits, root / OWN)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS announces itself
            writer.download_and_prepare(download_dir=root / "downloads", file_format="array_record")
    except OSError as error:
        if not (own / _INFO).is_file():  # else another process has been faster
            raise DataError(f"cannot write {own} ({error}): choose another prepared") from None


class _Writer(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes images that are in memory."""

    def __init__(self, name: str, entry: Entry, splits: Splits, root: Path) -> None:
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self.VERSION = tfds.builder_cls(name).VERSION
        self._entry = entry
        self._splits = splits
        super().__init__(data_dir=root)

    def _info(self) -> tfds.core.DatasetInfo:
        labels = {
            kind: tfds.features.ClassLabel(num_classes=count)
            for kind, count in self._entry.classes.items()
        }
        image = tfds.features.Image(shape=self._entry.shape, encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, **labels})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        del dl_manager
        return {split: self._generate_examples(images) for split, images in self._splits.items()}

    def _generate_examples(self, images: Images) -> Examples:
        for number, pixels in enumerate(images.pixels):
            labels = {kind: int(column[number]) for kind, column in images.labels.items()}
            # TFDS encodes a Pillow image with Pillow, an array with TensorFlow.
            yield number, {"image": Image.fromarray(pixels.squeeze()), **labels}
