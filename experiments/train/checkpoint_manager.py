"""The run directory of a run that can be resumed: opened, written to, rewound."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.algorithms.loop import Chunk, TrainState
from experiments.options.paths import check_utf8
from experiments.runtime import cluster
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors
from experiments.train import checkpoints
from experiments.train.checkpoints import Found
from experiments.train.divergence import Monitor
from experiments.train.options import TrainConfig
from experiments.train.resume import differences, from_plain, original_options, plain
from experiments.train.trainer import Record, Trainer


class OpenRun(NamedTuple):
    """A run directory that no other process is at work in.

    Attributes:
        run: its path.
        facts: what every checkpoint in it says of the run as a whole.
        found: the checkpoint to resume from; None to begin at the beginning.
        finished: whether there is nothing left to do.
    """

    run: Path
    facts: dict[str, Any]
    found: Found | None
    finished: bool


class CheckpointManager:
    """Writes metrics, a line per iteration, and checkpoints.

    Of several processes all have to call it, with the same; the first one writes the lines.
    """

    def __init__(self, opened: OpenRun, trainer: Trainer, options: TrainConfig) -> None:
        """Goes on where the directory was left.

        Args:
            opened: the run directory.
            trainer: what is trained, and how it is saved.
            options: ``config.checkpoint`` says how often, and how many are left.
        """
        self.run = opened.run
        self._facts, self._trainer, self._every = opened.facts, trainer, options.checkpoint.every
        self._metrics = runs.Metrics(opened.run) if cluster.is_main_process() else None
        self._writer = None
        if keep := options.checkpoint.keep:
            last = opened.found.number if opened.found else None
            self._writer = checkpoints.Writer(opened.run / checkpoints.DIRECTORY, keep, last)

    def log(self, records: list[Record]) -> None:
        """Appends records to the metrics.

        Raises:
            UsageError: there is no room for them; or a checkpoint could not be written meanwhile.
        """
        if self._metrics is not None:
            with runs.writing_to(self.run):
                self._metrics.append(records)
        if self._writer is not None:
            self._writer.check()

    def save_if_due(self, chunk: Chunk, monitor: Monitor) -> None:
        """Begins a checkpoint if the chunk reaches where the next one belongs."""
        if self._every and chunk.passes(self._every):
            self.save(chunk.end, monitor)

    def save(self, state: TrainState, monitor: Monitor) -> Path | None:
        """Begins a checkpoint and says where it will be; None if none are saved."""
        if self._writer is None:
            return None
        arrays, facts = self._trainer.checkpoint(state)
        facts |= self._facts | {"monitor": monitor._asdict()}
        with runs.writing_to(self.run):
            if self._metrics is not None:
                facts["metrics"] = self._metrics.mark()
            return self._writer.save(state.iteration, arrays, facts)

    def latest(self) -> tuple[TrainState, Found | None]:
        """The state of the newest checkpoint, or that of the start if there is none."""
        if self._writer is not None:
            self._writer.wait()
        found = None
        if cluster.is_main_process():
            found, _ = checkpoints.newest(self.run / checkpoints.DIRECTORY)
        found = _broadcast(found)
        return (self._trainer.restore(found) if found else self._trainer.init()), found

    def rewind(self, found: Found | None) -> None:
        """Drops the lines of the iterations after a checkpoint."""
        if self._metrics is not None:
            with runs.writing_to(self.run):
                runs.cut_back(self.run, found.facts["metrics"] if found else None)
                self._metrics = runs.Metrics(self.run)

    def finish(self) -> None:
        """Waits until all that was begun is saved."""
        if self._writer is not None:
            self._writer.wait()


@contextmanager
def opened(options: TrainConfig, name: str, data: str) -> Iterator[OpenRun]:
    """Makes a run directory, or opens the one to resume, and keeps others out of it.

    Args:
        options: what was asked for; ``config.resume`` names a directory to resume.
        name: of a new run.
        data: digest of the data.

    Raises:
        UsageError: the directory cannot be made or written to, is in use, belongs to other options
            or data, or has no checkpoint that is whole.
    """
    facts = {
        "config": plain(replace(options, resume=None)),
        "data": data,
        "environment": runs.environment(),
    }
    with ExitStack() as held:
        run, found, finished = options.resume, None, False
        if cluster.is_main_process():  # the others hear of it, or of nothing more if it is refused
            with usage_errors():
                check_utf8((run or options.out).absolute())  # the working directory's name too
                if run is None:
                    run = runs.create(options.out, name, options)
                    held.enter_context(runs.locked(run))
                else:
                    held.enter_context(runs.locked(run))
                    found, finished = _taken_up(run, options, facts)
        found = _broadcast(found)
        run, finished = cluster.broadcast([str(run), finished])
        yield OpenRun(Path(run), facts, found, finished)


def _taken_up(run: Path, options: TrainConfig, facts: dict[str, Any]) -> tuple[Found | None, bool]:
    """The checkpoint to resume from and whether it is the end; makes the directory ready for it."""
    directory = run / checkpoints.DIRECTORY
    found, complaints = checkpoints.newest(directory)
    if complaints and not found:
        raise ValueError(f"{'; '.join(complaints)}: {run} has no other to resume from.")
    _warn(complaints)
    done = found.number if found else 0
    ended = _ended(run)
    if not found and ended is not None and ended < options.iterations:
        raise ValueError(
            f"{run} ended after iteration {ended} without a checkpoint: begin a new run, with "
            "--checkpoint.keep 1 or more."
        )
    if found:
        _check_same(run, found, facts)
    elif ended is not None:
        _check_options(run, original_options(["--resume", str(run)]), facts)
    if options.iterations < done:
        raise ValueError(
            f"iterations is {options.iterations}, but {run} has done {done}: give more, or leave "
            "it out."
        )
    if ended == options.iterations and done in (0, ended):
        return found, True
    with runs.writing_to(run):
        checkpoints.tidy(directory, done)
        _warn(filter(None, [runs.cut_back(run, found.facts["metrics"] if found else None)]))
        runs.write_config(run, replace(options, resume=None))
    return found, False


def _check_same(run: Path, found: Found, facts: dict[str, Any]) -> None:
    """Refuses to resume under other options or data than the checkpoint's.

    Raises:
        ValueError: with the list of differences.
    """
    then = found.facts
    _check_options(run, from_plain(TrainConfig, then["config"]), facts)
    if then["data"] != facts["data"]:
        raise ValueError(
            f"{run} was begun on other data than these of the same name: give those back, or begin "
            "a new run."
        )
    before, now = then["environment"], facts["environment"]
    _warn(
        f"{name} was {before.get(name)} and is {now[name]}: results may differ by rounding from "
        "those of a run without the change"
        for name in ("devices", "jax", "machine")
        if _kind(before.get(name)) != _kind(now[name])
    )


def _check_options(run: Path, begun: TrainConfig | None, facts: dict[str, Any]) -> None:
    """Refuses to resume under other options than those that the run was begun with."""
    if different := differences(plain(begun), facts["config"]):  # with options that came later
        raise ValueError(
            f"{run} was begun under other options: {'; '.join(different)}. Leave them out, or "
            "begin a new run."
        )


def _kind(text: str | None) -> str:
    """Of devices what they are: how many there are is the mesh's business."""
    return (text or "").rpartition(" x ")[2]


def _ended(run: Path) -> int | None:
    """The iteration after which the run ended and was summed up, if it was."""
    try:
        return runs.read_summary(run)["iterations"]
    except (OSError, ValueError):
        return None


def _broadcast(found: Found | None) -> Found | None:
    """A checkpoint that the first process found, in all of them."""
    heard = cluster.broadcast([str(found.path), found.number, found.facts] if found else None)
    return Found(Path(heard[0]), heard[1], heard[2]) if heard else None


def _warn(texts: Any) -> None:
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)
