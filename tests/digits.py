"""The bundled digits as training data for tests."""

from __future__ import annotations

import jax.numpy as jnp

import pdadmm_jax as pdadmm
from experiments.data import DataConfig, load


def digits(dtype=jnp.float32) -> pdadmm.Data:
    """All 1,437 training digits."""
    images = load(DataConfig(validation=0.0))
    return pdadmm.Data(jnp.asarray(images.x_train, dtype), jnp.asarray(images.y_train))
