"""Files: written whole or not at all, and arrays from npz files that others have written.

Of the latter nothing is executed, and little trusted.  NumPy makes room for what a file's header
announces before it has read a value.  So headers are held against the sizes of their members first.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

_SUFFIX = ".npy"  # of every array's member in the archive


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to that takes the place of ``path`` once all is written."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Reads arrays of an npz file.

    Args:
        path: the file.
        names: those to be read, if they are there; None for all.  What others hold does not matter.

    Returns:
        Name -> array, in the order of the file.

    Raises:
        ValueError: it is no such file, is damaged, or holds something else than plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith(_SUFFIX)]
            named = {one.filename.removesuffix(_SUFFIX): one for one in members}
            wanted = named if names is None else [name for name in named if name in names]
            return {name: _array(archive, named[name]) for name in wanted}
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except MemoryError:
        raise ValueError(f"{path}: its arrays do not fit into memory") from None
    except Exception as error:  # zipfile, zlib, NumPy and the parser of headers each have their own
        raise ValueError(f"{path}: no sound npz file ({type(error).__name__}: {error})") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        shape, dtype = _header(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, not plain numbers")
        announced = math.prod(shape) * dtype.itemsize + stream.tell()
    if announced != member.file_size:
        raise ValueError(
            f"{member.filename} has {member.file_size} bytes, but its header says {announced}"
        )
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _header(stream: Any) -> tuple[tuple[int, ...], np.dtype]:
    major, _ = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype
