"""``python -m experiments predict``: what a trained network says of samples, in a file."""

from __future__ import annotations

import csv
from typing import TextIO

import numpy as np

from experiments.prediction.options import PredictConfig
from experiments.prediction.samples import network_of, samples_of
from experiments.runtime.errors import UsageError, usage_errors
from pdadmm_jax._files import replacing


def main(options: PredictConfig) -> int:
    """Predicts, writes and says where; returns the exit code.

    Raises:
        UsageError: there is no such network or no samples for it, or the file cannot be written.
    """
    with usage_errors():
        network = network_of(options.run)
        x, _, source = samples_of(options.run, network, options.data)
        said = np.asarray(network.predict(x))
    try:
        with replacing(options.out) as temporary:
            if options.out.suffix == ".npz":
                with temporary.open("wb") as file:
                    np.savez(file, prediction=said, outputs=np.asarray(network.forward(x)))
            else:
                with temporary.open("w", newline="", encoding="utf-8") as text:
                    _write_csv(text, said)
    except OSError as error:
        raise UsageError(
            f"out is {options.out}, which cannot be written ({error.strerror}): give another."
        ) from None
    print(f"{source}: {len(x)} predictions saved to {options.out}")
    return 0


def _write_csv(text: TextIO, said: np.ndarray) -> None:
    """One line per sample; several outputs of one are numbered."""
    rows = said[:, np.newaxis] if said.ndim == 1 else said
    several = rows.shape[1] > 1
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"prediction_{k}" if several else "prediction" for k in range(rows.shape[1])])
    writer.writerows(rows.tolist())
