"""The command line: one subcommand per experiment, its options taken from the config's fields."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import Annotated

import tyro

from experiments.config import CompileConfig, LaunchConfig, ScalingConfig, TimeConfig, TrainConfig
from experiments.errors import UsageError, usage_errors

app = tyro.extras.SubcommandApp()
Command = Callable[[list[str]], int]  # what it is given are the words of a command to launch

LAUNCHABLE = ("train", "time")


@app.command(name="train")
def train(config: Annotated[TrainConfig, tyro.conf.arg(name="")]) -> Command:
    """Train a network with pdADMM and report on it."""

    def command(_: list[str]) -> int:
        from experiments.train import main  # imports JAX, which --help can do without

        return main(config)

    return command


@app.command(name="time")
def measure(config: Annotated[TimeConfig, tyro.conf.arg(name="")]) -> Command:
    """Time iterations of a network on random data."""

    def command(_: list[str]) -> int:
        from experiments.timing import main

        return main(config)

    return command


@app.command(name="compile")
def compile_ahead(config: Annotated[CompileConfig, tyro.conf.arg(name="")]) -> Command:
    """Compile for devices that need not be there, and show memory and messages."""

    def command(_: list[str]) -> int:
        from experiments.ahead import main

        return main(config)

    return command


@app.command(name="scaling")
def scaling(config: Annotated[ScalingConfig, tyro.conf.arg(name="")]) -> Command:
    """Measure the speedup of several processes, and predict that of more."""

    def command(_: list[str]) -> int:
        from experiments.scaling import main

        return main(config)

    return command


@app.command(name="launch")
def launch(config: Annotated[LaunchConfig, tyro.conf.arg(name="")]) -> Command:
    """Run another command as several processes of this machine: launch --processes 2 train ..."""

    def command(words: list[str]) -> int:
        from experiments.launch import main

        if not words:
            raise UsageError(
                f"launch needs a command to run, one of {', '.join(LAUNCHABLE)}: launch "
                f"--processes {config.processes} {LAUNCHABLE[0]} ..."
            )
        with usage_errors():
            config.check()
        parse(words)  # one complaint about them is enough
        return main(config, words)

    return command


def parse(words: list[str]) -> Command:
    """The command that was asked for, ready to be run.

    Raises:
        UsageError: what tyro has against the words, its box made one line.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return app.cli(
                args=words,
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


def run(words: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    own, launched = words, []
    if words[:1] == ["launch"]:
        start = next((at for at, word in enumerate(words) if word in LAUNCHABLE), len(words))
        own, launched = words[:start], words[start:]
    try:
        return parse(own)(launched)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
