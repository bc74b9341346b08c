"""``python -m experiments damage``: what a run makes of damaged files, full disks and company."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.reliability import outcome
from experiments.reliability.config import DamageConfig
from experiments.reliability.processes import (
    SMALL,
    Done,
    await_iteration,
    directory_in,
    finish,
    run,
    start,
)
from experiments.report.measurement import Measurement, table
from experiments.train import checkpoints

_RUN = (*SMALL, "--iterations", 100)
_TOO_SMALL = 400_000  # bytes, for a second checkpoint of such a run
_LARGE_ENOUGH = 50_000_000


def main(config: DamageConfig) -> int:
    """Tries everything; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("damage", config)
    where = measurement.directory / "runs"
    done = run(*_RUN, "--out", where / "whole")
    if done.code:
        raise RuntimeError(done.err)
    whole = directory_in(where / "whole")
    found = files_damaged(whole / checkpoints.DIRECTORY, config.bits, random.Random(config.seed))
    found |= {
        "a run goes on from the checkpoint before a damaged one": [_goes_on(whole, where)],
        "no checkpoint is whole: refused": [_nothing_left(whole, where)],
        "a limit on the size of files": [_small_files(whole, where)],
        "a full disk": [_full_disk(whole, where)],
        "a read-only directory": [_read_only(whole, where)],
        "two runs on one directory": [_two_at_once(where)],
    }
    shutil.rmtree(where)
    measurement.show(_table(found))
    measurement.save(found)
    return (
        1 if any(wrong for tries in found.values() for wrong in tries if wrong != _SKIPPED) else 0
    )


_SKIPPED = "skipped: file systems cannot be mounted here"


def files_damaged(directory: Path, bits: int, chosen: random.Random) -> dict[str, list[str]]:
    """Damages every file of the newest checkpoint in many ways, one at a time.

    Returns:
        For every way what was wrong each time: empty where the damage was found, named, and the
        checkpoint before it taken.
    """
    (_, before), (_, newest) = checkpoints.sealed(directory)[-2:]
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    ways: dict[str, Callable[[Path], None]] = {
        "a flipped bit": lambda file: flip(file, chosen),
        "a truncated file": lambda file: os.truncate(file, chosen.randrange(file.stat().st_size)),
        "an emptied file": lambda file: os.truncate(file, 0),
        "a missing file": lambda file: file.unlink(),
    }
    found: dict[str, list[str]] = {name: [] for name in ways}
    for name, way in ways.items():
        for file in files:
            if not file.stat().st_size:
                continue
            for _ in range(bits if name == "a flipped bit" else 1):
                original = file.read_bytes()
                way(file)
                good, complaints = checkpoints.newest(directory)
                taken = good is not None and good.path == before
                unsealed = file.name == "manifest.json" and not file.exists()  # never was finished
                named = unsealed or any(file.name in complaint for complaint in complaints)
                found[name].append("" if taken and named else f"{file.name}: {complaints}")
                file.write_bytes(original)
    return found


def damaged(directory: Path, chosen: random.Random) -> str:
    """Does something to one file of a directory of checkpoints, for fuzzing ``newest`` with.

    Returns:
        What was done.
    """
    file = chosen.choice(sorted(path for path in directory.rglob("*") if path.is_file()))
    way = chosen.choice(("flip", "truncate", "extend", "fill", "delete", "replace"))
    size = file.stat().st_size
    if way == "flip" and size:
        flip(file, chosen)
    elif way == "truncate" and size:
        os.truncate(file, chosen.randrange(size))
    elif way == "extend":
        with file.open("ab") as stream:
            stream.write(chosen.randbytes(chosen.randint(1, 100)))
    elif way == "fill":
        file.write_bytes(chosen.randbytes(chosen.randint(0, 2 * size)))
    elif way == "delete":
        file.unlink()
    else:
        file.unlink()
        file.mkdir()
    return f"{way} {file.relative_to(directory)}"


def flip(file: Path, chosen: random.Random) -> None:
    """Flips one bit of a file."""
    content = bytearray(file.read_bytes())
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    file.write_bytes(content)


def _goes_on(whole: Path, where: Path) -> str:
    """The newest checkpoint is damaged: a warning, and the result of a run without the damage."""
    copy = _copy(whole, where / "damaged")
    newest = checkpoints.sealed(copy / checkpoints.DIRECTORY)[-1][1]
    file = max((path for path in newest.rglob("*") if path.is_file()), key=os.path.getsize)
    flip(file, random.Random(0))
    done = run("train", "--resume", copy)
    if done.code or file.name not in done.err or not newest.with_suffix(".damaged").exists():
        return f"code {done.code}: {done.err}"
    return ", ".join(outcome.unlike(copy, whole))


def _nothing_left(whole: Path, where: Path) -> str:
    copy = _copy(whole, where / "lost")
    for _, path in checkpoints.sealed(copy / checkpoints.DIRECTORY):
        flip(path / "manifest.json", random.Random(0))
    return _refusal(run("train", "--resume", copy), "manifest.json is damaged")


def _small_files(whole: Path, where: Path) -> str:
    """Files cannot grow beyond a size: the run ends with a line, and goes on without the limit."""
    sizes = [path.stat().st_size for path in whole.rglob("d/*")]
    limit = max(sizes) // 2
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        process = start(*_RUN, "--out", where / "limited", "--checkpoint.every", 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    wrong = _refusal(finish(process), "File too large")
    return wrong or _same_after(where / "limited", whole)


def _full_disk(whole: Path, where: Path) -> str:
    with _disk(where / "disk") as resized:
        if resized is None:
            return _SKIPPED
        resized(f"size={_TOO_SMALL}")
        wrong = _refusal(run(*_RUN, "--out", where / "disk"), "No space left on device")
        resized(f"size={_LARGE_ENOUGH}")
        return wrong or _same_after(where / "disk", whole)


def _read_only(whole: Path, where: Path) -> str:
    with _disk(where / "locked") as changed:
        if changed is None:
            return _SKIPPED
        copy = _copy(whole, where / "locked" / "run")
        shutil.rmtree(checkpoints.sealed(copy / checkpoints.DIRECTORY)[-1][1])
        changed("ro")
        wrong = _refusal(run("train", "--resume", copy), "Read-only file system")
        wrong = wrong or _refusal(run(*_RUN, "--out", where / "locked"), "Read-only file system")
        changed("rw")
        return wrong or _same_after(where / "locked", whole)


def _two_at_once(where: Path) -> str:
    first = start(*SMALL, "--iterations", 10**6, "--out", where / "shared")
    try:
        await_iteration(first)
        return _refusal(run("train", "--resume", directory_in(where / "shared")), "at work in")
    finally:
        first.kill()
        finish(first)


def _same_after(out: Path, whole: Path) -> str:
    """Goes on with the run there; what differs in the end from one that met no obstacle."""
    done = run("train", "--resume", directory_in(out))
    return done.err if done.code else ", ".join(outcome.unlike(directory_in(out), whole))


def _refusal(done: Done, reason: str) -> str:
    """What is wrong with a refusal: it is one line with the reason, and exit code 2."""
    lines = done.err.splitlines()
    fine = done.code == 2 and len(lines) == 1 and reason in done.err
    return "" if fine else f"code {done.code}: {done.err}"


def _copy(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


@contextmanager
def _disk(path: Path) -> Iterator[Callable[[str], None] | None]:
    """A file system of its own in memory, and how to change its options; None without the right."""
    path.mkdir(parents=True)
    size = f"size={_LARGE_ENOUGH}"
    mount = shutil.which("mount")
    mounted = mount and not _call("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path))
    try:
        yield (lambda options: _remount(path, options)) if mounted else None
    finally:
        if mounted:
            _call("umount", str(path))


def _remount(path: Path, options: str) -> None:
    if _call("mount", "-o", f"remount,{options}", str(path)):
        raise RuntimeError(f"{path} cannot be mounted with {options}")


def _call(*words: str) -> int:
    with contextlib.suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode
    return 1


def _table(found: dict[str, list[str]]):
    made = table("", "tries", "as it should be")
    for name, tries in found.items():
        skipped = tries == [_SKIPPED]
        made.add_row(name, str(len(tries)), "skipped" if skipped else str(tries.count("")))
    for name, tries in found.items():
        for wrong in sorted({wrong for wrong in tries if wrong and wrong != _SKIPPED}):
            made.add_row(f"{name}: {wrong}")
    return made
