"""Every test runs under strict dtype promotion; those marked ``x64`` in double precision."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

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


@pytest.fixture
def compilations(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], int]]:
    """Counts what XLA compiles from here on."""
    jax.config.update("jax_log_compiles", True)
    caplog.set_level(logging.WARNING, logger="jax")
    yield lambda: sum("Finished XLA compilation" in r.getMessage() for r in caplog.records)
    jax.config.update("jax_log_compiles", False)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
    """Every program takes memory maps, of which Linux grants a process 65,530 and then crashes."""
    yield
    jax.clear_caches()
