"""The screen of a command, which may end before it: a pipe nobody reads, a terminal closed."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from contextlib import AbstractContextManager
from typing import Any, TextIO

from rich.console import Console

from experiments.runtime.environment import with_environment

_GONE = (errno.EPIPE, errno.EIO)  # what reads a pipe, and a terminal
_LEAST_COLUMNS = 40  # for help, whose words do not fit into fewer, and tyro then looks for ever
_UNLIMITED = 10**9


class _Pipe(io.FileIO):
    """A file that drops what nobody reads any more: ``... | head`` must not lose a training."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return len(memoryview(content).cast("B"))


def prepare() -> None:
    """Has nothing that happens to output and errors of this process end it.

    What reads them may end before it, the screen may lack characters, which are escaped, and there
    may be none at all.
    """
    sys.stdout, sys.stderr = _lenient(sys.stdout), _lenient(sys.stderr)


def console(*, quiet: bool = False) -> Console:
    """Where texts and tables are shown as they are: paths and names of the user's are no markup."""
    made = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, quiet=quiet)
    if made.width < 1:  # COLUMNS=0, for which Rich would show nothing
        made.width = shutil.get_terminal_size().columns
    return made


def columns_for_help() -> AbstractContextManager[None]:
    """A context in which help is as wide as the screen, but not too narrow to be read."""
    columns = max(shutil.get_terminal_size().columns, _LEAST_COLUMNS)
    return with_environment(COLUMNS=str(columns))


def columns_without_end() -> AbstractContextManager[None]:
    """A context in which no line is broken."""
    return with_environment(COLUMNS=str(_UNLIMITED))


def _lenient(stream: TextIO | None) -> TextIO:
    if stream is None:  # was closed
        return open(os.devnull, "w")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
