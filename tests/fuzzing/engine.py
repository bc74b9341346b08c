"""What becomes of a case, and damage of the kinds that happen to any file."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from experiments.errors import UsageError, usage_errors

SECONDS = 20  # that a case may take; a hang is a failure

Case = Callable[[], object]


class Kind(NamedTuple):
    """Cases of one kind.

    Attributes:
        cases: how many.
        make: (random numbers, a folder of the kind's own) -> a case.
    """

    cases: int
    make: Callable[[Random, Path], Case]


class Hang(BaseException):
    """Too long: no error that a reader could take for its own."""


@contextlib.contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Ends what takes longer."""

    def end(*_: object) -> None:
        raise Hang(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def works(case: Case, seconds: float = SECONDS) -> bool:
    """Whether a case works; if not, it is refused by one line, or this fails."""
    try:
        with in_time(seconds), usage_errors():
            case()
    except UsageError as error:
        line = str(error)
        assert line.strip(), "refused without a word"
        assert len(line.splitlines()) == 1, f"not one line: {line!r}"
        assert len(line) < 3000, f"no clear line: {line[:300]!r}..."
        return False
    return True


def damaged(random: Random, content: bytes) -> bytes:
    """A file after an accident; now and then after none."""
    accidents: list[Callable[[], bytes]] = [
        lambda: content,
        lambda: content[: random.randrange(len(content) + 1)],
        lambda: content + random.randbytes(random.choice((1, 40))),
        lambda: _flipped(random, content),
        lambda: _overwritten(random, content),
        lambda: _without(random, content),
        lambda: b"",
        lambda: random.randbytes(random.randrange(300)),
    ]
    (accident,) = random.choices(accidents, (2, 4, 1, 5, 4, 3, 1, 1))
    return accident()


def _flipped(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwritten(random: Random, content: bytes) -> bytes:
    start, length = random.randrange(len(content) + 1), random.choice((1, 4, 8, 64))
    new = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    return content[:start] + new + content[start + length :]


def _without(random: Random, content: bytes) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + content[start + random.choice((1, 2, 16, 500)) :]


def assert_no_halves(folder: Path) -> None:
    """Nothing that was begun was left unfinished."""
    assert not list(folder.rglob("*.partial"))
    for page in folder.rglob("report.html"):
        assert page.read_text().endswith("</html>\n")
