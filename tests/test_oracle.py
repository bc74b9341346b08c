"""The step is Algorithm 1: equal to the NumPy transcription over 20 iterations, to 1e-9."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.admm.solvers import UnitStep
from pdadmm_jax.problems import activations
from tests import reference
from tests.problems import problem, refused, shard, to_variables, worst_difference
from tests.selection import selected

pytestmark = pytest.mark.x64

SHALLOW, EQUAL, UNEQUAL = (7, 6, 4), (7, 6, 6, 6, 4), (7, 9, 5, 5, 8, 4)
SOLVERS = {
    "search": (admm.Search(start=0.05, growth=1.7), {"start": 0.05, "growth": 1.7}),
    "layer": (admm.LayerStep(), {}),
    "unit": (UnitStep(), {}),
}


def follow(widths, config, iterations=20, *, samples=30, **oracle):
    """Runs both sides and returns the worst difference seen at any iteration."""
    data, state = problem(widths, config, samples=samples)
    v = to_variables(state, data)
    y = np.eye(widths[-1])[np.asarray(data.y)]
    worst = 0.0
    for _ in range(iterations):
        state, _ = admm.step(state, data, config)
        v = reference.iterate(v, y, config.nu, config.rho, mu=config.mu, **oracle)
        worst = max(worst, worst_difference(state, data, v))
    return worst


@pytest.mark.parametrize(
    ("widths", "solver"),
    selected(
        itertools.product((SHALLOW, EQUAL, UNEQUAL), SOLVERS),
        fast=[(SHALLOW, "search"), (EQUAL, "layer"), (UNEQUAL, "unit")],
    ),
)
def test_relu_equals_the_oracle(widths, solver):
    mine, numbers = SOLVERS[solver]
    config = admm.Config(nu=0.3, rho=0.7, p_solver=mine, W_solver=mine)
    kind = {"solver_p": solver, "solver_W": solver}
    worst = follow(widths, config, f="relu", risk="softmax", **kind, **numbers)
    assert worst < 1e-9


@pytest.mark.parametrize("widths", [EQUAL, UNEQUAL])
def test_what_is_recommended_equals_the_oracle(widths):
    kind = {"solver_p": "unit", "solver_W": "exact", "damping": 0.3, "proximal": 0.1}
    worst = follow(widths, admm.recommended(), f="relu", risk="softmax", **kind)
    assert worst < 1e-9


GRID = admm.Grid(-0.4, 2.05, 0.1)


def on_grid(values):
    """Entry by entry the point at the least distance, all of them tried."""
    points = np.arange(-4, 21) / 10
    return points[np.argmin(np.abs(values[..., None] - points), -1)]


def quantised(monkeypatch):
    """The transcription with p and q on the grid."""
    for name in ("p_step", "q_step"):
        step = getattr(reference, name)
        monkeypatch.setattr(reference, name, lambda *given, step=step: on_grid(step(*given)))


def test_on_a_grid_it_is_the_oracle_on_a_grid(monkeypatch):
    quantised(monkeypatch)
    config = admm.Config(nu=0.2961, rho=0.7137, grid=GRID)
    kind = {"solver_p": "unit", "solver_W": "unit"}
    assert follow(UNEQUAL, config, f="relu", risk="softmax", **kind) < 1e-9


def test_on_a_grid_a_mesh_gives_what_one_device_gives():
    config = admm.Config(nu=0.2961, rho=0.7137, grid=GRID, W_solver="layer")
    for widths in (EQUAL, UNEQUAL):
        data, state = problem(widths, config, samples=30)
        mesh = pdadmm.make_mesh(2, 2)
        spread, shared = admm.reshard(state, mesh), pdadmm.shard_data(data, mesh)
        expected, info = admm.run(state, data, config, steps=10)
        found, other = admm.run(spread, shared, config, steps=10)
        for one, more in zip(
            jax.tree.leaves(admm.reshard(found, None).layers),
            jax.tree.leaves(expected.layers),
            strict=True,
        ):
            np.testing.assert_allclose(one, more, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(other.terms.lagrangian, info.terms.lagrangian, rtol=1e-9)
        q = np.concatenate([layer.below.q.ravel() for layer in expected.layers[1:]])
        np.testing.assert_allclose(on_grid(q), q, atol=1e-12)
        assert len(np.unique(np.round(q / GRID.spacing))) > 5
        assert not info.in_certified_region.any()


def rounded_messages(monkeypatch, v, boundaries, most):
    """The transcription where f(z) and q cross these boundaries in steps of the grid's spacing."""
    known = {i: v.q[i] for i in boundaries}  # f(z) as the stage above knows it, at first q
    step = reference.q_step

    def towards(old, new):
        return old + np.clip(np.rint((new - old) * 10), -most, most) / 10

    def q_step(i, v, nu, rho, f):
        if i not in known:
            return step(i, v, nu, rho, f)
        known[i] = np.rint(towards(known[i], np.maximum(v.z[i], 0)) * 10) / 10
        q = on_grid((rho * v.p[i + 1] + v.u[i] + nu * known[i]) / (rho + nu))
        return on_grid(towards(v.q[i], q))

    monkeypatch.setattr(reference, "q_step", q_step)


@pytest.mark.parametrize(("message_dtype", "most"), [("int8", 127), ("int4", 7)])
@pytest.mark.parametrize("widths", [EQUAL, UNEQUAL])
def test_on_a_grid_messages_are_steps_of_its_spacing(monkeypatch, widths, message_dtype, most):
    quantised(monkeypatch)
    config = admm.Config(nu=0.2961, rho=0.7137, grid=GRID)
    data, state = problem(widths, config, samples=30)
    v, y = to_variables(state, data), np.eye(widths[-1])[np.asarray(data.y)]
    state, shared = shard(state, data, pdadmm.make_mesh(3, 2), message_dtype)
    rounded_messages(monkeypatch, v, [low - 2 for low in state.plan.below if low], most)
    for _ in range(20):
        state, _ = admm.step(state, shared, config)
        v = reference.iterate(v, y, 0.2961, 0.7137, "relu", "softmax", 0.0, "unit", "unit")
        assert worst_difference(admm.reshard(state, None), data, v) < 1e-9


def test_a_grid_is_refused_where_it_cannot_hold():
    for bounds, complaint in (
        ((0.1, 1.0, 0.1), "-low"),
        ((-1.0, 2.0, 0.0), "spacing is 0"),
        (("left", 2.0, 0.1), "low is 'left', but has to be a finite number"),
        ((-1.0, 2.0, 3.0), "no point but 0"),
    ):
        refused(complaint, admm.Grid, *bounds)
    refused("grid is 'fine'", admm.Config, grid="fine")
    refused("on which nothing is certified", admm.certified, admm.Config(grid=GRID))
    config = admm.Config(grid=GRID)
    data, state = problem(EQUAL, config)
    mesh = pdadmm.make_mesh(2)
    spread, shared = shard(state, data, mesh, "bfloat16")
    refused("'bfloat16', which would take q off Grid", admm.step, spread, shared, config)


def test_layers_without_an_intercept_equal_the_oracle():
    config = admm.Config(nu=0.3, rho=0.7, bias=False)
    kind = {"solver_p": "unit", "solver_W": "unit", "bias": False}
    assert follow(UNEQUAL, config, f="relu", risk="softmax", **kind) < 1e-9


@pytest.mark.parametrize("solver", selected(SOLVERS, fast=["unit"]))
def test_numeric_prox_equals_the_oracle(solver):
    mine, numbers = SOLVERS[solver]
    config = admm.Config(nu=0.3, rho=0.7, p_solver=mine, W_solver=mine, activation=activations.tanh)
    kind = {"solver_p": solver, "solver_W": solver}
    worst = follow((5, 4, 4, 3), config, samples=10, f="tanh", risk="softmax", **kind, **numbers)
    assert worst < 1e-9


@pytest.mark.parametrize("widths", [SHALLOW, pytest.param(UNEQUAL, marks=pytest.mark.slow)])
def test_exact_solves_equal_the_oracle(widths):
    config = admm.Config(
        nu=0.3, rho=0.7, mu=0.01, p_solver=admm.Exact(0.0), W_solver=admm.Exact(1e-3)
    )
    kind = {"solver_p": "exact", "solver_W": "exact", "damping": 1e-3}
    assert follow(widths, config, f="relu", risk="softmax", **kind) < 1e-9


@pytest.mark.parametrize("proximal", selected([0.0, 2.5], fast=[2.5]))
def test_weight_penalty_and_proximal_weight_equal_the_oracle(proximal):
    step = admm.LayerStep()
    config = admm.Config(
        nu=0.3,
        rho=0.7,
        mu=0.05,
        proximal=proximal,
        activation=activations.leaky_relu,
        p_solver=step,
        W_solver=step,
    )
    kind = {"solver_p": "layer", "solver_W": "layer", "proximal": proximal}
    assert follow(UNEQUAL, config, f="leaky_relu", risk="softmax", **kind) < 1e-9


def test_single_precision_follows_the_oracle_to_rounding():
    config = admm.Config(nu=0.3, rho=0.7)
    jax.config.update("jax_enable_x64", False)
    kind = {"solver_p": "unit", "solver_W": "unit"}
    assert follow(EQUAL, config, f="relu", risk="softmax", **kind) < 2e-4


@pytest.mark.parametrize("f", selected(["relu", "sigmoid"], fast=["sigmoid"]))
def test_terms_equal_the_oracle(f):
    config = admm.Config(nu=0.3, rho=0.7, mu=0.1, activation=f)
    data, state = problem(UNEQUAL, config)
    state, info = admm.run(state, data, config, steps=3)
    v = to_variables(state, data)
    y = np.eye(UNEQUAL[-1])[np.asarray(data.y)]
    expected = reference.terms(v, y, 0.3, 0.7, 0.1, f, "softmax")
    for name, value in admm.terms(state, data, config)._asdict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-11, err_msg=name)
        np.testing.assert_allclose(getattr(info.terms, name)[-1], value, rtol=1e-11)
    total = reference.lagrangian(v, y, 0.3, 0.7, 0.1, f, "softmax")
    np.testing.assert_allclose(info.lagrangian[-1], total, rtol=1e-11)
    np.testing.assert_allclose(info.primal_residual[-1], reference.residuals(v), rtol=1e-11)
