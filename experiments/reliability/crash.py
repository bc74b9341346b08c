"""``python -m experiments crash``: runs killed at random moments end like one left alone."""

from __future__ import annotations

import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from experiments.reliability import outcome
from experiments.reliability.config import CrashConfig
from experiments.reliability.processes import (
    SMALL,
    await_begin,
    await_iteration,
    directory_in,
    finish,
    run,
    saving,
    start,
)
from experiments.report.measurement import Measurement, table

_EARLY = 0.1  # share of the runs that are killed before their first iteration


class Crash(NamedTuple):
    """One run that was killed and gone on with.

    Attributes:
        delay: seconds from the first iteration to the kill, 0 for one before it.
        saving: whether a save was under way.
        checkpoint: number of the checkpoint it went on from, 0 for the beginning.
        wrong: what was not as it should be.
    """

    delay: float
    saving: bool
    checkpoint: int
    wrong: list[str]


def main(config: CrashConfig) -> int:
    """Kills and compares; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    measurement = Measurement("crash", config)
    where = measurement.directory / "runs"
    measurement.show(f"{config.kills} runs of {config.iterations} iterations, killed by SIGKILL")
    expected, length = _left_alone(where, config)
    chosen = random.Random(config.seed)
    begin = time.monotonic()
    with ThreadPoolExecutor(config.parallel) as pool:
        crashes = list(
            pool.map(
                lambda k: _killed(where / str(k), random.Random(k), length, expected, config),
                [chosen.randrange(2**63) for _ in range(config.kills)],
            )
        )
    shutil.rmtree(where)
    measurement.show(_table(crashes))
    bad = [crash for crash in crashes if crash.wrong]
    for crash in bad:
        measurement.show(f"killed after {crash.delay:.3f} s: {'; '.join(crash.wrong)}")
    measurement.show(
        f"{len(crashes) - len(bad)} of {len(crashes)} identical to the run left alone, in "
        f"{time.monotonic() - begin:.0f} s"
    )
    measurement.save({"crashes": [crash._asdict() for crash in crashes]})
    return 1 if bad else 0


def _left_alone(where: Path, config: CrashConfig) -> tuple[Path, float]:
    """A run that nobody disturbs, and how long it takes from its first iteration to its end."""
    for name in ("warm", "alone"):  # the first one fills the cache of compiled programs
        process = start(*SMALL, "--iterations", config.iterations, "--out", where / name)
        if not await_iteration(process):
            raise RuntimeError(process.communicate()[1])
        begin = time.monotonic()
        done = finish(process)
        length = time.monotonic() - begin
        if done.code:
            raise RuntimeError(done.err)
    return directory_in(where / "alone"), length


def _killed(
    out: Path, chosen: random.Random, length: float, expected: Path, config: CrashConfig
) -> Crash:
    """Kills a run at a random moment, goes on with it, and compares."""
    while True:
        early = chosen.random() < _EARLY
        delay = 0.0 if early else chosen.uniform(0, length)
        process = start(*SMALL, "--iterations", config.iterations, "--out", out)
        await_begin(process) if early else await_iteration(process)
        time.sleep(delay)
        process.kill()
        if finish(process).code == -9:
            break
        shutil.rmtree(out)  # it had ended already
    directory = directory_in(out)
    busy = saving(directory)
    done = run("train", "--resume", directory)
    wrong = [f"code {done.code}: {done.err.strip()}"] if done.code or done.err else []
    wrong += outcome.unlike(directory, expected)
    line = next((k for k in done.out.splitlines() if k.startswith("going on after")), "0:")
    crash = Crash(delay, busy, int(line.partition(":")[0].split()[-1]), wrong)
    if not wrong:
        shutil.rmtree(out)
    return crash


def _table(crashes: list[Crash]):
    made = table("", "runs", "identical")
    for name, chosen in (
        ("killed during a save", [k for k in crashes if k.saving]),
        ("between saves", [k for k in crashes if not k.saving]),
        ("begun anew, no checkpoint yet", [k for k in crashes if not k.checkpoint]),
    ):
        made.add_row(name, str(len(chosen)), str(sum(not k.wrong for k in chosen)))
    return made
