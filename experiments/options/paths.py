"""What a user's words for a file or a directory mean; imports neither JAX nor the library."""

from __future__ import annotations

import os
import re
from pathlib import Path


def local_path(text: str) -> Path:
    """The path of a file or directory of this machine, ``~`` and ``~name`` expanded.

    Args:
        text: as it was typed.

    Raises:
        ValueError: it names nothing that can be on this machine.
    """
    if not text:
        raise ValueError("a path is empty: give a file or a directory, or leave the option out.")
    # Path would take it for one below a directory "gs:".
    if re.match(r"[A-Za-z][A-Za-z0-9.+-]+:/", text):
        raise ValueError(
            f"{text} is an address, not a path of this machine: give a file or directory here, "
            "such as where it is mounted."
        )
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text:
        raise ValueError(
            f"{text} is in a home directory that nobody knows here: give the path in full."
        )
    path = Path(expanded)
    check_utf8(path)
    return path


def check_utf8(path: Path) -> None:
    """Refuses a name that libraries which take all names for UTF-8, such as Orbax, cannot find.

    Raises:
        ValueError: its bytes are not those of its characters in UTF-8.
    """
    if not is_utf8(path):
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ValueError(f"{name} is no path in UTF-8: give one that is, in a locale of UTF-8.")


def is_utf8(path: Path) -> bool:
    """Whether a path's bytes are those of its characters in UTF-8."""
    return os.fsencode(path) == str(path).encode("utf-8", "surrogatepass")
