"""``python -m experiments compile``: the program for devices that need not be there.

Compiles a run and reads what came out: memory per device, messages, and what they hide behind.
Without a topology the devices are virtual ones of the CPU; with one, such as v5e:2x4, they are
TPUs, for which the package libtpu brings the compiler.
"""

from __future__ import annotations

import collections
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.table import Table

import pdadmm_jax as pdadmm
from experiments.benchmark.compiled_program import (
    independent_products,
    memory_of,
    messages,
    scheduled_products,
)
from experiments.benchmark.options import CompileConfig
from experiments.report.measurement import table
from experiments.runtime import screen
from experiments.runtime.errors import usage_errors


def main(options: CompileConfig) -> int:
    """Compiles and reports; returns the exit code.

    Raises:
        UsageError: the configuration cannot be carried out.
    """
    console = screen.console()
    with usage_errors():
        mesh = _mesh(options)
        state, data = _problem(options, mesh)
    begin = time.perf_counter()
    run = jax.jit(partial(pdadmm.admm.run, steps=options.iterations), donate_argnums=0)
    compiled = run.lower(state, data, pdadmm.admm.Config()).compile()
    seconds = time.perf_counter() - begin
    text = compiled.as_text() or ""
    assert state.placement is not None
    plan = state.placement.plan
    console.print(
        f"{options.layers} layers x {options.neurons}, {options.samples} samples on {mesh.size} x "
        f"{mesh.devices.flat[0].device_kind}: {plan.stages} stages, the busiest "
        f"{max(plan.work) * plan.stages / sum(plan.work) - 1:.0%} above the mean"
    )
    memory = memory_of(compiled)
    console.print(
        f"memory per device: {memory.peak / 1e9:.3f} GB, of it {memory.given / 1e9:.3f} GB state "
        f"and data ({memory.in_place / 1e9:.3f} GB updated in place)"
    )
    console.print(messages_table(text))
    if behind := scheduled_products(text):
        console.print(f"products scheduled between the start and the end of a message: {behind}")
    if behind := independent_products(text):
        console.print(f"products that need not wait for a message: {behind}")
    console.print(f"{len(text.splitlines())} instructions, compiled in {seconds:.1f} s")
    return 0


def _mesh(options: CompileConfig) -> Any:
    layer, data = options.mesh.layer or 1, options.mesh.data
    if options.topology is None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", layer * data)
        return pdadmm.make_mesh(layer, data)
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=options.topology)
    except Exception as error:  # JAX and libtpu raise whatever they have
        raise ValueError(
            f"no compiler for the topology {options.topology!r} ({error}): install libtpu in the "
            "version that this JAX asks for, and name a topology such as v5e:2x4."
        ) from error
    return pdadmm.make_mesh(layer, data, found.devices)


def _problem(options: CompileConfig, mesh: Any) -> tuple[Any, pdadmm.Data]:
    x: Any = jax.ShapeDtypeStruct((options.samples, options.features), jnp.float32)
    y: Any = jax.ShapeDtypeStruct((options.samples,), jnp.int32)
    config = pdadmm.admm.Config()
    return pdadmm.admm.abstract(
        pdadmm.Data(x, y),
        options.widths,
        config,
        mesh=mesh,
        message_dtype=options.mesh.message_dtype,
    )


def messages_table(text: str) -> Table:
    """The collective operations of a compiled run, and how often each is done."""
    headings = "", "type", "bytes", "every iteration", "once"
    made = table(*headings, title="messages of one device")
    counted = collections.Counter(messages(text))
    for one in sorted({message._replace(in_loop=True) for message in counted}):
        often, once = (str(counted[one._replace(in_loop=where)] or "") for where in (True, False))
        made.add_row(one.kind, one.dtype, f"{one.bytes:,}", often, once)
    return made
