"""The command line: one subcommand per experiment, its options taken from the config's fields."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from experiments.config import (
    CompileConfig,
    LaunchConfig,
    ScalingConfig,
    TimeConfig,
    TrainConfig,
)
from experiments.errors import UsageError, usage_errors
from experiments.speed.config import (
    LiteralConfig,
    PrecisionConfig,
    SizesConfig,
    SpeedConfig,
    StartupConfig,
)

app = tyro.extras.SubcommandApp()
Command = Callable[[list[str]], int]  # what it is given are the words of a command to launch

LAUNCHABLE = ("train", "time")


@app.command(name="train")
def train(config: Annotated[TrainConfig, tyro.conf.arg(name="")]) -> Command:
    """Train a network with pdADMM and report on it."""
    return _main_of("train", config)


@app.command(name="time")
def measure(config: Annotated[TimeConfig, tyro.conf.arg(name="")]) -> Command:
    """Time iterations of a network on random data."""
    return _main_of("timing", config)


@app.command(name="speed")
def speed(config: Annotated[SpeedConfig, tyro.conf.arg(name="")]) -> Command:
    """Time iterations against their matrix products alone, and against Adam."""
    return _main_of("speed.limit", config)


@app.command(name="literal")
def literal(config: Annotated[LiteralConfig, tyro.conf.arg(name="")]) -> Command:
    """Time iterations against the algorithm as it is published."""
    return _main_of("speed.literal", config)


@app.command(name="sizes")
def sizes(config: Annotated[SizesConfig, tyro.conf.arg(name="")]) -> Command:
    """Time iterations while samples, neurons or layers grow."""
    return _main_of("speed.sizes", config)


@app.command(name="startup")
def startup(config: Annotated[StartupConfig, tyro.conf.arg(name="")]) -> Command:
    """Time imports and compilation, with and without programs kept from earlier runs."""
    return _main_of("speed.startup", config)


@app.command(name="precision")
def precision(config: Annotated[PrecisionConfig, tyro.conf.arg(name="")]) -> Command:
    """Train with products in float32, TF32 and bfloat16, and show what rounding does."""
    return _main_of("speed.precision", config)


@app.command(name="compile")
def compile_ahead(config: Annotated[CompileConfig, tyro.conf.arg(name="")]) -> Command:
    """Compile for devices that need not be there, and show memory and messages."""
    return _main_of("ahead", config)


@app.command(name="scaling")
def scaling(config: Annotated[ScalingConfig, tyro.conf.arg(name="")]) -> Command:
    """Measure the speedup of several processes, and predict that of more."""
    return _main_of("scaling", config)


@app.command(name="launch")
def launch(config: Annotated[LaunchConfig, tyro.conf.arg(name="")]) -> Command:
    """Run another command as several processes of this machine: launch --processes 2 train ..."""
    with usage_errors():
        config.check()

    def command(words: list[str]) -> int:
        from experiments.launch import main

        known = " or ".join(LAUNCHABLE)
        if not words:
            raise UsageError(
                f"launch needs a command to run, {known}: launch --processes {config.processes} "
                f"{LAUNCHABLE[0]} ..."
            )
        if words[0] not in LAUNCHABLE:
            raise UsageError(
                f"launch cannot run {words[0]!r}: only the work of {known} can be shared."
            )
        parse([*words, "--distributed"])  # one complaint about them is enough
        return main(config, words)

    return command


def _main_of(module: str, config: Any) -> Command:
    """``main`` of a module that is imported when it runs, for JAX takes its time to load."""
    with usage_errors():
        config.check()

    def command(_: list[str]) -> int:
        return importlib.import_module(f"experiments.{module}").main(config)

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
        # Its own words are options and numbers; the first other one begins what it launches.
        start = next((k for k, word in enumerate(words) if k and word[:1].isalpha()), len(words))
        own, launched = words[:start], words[start:]
    try:
        return parse(own)(launched)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
