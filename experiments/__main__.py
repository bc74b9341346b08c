"""The command line: a table of commands, each the ``main`` of a module, given its options."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NoReturn

import tyro

from experiments.benchmark import options as benchmark
from experiments.compare.options import CompareConfig, PerformanceConfig
from experiments.race.options import RaceConfig
from experiments.report.options import ReportConfig
from experiments.runtime.errors import UsageError, usage_errors
from experiments.runtime.interrupts import interruptible
from experiments.runtime.jax_startup import check_xla_flags, jax_refusals
from experiments.runtime.launch import SUPERVISED
from experiments.runtime.options import LaunchConfig
from experiments.runtime.screen import outlive_readers
from experiments.study import options as study
from experiments.train.options import TrainConfig
from experiments.train.resume import original_options

PROGRAM = "python -m experiments"


class Command(NamedTuple):
    """A command.

    Attributes:
        module: whose ``main`` it is; imported when it runs, for JAX takes its time to load.
        options: the dataclass of its options.
        help: one sentence.
    """

    module: str
    options: Any
    help: str


COMMANDS: dict[str, Command] = {
    "train": Command(
        "train.command", TrainConfig, "Train a network by ADMM or by sweeps and evaluate it."
    ),
    "compare": Command(
        "compare.command",
        CompareConfig,
        "Train one network by ADMM, sweeps, dlADMM and back-propagation, each at its best.",
    ),
    "performance": Command(
        "compare.performance",
        PerformanceConfig,
        "Compare all methods on the paper's data sets, by its protocol.",
    ),
    "race": Command(
        "race.command",
        RaceConfig,
        "Train by all methods until a test accuracy is reached, on one process and several.",
    ),
    "study convergence": Command(
        "study.convergence",
        study.ConvergenceConfig,
        "Check descent, residual and rate of the paper's theory on real runs.",
    ),
    "study communication": Command(
        "study.communication",
        study.CommunicationConfig,
        "Train with messages of every dtype, and count bytes against accuracy.",
    ),
    "study ablations": Command(
        "study.ablations", study.AblationsConfig, "Train ADMM with one thing changed at a time."
    ),
    "speed": Command(
        "benchmark.speed",
        benchmark.SpeedConfig,
        "Time iterations against their matrix products alone, and against Adam.",
    ),
    "speed sweeps": Command(
        "benchmark.sweeps",
        benchmark.SweepsSpeedConfig,
        "Time passes of sweeps against passes of Adam over the same batches.",
    ),
    "speed literal": Command(
        "benchmark.literal",
        benchmark.LiteralConfig,
        "Time iterations against the algorithm as it is published.",
    ),
    "speed sizes": Command(
        "benchmark.sizes",
        benchmark.SizesConfig,
        "Time iterations while samples, neurons or layers grow.",
    ),
    "speed startup": Command(
        "benchmark.startup",
        benchmark.StartupConfig,
        "Time imports and compilation, with and without the compilation cache.",
    ),
    "speed precision": Command(
        "benchmark.precision",
        benchmark.PrecisionConfig,
        "Train with products in float32, TF32 and bfloat16, and show what rounding does.",
    ),
    "scaling": Command(
        "benchmark.scaling",
        benchmark.ScalingConfig,
        "Measure the speedup of several processes, and predict that of more.",
    ),
    "scaling sweeps": Command(
        "benchmark.sweeps_scaling",
        benchmark.SweepsScalingConfig,
        "Measure the speedup of sweeps by every schedule, and predict that of more devices.",
    ),
    "time": Command(
        "benchmark.iteration_time",
        benchmark.TimeConfig,
        "Time iterations of a network on random data.",
    ),
    "compile": Command(
        "benchmark.compile",
        benchmark.CompileConfig,
        "Compile for devices that need not be there, and show memory and messages.",
    ),
    "report": Command(
        "report.command", ReportConfig, "Gather the results of all runs in one page."
    ),
    "launch": Command(
        "runtime.launch",
        LaunchConfig,
        "Run another command as several processes of this machine: launch --processes 2 train ...",
    ),
}

GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
LAUNCHABLE = ("train", "time", "race")


def parse(words: list[str]) -> Callable[[], int]:
    """The command that was asked for, ready to be run.

    Raises:
        UsageError: there is no such command, or its options are refused.
    """
    name = next((n for n in (" ".join(words[:2]), *words[:1]) if n in COMMANDS), None)
    if name is None or (name in GROUPS and words[1:] and words[1][:1].isalpha()):
        _without_command(words)
    module, options, _ = COMMANDS[name]
    own, launched = words[len(name.split()) :], []
    if name == "launch":
        # Its own words are options and numbers; the first other one begins what it launches.
        start = next((k for k, word in enumerate(own) if word[:1].isalpha()), len(own))
        own, launched = own[:start], own[start:]
    default = original_options(words) if name == "train" else None
    config = _parsed(name, options, own, default)
    with usage_errors():
        config.check()
    if name == "launch":
        _check_launched(config, launched)
        return lambda: importlib.import_module(f"experiments.{module}").main(config, launched)
    return lambda: importlib.import_module(f"experiments.{module}").main(config)


def _parsed(name: str, options: Any, words: list[str], default: Any) -> Any:
    """The options of a command.

    Raises:
        UsageError: tyro refuses the words; its box is made one line.
    """
    complaint = io.StringIO()
    others = [f"{PROGRAM} {other}" for other in COMMANDS if other.startswith(f"{name} ")]
    more = f"\n\nEach with options of its own: {', '.join(others)}." if others else ""
    kind: Any = Annotated[options, tyro.conf.arg(name="")]
    given: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind,
                args=words,
                prog=f"{PROGRAM} {name}",
                description=f"{options.__doc__.rstrip()}{more}",
                **given,
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise UsageError(_one_line(complaint.getvalue())) from None


def _one_line(box: str) -> str:
    """The sentences in a box that tyro draws, in ASCII where the locale has nothing else."""
    frame = r"[╭╮╰╯│─]+|-{3,}|^\s*[+|]-?|[+|]\s*$"
    _, *rows = (re.sub(frame, " ", row).strip() for row in box.strip().splitlines())
    parts = "\n".join(rows).split("\n\n")
    return " ".join(f"{' '.join(part.split()).rstrip('.')}." for part in parts if part.strip())


def _without_command(words: list[str]) -> NoReturn:
    """Handles words that name no command: prints the list of commands, or refuses."""
    group = f"{words[0]} " if words and words[0] in GROUPS else ""
    rest = words[1:] if group else words
    if rest and rest[0] in ("--help", "-h"):
        print(_overview(group))
        raise SystemExit(0)
    known = [name.removeprefix(group) for name in COMMANDS if name.startswith(group)]
    prefix = f"{PROGRAM} {group}".strip()
    if not rest:
        raise UsageError(f"{prefix} needs a command: choose one of {', '.join(known)}.")
    close = difflib.get_close_matches(rest[0], known, 1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"{prefix} has no command {rest[0]!r}{meant}: choose one of {', '.join(known)}."
    )


def _overview(group: str) -> str:
    """The commands and what they do, in 80 columns."""
    rows = []
    for name, command in COMMANDS.items():
        if name.startswith(group):
            first, *more = textwrap.wrap(command.help, 56)
            rows += [f"  {name:<20}  {first}", *(f"{'':24}{line}" for line in more)]
    return "\n".join(
        [
            f"usage: {PROGRAM} {group}COMMAND [OPTIONS]",
            "",
            "Experiments with pdadmm_jax, layer-parallel training of deep networks by ADMM.",
            f"{PROGRAM} COMMAND --help lists the options of a command.",
            "",
            "commands:",
            *rows,
        ]
    )


def _check_launched(config: LaunchConfig, words: list[str]) -> None:
    """Refuses what cannot be launched: one complaint about it is enough.

    Raises:
        UsageError: no command, one whose work cannot be shared, or wrong options.
    """
    known = f"{', '.join(LAUNCHABLE[:-1])} or {LAUNCHABLE[-1]}"
    if not words:
        raise UsageError(
            f"launch needs a command to run, {known}: launch --processes {config.processes} "
            f"{LAUNCHABLE[0]} ..."
        )
    if words[0] not in LAUNCHABLE:
        raise UsageError(f"launch cannot run {words[0]!r}: only {known} can share their work.")
    parse([*words, "--distributed"])


def run(words: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    try:
        with jax_refusals():
            command = parse(words)
            if SUPERVISED not in os.environ:  # or the launcher has
                check_xla_flags()
            return command()
    except UsageError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    outlive_readers()
    with interruptible():
        sys.exit(run(sys.argv[1:]))
