"""The command line: a table of commands, each the ``main`` of a module, given its options."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import tyro

from experiments.benchmark import options as benchmark
from experiments.compare.options import CompareConfig, PerformanceConfig
from experiments.graphs.options import GraphsConfig
from experiments.options.paths import local_path
from experiments.prediction.options import EvaluateConfig, PredictConfig
from experiments.race.options import RaceConfig
from experiments.report.options import ReportConfig
from experiments.runtime import screen
from experiments.runtime.environment import settle_homes
from experiments.runtime.errors import UsageError, usage_errors
from experiments.runtime.interrupts import interruptible
from experiments.runtime.jax_startup import check_xla_flags, jax_refusals
from experiments.runtime.launch import SUPERVISED
from experiments.runtime.options import LaunchConfig
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
    "evaluate": Command(
        "prediction.evaluate",
        EvaluateConfig,
        "Evaluate a trained network on its test samples, or on samples of your own.",
    ),
    "predict": Command(
        "prediction.predict", PredictConfig, "Write what a trained network says of samples."
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
    "graphs": Command(
        "graphs.command",
        GraphsConfig,
        "Classify the nodes of a graph by all methods, each tuned on its validation nodes.",
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
    "study settings": Command(
        "study.settings",
        study.SettingsConfig,
        "Train sweeps as recommended, and with other numbers: what tuning would add.",
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
    _check_characters(words)
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


def _check_characters(words: list[str]) -> None:
    """Refuses what no option takes, and no line on a screen or in a file can show as it is.

    Raises:
        UsageError: a word has a line break or another control character.
    """
    for word in words:
        if odd := [one for one in word if unicodedata.category(one) in ("Cc", "Zl", "Zp")]:
            raise UsageError(f"{word!r} has the control character {odd[0]!r}: leave it out.")


def _path_rule(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """How tyro makes a path of a word, in all options of all commands."""
    if info.type is not Path:
        return None

    def path(words: list[str]) -> Path:
        with usage_errors():  # of ValueErrors tyro would make many lines
            return local_path(words[0])

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=path,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


_RULES = tyro.constructors.ConstructorRegistry()
_RULES.primitive_rule(_path_rule)


def _parsed(name: str, options: Any, words: list[str], default: Any) -> Any:
    """The options of a command.

    Raises:
        UsageError: tyro refuses the words; its box is made one line.
    """
    others = [f"{PROGRAM} {other}" for other in COMMANDS if other.startswith(f"{name} ")]
    more = f"\n\nEach with options of its own: {', '.join(others)}." if others else ""
    kind: Any = Annotated[options, tyro.conf.arg(name="")]
    given: dict[str, Any] = {} if default is None else {"default": default}

    def config() -> Any:
        return tyro.cli(
            kind,
            args=words,
            prog=f"{PROGRAM} {name}",
            description=f"{options.__doc__.rstrip()}{more}",
            registry=_RULES,
            **given,
        )

    try:
        with screen.columns_for_help(), contextlib.redirect_stderr(io.StringIO()):
            return config()
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    raise UsageError(_one_line(_box(config)))


def _box(config: Callable[[], Any]) -> str:
    """The box that tyro draws around a complaint: in ASCII, uncoloured, lines whole."""
    box = io.StringIO()
    with (
        screen.columns_without_end(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(box),
        contextlib.suppress(SystemExit),
    ):
        config()
    return box.getvalue()


def _one_line(box: str) -> str:
    """The sentences below the heading of a box, which lines of dashes are between."""
    sentences = [""]
    for row in map(str.strip, box.splitlines()[2:]):
        if row.strip("-"):
            sentences[-1] += f" {row}"
        else:
            sentences.append("")
    return " ".join(f"{one.strip().removesuffix('.')}." for one in sentences if one)


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
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    screen.prepare()
    settle_homes()
    with interruptible():
        sys.exit(run(sys.argv[1:]))
