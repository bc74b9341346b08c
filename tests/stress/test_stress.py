"""What runs survive: crashes, damaged files, full disks, lost processes, long times.

``pytest -m slow tests/stress`` takes some minutes; ``PDADMM_STRESS=20`` before it makes twenty
times as many attempts, with every process of two and of four as the victim.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from experiments.runtime import run_directory as runs
from experiments.study.history import ROUNDING
from experiments.train import checkpoints
from tests.commands import Ended, await_line, finish, run_process, start
from tests.run_directories import assert_damage_is_found, directory_in, unlike

FACTOR = int(os.environ.get("PDADMM_STRESS", "1"))
SMALL = (
    *("train", "--network.hidden", "16", "16", "--data.limit", "200", "--refresh-every", "20"),
    *("--evaluate-every", "5", "--checkpoint.every", "5", "--growth.at", "60"),
    *("--growth.layers", "2", "--iterations", "100"),
)

pytestmark = pytest.mark.slow


def saving(run: Path) -> bool:
    """Whether there is a checkpoint that has been begun and not sealed."""
    paths = (run / checkpoints.DIRECTORY).glob("[0-9]*")
    return any(not (path / "manifest.json").exists() for path in paths if "." not in path.name)


def goes_on(run: Path, whole: Path, *launcher: object) -> Ended:
    """Resumes a run, which has to end like one that met no obstacle."""
    done = run_process(*launcher, "train", "--resume", run)
    assert done.code == 0, done.err
    assert unlike(run, whole) == []
    return done


# One process


class Undisturbed(NamedTuple):
    """A run that nobody disturbs, and its seconds from the first iteration to the end."""

    run: Path
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    for _ in range(2):  # the first one fills the cache of compiled programs
        out = tmp_path_factory.mktemp("whole")
        process = start(*SMALL, "--out", out)
        await_line(process, "iteration ")
        begin = time.monotonic()
        done = finish(process)
        assert done.code == 0, done.err
    return Undisturbed(directory_in(out), time.monotonic() - begin)


@pytest.mark.parametrize("number", range(4 * FACTOR))
def test_a_run_killed_at_any_moment_ends_like_one_left_alone(whole, tmp_path, number):
    """Before the first iteration (every fourth), in a save, or anywhere up to the end."""
    chosen = random.Random(number)
    for attempt in range(10):
        out = tmp_path / str(attempt)
        process = start(*SMALL, "--out", out)
        if number % 4:
            await_line(process, "iteration ")
            time.sleep(chosen.uniform(0, whole.seconds))  # any moment
        else:
            await_line(process, "network ")  # the run directory is there, and nothing else
        process.kill()
        if finish(process).code == -signal.SIGKILL:  # it had not ended by then
            break
    done = goes_on(directory_in(out), whole.run)
    assert done.err == ""


def test_damage_to_any_file_of_a_checkpoint_is_found(whole, tmp_path):
    run = shutil.copytree(whole.run, tmp_path / "run")
    assert_damage_is_found(run / checkpoints.DIRECTORY, 5 * FACTOR, random.Random(0))


def assert_says(done: Ended, reason: str) -> None:
    """A refusal is one line with the reason, and exit code 2."""
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert reason in line


def test_where_files_cannot_grow_a_run_says_so_and_goes_on_without_the_limit(whole, tmp_path):
    limit = max(path.stat().st_size for path in whole.run.rglob("*.npz")) // 2
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        process = start(*SMALL, "--checkpoint.every", 20, "--out", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_says(finish(process), "File too large")
    goes_on(directory_in(tmp_path), whole.run)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[Callable[[str], None]]:
    """A file system of its own in memory, and how to change its options."""

    def call(*words: str) -> int:
        with contextlib.suppress(OSError):
            return subprocess.run(words, capture_output=True, check=False).returncode
        return 1

    path.mkdir()
    if call("mount", "-t", "tmpfs", "-o", "size=50000000", "tmpfs", str(path)):
        pytest.skip("file systems cannot be mounted here")

    def change(options: str) -> None:
        assert not call("mount", "-o", f"remount,{options}", str(path))

    try:
        yield change
    finally:
        call("umount", str(path))


def test_a_full_disk_is_named_and_a_run_goes_on_when_there_is_room(whole, tmp_path):
    with disk(tmp_path / "disk") as change:
        change("size=400000")  # too small for a second checkpoint
        assert_says(run_process(*SMALL, "--out", tmp_path / "disk"), "No space left on device")
        change("size=50000000")
        goes_on(directory_in(tmp_path / "disk"), whole.run)


def test_a_read_only_directory_is_named_and_a_run_goes_on_when_it_is_not(whole, tmp_path):
    with disk(tmp_path / "disk") as change:
        run = shutil.copytree(whole.run, tmp_path / "disk" / "run")
        shutil.rmtree(checkpoints.sealed(run / checkpoints.DIRECTORY)[-1][1])
        change("ro")
        assert_says(run_process("train", "--resume", run), "Read-only file system")
        assert_says(run_process(*SMALL, "--out", tmp_path / "disk"), "Read-only file system")
        change("rw")
        goes_on(run, whole.run)


def test_two_runs_on_one_directory_are_one_too_many(tmp_path):
    first = start(*SMALL, "--iterations", 10**6, "--out", tmp_path)
    try:
        await_line(first, "iteration ")
        assert_says(run_process("train", "--resume", directory_in(tmp_path)), "at work in")
    finally:
        first.kill()
        finish(first)


# Several processes

TOGETHER = (
    *("train", "--network.hidden", "16", "16", "16", "--data.limit", "200"),
    *("--evaluate-every", "5", "--checkpoint.every", "10", "--data.validation", "0"),
    *("--iterations", "200"),
)
SECONDS_TO_LEAVE = 30
UNDER_WAY = "iteration 45"  # checkpoints are sealed, and most of the run is still to come


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Runs of so many processes that nobody disturbs, made when they are first asked for."""
    made: dict[int, Path] = {}

    def of(processes: int) -> Path:
        if processes not in made:
            out = tmp_path_factory.mktemp(f"together-{processes}")
            done = run_process("launch", "--processes", processes, *TOGETHER, "--out", out)
            assert done.code == 0, done.err
            made[processes] = directory_in(out)
        return made[processes]

    return of


def await_moment(when: str, out: Path) -> None:
    """Waits for a save to be under way, where the case is about one."""
    deadline = time.monotonic() + 60
    while when == "saving" and not saving(directory_in(out)) and time.monotonic() < deadline:
        time.sleep(0.0005)


def alive(number: int) -> bool:
    """Whether there is such a process, zombies apart."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


VICTIMS = [(2, 0), (2, 1), *((4, k) for k in range(4))] if FACTOR > 1 else [(2, 1)]
MOMENTS = ("training", "saving")


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("processes", "victim"), VICTIMS)
def test_all_leave_when_one_is_lost_and_what_they_leave_goes_on(
    together, tmp_path, processes, victim, number, when
):
    launcher = ("launch", "--processes", processes)
    command = start(*launcher, *TOGETHER, "--out", tmp_path)
    await_line(command, UNDER_WAY)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    started = [int(child) for child in children]
    await_moment(when, tmp_path)
    os.kill(started[victim], number)
    begin = time.monotonic()
    done = finish(command, 120)
    assert time.monotonic() - begin < SECONDS_TO_LEAVE
    assert not any(map(alive, started))
    word = "killed" if number == signal.SIGKILL else "stopped"
    assert done.code == 1, done.err
    assert f"process {victim} was {word} by" in done.err
    resumed = goes_on(directory_in(tmp_path), together(processes), *launcher)
    assert "resuming after iteration" in resumed.out


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize(("processes", "victim"), VICTIMS)
def test_all_wait_for_one_that_is_held_up(together, tmp_path, processes, victim, when):
    """For some seconds, and without the launcher, which takes any stop for a failure."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        cluster = ("--cluster.coordinator", f"127.0.0.1:{probe.getsockname()[1]}")
    started = [
        start(
            *(*TOGETHER, "--out", tmp_path, "--distributed", *cluster),
            *("--cluster.processes", processes, "--cluster.process", number),
        )
        for number in range(processes)
    ]
    await_line(started[0], UNDER_WAY)
    await_moment(when, tmp_path)
    started[victim].send_signal(signal.SIGSTOP)
    time.sleep(4)  # the runtime takes a process without signs of life for ten as gone
    started[victim].send_signal(signal.SIGCONT)
    for process in started:
        done = finish(process, 120)
        assert done.code == 0, done.err
    assert unlike(directory_in(tmp_path), together(processes)) == []


# Long times


def resident(process: int) -> float:
    """Megabytes that a process has in memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def test_thousands_of_iterations_leave_nothing_behind(tmp_path):
    """Memory does not grow, the Lagrangian does not rise, p W + b does not drift."""
    iterations = 2000 * FACTOR
    process = start(
        *("train", "--network.hidden", 32, 32, 32, "--data.limit", 400, "--method.certified"),
        *("--checkpoint.every", 100, "--evaluate-every", 20, "--iterations", iterations),
        *("--out", tmp_path),
    )
    memory = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("iteration "):
            memory.append((int(line.partition("/")[0].split()[1]), resident(process.pid)))
    done = finish(process)
    assert done.code == 0, done.err
    # What is allocated once, as for the first checkpoint, is there after a fifth of the run.
    later = [megabytes for iteration, megabytes in memory[:-1] if iteration >= iterations / 5]
    assert max(later) < 1.05 * later[0]
    lines = runs.read_metrics(directory_in(tmp_path))
    assert len(lines) == iterations
    lagrangian = np.asarray([line["lagrangian"] for line in lines], float)
    assert np.max(np.diff(lagrangian)) <= ROUNDING["float32"] * lagrangian[0]
    assert 0 < max(line["drift"] for line in lines if "drift" in line) <= 1e-4
