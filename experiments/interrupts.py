"""Ctrl-C and SIGTERM as a request to stop at the next point where everything can be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # exit code of a command that stopped because it was asked to


class Interrupted(Exception):
    """A stop was asked for; the message says what is kept."""


@contextmanager
def stop_requests(*, insisting: bool = True) -> Iterator[list[int]]:
    """Yields a list that grows by every signal that asks for a stop.

    Args:
        insisting: a second signal does not wait for what the first one asked for.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and insisting:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
