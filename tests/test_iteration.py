"""One iteration and many: purity, dtypes, compilation, and what the report says."""

from __future__ import annotations

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.problems import losses
from tests.problems import problem
from tests.selection import selected

WIDTHS = (6, 5, 5, 5, 3)
CONFIG = admm.Config(nu=0.1, rho=0.5)


def test_run_is_many_steps():
    data, state = problem(WIDTHS, CONFIG)
    stepped = state
    infos = []
    for _ in range(5):
        stepped, info = admm.step(stepped, data, CONFIG)
        infos.append(info)
    ran, history = admm.run(state, data, CONFIG, steps=5)
    chex.assert_trees_all_close(ran, stepped, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(
        history, jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos), rtol=1e-4, atol=1e-6
    )
    assert int(ran.iteration) == 5


def test_a_second_call_compiles_nothing(compilations):
    data, state = problem(WIDTHS, CONFIG)
    state, _ = admm.step(state, data, CONFIG)
    jax.block_until_ready(admm.step(state, data, CONFIG))
    before = compilations()
    admm.step(state, data, CONFIG)
    assert compilations() == before


@pytest.mark.parametrize("solver", [admm.Search, admm.Exact])
def test_sweeping_numbers_compiles_nothing(compilations, solver):
    data, state = problem(WIDTHS, CONFIG)
    for index in range(4):
        number = 1.0 + index
        numbers = {"start": number, "growth": 1 + number} if solver is admm.Search else {}
        numbers = numbers or {"damping": number}
        config = admm.Config(
            nu=0.1 * number,
            rho=number,
            mu=0.01 * index,
            proximal=number,
            p_solver=solver(**numbers),
            W_solver=solver(**numbers),
        )
        jax.block_until_ready(admm.step(state, data, config))
        if index == 0:
            before = compilations()
    assert compilations() == before


def test_mixed_kinds_of_numbers_compile_nothing(compilations):
    data, state = problem(WIDTHS, CONFIG)
    kinds = [1, 0.5, np.float32(0.5), np.float64(2), jnp.float32(0.3), jnp.asarray(2)]
    for index, kind in enumerate(kinds):
        solver = admm.Search(start=kind, growth=3 if index % 2 else 2.5)
        config = admm.Config(nu=kind, rho=kind, mu=0 if index % 2 else 0.1)
        jax.block_until_ready(admm.step(state, data, config.replace(p_solver=solver)))
        if index == 0:
            before = compilations()
    # Two casts of a JAX scalar to the state's dtype, and no step.
    assert compilations() <= before + 2


@pytest.mark.parametrize(
    ("dtype", "activation"),
    [(jnp.float32, "gelu"), pytest.param(jnp.float64, "relu", marks=pytest.mark.x64)],
)
def test_dtypes_are_kept(dtype, activation):
    config = CONFIG.replace(activation=activation)
    data, state = problem(WIDTHS, config, dtype=dtype)
    new, info = admm.step(state, data, config)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(new.layers)} == {jnp.dtype(dtype)}
    kinds = {leaf.dtype for leaf in jax.tree.leaves(info)}
    assert kinds == {jnp.dtype(dtype), jnp.dtype(bool)}
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((new, info)))


def test_numbers_may_be_of_any_kind():
    """Python, NumPy and JAX scalars give the same iterate, to the bit."""
    data, state = problem(WIDTHS, CONFIG)
    expected, _ = admm.step(state, data, admm.Config(nu=2.0, rho=3.0))
    for nu, rho in [(2, 3), (np.float64(2), np.int32(3)), (jnp.float32(2), jnp.asarray(3.0))]:
        found, _ = admm.step(state, data, admm.Config(nu=nu, rho=rho))
        chex.assert_trees_all_equal(found, expected)


def test_penalties_can_be_mapped_over():
    data, state = problem(WIDTHS, CONFIG)
    nus = jnp.asarray([0.1, 0.5, 2.0])
    _, infos = jax.vmap(lambda nu: admm.step(state, data, CONFIG.replace(nu=nu)))(nus)
    for nu, value in zip(nus, infos.lagrangian, strict=True):
        _, info = admm.step(state, data, CONFIG.replace(nu=nu))
        np.testing.assert_allclose(value, info.lagrangian, rtol=1e-5)


LOSSES = ("softmax_cross_entropy", "squared_error", "multiclass_hinge")
SOLVERS = ("search", "layer", "unit", "exact")


@pytest.mark.parametrize(
    ("loss", "solver"),
    selected(
        itertools.product(LOSSES, SOLVERS),
        fast=[*zip(LOSSES, SOLVERS[:3], strict=True), (LOSSES[0], "exact")],
    ),
)
def test_every_solver_and_loss_lowers_the_lagrangian(loss, solver):
    config = admm.Config(
        nu=0.1,
        rho=0.5,
        loss=loss,
        p_solver=solver,
        W_solver=solver,
    )
    data, _ = problem(WIDTHS, config)
    state = admm.init(jax.random.key(1), data, WIDTHS, config)
    before = admm.terms(state, data, config).lagrangian
    _, info = admm.run(state, data, config, steps=30)
    assert info.finite.all()
    assert info.converged.all()
    assert info.in_certified_region.all()
    assert info.lagrangian[-1] < 0.9 * before
    assert (np.diff(info.lagrangian) <= 1e-5 * before).all()


def test_binary_network_learns_a_separable_problem():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3)).astype(np.float32)
    data = pdadmm.Data(jnp.asarray(x), jnp.asarray((x[:, 0] > x[:, 1]).astype(np.int32)))
    config = admm.Config(nu=1.0, rho=5.0, loss=losses.binary_logistic)
    state = admm.init(jax.random.key(0), data, (3, 16, 1), config)
    state, _ = admm.run(state, data, config, steps=100)
    assert pdadmm.accuracy(pdadmm.params(state), data, config) > 0.95


def test_nonfinite_values_are_reported_where_they_are():
    data, state = problem(WIDTHS, CONFIG)
    _, info = admm.step(state, data, CONFIG)
    assert info.finite
    assert pdadmm.nonfinite(state) == []
    first, inner, last = state.layers
    broken = inner._replace(z=inner.z.at[1, 0, 0].set(jnp.nan))
    state = state._replace(layers=(first, broken, last))
    assert pdadmm.nonfinite(state) == ["z of layer 3"]
    _, info = admm.step(state, data, CONFIG)
    assert not info.finite


def test_an_unfinished_inner_solve_is_reported():
    lazy = pdadmm.NumericActivation(jnp.tanh, lipschitz=1.0, iterations=0)
    config = CONFIG.replace(activation=lazy)
    data, state = problem(WIDTHS, config)
    _, info = admm.step(state, data, config)
    assert not info.converged[0]
    assert info.converged[-1]


def test_the_report_names_the_region():
    data, state = problem(WIDTHS, CONFIG)
    for rho, inside in [(0.3, False), (0.41, True)]:
        _, info = admm.step(state, data, CONFIG.replace(rho=rho))
        assert bool(info.in_certified_region) is inside


def test_donated_buffers_are_reused():
    data, state = problem(WIDTHS, CONFIG)
    donating = jax.jit(admm.step, donate_argnums=0)
    lowered = donating.lower(state, data, CONFIG).compile()
    reused = lowered.memory_analysis().alias_size_in_bytes
    assert reused >= sum(leaf.nbytes for leaf in jax.tree.leaves(state.layers))
