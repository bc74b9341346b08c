"""A run from its start to its end: what is kept on the way, and what makes it stop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.runtime import cluster
from experiments.runtime.interrupts import INTERRUPTED, stop_requests
from experiments.train import divergence
from experiments.train.algorithm import Chunk, Mode, Start
from experiments.train.checkpoint_manager import Keeper
from experiments.train.divergence import Rise, Watch
from experiments.train.options import TrainConfig
from experiments.train.progress import progress_shown

FAILED = 1


class Ended(NamedTuple):
    """How a run came to its end.

    Attributes:
        last: the last good state.
        code: exit code.
        reason: why it stopped before its last iteration; empty if it did not.
    """

    last: Start
    code: int
    reason: str


def follow(
    mode: Mode, start: Start, watch: Watch, keeper: Keeper, config: TrainConfig, console: Console
) -> Ended:
    """Runs to the end, or to where the run has to stop.

    Of several processes all follow, and decide alike: what they look at is the same for all.

    Args:
        mode: what is trained.
        start: where to start; used up.
        watch: what is known of the Lagrangian so far.
        keeper: writes down what happens.
        config: what was asked for.
        console: where it is shown.
    """
    # The iteration in flight has been given the old state's memory: nothing can be saved before.
    with (
        stop_requests() as asked,
        progress_shown(config.iterations, console, mode.described) as show,
    ):
        while True:
            turned = None
            for chunk in mode.train(start, config.iterations):
                start = chunk.end
                if not chunk.finite.all():
                    return _broken(mode, chunk, watch, keeper)
                watch, rise = divergence.look(
                    watch, chunk.watched, chunk.layers, chunk.before, config.divergence.factor
                )
                keeper.note(chunk)
                show(chunk)
                if rise:
                    turned, watch, said = _answer(mode, rise, chunk, watch, keeper, config)
                    if turned is None and config.divergence.answer != "warn":
                        return Ended(chunk.end, FAILED, said)
                    console.print(said)
                    if turned is not None:
                        break
                keeper.save_if_due(chunk, watch)
                if cluster.agreed(bool(asked)):
                    return _interrupted(chunk, watch, keeper)
            if turned is None:
                break
            start = turned
        keeper.save(start, watch)
    return Ended(start, 0, "")


def _interrupted(chunk: Chunk, watch: Watch, keeper: Keeper) -> Ended:
    path = keeper.save(chunk.end, watch)
    where = f"what was done is saved in {path}" if path else "what was learnt is saved"
    again = f"; --resume {keeper.run} goes on" if path else ""
    reason = f"interrupted after iteration {chunk.iteration}: {where}{again}"
    return Ended(chunk.end, INTERRUPTED, reason)


def _answer(
    mode: Mode, rise: Rise, chunk: Chunk, watch: Watch, keeper: Keeper, config: TrainConfig
) -> tuple[Start | None, Watch, str]:
    """Where to go on after a rise, None for where it was; the watch from there; what is said."""
    wanted, happened = config.divergence, f"{mode.watched} is {rise}"
    if wanted.answer == "warn":
        return None, watch, f"warning: {happened} (see --divergence.answer)"
    if wanted.answer == "stop":
        return None, watch, f"error: {happened}, and --divergence.answer stop ends the run"
    if watch.raised >= wanted.times:
        return None, watch, f"error: {happened}, though that was answered {watch.raised} times"
    watch = divergence.answered(watch)
    start, changed = mode.steadier(chunk.end, wanted.raised)
    if wanted.answer == "return":
        last, found = keeper.last()
        keeper.go_back(found)
        start = start._replace(state=last.state)
    else:  # what comes later can be done again from here, under the new number
        keeper.save(start, watch)
    return start, watch, f"warning: {happened}; from iteration {start.iteration} on {changed}"


def _broken(mode: Mode, chunk: Chunk, watch: Watch, keeper: Keeper) -> Ended:
    """Ends a run at the first iteration with values that are not finite, in the state before it.

    A chunk keeps no state but its last.  The iterations before the broken one are done again from
    the last checkpoint: not always in the same chunks, hence the look at what came out.
    """
    first = chunk.before + 1 + int(np.argmin(chunk.finite))
    keeper.note(chunk, upto=first)
    hyper = chunk.end.hyper
    start, found = keeper.last()
    good = start._replace(hyper=hyper)
    for again in mode.train(good, first - 1):
        if not again.finite.all():
            good, found = keeper.last()
            break
        good = again.end
    names = mode.broken_by_next(good)
    path = keeper.save(good, watch) or (found.path if found else None)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    where = ", ".join(names[:3]) + more if names else f"{mode.watched} alone, which overflowed"
    saved = f" in {path}" if path else ""
    return Ended(
        good,
        FAILED,
        f"error: values ceased to be finite at iteration {first}: {where}; the state after "
        f"iteration {good.iteration} is saved{saved}; other penalties or --double may help",
    )
