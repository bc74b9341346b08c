"""Every method's number, chosen on held-out samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from experiments.compare.trial import Point

Histories = list[list[Point]]

MORE = 3  # candidates tried beyond the ends
TUNING = 1_000_000  # first seed of the tuning, beyond all that results have


def tuned(
    candidates: tuple[float, ...], histories_of: Callable[[float], Histories], more: int = MORE
) -> float:
    """The best candidate; while that is the smallest or the largest, one more beyond it is tried.

    Args:
        candidates: ascending, evenly spaced on a logarithmic scale or nearly so.
        histories_of: runs a candidate from every seed.
        more: how many are tried beyond the ends.
    """
    found = {number: histories_of(number) for number in candidates}
    for _ in range(more):
        ascending, chosen = sorted(found), best(found)
        if chosen == ascending[-1]:
            beyond = chosen**2 / ascending[-2]
        elif chosen == ascending[0]:
            beyond = chosen**2 / ascending[1]
        else:
            break
        beyond = float(f"{beyond:.1g}")  # 0.3 follows 0.03 and 0.1
        found[beyond] = histories_of(beyond)
    return best(found)


def best(found: dict[float, Histories]) -> float:
    """The number whose histories end with the highest mean accuracy; of equals, the lowest loss."""

    def rank(number: float) -> tuple[float, float]:
        last = [history[-1] for history in found[number]]
        if not all(math.isfinite(point.train_loss) for point in last):
            return -1.0, 0.0
        accuracy = np.mean([point.accuracy for point in last])
        return float(accuracy), -float(np.mean([point.loss for point in last]))

    return max(found, key=rank)
