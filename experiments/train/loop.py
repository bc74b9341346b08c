"""A run from its start to its end: checkpoints on the way, and what makes it stop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.algorithms.loop import Chunk, TrainState
from experiments.runtime import cluster
from experiments.runtime.interrupts import INTERRUPTED, stop_requests
from experiments.train import divergence
from experiments.train.checkpoint_manager import CheckpointManager
from experiments.train.divergence import Monitor, Rise
from experiments.train.progress import show_progress
from experiments.train.trainer import Record, Trainer

FAILED = 1


class Ended(NamedTuple):
    """How a run came to its end.

    Attributes:
        last: the last good state.
        code: exit code.
        reason: why it stopped before its last iteration; empty if it did not.
    """

    last: TrainState
    code: int
    reason: str


class Reaction(NamedTuple):
    """What follows from a rise of the number that is to fall.

    Attributes:
        start: where to train on from instead; None for where it was.
        monitor: what is known from there.
        message: for the user.
    """

    start: TrainState | None
    monitor: Monitor
    message: str


def train_to_end(
    trainer: Trainer,
    start: TrainState,
    monitor: Monitor,
    manager: CheckpointManager,
    console: Console,
) -> Ended:
    """Trains to the end, or to where the run has to stop.

    Of several processes all run it, and decide alike: what they look at is the same for all.

    Args:
        trainer: what is trained.
        start: where to start; its arrays are donated.
        monitor: what is known of the number that is to fall.
        manager: writes metrics and checkpoints.
        console: where progress is shown.
    """
    options = trainer.options
    iterations, answer = options.iterations, options.divergence.answer
    # The iteration under way has been given the old state's memory: nothing can be saved before.
    with (
        stop_requests() as asked,
        show_progress(iterations, console, trainer.describe, trainer.metric) as show,
    ):
        while True:
            restart = None
            for chunk in trainer.train(start, iterations):
                start = chunk.end
                records = trainer.records(chunk)
                if not chunk.finite:
                    return _broken(trainer, chunk, records, monitor, manager)
                monitor, rise = divergence.observe(
                    monitor,
                    trainer.monitor(chunk),
                    records[-1]["layers"],
                    chunk.before,
                    options.divergence.factor,
                )
                manager.log(records)
                show(records[-1])
                if rise:
                    restart, monitor, message = _react(trainer, rise, chunk, monitor, manager)
                    if restart is None and answer != "warn":
                        return Ended(chunk.end, FAILED, message)
                    console.print(message)
                    if restart is not None:
                        break
                manager.save_if_due(chunk, monitor)
                if cluster.any_process(bool(asked)):
                    return _interrupted(chunk, monitor, manager)
            if restart is None:
                break
            start = restart
        manager.save(start, monitor)
    return Ended(start, 0, "")


def _interrupted(chunk: Chunk, monitor: Monitor, manager: CheckpointManager) -> Ended:
    path = manager.save(chunk.end, monitor)
    where = f"the state is saved in {path}" if path else "the weights are saved"
    again = f"; --resume {manager.run} continues" if path else ""
    reason = f"interrupted after iteration {chunk.iteration}: {where}{again}"
    return Ended(chunk.end, INTERRUPTED, reason)


def _react(
    trainer: Trainer, rise: Rise, chunk: Chunk, monitor: Monitor, manager: CheckpointManager
) -> Reaction:
    """Does what ``--divergence.answer`` says about a rise."""
    wanted, happened = trainer.options.divergence, f"{trainer.monitored} is {rise}"
    if wanted.answer == "warn":
        return Reaction(None, monitor, f"warning: {happened} (see --divergence.answer)")
    if wanted.answer == "stop":
        message = f"error: {happened}, and --divergence.answer stop ends the run"
        return Reaction(None, monitor, message)
    if monitor.raised >= wanted.times:
        message = f"error: {happened}, though the steps were shortened {monitor.raised} times"
        return Reaction(None, monitor, message)
    monitor = divergence.after_raise(monitor)
    start, changed = trainer.with_smaller_steps(chunk.end, wanted.raised)
    if wanted.answer == "return":
        latest, found = manager.latest()
        manager.rewind(found)
        start = start._replace(state=latest.state)
    else:  # a later resume repeats what comes from here, under the new number
        manager.save(start, monitor)
    message = f"warning: {happened}; from iteration {start.iteration} on {changed}"
    return Reaction(start, monitor, message)


def _broken(
    trainer: Trainer,
    chunk: Chunk,
    records: list[Record],
    monitor: Monitor,
    manager: CheckpointManager,
) -> Ended:
    """Ends a run at the first iteration with values that are not finite, in the state before it.

    A chunk keeps no state but its last.  The iterations before the broken one are repeated from
    the last checkpoint: not always in the same chunks, hence the check of what came out.
    """
    first = chunk.before + 1 + int(np.argmin(chunk.info.finite))
    manager.log([record for record in records if record["iteration"] <= first])
    latest, found = manager.latest()
    good = latest._replace(config=chunk.end.config)
    for again in trainer.train(good, first - 1):
        if not again.finite:
            good, found = manager.latest()
            break
        good = again.end
    names = trainer.nonfinite_after(good)
    path = manager.save(good, monitor) or (found.path if found else None)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    where = ", ".join(names[:3]) + more if names else f"{trainer.monitored} alone, which overflowed"
    saved = f" in {path}" if path else ""
    return Ended(
        good,
        FAILED,
        f"error: values ceased to be finite at iteration {first}: {where}; the state after "
        f"iteration {good.iteration} is saved{saved}; other penalties or --double may help",
    )
