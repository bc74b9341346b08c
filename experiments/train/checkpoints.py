"""Checkpoints: any pytree of arrays and a few facts about them, of which only whole ones count.

    checkpoints/0000000120/arrays/00000.npz  what the devices of process 0 hold, and so on
    checkpoints/0000000120/manifest.json     the facts, size and SHA-256 of every file above

The manifest comes last, and seals: a checkpoint without one was never finished, and one that no
longer agrees with it is not used.  Neither holds anything but numbers and text, so that reading
executes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from experiments.runtime.cluster import another_is_gone, is_main_process, meet
from experiments.runtime.errors import UsageError
from experiments.train import pieces
from pdadmm_jax._files import replacing

T = TypeVar("T")

DIRECTORY = "checkpoints"

_ARRAYS, _MANIFEST = "arrays", "manifest.json"
_DAMAGED = ".damaged"
_DIGEST = "sha256"


class Found(NamedTuple):
    """A whole checkpoint.

    Attributes:
        path: its directory.
        number: what it was saved under, the iteration in training.
        facts: what was saved beside the arrays.
    """

    path: Path
    number: int
    facts: dict[str, Any]


class Writer:
    """Saves one checkpoint after the other, in the background.

    Of several processes all have to call ``save``, with the same number and facts.
    """

    def __init__(self, directory: Path, keep: int, last: int | None = None) -> None:
        """Prepares nothing yet.

        Args:
            directory: where checkpoints are made, one directory each.
            keep: how many are left; older ones go when a new one is sealed.
            last: number of the newest one there is.
        """
        self._directory, self._keep, self._last = directory, keep, last
        self._writing: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(self, number: int, arrays: Any, facts: dict[str, Any]) -> Path:
        """Begins to save; returns once the arrays may be changed or donated.

        Args:
            number: larger than any before; the same as the last one does nothing.
            arrays: any pytree of arrays.
            facts: anything JSON can hold.

        Returns:
            The directory that the checkpoint will be in.

        Raises:
            UsageError: this one or the one before could not be written.
        """
        path = self._directory / f"{number:010d}"
        self.wait()
        if number == self._last:
            return path
        own = self._attempt(path, lambda: _prepared(path, arrays))
        self._last = number
        self._writing = threading.Thread(target=self._write, args=(path, own, facts), daemon=True)
        self._writing.start()
        return path

    def check(self) -> None:
        """Raises the UsageError of a save that has failed meanwhile."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def wait(self) -> None:
        """Waits until all that was begun is written, and in the first process sealed."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        self.check()

    def _write(self, path: Path, own: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        def write() -> None:
            folder = path / _ARRAYS
            try:
                pieces.write(folder / f"{jax.process_index():05d}{pieces.SUFFIX}", own)
                if is_main_process():
                    _await_others(folder)
                    _write_manifest(path, facts)
                    _delete_old(self._directory, self._keep)
            except FileNotFoundError as error:  # whose save fails takes the directory away
                raise OSError(errno.EIO, "another process could not write its part") from error

        try:
            self._attempt(path, write)
        except BaseException as error:
            self._failure = error

    def _attempt(self, path: Path, work: Callable[[], T]) -> T:
        """Does a part of saving; if it fails, says what, why, and what is left.

        The loss of another process, which may show here first, is no failure to write.
        """
        try:
            return work()
        except Exception as error:
            if another_is_gone(error):
                raise
            reason = _reason(error)
        shutil.rmtree(path, ignore_errors=True)  # as every other process does, at the same time
        left = [number for number, _ in sealed(self._directory)][-1:]
        rest = f"the last one is {left[0]}" if left else "there is none before it"
        raise UsageError(
            f"checkpoint {int(path.name)} could not be written to {path.parent} ({reason}); "
            f"{rest}: make room or writable, and resume."
        )


@contextmanager
def writing(directory: Path, keep: int, last: int | None = None) -> Iterator[Writer]:
    """A writer that has finished at the end; an error on the way leaves nothing to wait for."""
    writer = Writer(directory, keep, last)
    try:
        yield writer
    except BaseException:
        with contextlib.suppress(Exception):  # of two errors, the first one is told
            writer.wait()
        raise
    writer.wait()


def newest(directory: Path) -> tuple[Found | None, list[str]]:
    """The newest whole checkpoint, and what is wrong with those that are newer.

    Args:
        directory: where checkpoints are; need not exist.
    """
    complaints = []
    for number, path in reversed(sealed(directory)):
        try:
            return Found(path, number, _checked_facts(path)), complaints
        except ValueError as error:
            complaints.append(f"checkpoint {number} is not used, for {error}")
    return None, complaints


def holds(found: Found, shapes: Any) -> bool:
    """Whether a checkpoint has arrays of these names and shapes, and no others."""
    then = {name: array.shape for name, array in _stored(found).items()}
    return then == {name: wanted.shape for name, wanted in _named(shapes).items()}


def restore(found: Found, shapes: Any, *, resize: bool = False, without: str | None = None) -> Any:
    """Reads the arrays of a checkpoint, every process what its devices are to hold.

    Args:
        found: a whole checkpoint.
        shapes: pytree of ``jax.ShapeDtypeStruct``, with shardings where they matter: the names,
            shapes and dtypes that were saved, on devices that need not be those of then.
        resize: cut arrays that are too large for their shapes, and fill the others up with zeros.
        without: a part of what was saved, by its name, that is not read.

    Raises:
        UsageError: other arrays were saved.
    """
    named, stored = _named(shapes), _stored(found)
    if without is not None:
        stored = {name: kept for name, kept in stored.items() if name.split(".")[0] != without}
    for name in sorted(named.keys() ^ stored.keys()):
        raise UsageError(f"{found.path} and this run differ in what they hold: {name}.")
    for name, wanted in named.items():
        then = stored[name]
        if then.dtype != wanted.dtype or not (resize or then.shape == wanted.shape):
            raise UsageError(
                f"{found.path} holds {name} of shape {then.shape} and dtype {then.dtype}, but "
                f"{wanted.shape} and {wanted.dtype} is needed."
            )
    arrays = [pieces.placed(stored[name], wanted) for name, wanted in named.items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays)


def contents(found: Found) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint in this process's memory, by the names of their places."""
    return {
        name: pieces.part_of(array, array.shape, [slice(None)] * len(array.shape))
        for name, array in _stored(found).items()
    }


def _stored(found: Found) -> dict[str, pieces.Stored]:
    folder = found.path / _ARRAYS
    return pieces.stored(folder) or pieces.stored_by_orbax(folder)


def sealed(directory: Path) -> list[tuple[int, Path]]:
    """Numbers and paths of all checkpoints that were finished, whole or not, oldest first."""
    return [
        (number, path) for number, path in _numbered(directory) if os.path.lexists(path / _MANIFEST)
    ]


def tidy(directory: Path, last: int) -> None:
    """Makes way for what a resumed run is going to save.

    What was never finished goes; finished ones beyond the last that is used, which must have been
    damaged, are set aside.
    """
    for number, path in _numbered(directory):
        if not os.path.lexists(path / _MANIFEST):
            shutil.rmtree(path)
        elif number > last:
            aside = path.with_name(path.name + _DAMAGED)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def _prepared(path: Path, arrays: Any) -> dict[str, np.ndarray]:
    """What this process is to write, once there is a directory to write it to."""
    if is_main_process():
        shutil.rmtree(path, ignore_errors=True)  # what a killed run may have left
        (path / _ARRAYS).mkdir(parents=True)
    meet()
    return pieces.held(_named(arrays))


def _await_others(folder: Path) -> None:
    """Waits for the files of all processes; who loses one of them meanwhile ends with it.

    Raises:
        FileNotFoundError: another process could not write its own.
    """
    while len(list(folder.glob(f"*{pieces.SUFFIX}"))) < jax.process_count():
        if not folder.exists():
            raise FileNotFoundError(folder)
        time.sleep(0.01)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by the names of their places."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _numbered(directory: Path) -> list[tuple[int, Path]]:
    if not directory.is_dir():
        return []
    paths = (path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())
    return sorted((int(path.name), path) for path in paths)


def _write_manifest(path: Path, facts: dict[str, Any]) -> None:
    content = {"facts": facts, "files": _digests(path / _ARRAYS)}
    with replacing(path / _MANIFEST) as temporary, temporary.open("w") as file:
        file.write(_text(content))
        file.flush()
        os.fsync(file.fileno())


def _text(content: dict[str, Any]) -> str:
    """The manifest as it is written: content and its own digest."""
    plain = json.dumps(content, allow_nan=False)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return json.dumps({**content, _DIGEST: digest}, allow_nan=False, indent=1) + "\n"


def _digests(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of all files in a folder, by their paths in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): [path.stat().st_size, file_digest(path)] for path in files
    }


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, all of whose files are what they were when it was sealed.

    Raises:
        ValueError: naming what is damaged, and how.
    """
    manifest = path / _MANIFEST
    try:
        text = manifest.read_text()
        content = json.loads(text)
        content.pop(_DIGEST)
        sound = text == _text(content)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        sound, content = False, {}
    if not sound:
        raise ValueError(f"{manifest} is damaged")
    for name, (size, digest) in content["files"].items():
        file = path / _ARRAYS / name
        try:
            found = file.stat().st_size if file.is_file() else None
            intact = found == size and file_digest(file) == digest
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror})") from error
        if found is None:
            raise ValueError(f"{file} is missing")
        if found != size:
            raise ValueError(f"{file} has {found} bytes instead of {size}")
        if not intact:
            raise ValueError(f"{file} does not agree with its checksum")
    return content["facts"]


def _delete_old(directory: Path, keep: int) -> None:
    for _, path in sealed(directory)[:-keep]:
        (path / _MANIFEST).unlink()  # first: half a checkpoint must not look like one
        shutil.rmtree(path)


def _reason(error: BaseException) -> str:
    """What the operating system has to say of it, or else the error itself, in a short line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:200]} ..."
