"""The command line in processes of their own, as its users start it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from experiments import __main__, checkpoints

ROOT = Path(__file__).parents[1]


ALONE = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "PYTHONUNBUFFERED": "1",
}


def start(*words, settings=ALONE):
    """Starts ``python -m experiments`` with one device, its output read through pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=300):
    """Exit code and what was written; a hang is a failure."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def run(*words, seconds=300, settings=ALONE):
    """From start to end."""
    return finish(start(*words, settings=settings), seconds)


def finished(command, out, *words, code=0, settings=ALONE):
    """What a measuring command printed, and what it wrote."""
    found, screen, err = run(command, *words, "--out", out, settings=settings)
    assert found == code, err
    (directory,) = out.iterdir()
    for name in screen.splitlines()[-1].split(": ")[1].split(", "):
        assert (directory / name).stat().st_size > 0
    return screen, json.loads((directory / f"{command}.json").read_text())


def train(*words):
    """The exit code of ``train`` in this process."""
    return __main__.run(["train", *map(str, words)])


def lines_of(run):
    """What a run wrote about its iterations."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def cut_off(whole, run, after):
    """A copy of a run as it would be, killed some iterations after a checkpoint was sealed."""
    shutil.copytree(whole, run)
    for number, path in checkpoints.sealed(run / checkpoints.DIRECTORY):
        if number > after:
            shutil.rmtree(path)
    for name in ("summary.json", "weights.npz", "training.png", "shown.json"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[: after + 3]) + lines[after + 3][:40])
    return run


def last_of(mode, start, iterations):
    """Where a way of training has come to after so many iterations."""
    *_, chunk = mode.train(start, iterations)
    return chunk.end


def saved(mode, start, directory):
    """A checkpoint of it."""
    with checkpoints.writing(directory, keep=1) as writer:
        writer.save(start.iteration, *mode.stored(start))
    return checkpoints.newest(directory)[0]


class _Countdown(list):
    """A list of signals that has one as soon as it was looked at so many times."""

    def __init__(self, looks):
        self.looks = looks

    def __len__(self):
        self.looks -= 1
        return int(self.looks < 0)


@contextmanager
def stopping(looks):
    """Stands in for ``stop_requests``: a stop is asked for after so many looks."""
    yield _Countdown(looks)


def assert_ends_when_asked(command, out, *words, settings=ALONE):
    """A study on its way ends at Ctrl-C, and saves what there is."""
    process = start(command, *words, "--out", out, settings=settings)
    assert process.stdout is not None
    process.stdout.readline()  # what is about to be done
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    code, screen, err = finish(process, 100)
    assert code == 130, err
    assert err == ""
    assert "interrupted: runs that were finished are saved" in screen
    (directory,) = out.iterdir()
    assert (directory / f"{command}.json").exists()


def assert_refused(words, complaint, settings=ALONE):
    """A user's mistake gets one line that says what is wrong, and exit code 2."""
    code, out, err = run(*words, settings=settings)
    assert code == 2
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert complaint in line
