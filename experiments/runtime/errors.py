"""A user's mistake: one line on the screen and exit code 2, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """What was asked for cannot be done; the message names the value and the way out."""

    def __init__(self, message: str) -> None:
        """Makes one line of the message, in which values stay as they are, with their blanks."""
        super().__init__(" ".join(line.strip() for line in message.splitlines() if line.strip()))


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turns the errors by which settings and data are refused into ``UsageError``.

    Only for code that takes in what the user gave: further on, a ValueError is a bug of ours and
    keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
