"""JAX's persistent compilation cache, for later runs of the same shapes on this machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import jax

from experiments.options.paths import is_utf8


def enable_compilation_cache() -> None:
    """Has JAX keep what it compiles, in the user's cache directory, if there is one.

    Where JAX's own settings (``JAX_COMPILATION_CACHE_DIR``, ``JAX_ENABLE_COMPILATION_CACHE``) say
    something else, they hold.  Homes may be shared by machines whose processors differ, hence a
    directory for each.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    home = _cache_home()
    if home is None:  # nothing but time is lost
        return
    directory = home / "pdadmm_jax" / f"compiled-{platform.node()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:  # likewise
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _cache_home() -> Path | None:
    """The first of the usual places that is one.

    A relative path counts as none, as the standard has it, and so does a name that XLA cannot read.
    """
    for place in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        path = Path(os.path.expanduser(place))
        if path.is_absolute() and is_utf8(path):
            return path
    return None
