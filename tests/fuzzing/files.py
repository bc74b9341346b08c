"""Data sets and weights in files that something has happened to."""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import tarfile
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import scipy.io

from experiments import runs
from experiments.data import DataConfig, load
from experiments.data.archives import checksums, given
from experiments.data.catalogue import ENTRIES, Entry
from experiments.data.dataset import Images
from tests.data.conftest import WRITERS, make_images
from tests.fuzzing.engine import Case, damaged

TRAIN, TEST = 30, 10
SHAPES = (
    (),
    (0,),
    (1,),
    (3,),
    (30,),
    (30, 0),
    (30, 1),
    (30, 4),
    (30, 7, 4),
    (30, 8, 8, 3),
    (10,) * 5,
)
DTYPES = (
    "?",
    "u1",
    "u2",
    ">u2",
    "i1",
    "i8",
    "f2",
    "f4",
    ">f8",
    "c8",
    "U3",
    "S2",
    "M8[s]",
    "m8",
    "V4",
)


class Bomb:
    """What goes off when a pickle is loaded."""

    gone_off = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "gone_off", True)


def small(name: str) -> tuple[Entry, dict[str, Images]]:
    """A small sound data set, and a catalogue entry for it."""
    entry = replace(ENTRIES[name], sizes={"train": TRAIN, "test": TEST})
    splits = {
        split: make_images(seed, count, entry)
        for seed, (split, count) in enumerate(entry.sizes.items())
    }
    return entry, splits


@functools.cache
def archives(name: str, folder: Path) -> tuple[Entry, dict[str, bytes]]:
    """The archives of such a data set, and its entry."""
    entry, splits = small(name)
    directory = folder / f"sound {name}"
    directory.mkdir()
    WRITERS[name](directory, splits)
    return entry, {path.name: path.read_bytes() for path in directory.iterdir()}


def verified(random: Random, folder: Path) -> Case:
    """Archives in the user's directory, whose checksums are known; one is another's, or gone."""
    _, sound = archives("mnist", folder)
    wanted = {
        file: (f"original/{file}", checksums.UrlInfo(len(each), sha256(each).hexdigest(), file))
        for file, each in sound.items()
    }
    directory = folder / "given"
    directory.mkdir(exist_ok=True)
    for file, each in sound.items():
        (directory / file).write_bytes(each)
    changed = random.choice(sorted(sound))
    (directory / changed).write_bytes(damaged(random, sound[changed]))
    if random.random() < 0.1:
        (directory / changed).unlink()

    def case() -> None:
        for file, path in given(wanted, directory).items():
            assert path.read_bytes() == sound[file]  # nothing else is let through

    return case


def published(name: str, random: Random, folder: Path) -> Case:
    """Archives of one of the paper's data sets, one of them changed, parsed and checked."""
    entry, sound = archives(name, folder)
    changed = random.choice(sorted(sound))
    content = dict(sound)
    content[changed] = _accident(random, changed, sound)
    paths = {}
    for file, each in content.items():
        paths[file] = folder / file
        paths[file].write_bytes(each)
    return lambda: entry.checked(entry.parse(paths), name)


def _accident(random: Random, file: str, sound: dict[str, bytes]) -> bytes:
    """Damage to a file, or to what is packed in it, or another file in its place."""
    kind = random.random()
    if kind < 0.3:
        return damaged(random, sound[file])
    if kind < 0.4:
        return random.choice(sorted(sound.values()))
    if file.endswith(".tar.gz"):
        return _repacked_tar(random, sound[file])
    if file.endswith(".gz"):
        return gzip.compress(damaged(random, gzip.decompress(sound[file])), 1)
    return _repacked_mat(random, sound[file])


def _repacked_tar(random: Random, content: bytes) -> bytes:
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as new,
    ):
        members = old.getmembers()
        changed = random.choice(members)
        for member in members:
            file = old.extractfile(member)
            assert file is not None
            data = file.read()
            if member is changed:
                data = damaged(random, data)
                member.name = random.choice((member.name, member.name, "../x", "data"))
                member.type = random.choice(
                    (tarfile.REGTYPE,) * 4 + (tarfile.SYMTYPE, tarfile.DIRTYPE)
                )
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _repacked_mat(random: Random, content: bytes) -> bytes:
    variables = {
        name: each for name, each in scipy.io.loadmat(io.BytesIO(content)).items() if name in "Xy"
    }
    changed = random.choice("Xy")
    new = random.choice((variables[changed].copy(), _array(random), None, variables["X"]))
    if new is not None and new.dtype.kind == "u" and new.size and random.random() < 0.5:
        new.flat[random.randrange(new.size)] = random.choice((0, 1, 9, 10, 11, 255))
    variables[changed] = new
    out = io.BytesIO()
    kept = {name: each for name, each in variables.items() if each is not None}
    scipy.io.savemat(out, kept)
    return out.getvalue()


def _array(random: Random) -> np.ndarray:
    """Any array that a file of numbers can hold."""
    numbers = np.random.default_rng(random.randrange(2**32))
    shape, dtype = random.choice(SHAPES), np.dtype(random.choice(DTYPES[:10]))
    with np.errstate(all="ignore"):
        return (numbers.random(shape) * random.choice((1, 1, 200, -3))).astype(dtype)


def sound_set(kind: str) -> dict[str, np.ndarray]:
    """A data set of images and three classes, as users have them."""
    numbers = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        x = (
            numbers.integers(0, 256, (count, 6, 4))
            if kind == "u1"
            else numbers.random((count, 6, 4))
        )
        arrays |= {f"x_{split}": x.astype(kind), f"y_{split}": np.arange(count) % 3}
    return arrays


def _weights(random: Random) -> dict[str, np.ndarray]:
    widths, arrays = random.choice(((4, 3), (4, 3, 2), (5, 5, 5, 5))), {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths), start=1):
        arrays |= {
            f"W{layer}": np.ones((n_in, n_out), random.choice(("f4", "f8"))),
            f"b{layer}": np.zeros(n_out, "f4"),
        }
    return arrays


def _changed_arrays(random: Random, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One array of another shape, type or value, under another name, or not there."""
    name = random.choice(sorted(arrays))
    old = arrays.pop(name)
    if random.random() < 0.15:
        return arrays
    new = [
        lambda: _array(random),
        lambda: old.astype(random.choice(DTYPES)),
        lambda: old[: random.randrange(len(old) + 1)],
        lambda: old.reshape(random.choice((-1, (len(old), -1), (-1, 1), (1, *old.shape)))),
        lambda: (old.astype("f8") * random.choice((-1, 0, 1, 7))).astype("i4").astype(old.dtype),
        lambda: np.where(np.arange(old.size).reshape(old.shape) == 5, np.nan, old / 300),
        lambda: np.array([Bomb()] * len(old), object),
        lambda: old,
    ]
    place = random.choice((name, name, name, name, name.upper(), "", "x/y", "../x", "a" * 300))
    return arrays | {place: random.choice(new)()}


def _npz(random: Random, arrays: dict[str, np.ndarray]) -> bytes:
    """An npz file, damaged inside, outside, or not at all."""
    kind = random.random()
    if kind < 0.4:
        arrays = _changed_arrays(random, arrays)
    out = io.BytesIO()
    pack = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", pack) as archive:
        for name, each in arrays.items():
            member = io.BytesIO()
            np.save(member, each)
            content = member.getvalue()
            if 0.4 <= kind < 0.7 and random.random() < 0.4:
                content = damaged(random, _forged(random, content))
            archive.writestr(f"{name}.npy", content)
    return damaged(random, out.getvalue()) if kind >= 0.7 else out.getvalue()


def _forged(random: Random, content: bytes) -> bytes:
    """Another header before the same values."""
    headers = (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000,), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', '<f4'), ('b', '<i2')], 'fortran_order': False, 'shape': (2,), }",
        b"{'descr': '<f4', 'fortran_order': 1, 'shape': [3], }",
        b"__import__('tests.fuzzing.files').fuzzing.files.Bomb.go_off()",
        b"(" * 5000,
        b"{" + b"1:" * 3000,
    )
    start = content.index(b"{")
    return random.choice((content, content[:start] + random.choice(headers) + content[start:]))


def own(random: Random, folder: Path) -> Case:
    """A data set of the user's own."""
    path = folder / "own.npz"
    path.write_bytes(_npz(random, sound_set(random.choice(("u1", "f4")))))
    protocol = random.choice(("full", "paper"))
    return lambda: load(DataConfig(file=path, protocol=protocol))


def weights(random: Random, folder: Path) -> Case:
    """The weights of a run."""
    (folder / "weights.npz").write_bytes(_npz(random, _weights(random)))
    return lambda: runs.read_weights(folder)
