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
    ReportConfig,
    ScalingConfig,
    TimeConfig,
    TrainConfig,
)
from experiments.errors import UsageError, usage_errors
from experiments.interrupts import interruptible
from experiments.resuming import begun_with
from experiments.screen import outlive_readers
from experiments.speed.config import (
    LiteralConfig,
    PrecisionConfig,
    SizesConfig,
    SpeedConfig,
    StartupConfig,
)
from experiments.study.config import (
    AblationsConfig,
    CommunicationConfig,
    CompareConfig,
    ConvergenceConfig,
    PerformanceConfig,
)

app = tyro.extras.SubcommandApp()
Command = Callable[[list[str]], int]  # what it is given are the words of a command to launch

LAUNCHABLE = ("train", "time")


def _add(name: str, module: str, config: Any, help: str) -> None:
    """A subcommand that is ``main`` of a module, given a config."""

    def command(config: Any) -> Command:
        return _main_of(module, config)

    command.__annotations__["config"] = Annotated[config, tyro.conf.arg(name="")]
    command.__doc__ = help
    app.command(name=name)(command)


for _command in (
    ("train", "train", TrainConfig, "Train a network with pdADMM and report on it."),
    (
        "compare",
        "study.compare",
        CompareConfig,
        "Train one network by pdADMM, sweeps, dlADMM and back-propagation, each at its best.",
    ),
    (
        "performance",
        "study.performance",
        PerformanceConfig,
        "Compare all methods on the paper's data sets, by its protocol.",
    ),
    (
        "ablations",
        "study.ablations",
        AblationsConfig,
        "Train pdADMM with one thing changed at a time.",
    ),
    ("time", "timing", TimeConfig, "Time iterations of a network on random data."),
    (
        "speed",
        "speed.limit",
        SpeedConfig,
        "Time iterations against their matrix products alone, and against Adam.",
    ),
    (
        "literal",
        "speed.literal",
        LiteralConfig,
        "Time iterations against the algorithm as it is published.",
    ),
    (
        "sizes",
        "speed.sizes",
        SizesConfig,
        "Time iterations while samples, neurons or layers grow.",
    ),
    (
        "startup",
        "speed.startup",
        StartupConfig,
        "Time imports and compilation, with and without programs kept from earlier runs.",
    ),
    (
        "precision",
        "speed.precision",
        PrecisionConfig,
        "Train with products in float32, TF32 and bfloat16, and show what rounding does.",
    ),
    (
        "convergence",
        "study.convergence",
        ConvergenceConfig,
        "Check descent, residual and rate of the paper's theory on real runs.",
    ),
    (
        "communication",
        "study.communication",
        CommunicationConfig,
        "Train with messages of every type, and count bytes against accuracy.",
    ),
    (
        "compile",
        "ahead",
        CompileConfig,
        "Compile for devices that need not be there, and show memory and messages.",
    ),
    (
        "scaling",
        "scaling",
        ScalingConfig,
        "Measure the speedup of several processes, and predict that of more.",
    ),
    ("report", "report", ReportConfig, "Gather what was run into one page."),
):
    _add(*_command)


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


def _train_config(words: list[str], default: TrainConfig) -> TrainConfig:
    """What ``train`` is told to do, where it is told something."""
    return tyro.cli(
        Annotated[TrainConfig, tyro.conf.arg(name="")],
        args=words,
        prog="python -m experiments train",
        default=default,
    )


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
    begun = begun_with(words) if words[:1] == ["train"] else None
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if begun:  # what is not said now is what was said then
                return _main_of("train", _train_config(words[1:], begun))
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
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    outlive_readers()
    with interruptible():
        sys.exit(run(sys.argv[1:]))
