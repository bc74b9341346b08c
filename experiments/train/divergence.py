"""A number monitored from iteration to iteration: whether it rises instead of falling."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_LEAST = 1e-3  # of the first value: smaller rises are ignored


class Monitor(NamedTuple):
    """What is known since the problem last changed, by growth or penalty.

    Attributes:
        layers: depth of the network then.
        first: the first value since; None before it is known.
        lowest: the lowest one since.
        raised: how often a penalty was raised after a rise.
    """

    layers: int = 0
    first: float | None = None
    lowest: float | None = None
    raised: int = 0


class Rise(NamedTuple):
    """An iteration after which the value was too high."""

    iteration: int
    value: float
    lowest: float

    def __str__(self) -> str:
        return (
            f"{self.value:.4g} after iteration {self.iteration}, but was {self.lowest:.4g} before"
        )


def observe(
    monitor: Monitor, values: np.ndarray, layers: int, before: int, factor: float
) -> tuple[Monitor, Rise | None]:
    """Looks at some iterations.

    Args:
        monitor: what is known of those before.
        values: one for each; NaN for none.
        layers: depth of the network.
        before: number of the last iteration before them.
        factor: how often the lowest value makes a rise.

    Returns:
        The monitor after them, and the first rise.  After a rise it begins anew with the value that
        was reached, so that the next one is reported only if it goes on by the same factor.
    """
    if layers != monitor.layers:
        monitor = Monitor(layers, raised=monitor.raised)
    first, lowest, rise = monitor.first, monitor.lowest, None
    for iteration, value in enumerate(map(float, values), start=before + 1):
        if math.isnan(value):  # no sample has come to the last layer yet
            continue
        first = value if first is None else first
        lowest = value if lowest is None else lowest
        if value > factor * max(lowest, _LEAST * abs(first)):
            rise = rise or Rise(iteration, value, lowest)
            first = lowest = value
        lowest = min(lowest, value)
    return monitor._replace(first=first, lowest=lowest), rise


def after_raise(monitor: Monitor) -> Monitor:
    """The monitor after a penalty was raised, by which what is monitored may change."""
    return Monitor(raised=monitor.raised + 1)
