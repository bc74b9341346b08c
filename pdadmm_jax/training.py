"""Training for those who do not write loops: passes, validation, patience, history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdadmm_jax import admm, inference, sweeps
from pdadmm_jax._checks import check_count, check_key, check_widths
from pdadmm_jax._typing import ArrayLike, ParamsLike, PRNGKeyArray
from pdadmm_jax.network import Network, Scaling
from pdadmm_jax.parallel.mesh import checked_mesh, shard_data, stages
from pdadmm_jax.problems.data import Data, as_arrays, check_data
from pdadmm_jax.problems.first_weights import chained_widths
from pdadmm_jax.problems.problem import check_problem
from pdadmm_jax.problems.sample_weights import weighted

BATCH = 128  # samples between two updates of the weights, unless a configuration says otherwise


class History(NamedTuple):
    """What a training came to, evaluation by evaluation; NumPy arrays, all of one length.

    Attributes:
        passes: passes (iterations of Algorithm 1) done.
        loss: mean risk of the training samples in the last of them, while weights moved.
        validation_loss: mean risk of the validation samples; NaN without any.
        validation_score: share of correct predictions, or of real targets R^2; likewise.
        seconds: since the beginning, compilation included.
    """

    passes: np.ndarray
    loss: np.ndarray
    validation_loss: np.ndarray
    validation_score: np.ndarray
    seconds: np.ndarray


class Evaluation(NamedTuple):
    """One entry of ``History``."""

    passes: int
    loss: float
    validation_loss: float
    validation_score: float
    seconds: float


class Fitted(NamedTuple):
    """The result of ``fit``.

    Attributes:
        network: the weights of the evaluation with the least validation loss, or the last ones
            without validation samples, and all that predictions need.
        state: the last state, to go on from.
        config: of the training.
        history: what it came to.
    """

    network: Network
    state: Any
    config: Any
    history: History


def fit(
    data: Data,
    widths: Sequence[int],
    passes: int = 20,
    *,
    config: sweeps.Config | admm.Config | None = None,
    key: PRNGKeyArray | None = None,
    validation: Data | None = None,
    patience: int | None = None,
    every: int = 1,
    callback: Callable[[Evaluation, Any], bool | None] | None = None,
    first: ParamsLike | Network | None = None,
    weights: ArrayLike | None = None,
    standardise: bool | None = None,
    mesh: Mesh | None = None,
) -> Fitted:
    """Trains a network from first weights to predictions.

    The loop is ``init``, ``step`` and ``evaluate`` of the library, which are there for those who
    want another one.  A training of another length compiles nothing anew.

    Args:
        data: training samples.
        widths: (features, hidden, ..., outputs).
        passes: passes over the data at most; of Algorithm 1, iterations.
        config: of sweeps or of Algorithm 1; by default what ``sweeps.recommended`` says for
            batches of 128 samples, so many passes and the stages of the mesh, with the squared
            error for targets that are floating numbers and softmax cross-entropy for others.
        key: of the first weights and of the order of the samples; by default that of seed 0.
        validation: held-out samples to evaluate on.
        patience: evaluations without a smaller validation loss after which to stop; None for never.
        every: passes between two evaluations.
        callback: given every evaluation and the state; what it returns as true stops the training.
        first: weights to begin with, (W, b) of every layer or a network; by default random ones.
        weights: how many times the risk of each training sample counts; None for once.  Validation
            samples count once.
        standardise: whether inputs, and targets of the squared error, enter with mean 0 and
            standard deviation 1 in every column; None for yes where targets are numbers and no
            where they are classes.  The network keeps the statistics of the training samples, and
            takes and gives values in their own units.  One given as ``first`` keeps its own,
            whatever is said here.
        mesh: devices to train on; None for one.

    Raises:
        FloatingPointError: values that are not finite, naming layers and variables.
        TypeError: arguments of the wrong kind.
        ValueError: arguments that do not fit each other.
    """
    began = time.perf_counter()
    data, widths = as_arrays(data), check_widths(widths)
    passes, every = check_count("passes", passes), check_count("every", every)
    if patience is not None:
        check_count("patience", patience)
        if validation is None:
            raise ValueError(f"patience is {patience}, but there are no validation samples.")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}, but has to be a function.")
    mesh = None if mesh is None else checked_mesh(mesh)
    config = _default(data, widths, passes, mesh) if config is None else config
    check_problem(config)
    real = inference.is_regression(data, config, widths[-1])
    algorithm: Any = admm if isinstance(config, admm.Config) else sweeps
    key = jax.random.key(0) if key is None else key
    check_key(key)
    start, shuffle = jax.random.split(key)

    data = _as_rows(data, real)
    units = _units(data, real, real if standardise is None else standardise, first)
    data = _in_units(data, units)
    trained_by = config
    if weights is not None:
        data, trained_by = weighted(data, weights, config)
    if isinstance(first, Network):
        first = first.weights
    if first is None:
        state: Any = algorithm.init(start, data, widths, trained_by, mesh=mesh)
    else:
        if (given := chained_widths(inference.params(first))) != widths:
            raise ValueError(f"first has the widths {given}, but widths is {widths}.")
        state = algorithm.from_params(first, data, trained_by, mesh=mesh)
    if validation is not None:
        try:
            validation = _in_units(_as_rows(as_arrays(validation), real), units)
            check_data(validation, widths, config)
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation: {error}") from None
    given = data if mesh is None else shard_data(data, mesh)

    found: list[Evaluation] = []
    best, least, since = None, np.inf, 0
    for done in range(1, passes + 1):
        state, info = algorithm.step(state, given, trained_by, jax.random.fold_in(shuffle, done))
        if done % every and done < passes:
            continue
        if not bool(info.finite):
            raise FloatingPointError(_not_finite(state, done, config))
        loss = float(np.nanmean(np.asarray(info.loss)))
        held: tuple[Any, Any] = np.nan, np.nan
        if validation is not None:
            held = inference.loss_and_score(state, validation, config)
        held_loss, score = map(float, held)
        found.append(Evaluation(done, loss, held_loss, score, time.perf_counter() - began))
        since += 1
        if held_loss < least:
            best, least, since = inference.params(state), held_loss, 0
        stopped = callback is not None and callback(found[-1], state)
        if stopped or (patience is not None and since >= patience):
            break
    history = History(*(np.asarray(column) for column in zip(*found, strict=True)))
    network = Network.of(state if best is None else best, config, **units)
    return Fitted(network, state, config, history)


def _default(data: Data, widths: tuple[int, ...], passes: int, mesh: Mesh | None) -> sweeps.Config:
    """What is recommended for such data."""
    loss = (
        "squared_error" if jnp.issubdtype(data.y.dtype, jnp.floating) else "softmax_cross_entropy"
    )
    samples, count = data.x.shape[0], 1 if mesh is None else stages(mesh)
    batch = min(BATCH, samples)
    updates = passes * math.ceil(samples / batch)
    return sweeps.recommended(widths, batch, stages=count, updates=updates, loss=loss)


def _units(
    data: Data, real: bool, standardise: bool, first: ParamsLike | Network | None
) -> dict[str, Any]:
    """What a network is to keep beside its weights."""
    if isinstance(first, Network):
        return {"inputs": first.inputs, "targets": first.targets, "classes": first.classes}
    if not standardise:
        return {}
    return {
        "inputs": Scaling.of(np.asarray(data.x)),
        "targets": Scaling.of(np.asarray(data.y)) if real else None,
    }


def _in_units(data: Data, units: dict[str, Any]) -> Data:
    """The samples as the layers' problems have them."""

    def scaled(values: Any, scaling: Scaling | None) -> Any:
        if scaling is None:
            return values
        return jnp.asarray(scaling.apply(values), data.x.dtype)

    return data._replace(
        x=scaled(data.x, units.get("inputs")), y=scaled(data.y, units.get("targets"))
    )


def _as_rows(data: Data, real: bool) -> Data:
    """Targets of a single output as (N, 1)."""
    return data._replace(y=data.y[:, None]) if real and data.y.ndim == 1 else data


def _not_finite(state: Any, done: int, config: Any) -> str:
    """What is to be said of values that are not finite."""
    where = ", ".join(inference.nonfinite(state)) or "the loss"
    when, way = f"pass {done}", "a lower rate of the rule, a larger nu"
    if isinstance(config, admm.Config):
        when, way = f"iteration {done}", "other penalties nu and rho"
    return (
        f"not finite after {when}: {where}: try {way}, or standardise=True for inputs and targets "
        "that are far from 1."
    )
