"""Requests to stop: who may ask, who is not heard, and where nobody can ask."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from experiments.runtime.interrupts import stop_requests

REQUESTS = [
    getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "USR1", "USR2", "XCPU")
]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", REQUESTS)
def test_every_signal_that_asks_is_heard_and_no_more_than_heard(number):
    before = signal.getsignal(number)
    with stop_requests() as asked:
        send(number)
        if number != signal.SIGINT:  # shell, terminal and batch system may all send theirs
            send(number)
            send(signal.SIGTERM)
        assert asked[0] == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first", REQUESTS)
def test_who_insists_by_ctrl_c_does_not_wait(first):
    with stop_requests():
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    with stop_requests(insisting=False) as asked:
        send(first)
        send(signal.SIGINT)
        assert asked == [first, signal.SIGINT]


@pytest.mark.parametrize("number", REQUESTS)
def test_what_was_ignored_from_the_start_stays_ignored(number):
    """By nohup, and by shells for what runs in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_requests() as asked:
            send(number)
        assert asked == []
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_in_another_thread_nobody_asks():
    heard = []

    def work():
        with stop_requests() as asked:
            heard.append(asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [[]]
