"""``python -m experiments evaluate``: how good a trained network is on samples of one's own."""

from __future__ import annotations

import math

import numpy as np

import pdadmm_jax as pdadmm
from experiments.data.dataset import DataError
from experiments.prediction.options import EvaluateConfig
from experiments.prediction.samples import network_of, samples_of
from experiments.runtime.errors import usage_errors
from pdadmm_jax.inference import is_regression


def main(options: EvaluateConfig) -> int:
    """Evaluates and prints one line; returns the exit code.

    Raises:
        UsageError: there is no such network, or no samples with targets for it.
    """
    with usage_errors():
        network = network_of(options.run)
        x, y, source = samples_of(options.run, network, options.data)
        if y is None:
            raise DataError(f"{source} has no targets to compare with: use predict")
        data = pdadmm.Data(x, y)
        loss, score = map(float, network.evaluate(data))
    words = f"accuracy {score:.2%}"
    if is_regression(data, network, network.widths[-1]):
        errors = np.sqrt(np.mean((np.asarray(network.predict(x), np.float64) - y) ** 2, axis=0))
        words = f"R^2 {score:.4f}, error (RMS) {', '.join(f'{error:.4g}' for error in errors)}"
    print(f"{source}: {len(x)} samples, loss {loss:.4g}, {words}")
    return 0 if math.isfinite(loss) else 1
