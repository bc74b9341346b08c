"""What each method of a race is: how it begins, and what a part of a pass does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments.algorithms import backprop
from experiments.algorithms.backprop import BACKPROP
from experiments.algorithms.pipelines import differentiated, gpipe_step
from experiments.race.options import MethodName, RaceConfig, RuleName
from pdadmm_jax import admm, sweeps
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.sweeps.stream import microbatches


class Method(NamedTuple):
    """A method with its numbers.

    Attributes:
        start: of a key: the state at the first weights.
        step: (state, data, key) -> state, after a pass over the data.
        network: of a state: what is evaluated.
        mesh: where the state lives; None for a single device.
        parts: whether it trains on parts of a pass, rather than on all samples at once.
    """

    start: Callable[[Any, pdadmm.Data], Any]
    step: Callable[[Any, pdadmm.Data, Any], Any]
    network: Callable[[Any], Any]
    mesh: Mesh | None
    parts: bool = True


def method_of(
    name: MethodName, options: RaceConfig, widths: tuple[int, ...], rate: float
) -> Method:
    """The method of this name, with a learning rate."""
    mesh = _mesh_of(name, options)
    if name in ("admm", "admm_on_stages"):
        config = admm.recommended()
        start = partial(_init, admm.init, widths=widths, config=config, mesh=mesh)
        step = partial(_admm_pass, config=config)
        return Method(start, step, _itself, mesh, parts=False)
    recipe = sweeps.recommended(widths, options.batch, rule=_rule(options.rule, rate))
    if name == "adam":
        plain = backprop.Config(
            rate, admm.Config(), _optimizer_by_rate(options.rule), batch=options.batch
        )
        return Method(
            partial(_plain_start, widths=widths, recipe=recipe, config=plain),
            partial(_plain_pass, config=plain),
            BACKPROP.params,
            None,
        )
    if options.microbatches is not None and mesh is not None:
        recipe = recipe.replace(microbatches=options.microbatches)
    schedules = {
        "zb_h1": "zero_bubble",
        "pipedream_2bw": "one_batch_late",
        "sweeps_zero_bubble": "zero_bubble",
        "sweeps_one_batch_late": "one_batch_late",
        "sweeps_streaming": "streaming",
    }
    config = recipe.replace(schedule=schedules.get(name, "synchronous"))
    if name == "1f1b":  # p^T r of each block as it comes down
        blocks = microbatches(config, plan(widths, options.processes).reach)
        config = config.replace(block=-(-options.batch // blocks))
    if not name.startswith("sweeps") and name != "gpipe":
        config = differentiated(config)
    function = gpipe_step if name == "gpipe" else sweeps.step
    return Method(
        partial(_init, sweeps.init, widths=widths, config=config, mesh=mesh),
        partial(_pass, function, config=config),
        _itself,
        mesh,
    )


def _mesh_of(name: MethodName, options: RaceConfig) -> Mesh | None:
    if name in ("adam", "sweeps", "admm"):
        return None
    if name == "data_parallel":
        return pdadmm.make_mesh(1, options.processes)
    return pdadmm.make_mesh(options.processes)


def _rule(name: RuleName, rate: float) -> Any:
    own = {"adam": sweeps.Adam, "lion": sweeps.Lion}
    return own[name](rate) if name in own else _optimizer(name, rate)


@cache
def _optimizer_by_rate(name: RuleName) -> Callable[[Any], optax.GradientTransformation]:
    """The same function every time, by which programs are told apart."""
    return partial(_optimizer, name)


def _optimizer(name: RuleName, rate: Any) -> optax.GradientTransformation:
    if name == "adam":
        return optax.adam(rate)
    if name == "adamw":
        return optax.adamw(rate, weight_decay=0.01)
    if name == "lion":
        return optax.lion(rate, weight_decay=0.0)
    return optax.contrib.muon(rate)


def _init(init: Any, key: Any, data: pdadmm.Data, widths: Any, config: Any, mesh: Any) -> Any:
    return init(key, data, widths, config, mesh=mesh)


def _pass(function: Any, state: Any, data: pdadmm.Data, key: Any, config: Any) -> Any:
    return function(state, data, config, key)[0]


def _admm_pass(state: Any, data: pdadmm.Data, key: Any, config: admm.Config) -> Any:
    del key
    return admm.step(state, data, config)[0]


def _plain_start(
    key: Any, data: pdadmm.Data, widths: Any, recipe: sweeps.Config, config: backprop.Config
) -> backprop.State:
    params = pdadmm.params(sweeps.init(key, data, widths, recipe))
    return BACKPROP.from_params(params, data, config)


_plain_run = jax.jit(BACKPROP.run, static_argnums=4)


def _plain_pass(state: Any, data: pdadmm.Data, key: Any, config: backprop.Config) -> Any:
    return _plain_run(state, data, config, key, 1)[0]


def _itself(state: Any) -> Any:
    return state
