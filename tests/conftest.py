"""Every test runs under strict dtype promotion; those marked ``x64`` in double precision."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

with install_import_hook("pdadmm_jax", "beartype.beartype"):
    import pdadmm_jax  # noqa: F401  (annotations are checked from here on)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 16)


@pytest.fixture(autouse=True)
def _precision(request: pytest.FixtureRequest) -> Iterator[None]:
    """Double precision for tests marked ``x64``."""
    jax.config.update("jax_enable_x64", request.node.get_closest_marker("x64") is not None)
    yield
    jax.config.update("jax_enable_x64", False)
