"""``python -m experiments performance``: the paper's accuracy comparison, on its data sets."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from experiments.compare import trial_store
from experiments.compare.command import Study, study
from experiments.compare.methods import METHODS
from experiments.compare.options import PerformanceConfig
from experiments.compare.runner import exit_code_of
from experiments.data.dataset import NotAtHand
from experiments.report.measurement import table
from experiments.report.saved_output import SavedOutput
from experiments.runtime import screen
from experiments.runtime.errors import UsageError, usage_errors

# Final test accuracies, read off the paper's figure 6 (to 0.002), in per cent.  What it shows of
# CIFAR-100 does not fit the set as it describes it, and is left out.
PUBLISHED = {
    "gd": {
        "mnist": 11.4,
        "fashion_mnist": 30.8,
        "kmnist": 13.3,
        "svhn_cropped": 55.1,
        "cifar10": 65.6,
    },
    "adadelta": {
        "mnist": 75.8,
        "fashion_mnist": 61.9,
        "kmnist": 49.6,
        "svhn_cropped": 55.1,
        "cifar10": 51.0,
    },
    "adagrad": {
        "mnist": 56.2,
        "fashion_mnist": 56.2,
        "kmnist": 16.2,
        "svhn_cropped": 55.1,
        "cifar10": 55.8,
    },
    "adam": {
        "mnist": 95.2,
        "fashion_mnist": 81.8,
        "kmnist": 88.0,
        "svhn_cropped": 55.1,
        "cifar10": 87.5,
    },
    "dladmm": {
        "mnist": 80.4,
        "fashion_mnist": 72.1,
        "kmnist": 50.1,
        "svhn_cropped": 61.9,
        "cifar10": 84.2,
    },
    "pdadmm_search": {
        "mnist": 90.6,
        "fashion_mnist": 78.1,
        "kmnist": 63.0,
        "svhn_cropped": 71.8,
        "cifar10": 89.3,
    },
}


def main(options: PerformanceConfig) -> int:
    """Runs what is missing and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out, or none of the data sets is at hand.
    """
    return exit_code_of(all_studies, options, screen.console())


def all_studies(options: PerformanceConfig, console: Console) -> dict[str, Study]:
    """The study of every data set, and all of them in one table.

    Raises:
        UsageError: the configuration cannot be carried out, or none of the data sets is at hand.
        Interrupted: a stop was asked for.
    """
    studies: dict[str, Study] = {}
    missing = []
    for one in options.studies():
        try:
            studies[one.data.title] = study(one, console)
        except UsageError as error:
            if not isinstance(error.__cause__, NotAtHand):
                raise
            missing.append(str(error))
    if not studies:
        raise UsageError(missing[0])
    with usage_errors():
        directory = trial_store.study_directory(options.out, "performance", options)
    output = SavedOutput(console, directory)
    output.show(accuracies(options, studies))
    for name, one in studies.items():
        output.show(f"{name}: {one.source}")
    for error in missing:
        output.show(f"left out: {error}")
    output.save()
    return studies


def accuracies(options: PerformanceConfig, studies: dict[str, Study]) -> Table:
    """Test accuracy of every method on every set, the paper's in brackets; and how large they are.

    For a set may have been cut, and the paper's were not.
    """
    made = table("", *studies, title="test accuracy in %, in brackets the paper's")
    for method in options.methods:
        cells = []
        for name, one in studies.items():
            (own,) = (result for result in one.results if result.method == method)
            cell = own.accuracy(1)
            published = PUBLISHED.get(method, {}).get(name) if name in options.sets else None
            cells.append(cell if published is None else f"{cell} ({published})")
        made.add_row(METHODS[method].title, *cells)
    made.add_row("training samples", *(f"{one.train:,}" for one in studies.values()))
    made.add_row("test samples", *(f"{one.test:,}" for one in studies.values()))
    return made
