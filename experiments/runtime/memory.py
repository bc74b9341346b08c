"""How much memory this process may have: what the machine has, and what less it is allowed."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")  # of control groups, version 2 and 1


class Limit(NamedTuple):
    """A bound on memory.

    Attributes:
        bytes: how much.
        source: what sets it, in words that go on after the number.
        shared: whether it holds for all processes of this machine or container together; else for
            each of them.
    """

    bytes: int
    source: str
    shared: bool


def limits() -> list[Limit]:
    """All bounds on this process's memory."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = [Limit(pages, "on this machine", True)]
    found += [Limit(most, f"by {file}", True) for file, most in _control_groups().items()]
    for what, option, name in (
        (resource.RLIMIT_AS, "v", "of address space"),
        (resource.RLIMIT_DATA, "d", "of data"),
    ):
        most, _ = resource.getrlimit(what)
        if most != resource.RLIM_INFINITY:
            found.append(Limit(most, f"{name} for each process by ulimit -{option}", False))
    return found


def _control_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> dict[Path, int]:
    """The memory limits of the control groups that this process is in, by their files.

    Those of the groups around a group hold as well.  A container may see its own group as the root,
    and be told a path from outside that does not exist in it.

    Args:
        groups: lines of number, controllers and path, joined by colons.
        root: where the file systems of control groups are mounted.
    """
    if not groups.exists():
        return {}
    found = {}
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mounts = [root / controllers] if controllers else [root, root / "unified"]
        inside = Path(path.strip("/"))
        for mount in mounts:
            for group in (inside, *inside.parents):
                found |= _limit_of(mount / group)
    return found


def _limit_of(group: Path) -> dict[Path, int]:
    files = (group / name for name in _LIMIT_FILES)
    texts = {file: file.read_text().strip() for file in files if file.is_file()}
    return {file: int(text) for file, text in texts.items() if text != "max"}
