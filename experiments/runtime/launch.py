"""``python -m experiments launch``: one command as several processes of this machine."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from experiments.runtime.errors import UsageError
from experiments.runtime.interrupts import stop_requests
from experiments.runtime.options import LaunchConfig

# In the environment of a process whose standard input closes when its launcher ends.
SUPERVISED = "PDADMM_SUPERVISED"

LOOPBACK = "127.0.0.1"  # by which processes of one machine talk, whatever its network is

_SECONDS_TO_LEAVE = 3.0  # for those whom a failure elsewhere leaves without purpose
_SECONDS_TO_SAVE = 60.0  # after a stop was asked for
_SAID_WHY = (2, 130)  # exit codes of a user's mistake and of an interrupt, which explain themselves


@dataclass
class Process:
    """One of the processes, and how it ended."""

    number: int
    popen: subprocess.Popen[str]
    code: int | None = field(default=None, init=False)

    def look(self) -> str | None:
        """The failure that has happened to it since the last look, if any."""
        if self.code is not None:
            return None
        found, status = os.waitpid(self.popen.pid, os.WNOHANG | os.WUNTRACED)
        if not found:
            return None
        if os.WIFSTOPPED(status):
            return f"was stopped by {signal.Signals(os.WSTOPSIG(status)).name}"
        self.code = self.popen.returncode = os.waitstatus_to_exitcode(status)
        if self.code < 0:
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"exited with code {self.code}" if self.code else None

    def send(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.popen.pid, number)


def main(config: LaunchConfig, command: list[str]) -> int:
    """Runs ``python -m experiments COMMAND`` in every process and returns the exit code.

    What the first process writes appears as it is, what the others write with their number before
    it.  When one of them fails, is killed or is stopped, all of them end.
    """
    importlib.import_module("jax")  # which may refuse its environment: once instead of every time
    port = _free_port()
    processes = [_start(number, port, config, command) for number in range(config.processes)]
    try:
        with stop_requests(insisting=False) as asked:
            return _watch(processes, asked)
    finally:
        for process in processes:
            process.send(signal.SIGKILL)


def result_of(command: list[object], processes: int, devices: int = 1) -> Any:
    """What a command prints last, read as JSON, when it runs as several processes.

    Args:
        command: its words.
        processes: each pinned to a core of its own, if it is to have one device.
        devices: virtual ones of each, where it computes on the CPU.

    Raises:
        UsageError: it failed; with the first reason given.
    """
    pin = "--pin" if devices == 1 else "--no-pin"
    words = ["launch", pin, "--processes", processes, *command]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *map(str, words)],
        capture_output=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        text=True,
        errors="backslashreplace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        _, found, reason = next((line for line in said if "error: " in line), said[-1]).partition(
            "error: "
        )
        raise UsageError(f"the measurement failed: {reason if found else said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _watch(processes: list[Process], asked: list[int]) -> int:
    """Waits until all have ended; the first failure gives the others a deadline and the code."""
    code, deadline = 0, float("inf")
    while any(process.code is None for process in processes):
        late = time.monotonic() > deadline
        for process in processes:
            if late:
                process.send(signal.SIGKILL)
            failure = process.look()
            if failure is None or late:
                continue
            if not code:
                code = process.code if process.code and process.code > 0 else 1
                deadline = time.monotonic() + _SECONDS_TO_LEAVE
            # All are told: the first to be seen need not be the cause.
            if code not in _SAID_WHY:
                print(f"error: process {process.number} {failure}", file=sys.stderr, flush=True)
        while asked:
            number = asked.pop()
            deadline = min(deadline, time.monotonic() + _SECONDS_TO_SAVE)
            for process in processes:
                process.send(number)
        time.sleep(0.05)
    return code


def _start(number: int, port: int, config: LaunchConfig, command: list[str]) -> Process:
    cluster = {
        "coordinator": f"{LOOPBACK}:{port}",
        "processes": config.processes,
        "process": number,
    }
    settings = [text for name, value in cluster.items() for text in (f"--cluster.{name}", value)]
    popen = subprocess.Popen(
        [sys.executable, "-m", "experiments", *command, "--distributed"]
        + [str(setting) for setting in settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if number else None,
        stderr=subprocess.STDOUT if number else None,
        env=os.environ | {SUPERVISED: "1"},
        start_new_session=True,  # Ctrl-C reaches them through the launcher, once
        encoding=sys.stderr.encoding,  # theirs is the same
        errors="backslashreplace",
    )
    if config.pin:  # before it starts threads, which inherit it
        os.sched_setaffinity(popen.pid, {sorted(os.sched_getaffinity(0))[number]})
    if number:
        threading.Thread(target=_repeat, args=(number, popen), daemon=True).start()
    return Process(number, popen)


def _repeat(number: int, popen: subprocess.Popen[str]) -> None:
    assert popen.stdout is not None
    for line in popen.stdout:
        print(f"[{number}] {line}", end="", file=sys.stderr, flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]
