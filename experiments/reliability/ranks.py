"""``python -m experiments ranks``: each of several processes killed, stopped and delayed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.reliability import outcome
from experiments.reliability.config import RanksConfig
from experiments.reliability.processes import (
    await_iteration,
    directory_in,
    finish,
    run,
    saving,
    start,
)
from experiments.report.measurement import Measurement, table

SECONDS_TO_LEAVE = 30.0
_SECONDS_OF_DELAY = 4.0  # the runtime takes a process without signs of life for ten as gone
_SECONDS_TO_SAVE = 60.0  # a save is waited for at most as long
_SECONDS_TO_HANG = 120.0  # after which those still there are killed

_RUN = (
    *("train", "--network.hidden", "16", "16", "16", "--data.limit", "200"),
    *("--evaluate-every", "5", "--checkpoint.every", "10", "--data.validation", "0"),
    *("--iterations", "200"),
)

_WELL_UNDER_WAY = 45  # the first checkpoints are sealed, and half the run is still to come

What = Literal["kill", "stop", "delay"]
When = Literal["training", "saving"]


class Case(NamedTuple):
    """What is done to which process, and when."""

    processes: int
    victim: int
    what: What
    when: When


class Outcome(NamedTuple):
    """What came of it: seconds until all were out, and what was not as it should be."""

    case: Case
    seconds: float
    wrong: list[str]


def main(config: RanksConfig) -> int:
    """Tries every case; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("ranks", config)
    _keep_programs(measurement.directory / "programs")
    outcomes = []
    for processes in config.processes:
        where = measurement.directory / str(processes)
        expected = left_alone(where / "alone", processes)
        for case in cases(processes):
            outcomes.append(tried(case, where / "case", expected))
            measurement.show(described(outcomes[-1]))
            shutil.rmtree(where / "case")
        shutil.rmtree(where)
    shutil.rmtree(measurement.directory / "programs", ignore_errors=True)
    measurement.show(_table(outcomes))
    measurement.save({"outcomes": [one._asdict() for one in outcomes]})
    return 1 if any(one.wrong for one in outcomes) else 0


def _keep_programs(directory: Path) -> None:
    """Has all processes from here on compile each program once."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory.absolute())
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def cases(processes: int) -> list[Case]:
    """All cases of one number of processes."""
    return [
        Case(processes, victim, what, when)
        for when in ("training", "saving")
        for what in ("kill", "stop", "delay")
        for victim in range(processes)
    ]


def left_alone(out: Path, processes: int) -> Path:
    """A run that nobody disturbs."""
    done = run("launch", "--processes", processes, *_RUN, "--out", out)
    if done.code:
        raise RuntimeError(done.err)
    return directory_in(out)


def tried(case: Case, out: Path, expected: Path) -> Outcome:
    """Does it, waits for the end, goes on and compares."""
    if case.what == "delay":
        return _delayed(case, out, expected)
    command = start("launch", "--processes", case.processes, *_RUN, "--out", out)
    victims = _under_way(command, case, out)
    number = signal.SIGKILL if case.what == "kill" else signal.SIGSTOP
    os.kill(victims[case.victim], number)
    begin = time.monotonic()
    done = finish(command, _SECONDS_TO_HANG)
    seconds = time.monotonic() - begin
    told = f"process {case.victim} was {'killed' if case.what == 'kill' else 'stopped'} by"
    wrong = [] if told in done.err and done.code == 1 else [f"code {done.code}: {done.err}"]
    if seconds > SECONDS_TO_LEAVE or any(map(_alive, victims)):
        wrong.append(f"not all were out after {seconds:.0f} s")
    return Outcome(case, seconds, wrong + _wrong_after(out, case, expected))


def described(one: Outcome) -> str:
    """One outcome in a line."""
    case = one.case
    result = "; ".join(one.wrong) or "as it should be"
    return (
        f"{case.what} process {case.victim} of {case.processes} while {case.when}: "
        f"{one.seconds:.1f} s, {result}"
    )


def _delayed(case: Case, out: Path, expected: Path) -> Outcome:
    """Holds a process up for some seconds: the others wait, and nothing else happens.

    Without the launcher, which takes any stop for a failure.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        start(
            *(*_RUN, "--out", out, "--distributed"),
            *("--cluster.coordinator", f"127.0.0.1:{port}"),
            *("--cluster.processes", case.processes, "--cluster.process", number),
        )
        for number in range(case.processes)
    ]
    first, victim = processes[0], processes[case.victim]
    await_iteration(first, _WELL_UNDER_WAY)
    _await(case, out)
    begin = time.monotonic()
    victim.send_signal(signal.SIGSTOP)
    time.sleep(_SECONDS_OF_DELAY)
    victim.send_signal(signal.SIGCONT)
    ends = [finish(process, _SECONDS_TO_HANG) for process in processes]
    seconds = time.monotonic() - begin
    wrong = [f"code {end.code}: {end.err}" for end in ends if end.code]
    return Outcome(case, seconds, wrong or outcome.unlike(directory_in(out), expected))


def _under_way(command: subprocess.Popen[str], case: Case, out: Path) -> list[int]:
    """The processes of a run that has done some iterations, or is about to save."""
    if not await_iteration(command, _WELL_UNDER_WAY):
        raise RuntimeError(command.communicate()[1])
    path = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    victims = [int(number) for number in path.read_text().split()]
    _await(case, out)
    return victims


def _await(case: Case, out: Path) -> None:
    """Waits for the moment that the case is about."""
    if case.when == "training":
        return
    directory, deadline = directory_in(out), time.monotonic() + _SECONDS_TO_SAVE
    while not saving(directory) and time.monotonic() < deadline:
        time.sleep(0.0005)


def _wrong_after(out: Path, case: Case, expected: Path) -> list[str]:
    """Goes on with what is left, in as many processes, and says what differs in the end."""
    directory = directory_in(out)
    done = run("launch", "--processes", case.processes, "train", "--resume", directory)
    if done.code or "going on after iteration" not in done.out:
        return [f"resumed with code {done.code}: {done.err}"]
    return outcome.unlike(directory, expected)


def _alive(number: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _table(outcomes: list[Outcome]) -> Any:
    made = table("", "cases", "as it should be", "slowest, s")
    for what in ("kill", "stop", "delay"):
        for when in ("training", "saving"):
            chosen = [one for one in outcomes if (one.case.what, one.case.when) == (what, when)]
            fine = sum(not one.wrong for one in chosen)
            slowest = max(one.seconds for one in chosen)
            made.add_row(f"{what} while {when}", str(len(chosen)), str(fine), f"{slowest:.1f}")
    return made
