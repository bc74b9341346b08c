"""What is said of a network beside its loss: accuracy, or R^2 where targets are numbers."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """A number between the worst and 1, the best.

    Attributes:
        name: in metrics.jsonl and summary.json, after the split's and an underscore.
        heading: of a column.
        progress: what the number of the training samples is called while training.
        title: of a panel of a figure.
        unit: of its axis.
        loss: how the loss beside it is written in a table.
        long: how it is written there itself.
        short: how it is written while training.
    """

    name: str
    heading: str
    progress: str
    title: str
    unit: str
    loss: str
    long: str
    short: str


ACCURACY = Metric(
    "accuracy", "accuracy", "train", "Accuracy", "share of samples", ".4f", ".2%", ".1%"
)
R2 = Metric("r2", "R^2", "R^2", "$R^2$", "share of variance", ".4g", ".4f", ".3f")
