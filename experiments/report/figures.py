"""Figures as files beside results: drawn the same for every user, and never at a result's cost.

Matplotlib is imported when the first one is drawn: that alone may fail, for it reads the user's
configuration and wants a directory to write to.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runtime.environment import with_environment
from pdadmm_jax._files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(path: Path, draw: Callable[[], Figure]) -> str | None:
    """Draws a figure and writes it as a PNG file.

    Args:
        path: file to write.
        draw: makes the figure; what needs Matplotlib is imported there.

    Returns:
        Why there is none, in one line; None if there is one.
    """
    try:
        with _own_settings(), replacing(path) as temporary:
            draw().savefig(temporary, format="png")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"warning: {path.name} cannot be drawn ({reason}); all else is saved"
    return None


@contextmanager
def _own_settings() -> Iterator[None]:
    """Keeps out the user's settings of Matplotlib, such as the backend of a notebook, or TeX."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # remarks on files of the user's
    with with_environment(MPLBACKEND="agg"):
        import matplotlib
    with matplotlib.rc_context(matplotlib.rcParamsDefault), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in names of data sets
        yield
