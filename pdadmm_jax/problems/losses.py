"""Risks R of the output layer and their proximal problem, the output z-update of the paper.

For every sample on its own, line 4 of Algorithm 1 at l = L is

    argmin_z  R(z; y) + (nu / 2) ||z - a||^2,          z, a of shape (C,).

A loss brings its targets, its value per sample (Optax's functions, with their stable logarithms),
this solve, and what counts as a correct answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pdadmm_jax._checks import check_finite, is_concrete
from pdadmm_jax._functions import HoldsFunction
from pdadmm_jax._typing import Array, Bool, Float, Number, Shaped
from pdadmm_jax.problems.output_prox import convex_prox, hinge_prox, softmax_prox

Targets = Shaped[Array, "N"] | Shaped[Array, "N _columns"]
Solution = tuple[Float[Array, "N C"], Bool[Array, ""]]


@runtime_checkable
class Loss(Protocol):
    """What the updates ask of a loss; implementations are frozen, hence hashable."""

    def check(self, y: Array, outputs: int) -> None:
        """Raises ValueError where y cannot be the target of a network with so many outputs."""
        ...

    def value(self, z: Array, y: Array) -> Array:
        """R(z_i; y_i) of every sample, shape (N,)."""
        ...

    def prox(self, a: Array, y: Array, nu: Number, start: Array) -> tuple[Array, Array]:
        """The minimiser of R(z; y) + (nu/2)||z - a||^2, and whether the solve converged."""
        ...

    def predict(self, z: Array) -> Array:
        """What outputs z (N, C) say: class numbers (N,), or values (N, C)."""
        ...

    def correct(self, z: Array, y: Array) -> Array:
        """Which samples are predicted correctly, shape (N,), bool."""
        ...


@dataclasses.dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """R = logsumexp(z) - <t, z>, with t the label's (optionally smoothed) distribution.

    Attributes:
        smoothing: share of every label spread evenly over all classes.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError(f"smoothing is {self.smoothing}, but has to lie in [0, 1).")

    def check(self, y: Array, outputs: int) -> None:
        if outputs < 2:
            raise ValueError(
                f"softmax cross-entropy needs at least 2 outputs, the network has {outputs}: "
                "use the 'binary_logistic' loss for a single one."
            )
        _check_labels_or_rows(y, outputs)
        if not _is_labels(y, outputs) and is_concrete(y):
            _check_distributions(y)

    def targets(self, y: Targets, outputs: int, dtype: Any) -> Float[Array, "N C"]:
        """The label distributions t."""
        return optax.smooth_labels(_one_hot(y, outputs, dtype), self.smoothing)

    def value(self, z: Float[Array, "N C"], y: Targets) -> Float[Array, " N"]:
        return optax.softmax_cross_entropy(z, self.targets(y, z.shape[-1], z.dtype))

    def prox(
        self, a: Float[Array, "N C"], y: Targets, nu: Number, start: Float[Array, "N C"]
    ) -> Solution:
        """See ``softmax_prox``; the scalar root needs no start."""
        del start
        return softmax_prox(a, self.targets(y, a.shape[-1], a.dtype), nu)

    def predict(self, z: Float[Array, "N C"]) -> Array:
        return _largest(z)

    def correct(self, z: Float[Array, "N C"], y: Targets) -> Bool[Array, " N"]:
        return _largest(z) == _class_index(y, z.shape[-1])


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """R = ||z - y||^2 / 2; integer labels stand for their one-hot rows.

    Of a network with a single output y may have the shape (N,), of any kind of number.
    """

    def check(self, y: Array, outputs: int) -> None:
        if _plain_targets(y, outputs):
            if is_concrete(y):
                check_finite("y", y)
            return
        if jnp.issubdtype(y.dtype, jnp.floating) and _one_each(y) and outputs > 1:
            raise ValueError(
                f"y of shape {y.shape} has 1 target per sample, but the network has {outputs} "
                "outputs: make the last width 1, or give y of shape (samples, outputs)."
            )
        _check_labels_or_rows(y, outputs)

    def targets(self, y: Targets, outputs: int, dtype: Any) -> Float[Array, "N C"]:
        """The rows that outputs are compared with."""
        if _plain_targets(y, outputs):
            return y.reshape(-1, 1).astype(dtype)
        return _one_hot(y, outputs, dtype)

    def value(self, z: Float[Array, "N C"], y: Targets) -> Float[Array, " N"]:
        return jnp.sum(optax.l2_loss(z, self.targets(y, z.shape[-1], z.dtype)), axis=-1)

    def prox(
        self, a: Float[Array, "N C"], y: Targets, nu: Number, start: Float[Array, "N C"]
    ) -> Solution:
        """Closed form, the weighted mean of y and a."""
        del start
        t = self.targets(y, a.shape[-1], a.dtype)
        # a + (t - a) / (1 + nu) rather than (t + nu a) / (1 + nu): exact at both ends of nu.
        return a + (t - a) / (1 + nu), jnp.asarray(True)

    def predict(self, z: Float[Array, "N C"]) -> Array:
        return z

    def correct(self, z: Float[Array, "N C"], y: Targets) -> Bool[Array, " N"]:
        if not has_classes(y, z.shape[-1]):
            raise ValueError(
                "real-valued targets are no classes: report the loss instead of "
                "the accuracy, or give integer labels."
            )
        return _largest(z) == _class_index(y, z.shape[-1])


@dataclasses.dataclass(frozen=True)
class BinaryLogistic:
    """R = sum_c log(1 + exp(-s_c z_c)), with s = 2 y - 1 and labels y of 0 and 1.

    One output per binary label: y of shape (N,) for one, (N, C) for several.
    """

    def check(self, y: Array, outputs: int) -> None:
        if y.ndim == 1 and outputs != 1:
            raise ValueError(
                f"y of shape {y.shape} has 1 label per sample, but the network has {outputs} "
                "outputs: make the last width 1 or give y of shape (samples, outputs)."
            )
        if y.ndim == 2 and y.shape[1] != outputs:
            raise ValueError(
                f"y has {y.shape[1]} columns, but the network's last width is {outputs}: "
                "make them equal."
            )
        if is_concrete(y) and not np.isin(np.asarray(y), (0, 1)).all():
            wrong = np.asarray(y)[~np.isin(np.asarray(y), (0, 1))][0]
            raise ValueError(f"y holds {wrong}, but binary labels have to be 0 or 1.")

    def value(self, z: Float[Array, "N C"], y: Targets) -> Float[Array, " N"]:
        y = y.reshape(z.shape).astype(z.dtype)
        return jnp.sum(optax.sigmoid_binary_cross_entropy(z, y), axis=-1)

    def prox(
        self, a: Float[Array, "N C"], y: Targets, nu: Number, start: Float[Array, "N C"]
    ) -> Solution:
        """Each output is a softmax over the two logits (-z/2, z/2), where nu counts twice."""
        del start
        y = y.reshape(a.shape).astype(a.dtype)
        pair = jnp.stack([-0.5 * a, 0.5 * a], axis=-1)
        z, converged = softmax_prox(pair, jnp.stack([1 - y, y], axis=-1), 2 * nu)
        return z[..., 1] - z[..., 0], converged

    def predict(self, z: Float[Array, "N C"]) -> Array:
        labels = (z > 0).astype(jnp.int32)
        return labels[:, 0] if z.shape[1] == 1 else labels

    def correct(self, z: Float[Array, "N C"], y: Targets) -> Bool[Array, " N"]:
        return jnp.all((z > 0) == (y.reshape(z.shape) > 0), axis=-1)


@dataclasses.dataclass(frozen=True)
class MulticlassHinge:
    """R = max_c (z_c + [c != y]) - z_y, the margin loss of Crammer and Singer (2001)."""

    def check(self, y: Array, outputs: int) -> None:
        if outputs < 2:
            raise ValueError(
                f"the hinge loss needs at least 2 outputs, the network has {outputs}: use the "
                "'binary_logistic' loss for a single one."
            )
        _check_labels_or_rows(y, outputs)
        if not _is_labels(y, outputs) and is_concrete(y):
            _check_one_hot(y)

    def value(self, z: Float[Array, "N C"], y: Targets) -> Float[Array, " N"]:
        # Optax's function makes one-hot rows of the default dtype, which may not be that of z.
        t = _one_hot(y, z.shape[-1], z.dtype)
        return jnp.max(z + 1 - t, axis=-1) - jnp.sum(t * z, axis=-1)

    def prox(
        self, a: Float[Array, "N C"], y: Targets, nu: Number, start: Float[Array, "N C"]
    ) -> Solution:
        """See ``hinge_prox``; exact after finitely many steps, whatever the start."""
        del start
        return hinge_prox(a, _one_hot(y, a.shape[-1], a.dtype), nu)

    def predict(self, z: Float[Array, "N C"]) -> Array:
        return _largest(z)

    def correct(self, z: Float[Array, "N C"], y: Targets) -> Bool[Array, " N"]:
        return _largest(z) == _class_index(y, z.shape[-1])


@dataclasses.dataclass(frozen=True)
class ConvexLoss(HoldsFunction):
    """A user's own loss R(z, y) of one sample, convex and twice differentiable in z.

    Attributes:
        function: maps z of shape (C,) and one sample's y to a scalar.
        iterations: bound on the damped Newton steps of the z_L solve.  Ten or fewer are used where
            nu is of order 1 or above, tens where the quadratic term is weak and logits are far.
        classification: whether the largest output is the predicted class, so that there is an
            accuracy.

    Raises:
        TypeError: no function.
    """

    function: Callable[[Array, Array], Array]
    iterations: int = 100
    classification: bool = True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"function is {self.function!r}, but has to be one of a sample's outputs and y."
            )

    def check(self, y: Array, outputs: int) -> None:
        del y, outputs  # any target will do: the function knows

    def value(self, z: Float[Array, "N C"], y: Targets) -> Float[Array, " N"]:
        return jax.vmap(self.function)(z, y)

    def prox(
        self, a: Float[Array, "N C"], y: Targets, nu: Number, start: Float[Array, "N C"]
    ) -> Solution:
        """See ``convex_prox``."""
        return convex_prox(self.function, a, y, nu, start, self.iterations)

    def predict(self, z: Float[Array, "N C"]) -> Array:
        return _largest(z) if self.classification else z

    def correct(self, z: Float[Array, "N C"], y: Targets) -> Bool[Array, " N"]:
        if not self.classification:
            raise ValueError("this loss was declared to have no classes: report the loss instead.")
        return _largest(z) == _class_index(y, z.shape[-1])


softmax_cross_entropy = SoftmaxCrossEntropy()
squared_error = SquaredError()
binary_logistic = BinaryLogistic()
multiclass_hinge = MulticlassHinge()

LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "squared_error": squared_error,
    "binary_logistic": binary_logistic,
    "multiclass_hinge": multiclass_hinge,
}


def has_classes(y: Array, outputs: int) -> bool:
    """Whether the squared error takes y for class numbers, not for the numbers to be met."""
    return _is_labels(y, outputs) and not _plain_targets(y, outputs)


def _plain_targets(y: Array, outputs: int) -> bool:
    """Whether y has one target for the only output of each sample."""
    return outputs == 1 and y.ndim == 1


def _is_labels(y: Array, outputs: int) -> bool:
    """Whether y has class numbers, one for each sample: a vector of them, or a column."""
    whole = jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == bool
    return whole and (y.ndim == 1 or (_one_each(y) and outputs > 1))


def _one_each(y: Array) -> bool:
    """Whether y is a vector or a column."""
    return y.ndim == 1 or y.shape[1] == 1


def _class_index(y: Array, outputs: int) -> Array:
    """Labels as int32, whatever kind of whole number they came as."""
    return y.reshape(-1).astype(jnp.int32) if _is_labels(y, outputs) else _largest(y)


def _largest(z: Array) -> Array:
    """The index of the largest entry."""
    return jnp.argmax(z, axis=-1).astype(jnp.int32)


def _one_hot(y: Array, outputs: int, dtype: Any) -> Array:
    if not _is_labels(y, outputs):
        return y.astype(dtype)
    return jax.nn.one_hot(_class_index(y, outputs), outputs, dtype=dtype)


def _check_labels_or_rows(y: Array, outputs: int) -> None:
    """Integer labels in [0, outputs), or finite rows of that many numbers."""
    if y.ndim == 2 and not (_one_each(y) and outputs > 1):
        if y.shape[1] != outputs:
            raise ValueError(
                f"y has {y.shape[1]} columns, but the network's last width is {outputs}: "
                "make them equal."
            )
        if is_concrete(y):
            check_finite("y", y)
        return
    if not _is_labels(y, outputs):
        raise ValueError(
            f"y of shape {y.shape} has dtype {y.dtype}, but labels have to be integers: "
            "y.astype('int32') if they are class numbers; values to be predicted take the "
            "'squared_error' loss and a network with an output for each."
        )
    if is_concrete(y):
        labels = np.asarray(y)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= outputs:
            raise ValueError(
                f"labels run from {low} to {high}, but a network with {outputs} outputs takes 0 "
                f"to {outputs - 1}: renumber the labels or change the last width."
            )


def _check_distributions(y: Array) -> None:
    rows = np.asarray(y, np.float64)
    if (rows < 0).any() or np.abs(rows.sum(axis=1) - 1).max() > 1e-3:
        row = int(np.argmax(np.abs(rows.sum(axis=1) - 1) + (rows < 0).any(axis=1)))
        raise ValueError(
            f"y[{row}] sums to {rows[row].sum():.6g} with least entry {rows[row].min():.6g}, but "
            "has to be a distribution: one-hot rows, or integer labels of shape (samples,)."
        )


def _check_one_hot(y: Array) -> None:
    rows = np.asarray(y)
    good = np.isin(rows, (0, 1)).all(axis=1) & (rows.sum(axis=1) == 1)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            f"y[{row}] is not one-hot (it sums to {rows[row].sum()}), but the hinge loss takes "
            "one class per sample: give integer labels or one-hot rows."
        )
