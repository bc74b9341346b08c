"""JSON that a program of ours wrote once, and that anything may have happened to since."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read_json(path: Path, kind: TypeAdapter[T]) -> T:
    """Reads a file and checks that it is what its writer makes.

    Raises:
        ValueError: it is not; the message is one line that names the file and the place.
        OSError: it cannot be read.
    """
    return checked_json(path.read_bytes(), kind, str(path))


def checked_json(content: bytes, kind: TypeAdapter[T], name: str) -> T:
    """The same for what has been read already."""
    try:
        return kind.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = " ".join(f"{place}: {first['msg']}".split()).removeprefix(": ")
        raise ValueError(f"{name} is damaged ({reason})") from None
