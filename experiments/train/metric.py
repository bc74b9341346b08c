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
    "accuracy",
    heading="accuracy",
    progress="train",
    title="Accuracy",
    unit="share of samples",
    loss=".4f",
    long=".2%",
    short=".1%",
)
R2 = Metric(
    "r2",
    heading="R^2",
    progress="R^2",
    title="$R^2$",
    unit="share of variance",
    loss=".4g",
    long=".4f",
    short=".3f",
)
