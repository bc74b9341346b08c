"""What the training loop needs of an algorithm: pure functions of its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pdadmm_jax as pdadmm
from pdadmm_jax._typing import PRNGKeyArray

State = Any  # a pytree; its field ``iteration`` counts what was done
Config = Any  # a pytree whose numbers are leaves, so that one program serves all of them
Info = Any  # a named tuple with at least ``finite``; leading axis (steps,)


class Algorithm(NamedTuple):
    """An algorithm; an iteration is one step of it over all samples.

    Attributes:
        from_params: (weights, data, config) -> state; the state owns all of its arrays.
        run: (state, data, config, key, steps) -> (state, info); ``steps`` is static.  The order of
            the samples follows from the key and the number of the iteration, so that a run that
            was interrupted sees them as it would have without the pause.
        evaluate: (state, data, config) -> mean loss of the forward pass, and its accuracy, or R^2
            where targets are numbers.
        params: state -> weights.
        grow: (state, config, layers) -> state with so many identity layers more.
        refresh: (state, data, config) -> (state, drift), what is carried recomputed.
    """

    from_params: Callable[..., State]
    run: Callable[[State, pdadmm.Data, Config, PRNGKeyArray, int], tuple[State, Info]]
    evaluate: Callable[[State, pdadmm.Data, Config], tuple[Any, Any]]
    params: Callable[[State], pdadmm.Params]
    grow: Callable[[State, Config, int], State] | None = None
    refresh: Callable[[State, pdadmm.Data, Config], tuple[State, Any]] | None = None
