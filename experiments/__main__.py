"""The command line: one subcommand per experiment, its options taken from the config's fields."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from experiments.config import TrainConfig
from experiments.errors import UsageError

app = tyro.extras.SubcommandApp()


@app.command(name="train")
def train(config: Annotated[TrainConfig, tyro.conf.arg(name="")]) -> int:
    """Train a network with pdADMM and report on it."""
    from experiments.train import main  # imports JAX, which --help can do without

    return main(config)


def run() -> int:
    """Runs the command line and returns its exit code."""
    try:
        return app.cli(
            prog="python -m experiments",
            description="Experiments with pdadmm_jax, layer-parallel training without gradients.",
            config=(tyro.conf.ConsolidateSubcommandArgs,),
        )
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run())
