"""The screen of a command, which may end before it: a pipe nobody reads, a terminal closed."""

from __future__ import annotations

import errno
import io
import sys
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO)  # what reads a pipe, and a terminal


class _Pipe(io.FileIO):
    """A file that drops what nobody reads any more: ``... | head`` must not lose a training."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return len(memoryview(content).cast("B"))


def outlive_readers() -> None:
    """Has this process go on when what reads its output or its errors ends before it."""
    sys.stdout, sys.stderr = _outliving(sys.stdout), _outliving(sys.stderr)


def _outliving(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
