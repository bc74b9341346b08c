"""The command line: one subcommand per experiment, its options taken from the config's fields."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import Annotated

import tyro

from experiments.config import TrainConfig
from experiments.errors import UsageError

app = tyro.extras.SubcommandApp()


@app.command(name="train")
def train(config: Annotated[TrainConfig, tyro.conf.arg(name="")]) -> Callable[[], int]:
    """Train a network with pdADMM and report on it."""

    def command() -> int:
        from experiments.train import main  # imports JAX, which --help can do without

        return main(config)

    return command


def parse() -> Callable[[], int]:
    """The command that was asked for, ready to be run.

    Raises:
        UsageError: what tyro has against the arguments, its box made one line.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return app.cli(
                prog="python -m experiments",
                description="Experiments with pdadmm_jax: layer-parallel training, no gradients.",
                config=(tyro.conf.ConsolidateSubcommandArgs,),
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        lines = (
            re.sub(r"[╭╮╰╯│─\s]+", " ", line).strip() for line in complaint.getvalue().splitlines()
        )
        title, *text = filter(None, lines)
        raise UsageError(f"{title}: {' '.join(text)}") from None


def run() -> int:
    """Runs the command line and returns its exit code."""
    try:
        return parse()()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run())
