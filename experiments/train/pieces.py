"""Arrays in npz files: every process writes the pieces that its devices hold.

A piece is named by its array, dtype, place and shape, such as ``W|float32|0,128|64,128``, so that
any mesh finds what it needs.  Writing is done when the call returns, and fails in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pdadmm_jax._files import replacing

SUFFIX = ".npz"


class Piece(NamedTuple):
    """A rectangular part of an array.

    Attributes:
        dtype: of the array.
        start: where in the array it begins, a number for every axis.
        shape: its own.
        read: reads its values.
    """

    dtype: np.dtype
    start: tuple[int, ...]
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class Stored(NamedTuple):
    """An array on disk.

    Attributes:
        dtype: what it was saved as.
        shape: of the whole.
        pieces: that it consists of.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: Sequence[Piece]


def held(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Copies of what this process's devices hold, by the names of the pieces.

    Of what several devices hold one has the say, in whichever process.
    """
    found = {}
    for name, array in arrays.items():
        for shard in array.addressable_shards:
            if shard.replica_id == 0:
                start = [part.start or 0 for part in shard.index]
                found[_key(name, array.dtype, start, shard.data.shape)] = np.array(shard.data)
    return found


def write(path: Path, pieces: Mapping[str, np.ndarray]) -> None:
    """Writes pieces to a file, which appears when all of them have reached the disk.

    Raises:
        OSError: there is no room for them, or no way to write.
    """
    plain: dict[str, Any] = {name: _plain(values) for name, values in pieces.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **plain)
        file.flush()
        os.fsync(file.fileno())


def stored(folder: Path) -> dict[str, Stored]:
    """The arrays whose pieces are in the files of a folder, by name."""
    found: dict[str, list[Piece]] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                name, dtype, start, shape = key.rsplit("|", 3)
                read = partial(_member, path, key)
                piece = Piece(jax.numpy.dtype(dtype), _numbers(start), _numbers(shape), read)
                found.setdefault(name, []).append(piece)
    return {name: together(pieces) for name, pieces in found.items()}


def stored_by_orbax(folder: Path) -> dict[str, Stored]:
    """The same of a folder that Orbax wrote, as it once did; all of it is read into memory."""
    import orbax.checkpoint as ocp  # takes as long to import as the library itself

    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as orbax:
        metadata: Any = orbax.metadata(folder.absolute()).item_metadata
        shapes = {
            name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=here)
            for name, array in metadata.tree.items()
        }
        arrays = orbax.restore(folder.absolute(), args=ocp.args.StandardRestore(shapes))
    return {
        name: together([Piece(array.dtype, (0,) * array.ndim, array.shape, lambda a=array: a)])
        for name, array in arrays.items()
    }


def together(pieces: Sequence[Piece]) -> Stored:
    """The array that consists of these pieces."""
    ends = [np.add(piece.start, piece.shape) for piece in pieces]
    return Stored(pieces[0].dtype, tuple(map(int, np.max(ends, axis=0))), pieces)


def placed(array: Stored, wanted: jax.ShapeDtypeStruct) -> jax.Array:
    """An array on the devices, each of which reads its own part.

    Args:
        array: what was saved.
        wanted: its dtype, and the shape to cut it to and fill it up with zeros to; without a
            sharding it goes to the first device.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.make_array_from_callback(
        wanted.shape, wanted.sharding or here, partial(part_of, array, wanted.shape)
    )


def part_of(array: Stored, shape: Sequence[int], index: Any) -> np.ndarray:
    """What an index, a slice for every axis, picks of an array cut or filled up to a shape."""
    bounds = [one.indices(size)[:2] for one, size in zip(index, shape, strict=True)]
    found = np.zeros([end - begin for begin, end in bounds], array.dtype)
    for piece in array.pieces:
        there, here = [], []
        for (begin, end), start, size in zip(bounds, piece.start, piece.shape, strict=True):
            first, last = max(begin, start), min(end, start + size)
            there.append(slice(first - begin, max(last, first) - begin))
            here.append(slice(first - start, max(last, first) - start))
        if found[tuple(there)].size:
            found[tuple(there)] = np.asarray(piece.read()).view(array.dtype)[tuple(here)]
    return found


def _key(name: str, dtype: Any, start: Sequence[int], shape: Sequence[int]) -> str:
    return f"{name}|{np.dtype(dtype).name}|{','.join(map(str, start))}|{','.join(map(str, shape))}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _plain(values: np.ndarray) -> np.ndarray:
    """The same bytes in a dtype that NumPy's files know: bfloat16 is none."""
    return values if values.dtype.isbuiltin == 1 else values.view(f"u{values.dtype.itemsize}")


def _member(path: Path, key: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return file[key]
