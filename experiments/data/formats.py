"""Parsers: from the original archives of a dataset to images and labels.

Each takes the paths of the archives by file name and returns the "train" and the "test" split. What
a damaged or foreign file can look like is checked here; what the dataset demands of any file (image
size, range of the labels) is checked by `Images.check`.
"""

import gzip
import math
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io

from experiments.data.dataset import DataError, Images, Splits

IDX_ARCHIVES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
MAT_ARCHIVES = ("train_32x32.mat", "test_32x32.mat")

_CIFAR_PIXELS = (3, 32, 32)  # channels come first in the file
_DAMAGED = (OSError, EOFError, zlib.error, tarfile.TarError)


def idx(paths: Mapping[str, Path]) -> Splits:
    """MNIST's format: per split a file of images and one of labels, gzipped or not."""
    train, train_labels, test, test_labels = (paths[name] for name in IDX_ARCHIVES)
    return {"train": _idx_split(train, train_labels), "test": _idx_split(test, test_labels)}


def _idx_split(images: Path, labels: Path) -> Images:
    return Images(_read_idx(images, 3)[..., np.newaxis], {"label": _read_idx(labels, 1)})


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads an idx file: 0, 0, type 8 (uint8), number of dimensions, big-endian sizes, values."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except _DAMAGED as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from None
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic or len(content) < header:
        raise DataError(f"{path}: starts with {content[:4].hex()}, expected idx {magic.hex()}")
    sizes = np.frombuffer(content, ">u4", count=dimensions, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != (announced := math.prod(sizes)):  # of which NumPy's integers know too few
        raise DataError(f"{path}: {values.size} values, but its header says {announced}")
    return values.reshape(sizes)


def mat(paths: Mapping[str, Path]) -> Splits:
    """SVHN's format: per split one MATLAB 5 file."""
    train, test = (paths[name] for name in MAT_ARCHIVES)
    return {"train": _read_mat(train), "test": _read_mat(test)}


def _read_mat(path: Path) -> Images:
    """Reads X (height, width, channels, N) and y (N, 1), where 10 stands for the digit 0."""
    try:
        variables = scipy.io.loadmat(path, variable_names=("X", "y"))
        pixels, labels = np.moveaxis(variables["X"], -1, 0), variables["y"].ravel()
    except Exception as error:  # scipy raises nearly anything on a damaged file
        raise DataError(f"{path}: no MATLAB 5 file with X and y ({error})") from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError(f"{path}: X is {pixels.ndim}-d {pixels.dtype}, expected 4-d uint8")
    if labels.dtype.kind not in "iuf" or not np.isin(labels, np.arange(1, 11)).all():
        raise DataError(f"{path}: y has other values than the whole numbers 1 to 10")
    return Images(pixels, {"label": labels % 10})


def cifar(
    paths: Mapping[str, Path], *, members: Mapping[str, Sequence[str]], kinds: Sequence[str]
) -> Splits:
    """CIFAR's binary format: a gzipped tar file of records, each some label bytes and an image.

    Args:
      paths: The one archive, or the folder that unpacking it made.
      members: Split -> its files in the archive, in order.
      kinds: What the label bytes of a record are, in order.
    """
    (path,) = paths.values()
    blobs = _read_tar(path, [name for names in members.values() for name in names])
    return {
        split: _cifar_split(path, b"".join(blobs[name] for name in names), kinds)
        for split, names in members.items()
    }


def _read_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Reads the named members in one pass: a gzipped tar file cannot be searched otherwise."""
    if path.is_dir():
        files = {name: path.parent / name for name in names}
        return {name: _read_member(file) for name, file in files.items()}
    blobs = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.name in names and (file := archive.extractfile(member)):
                    blobs[member.name] = file.read()
    except _DAMAGED as error:
        raise DataError(f"{path}: damaged tar.gz file ({error})") from None
    if missing := [name for name in names if name not in blobs]:
        raise DataError(f"{path}: lacks {', '.join(missing)}")
    return blobs


def _read_member(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _cifar_split(path: Path, content: bytes, kinds: Sequence[str]) -> Images:
    size = len(kinds) + np.prod(_CIFAR_PIXELS)
    if len(content) % size:
        raise DataError(f"{path}: {len(content)} bytes are no whole number of {size}-byte records")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    pixels = records[:, len(kinds) :].reshape(-1, *_CIFAR_PIXELS).transpose(0, 2, 3, 1)
    return Images(pixels, {kind: records[:, column] for column, kind in enumerate(kinds)})
