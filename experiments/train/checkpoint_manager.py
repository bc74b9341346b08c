"""The run directory of a run that can be continued: opened, filled, gone back in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.runtime import cluster
from experiments.runtime import run_directory as runs
from experiments.runtime.errors import usage_errors
from experiments.train import checkpoints
from experiments.train.algorithm import Chunk, Mode, Start
from experiments.train.checkpoints import Found
from experiments.train.divergence import Watch
from experiments.train.options import TrainConfig
from experiments.train.resume import differences, from_plain, plain


class Opened(NamedTuple):
    """A run directory that no other process is at work in.

    Attributes:
        run: its path.
        facts: what every checkpoint in it says of the run as a whole.
        found: the checkpoint to go on from; None to begin at the beginning.
        finished: whether there is nothing left to do.
    """

    run: Path
    facts: dict[str, Any]
    found: Found | None
    finished: bool


class Keeper:
    """Writes down what a run does: a line per iteration, and checkpoints.

    Of several processes all have to call it, with the same; the first one writes the lines.
    """

    def __init__(self, opened: Opened, mode: Mode, config: TrainConfig) -> None:
        """Goes on where the directory was left.

        Args:
            opened: the run directory.
            mode: what is trained, and how it is saved.
            config: ``config.checkpoint`` says how often, and how many are kept.
        """
        self.run = opened.run
        self._facts, self._mode, self._every = opened.facts, mode, config.checkpoint.every
        self._metrics = runs.Metrics(opened.run) if cluster.speaks() else None
        self._writer = None
        if keep := config.checkpoint.keep:
            last = opened.found.number if opened.found else None
            self._writer = checkpoints.Writer(opened.run / checkpoints.DIRECTORY, keep, last)

    def note(self, chunk: Chunk, upto: int | None = None) -> None:
        """Writes the lines of a chunk, or of its iterations up to a number.

        Raises:
            UsageError: there is no room for them; or a checkpoint could not be written meanwhile.
        """
        if self._metrics is not None:
            last = upto or chunk.iteration
            with runs.writing_to(self.run):
                self._metrics.append([k for k in chunk.lines if k["iteration"] <= last])
        if self._writer is not None:
            self._writer.check()

    def save_if_due(self, chunk: Chunk, watch: Watch) -> None:
        """Begins a checkpoint if the chunk reaches where the next one belongs."""
        if self._every and chunk.passes(self._every):
            self.save(chunk.end, watch)

    def save(self, start: Start, watch: Watch) -> Path | None:
        """Begins a checkpoint and says where it will be; None if none are kept."""
        if self._writer is None:
            return None
        arrays, facts = self._mode.stored(start)
        facts |= self._facts | {"watch": watch._asdict()}
        with runs.writing_to(self.run):
            if self._metrics is not None:
                facts["metrics"] = self._metrics.mark()
            return self._writer.save(start.iteration, arrays, facts)

    def last(self) -> tuple[Start, Found | None]:
        """The last checkpoint as a start, or the first start if there is none."""
        if self._writer is not None:
            self._writer.wait()
        found = None
        if cluster.speaks():
            found, _ = checkpoints.newest(self.run / checkpoints.DIRECTORY)
        found = _told(found)
        return (self._mode.restored(found) if found else self._mode.first()), found

    def go_back(self, found: Found | None) -> None:
        """Drops the lines of the iterations after a checkpoint."""
        if self._metrics is not None:
            with runs.writing_to(self.run):
                runs.cut_back(self.run, found.facts["metrics"] if found else None)
                self._metrics = runs.Metrics(self.run)

    def finish(self) -> None:
        """Waits until all that was begun is saved."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def opened(config: TrainConfig, name: str, data: str) -> Iterator[Opened]:
    """Makes a run directory, or takes up the one to go on with, and keeps others out of it.

    Args:
        config: what was asked for; ``config.resume`` names a directory to go on with.
        name: of a new run.
        data: digest of the data.

    Raises:
        UsageError: the directory cannot be made or written to, is in use, belongs to other options
            or data, or has no checkpoint that is whole.
    """
    facts = {
        "config": plain(replace(config, resume=None)),
        "data": data,
        "environment": runs.environment(),
    }
    with ExitStack() as held:
        run, found, finished = config.resume, None, False
        if cluster.speaks():  # the others hear of it, or of nothing more if it is refused
            with usage_errors():
                if run is None:
                    run = runs.create(config.out, name, config)
                    held.enter_context(runs.locked(run))
                else:
                    held.enter_context(runs.locked(run))
                    found, finished = _taken_up(run, config, facts)
        found = _told(found)
        run, finished = cluster.told([str(run), finished])
        yield Opened(Path(run), facts, found, finished)


def _taken_up(run: Path, config: TrainConfig, facts: dict[str, Any]) -> tuple[Found | None, bool]:
    """The checkpoint to go on from and whether it is the end; makes the directory ready for it."""
    directory = run / checkpoints.DIRECTORY
    found, complaints = checkpoints.newest(directory)
    if complaints and not found:
        raise ValueError(f"{'; '.join(complaints)}: {run} has no other to go on from.")
    _warn(complaints)
    done = found.number if found else 0
    ended = _ended(run)
    if not found and ended is not None and ended < config.iterations:
        raise ValueError(
            f"{run} ended after iteration {ended} without a checkpoint: begin a new run, with "
            "--checkpoint.keep 1 or more."
        )
    if found:
        _check_same(run, found, facts)
    if config.iterations < done:
        raise ValueError(
            f"iterations is {config.iterations}, but {run} has done {done}: give more, or leave "
            "it out."
        )
    if ended == config.iterations and done in (0, ended):
        return found, True
    with runs.writing_to(run):
        checkpoints.tidy(directory, done)
        _warn(filter(None, [runs.cut_back(run, found.facts["metrics"] if found else None)]))
        runs.write_config(run, replace(config, resume=None))
    return found, False


def _check_same(run: Path, found: Found, facts: dict[str, Any]) -> None:
    """Refuses to go on under other options or data than the checkpoint's.

    Raises:
        ValueError: with the list of differences.
    """
    then = found.facts
    begun = plain(from_plain(TrainConfig, then["config"]))  # with options that came later
    if different := differences(begun, facts["config"]):
        raise ValueError(
            f"{run} was begun under other options: {'; '.join(different)}. Leave them out, or "
            "begin a new run."
        )
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


def _kind(text: str | None) -> str:
    """Of devices what they are: how many there are is the mesh's business."""
    return (text or "").rpartition(" x ")[2]


def _ended(run: Path) -> int | None:
    """The iteration after which the run ended and was summed up, if it was."""
    try:
        return runs.read_summary(run)["iterations"]
    except (OSError, ValueError):
        return None


def _told(found: Found | None) -> Found | None:
    """A checkpoint that the first process found, in all of them."""
    heard = cluster.told([str(found.path), found.number, found.facts] if found else None)
    return Found(Path(heard[0]), heard[1], heard[2]) if heard else None


def _warn(texts: Any) -> None:
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)
