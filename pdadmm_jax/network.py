"""A trained network with all that its predictions need, and its file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from pdadmm_jax import inference
from pdadmm_jax._arrays import as_array, numeric
from pdadmm_jax._checks import check_finite, is_concrete
from pdadmm_jax._files import read_npz, replacing
from pdadmm_jax._pytree import pytree_dataclass
from pdadmm_jax._typing import AnyArray, Array, ArrayLike, Float, ParamsLike, Scalar, Shaped
from pdadmm_jax.numerics.products import Precision
from pdadmm_jax.problems.activations import ACTIVATIONS, Activation, LeakyReLU
from pdadmm_jax.problems.data import Data
from pdadmm_jax.problems.first_weights import as_pairs, chained_widths
from pdadmm_jax.problems.losses import LOSSES, BinaryLogistic, Loss, SoftmaxCrossEntropy
from pdadmm_jax.problems.problem import Problem, check_residual_block, resolve_problem

FORMAT = 1
_WITH_NUMBERS = {"leaky_relu": LeakyReLU, "softmax_cross_entropy": SoftmaxCrossEntropy}


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Scaling:
    """Other units for the columns of an array: (values - mean) / scale.

    Attributes:
        mean: what becomes 0.
        scale: what becomes 1 beyond that, above 0.

    Raises:
        ValueError: numbers that are not finite, or a scale that is not above 0.
    """

    mean: Float[AnyArray, " columns"]
    scale: Float[AnyArray, " columns"]

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            if is_concrete(getattr(self, name)):
                check_finite(name, getattr(self, name))
        if is_concrete(self.scale) and not (scale := np.asarray(self.scale) > 0).all():
            column = int(np.argmin(scale))
            raise ValueError(
                f"scale[{column}] is {np.asarray(self.scale)[column]}, but has to be above 0."
            )

    @classmethod
    def of(cls, values: Shaped[AnyArray, "N columns"]) -> Scaling:
        """By which every column has mean 0 and standard deviation 1; constant ones become 0.

        Args:
            values: the training samples'.
        """
        values = np.asarray(values, np.float64)
        # From the first row on, so that equal numbers deviate from their mean by nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            moved = values - values[0]
            mean, deviation = values[0] + moved.mean(0), moved.std(0)
        return cls(mean, np.where(deviation == 0, 1.0, deviation))

    def apply(self, values: Shaped[AnyArray, "N columns"]) -> Float[AnyArray, "N columns"]:
        """The values in the new units, in double precision where they are known."""
        values, mean, scale = _wide(values, self.mean, self.scale)
        return (values - mean[None]) / scale[None]

    def undo(self, values: Shaped[AnyArray, "N columns"]) -> Float[AnyArray, "N columns"]:
        """Values of the new units in the old ones, likewise."""
        values, mean, scale = _wide(values, self.mean, self.scale)
        return values * scale[None] + mean[None]


def _wide(values: Any, *others: Any) -> list[Any]:
    """Arrays of one kind: NumPy's in double precision, or JAX's of the first one's dtype."""
    if all(map(is_concrete, (values, *others))):
        return [np.asarray(one, np.float64) for one in (values, *others)]
    return [jnp.asarray(one, values.dtype) for one in (values, *others)]


@pytree_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    """Weights, and what belongs to them: a pytree, and a configuration's equal for ``predict``.

    Attributes:
        weights: (W, b) of every layer.
        activation: f of the hidden layers, by name or an Activation.
        loss: the risk, by name or a Loss; it says what outputs mean.
        precision: of matrix products.
        residual_block: hidden layers of a residual block; 0 for a plain chain.
        inputs: units in which x enters the first layer; None for x as it is.
        targets: units in which the outputs are; None for those of y.
        classes: names of the classes, in the order of their numbers; None for the numbers.

    Raises:
        TypeError: weights that are no (W, b) pairs.
        ValueError: weights that do not chain, an unknown name, names of classes that are neither
            texts nor numbers, or as many names or columns as the network has not.
    """

    weights: ParamsLike
    activation: Any = dataclasses.field(default="relu", metadata={"static": True})
    loss: Any = dataclasses.field(default="softmax_cross_entropy", metadata={"static": True})
    precision: Precision = dataclasses.field(default="float32", metadata={"static": True})
    residual_block: int = dataclasses.field(default=0, metadata={"static": True})
    inputs: Scaling | None = None
    targets: Scaling | None = None
    classes: Sequence[Any] | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        resolve_problem(self)
        object.__setattr__(self, "weights", as_pairs(self.weights))
        check_residual_block(self.residual_block, self.widths)
        if self.classes is not None:
            object.__setattr__(self, "classes", _names(self.classes))
            single = isinstance(self.loss, BinaryLogistic) and self.widths[-1] == 1
            count = 2 if single else self.widths[-1]
            _check_number("classes", len(self.classes), count, "classes")
        for name, width, what in (
            ("inputs", self.widths[0], "features"),
            ("targets", self.widths[-1], "outputs"),
        ):
            scaling = getattr(self, name)
            if scaling is not None:
                _check_number(f"{name}.mean", len(scaling.mean), width, what)
                _check_number(f"{name}.scale", len(scaling.scale), width, what)

    @classmethod
    def of(cls, network: inference.StateOrParams, config: Problem, **more: Any) -> Network:
        """That of a state or of weights, with what a configuration says of the problem.

        Args:
            network: a state of either algorithm, or (W, b) of every layer.
            config: of the training.
            **more: ``inputs``, ``targets``, ``classes``.
        """
        weights = inference.params(network)
        return cls(
            weights, config.activation, config.loss, config.precision, config.residual_block, **more
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """(features, hidden, ..., outputs)."""
        return chained_widths(self.weights)

    def forward(self, x: ArrayLike) -> Float[Array, "N C"]:
        """Outputs, in the units of y."""
        found = inference.forward(self.weights, self._scaled(x), self)
        return found if self.targets is None else self._array(self.targets.undo(found))

    def predict(self, x: ArrayLike) -> Any:
        """What the network says of each sample, as ``predict`` of the library.

        Returns:
            Of a network with names of classes, those, as a NumPy array; else classes, labels or
            outputs as JAX's.
        """
        found = self.loss.predict(self.forward(x))
        return found if self.classes is None else np.asarray(self.classes)[np.asarray(found)]

    def evaluate(self, data: Data) -> tuple[Scalar, Scalar]:
        """Mean risk, and the share of correct predictions or, of real targets, R^2.

        Args:
            data: samples in their own units; integer labels are numbers of classes.
        """
        y = as_array("y", data.y)
        if self.targets is not None:
            y = self._array(self.targets.apply(y[:, None] if y.ndim == 1 else y))
        data = data._replace(x=self._scaled(data.x), y=y)
        return inference.loss_and_score(self.weights, data, self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network to an npz file: arrays and one text, nothing to be executed.

        The file has W1, b1, W2, ..., which any other program can read, the mean and the scale of
        inputs and targets, the names of the classes, and a description in JSON.  ``load`` reads it.

        Args:
            path: the file, which is replaced once the new one is written.  An activation or a loss
                that is not the library's is written by its name alone, and has to be given to
                ``load``.

        Raises:
            ValueError: values that are not finite.
            OSError: the file cannot be written.
        """
        arrays: dict[str, Any] = {}
        for layer, (W, b) in enumerate(self.weights, start=1):
            arrays |= {f"W{layer}": np.asarray(W), f"b{layer}": np.asarray(b)}
        for name in ("inputs", "targets"):
            scaling = getattr(self, name)
            if scaling is not None:
                arrays[f"{name}_mean"] = np.asarray(scaling.mean)
                arrays[f"{name}_scale"] = np.asarray(scaling.scale)
        for name, array in arrays.items():
            check_finite(name, array)
        if self.classes is not None:
            arrays["classes"] = np.asarray(self.classes)
        description = {
            "format": FORMAT,
            "activation": _described(self.activation, ACTIVATIONS),
            "loss": _described(self.loss, LOSSES),
            "precision": self.precision,
            "residual_block": self.residual_block,
        }
        arrays["description"] = np.asarray(json.dumps(description))
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def _scaled(self, x: Any) -> Array:
        x = numeric("x", x)
        if self.inputs is None or x.ndim != 2 or x.shape[1] != self.widths[0]:
            return self._array(x)
        return self._array(self.inputs.apply(x))

    def _array(self, values: Any) -> Array:
        """Values as the layers have them."""
        return jnp.asarray(values, self.weights[0][0].dtype)


def load(
    path: str | os.PathLike[str],
    *,
    activation: Activation | str | None = None,
    loss: Loss | str | None = None,
) -> Network:
    """Reads a network that ``Network.save`` has written.

    Args:
        path: the file.
        activation: that of a network whose own is not the library's.
        loss: likewise.

    Raises:
        ValueError: no such file, one that is damaged or no network's, or an activation or a loss
            that is not the library's and was not given.
    """
    arrays = read_npz(Path(path))
    text = arrays.pop("description", None)
    described: Mapping[str, Any] = {}
    try:
        if text is not None:
            described = json.loads(str(text))
        if text is not None and described["format"] != FORMAT:
            raise ValueError(f"its format is {described['format']}, not {FORMAT}")
        given = {"activation": activation, "loss": loss}
        known = {"activation": ACTIVATIONS, "loss": LOSSES}
        problem = {
            field: _named(field, described.get(field), known[field]) if own is None else own
            for field, own in given.items()
        }
        scalings = {
            name: Scaling(arrays.pop(f"{name}_mean"), arrays.pop(f"{name}_scale"))
            for name in ("inputs", "targets")
            if f"{name}_mean" in arrays
        }
        classes = arrays.pop("classes", None)
        weights = _weights(arrays)
        return Network(
            weights,
            **problem,
            **scalings,
            precision=described.get("precision", "float32"),
            residual_block=described.get("residual_block", 0),
            classes=None if classes is None else tuple(classes.tolist()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return f"it has no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)


def _check_number(name: str, found: int, expected: int, what: str) -> None:
    if found != expected:
        raise ValueError(f"{name} has {found} entries, but the network has {expected} {what}.")


def _names(classes: Any) -> tuple[Any, ...]:
    """Names of classes, as a file can hold them.

    Raises:
        ValueError: a single text, or what is neither text nor a number.
    """
    if isinstance(classes, str) or np.asarray(classes).dtype.kind not in "bifuU":
        raise ValueError(f"classes are {classes!r}, but have to be a list of texts or of numbers.")
    return tuple(classes)


def _described(value: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """The name of an activation or a loss, and its numbers."""
    for name, kind in _WITH_NUMBERS.items():
        if type(value) is kind:
            numbers = [field.name for field in dataclasses.fields(kind) if field.init]
            return {"name": name} | {field: getattr(value, field) for field in numbers}
    for name, one in known.items():
        if one == value:
            return {"name": name}
    return {"own": str(value)}


def _named(field: str, described: Any, known: Mapping[str, Any]) -> Any:
    """The activation or loss of a description."""
    if described is None or "own" in described:
        own = "not in the file" if described is None else f"the user's own, {described['own']}"
        raise ValueError(f"the {field} is {own}: give it, load(path, {field}=...)")
    numbers = dict(described)
    name = numbers.pop("name")
    if name in _WITH_NUMBERS and numbers:
        return _WITH_NUMBERS[name](**numbers)
    if name not in known:
        raise ValueError(f"its {field} {name!r} is none of {', '.join(known)}")
    return known[name]


def _weights(arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """W1, b1, W2, ... as pairs, and nothing else."""
    depth = max(len(arrays) // 2, 1)
    names = [f"{kind}{layer}" for layer in range(1, depth + 1) for kind in "Wb"]
    if sorted(arrays) != sorted(names):
        raise ValueError(f"it has {', '.join(arrays) or 'no arrays'}, not W1, b1, W2, ...")
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype}, but has to be floating")
        check_finite(name, array)
    return [(arrays[f"W{layer}"], arrays[f"b{layer}"]) for layer in range(1, depth + 1)]
