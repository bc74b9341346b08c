"""Signals as a request to stop at the next point where everything can be saved."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # exit code of a command that stopped because it was asked to

# Ctrl-C; kill; a terminal that closes; what batch systems send ahead of a limit (Slurm, Grid
# Engine), and the system itself at that of processor time.
_REQUESTS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


class Interrupted(Exception):
    """A stop was asked for; the message says what is saved."""


@contextmanager
def stop_requests(*, insisting: bool = True) -> Iterator[list[int]]:
    """Yields a list that grows by every signal that asks for a stop.

    What this process was started to ignore, by nohup or in the background, stays ignored.  Signals
    come to the main thread alone: in another one nobody asks.

    Args:
        insisting: a further Ctrl-C does not wait for what the first signal asked for.  Others may
            come several times for one reason, from the terminal, the shell and a batch system.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and insisting and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    heard = [number for number in _REQUESTS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ends this process with one word where an interrupt is nobody's request to stop and save.

    At once: the interpreter's own way out would take the memory from under the programs of XLA that
    still run, and a second interrupt would find it halfway.
    """
    sys.unraisablehook = _once_more
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def _once_more(dropped: sys.UnraisableHookArgs) -> None:
    """Interrupts again where Python dropped it, as it does in what C calls back (imports)."""
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.1, _thread.interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(dropped)
