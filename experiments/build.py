"""From a configuration to what the library takes: data, configurations, first weights."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import pdadmm_jax as pdadmm
from experiments.data import DataConfig, Dataset
from experiments.options.devices import MeshConfig
from experiments.options.network import MethodConfig, NetworkConfig, SolverName, SweepsConfig
from experiments.options.sizes import state_bytes
from experiments.runtime.cluster import is_distributed, on_one_machine
from experiments.runtime.memory import limits
from experiments.train.options import GrowthConfig, TrainConfig
from pdadmm_jax.parallel.mesh import stages

INITIALIZERS: dict[str | None, Any] = {
    None: None,
    "he": jax.nn.initializers.he_normal(),
    "glorot": jax.nn.initializers.glorot_normal(),
    "orthogonal": "orthogonal",
    "looks_linear": "looks_linear",
    "paper": jax.nn.initializers.normal(0.1),
}


class Splits(NamedTuple):
    """The data on the devices; a split without samples is None.

    Attributes:
        solved: training samples as the layers' problems need them.
        train: training samples as evaluations need them, a share of them on every device.
        validation: held-out samples.
        test: samples for the last look.
        samples: how many training samples there are.
    """

    solved: pdadmm.Data
    train: pdadmm.Data
    validation: pdadmm.Data | None
    test: pdadmm.Data
    samples: int

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return jnp.issubdtype(self.train.y.dtype, jnp.floating)

    def of(self, *names: str) -> dict[str, pdadmm.Data]:
        """Those of the splits that have samples, by name."""
        held = {name: getattr(self, name) for name in names}
        return {name: data for name, data in held.items() if data is not None}


def mesh(options: MeshConfig) -> Mesh | None:
    """The devices as asked for; None for a single one."""
    devices = jax.device_count() if is_distributed() else 1
    layer = max(devices // options.data, 1) if options.layer is None else options.layer
    if layer * options.data == devices == 1:
        return None
    try:
        return pdadmm.make_mesh(layer, options.data)
    except ValueError as error:
        more = "" if is_distributed() else ", or start several processes with the launch command"
        raise ValueError(f"{error} (JAX_NUM_CPU_DEVICES sets those of a CPU{more})") from error


def line(stages: int) -> Mesh:
    """A line of stages; where nobody has said how many devices a CPU is, it is as many."""
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not forced and "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", stages)
    devices = jax.devices()
    if len(devices) < stages:
        raise ValueError(
            f"stages is {stages}, but JAX has {len(devices)} {devices[0].platform} device(s): ask "
            "for fewer stages, or leave JAX_NUM_CPU_DEVICES unset and set JAX_PLATFORMS=cpu for "
            "virtual ones."
        )
    return pdadmm.make_mesh(stages, 1, devices[:stages])


def splits(dataset: Dataset, dtype: Any, mesh: Mesh | None) -> Splits:
    """Moves a dataset to the devices."""

    def split(name: str, *, evenly: bool = True) -> pdadmm.Data:
        x: Any = np.asarray(getattr(dataset, f"x_{name}"), dtype)
        y: Any = getattr(dataset, f"y_{name}")
        if dataset.regression:
            y = y.astype(dtype, copy=False)
        data = pdadmm.Data(x, y)
        if mesh is None:
            return jax.tree.map(jnp.asarray, data)
        return pdadmm.shard_data(data, mesh, evenly=evenly)

    train = split("train")
    solved = train if mesh is None else split("train", evenly=False)
    return Splits(
        solved=solved,
        train=train,
        validation=split("validation") if len(dataset.y_validation) else None,
        test=split("test"),
        samples=len(dataset.y_train),
    )


def held_out(splits: Splits, options: DataConfig) -> pdadmm.Data:
    """The samples held out of the training samples.

    Raises:
        ValueError: there are none.
    """
    if splits.validation is None:
        raise ValueError(
            f"data.validation is {options.validation}, of {splits.samples} samples not one: give a "
            "larger share, or more samples."
        )
    return splits.validation


def digest(dataset: Dataset) -> str:
    """SHA-256 of all samples, by which a run recognises its data."""
    found = hashlib.sha256()
    for name, rows in vars(dataset).items():
        if isinstance(rows, np.ndarray) and name.startswith(("x_", "y_")):
            found.update(f"{name} {rows.shape} {rows.dtype}".encode())
            found.update(np.ascontiguousarray(rows).data)
    return found.hexdigest()


def widths(dataset: Dataset, network: NetworkConfig, method: MethodConfig) -> tuple[int, ...]:
    """(features, hidden, ..., outputs); a yes-or-no question needs a single output.

    Args:
        dataset: whose features and targets they are for.
        network: its hidden layers.
        method: with the loss as ``with_loss`` leaves it.
    """
    binary = method.loss == "binary_logistic"
    if binary and dataset.classes != 2:
        raise ValueError(
            f"binary_logistic needs 2 classes, but {dataset.name} has {dataset.classes}: use "
            "softmax_cross_entropy."
        )
    return (dataset.x_train.shape[1], *network.hidden, 1 if binary else dataset.outputs)


def with_loss(method: MethodConfig, dataset: Dataset) -> MethodConfig:
    """The method with the loss that was asked for, else with the one that the targets ask for.

    Raises:
        ValueError: a loss for classes was asked for, but the targets are numbers.
    """
    if not dataset.regression:
        return dataclasses.replace(method, loss=method.loss or "softmax_cross_entropy")
    if method.loss not in (None, "squared_error"):
        raise ValueError(
            f"method.loss is {method.loss}, a loss for classes, but the targets of {dataset.name} "
            "are numbers: use squared_error, or --data.task classification."
        )
    return dataclasses.replace(method, loss="squared_error")


def check_fits(widths: Sequence[int], samples: int, devices: int = 1) -> None:
    """Refuses a network whose state alone is larger than the memory of the devices.

    Raises:
        ValueError: naming both, and what sets the bound.
    """
    device = jax.local_devices()[0].memory_stats()
    if device and "bytes_limit" in device:
        available, where = devices * device["bytes_limit"], "on the devices"
    else:
        available, where = _memory_of_processes()
    needed = state_bytes(widths, samples)
    if needed > available:
        raise ValueError(
            f"{len(widths) - 1} layers of up to {max(widths):,} neurons on {samples:,} samples "
            f"need {_gigabytes(needed)} for their state alone, but there are "
            f"{_gigabytes(available)} {where}: choose fewer of them."
        )


def _memory_of_processes() -> tuple[int, str]:
    """What processes that compute on CPUs have together, and what sets the bound."""
    processes = jax.process_count()
    together = 1 if on_one_machine() else processes
    bounds = [(one.bytes * (together if one.shared else processes), one) for one in limits()]
    available, least = min(bounds)
    return available, least.source


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:,.0f} GB" if number >= 1e10 else f"{number / 1e9:.2g} GB"


def grown(widths: tuple[int, ...], growth: GrowthConfig) -> tuple[int, ...]:
    """The widths after all growth."""
    return (*widths[:-1], *[widths[-2]] * (len(growth.at) * growth.layers), widths[-1])


def admm(network: NetworkConfig, method: MethodConfig) -> pdadmm.admm.Config:
    """The library's configuration; its ValueErrors say what is wrong with it."""
    config = pdadmm.admm.Config(
        nu=method.nu,
        rho=method.rho,
        mu=method.mu,
        proximal=method.proximal,
        p_solver=_solver(method.p_solver, method),
        W_solver=_solver(method.w_solver, method),
        activation=network.activation,
        loss=_loss(method),
        precision=method.precision,
        residual_block=network.residual_block,
    )
    return pdadmm.admm.certified(config) if method.certified else config


def _updates(options: TrainConfig, samples: int) -> int | None:
    """After how many updates the rate has fallen to 0; None if it does not fall."""
    wanted = options.sweeps
    if wanted.cosine is None:
        return None
    return (wanted.cosine or options.iterations) * math.ceil(samples / (wanted.batch or samples))


def settled(
    options: TrainConfig, widths: Sequence[int], samples: int, mesh: Mesh | None
) -> TrainConfig:
    """The options of sweeps with what is chosen from the number of stages, once for all meshes.

    A run that is resumed on another mesh keeps the rule whose state it has.
    """
    wanted = options.sweeps
    if wanted.batch is None:
        return options
    number = 1 if mesh is None else stages(mesh)
    given = _given(wanted, "schedule", "rule")
    # A rate that is given is not estimated.
    updates = _updates(options, samples) if wanted.rate is None else None
    chosen = pdadmm.sweeps.recommended(widths, wanted.batch, number, updates=updates, **given)
    found = dataclasses.replace(
        wanted,
        schedule=chosen.schedule,
        rule=type(chosen.rule).__name__.lower(),
        rate=chosen.rule.rate if wanted.rate is None else wanted.rate,
    )
    return dataclasses.replace(options, sweeps=found)


def sweeps(options: TrainConfig, widths: Sequence[int], samples: int) -> pdadmm.sweeps.Config:
    """The recommended recipe as it was asked for; its ValueErrors say what is wrong.

    Args:
        options: as ``settled`` leaves them.
        widths: (features, hidden, ..., outputs).
        samples: of a pass.
    """
    wanted, method = options.sweeps, options.method
    recommended = partial(
        pdadmm.sweeps.recommended,
        widths,
        wanted.batch,
        updates=_updates(options, samples),
        loss=_loss(method),
    )
    if wanted.batch is None:
        rule: Any = recommended().rule
        numbers = _given(wanted, "ridge", "momentum", "clipping", "least_f")
    else:
        rule = recommended(rule=wanted.rule).rule
        numbers = _given(wanted, "rate")
    return recommended(
        rule=dataclasses.replace(rule, **numbers),
        mu=wanted.mu or None,
        block=wanted.block,
        microbatches=wanted.microbatches,
        activation=options.network.activation,
        precision=method.precision,
        residual_block=options.network.residual_block,
        **_given(wanted, "nu", "schedule"),
    )


def _given(wanted: SweepsConfig, *names: str) -> dict[str, Any]:
    """Those of these options that are given."""
    return {name: v for name in names if (v := getattr(wanted, name)) is not None}


def _loss(method: MethodConfig) -> pdadmm.Loss | str:
    loss = method.loss or "softmax_cross_entropy"
    if method.smoothing and loss != "softmax_cross_entropy":
        raise ValueError(
            f"smoothing is {method.smoothing}, but {loss} has none: use "
            "softmax_cross_entropy or leave it at 0."
        )
    smoothed = pdadmm.SoftmaxCrossEntropy(method.smoothing)
    return smoothed if method.smoothing else loss


def _solver(name: SolverName, method: MethodConfig) -> pdadmm.admm.Solver | str:
    # Both are made whichever is asked for, so that wrong numbers are refused in any case.
    made: dict[SolverName, pdadmm.admm.Solver] = {
        "search": pdadmm.admm.Search(method.search_start, method.search_growth),
        "exact": pdadmm.admm.Exact(method.damping),
    }
    return made.get(name, name)
