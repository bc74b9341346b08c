"""Samples that count more or less than others."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdadmm_jax._arrays import as_array
from pdadmm_jax._checks import is_concrete
from pdadmm_jax._typing import Array, ArrayLike, Bool, Float, Number
from pdadmm_jax.problems.data import Data, as_arrays
from pdadmm_jax.problems.losses import Loss, Solution, squared_error
from pdadmm_jax.problems.problem import check_problem


def weighted(data: Data, weights: ArrayLike, config: Any) -> tuple[Data, Any]:
    """Data and a configuration by which the risk of sample i counts weights[i] times.

    The objective is sum_i w_i R(z_i; y_i).  Means are still over the number of samples: weights of
    mean 1 leave the lengths of steps what they are.  Both results belong together; evaluate with
    the old configuration where samples are to count alike.

    Args:
        data: training samples.
        weights: of every sample, finite and at least 0.
        config: of either algorithm.

    Returns:
        Data whose y has the weights in a last column, and the configuration with a loss that takes
        them from there.

    Raises:
        TypeError: weights that are no array of numbers.
        ValueError: weights that do not fit the samples, are negative or not finite.
    """
    check_problem(config)
    data = as_arrays(data)
    weights = as_array("weights", weights).astype(data.x.dtype)
    if weights.shape != data.x.shape[:1]:
        raise ValueError(
            f"weights have shape {weights.shape}, but x holds {data.x.shape[0]} samples: give one "
            "for each."
        )
    labels = data.y.ndim == 1 and not jnp.issubdtype(data.y.dtype, jnp.floating)
    y = (data.y[:, None] if data.y.ndim == 1 else data.y).astype(weights.dtype)
    loss = Weighted(config.loss, labels)
    _check_weights(weights)
    return data._replace(y=jnp.concatenate([y, weights[:, None]], axis=1)), config.replace(
        loss=loss
    )


@dataclasses.dataclass(frozen=True)
class Weighted:
    """w R(z; y), with w in the last column of what is given as y; ``weighted`` makes it.

    Attributes:
        loss: R.
        labels: whether the column before it holds labels; else all others are targets.
    """

    loss: Loss
    labels: bool

    def check(self, y: Array, outputs: int) -> None:
        targets, weights = self._parts(y)
        self.loss.check(targets, outputs)
        _check_weights(weights)

    def value(self, z: Float[Array, "N C"], y: Float[Array, "N columns"]) -> Float[Array, " N"]:
        targets, weights = self._parts(y)
        return weights * self.loss.value(z, targets)

    def prox(
        self,
        a: Float[Array, "N C"],
        y: Float[Array, "N columns"],
        nu: Number,
        start: Float[Array, "N C"],
    ) -> Solution:
        """That of R with nu / w, sample by sample; z = a where w is 0."""
        targets, weights = self._parts(y)
        counts = weights > 0

        def one(a: Array, target: Array, weight: Array, start: Array) -> tuple[Array, Array]:
            z, converged = self.loss.prox(a[None], target[None], nu / weight, start[None])
            return z[0], converged

        z, converged = jax.vmap(one)(a, targets, jnp.where(counts, weights, 1), start)
        return jnp.where(counts[:, None], z, a), jnp.all(converged)

    def predict(self, z: Float[Array, "N C"]) -> Array:
        return self.loss.predict(z)

    def correct(self, z: Float[Array, "N C"], y: Float[Array, "N columns"]) -> Bool[Array, " N"]:
        return self.loss.correct(z, self._parts(y)[0])

    def _parts(self, y: Array) -> tuple[Array, Array]:
        """The targets as the loss takes them, and the weights."""
        if y.ndim != 2 or y.shape[1] < 2 or (self.labels and y.shape[1] != 2):
            raise ValueError(
                f"y has shape {y.shape}, but this configuration weighs its samples: give it the "
                "data that came with it, or take the configuration without weights."
            )
        targets = y[:, 0].astype(jnp.int32) if self.labels else y[:, :-1]
        return targets, y[:, -1]


def is_squared_error(loss: Any) -> bool:
    """Whether a loss, or the one of this name, is the squared error, samples weighted or not."""
    inner = loss.loss if isinstance(loss, Weighted) else loss
    return inner in ("squared_error", squared_error)


def _check_weights(weights: Array) -> None:
    if not is_concrete(weights):
        return
    values = np.asarray(weights)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        sample = int(wrong.argmax())
        raise ValueError(
            f"weights[{sample}] is {values[sample]}, but has to be a finite number of at least 0."
        )
