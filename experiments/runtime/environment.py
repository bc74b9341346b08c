"""Environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def settle_homes() -> None:
    """Has this process keep to the standard of XDG, by which relative directories do not count.

    Libraries that look for a place for their caches, such as Matplotlib, would make a directory
    named ``~`` where they are.
    """
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        place = os.path.expanduser(os.environ.pop(name, ""))
        if os.path.isabs(place):
            os.environ[name] = place


@contextmanager
def with_environment(**settings: str) -> Iterator[None]:
    """Sets environment variables of this process for a while."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
