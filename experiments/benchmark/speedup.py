"""How long an iteration takes alone and together, by size; and what the paper measured."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """Seconds per iteration on one device and on several.

    Attributes:
        alone: on one.
        together: on several.
    """

    alone: float
    together: float

    @property
    def speedup(self) -> float:
        """How much faster several are."""
        return self.alone / self.together

    def per_thousand(self, samples: int) -> Pair:
        """The same for 1,000 samples; all but messages' latency is proportional to them."""
        return Pair(*(1000 * seconds / samples for seconds in self))


Curve = dict[int, Pair]  # against neurons or layers


class Curves(NamedTuple):
    """Both of the paper's figures: against the width of 20 layers, and against depth."""

    by_neurons: Curve
    by_layers: Curve

    def per_thousand(self, samples: int) -> Curves:
        """Seconds for 1,000 samples."""
        return Curves(*({at: one.per_thousand(samples) for at, one in c.items()} for c in self))

    def plain(self) -> dict[str, dict[int, dict[str, float]]]:
        """For JSON."""
        return {
            name: {at: one._asdict() for at, one in curve.items()}
            for name, curve in self._asdict().items()
        }


SAMPLES = 55_000  # of MNIST, as the paper has it

# Figure 4 of the paper: neurons -> seconds of 20 layers by its serial code and on 20 nodes.
PAPER = {
    1500: Pair(237.66, 26.78),
    1600: Pair(348.70, 31.78),
    1700: Pair(390.51, 35.79),
    1800: Pair(475.60, 41.37),
    1900: Pair(465.57, 45.87),
    2000: Pair(570.90, 50.70),
    2100: Pair(570.00, 54.91),
    2200: Pair(678.83, 63.59),
    2300: Pair(710.30, 70.36),
    2400: Pair(766.82, 62.50),
}
