"""Every test runs under strict dtype promotion; those marked ``x64`` in double precision."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for whom two processes are at work

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import install_import_hook

with install_import_hook("pdadmm_jax", "beartype.beartype"):
    import pdadmm_jax  # noqa: F401  (annotations are checked from here on)

from tests import commands

# Shells have what runs in the background ignore Ctrl-C, and so would the commands that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Keeps compiled programs for the module's own runs; yields what tells processes to."""
    cache = str(tmp_path_factory.mktemp("programs"))
    settings = {
        "jax_compilation_cache_dir": cache,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", cache)  # commands have no business elsewhere
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield (
            commands.ALONE
            | {"JAX_ENABLE_COMPILATION_CACHE": "true"}
            | {name.upper(): str(value) for name, value in settings.items()}
        )
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
    """Every program takes memory maps, of which Linux grants a process 65,530 and then crashes."""
    yield
    jax.clear_caches()
