"""Rounded messages: what they cost, what they lose, and that ADMM does not mind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from pdadmm_jax import admm
from pdadmm_jax.parallel.compression import MESSAGE_TYPES, decode, encode, lossless
from tests.digits import digits
from tests.problems import shard
from tests.selection import selected

# Largest error of an entry, relative to the largest entry of its row.
ERRORS = {"full": 0, "float32": 6e-8, "bfloat16": 2**-8, "int8": 0.5 / 127, "int4": 0.5 / 7}


@pytest.mark.parametrize("message_dtype", MESSAGE_TYPES[1:])
@pytest.mark.parametrize("width", [1, 2, 7, 64])
@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e20])
def test_messages_are_small_and_near(message_dtype, width, scale):
    rng = np.random.default_rng(0)
    change = jnp.asarray(scale * rng.standard_normal((2, 5, width)), jnp.float32)
    message = encode(change, message_dtype)
    found = decode(message, message_dtype, width, change.dtype)
    assert found.dtype == change.dtype
    assert found.shape == change.shape
    largest = jnp.max(jnp.abs(change), axis=-1, keepdims=True)
    assert jnp.all(jnp.abs(found - change) <= 1.01 * ERRORS[message_dtype] * largest)
    per_row = {"float32": 4 * width, "bfloat16": 2 * width, "int8": width + 4}
    assert message.nbytes == 10 * per_row.get(message_dtype, -(-width // 2) + 4)


@pytest.mark.parametrize(("message_dtype", "levels"), [("int8", 127), ("int4", 7)])
def test_multiples_of_a_scale_that_both_ends_know_are_their_codes(message_dtype, levels):
    """A quarter or an eighth of the bytes of float32, to the byte; no row sends a scale."""
    steps = np.random.default_rng(0).integers(-levels, levels + 1, (2, 5, 64))
    sent = jnp.asarray(0.02 * steps, jnp.float32)
    message = encode(sent, message_dtype, 0.02)
    assert message.nbytes == sent.nbytes // {"int8": 4, "int4": 8}[message_dtype]
    np.testing.assert_allclose(decode(message, message_dtype, 64, sent.dtype, 0.02), sent, 1e-6)
    beyond = decode(encode(sent + 9, message_dtype, 0.02), message_dtype, 64, sent.dtype, 0.02)
    np.testing.assert_allclose(beyond, jnp.minimum(sent + 9, 0.02 * levels), 1e-6)


@pytest.mark.parametrize("message_dtype", MESSAGE_TYPES[1:])
def test_zero_and_the_largest_entry_cross_unharmed(message_dtype):
    change = jnp.asarray([[[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]]])
    np.testing.assert_allclose(
        decode(encode(change, message_dtype), message_dtype, 3, change.dtype), change, 1e-7
    )


@pytest.mark.parametrize("message_dtype", ["bfloat16", "int8", "int4"])
def test_what_rounding_left_out_is_made_up_for(message_dtype):
    """Sending a constant again and again, each message the change to what was agreed on."""
    target = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 50)), jnp.float32)
    agreed = jnp.zeros_like(target)
    for _ in range(10):
        agreed += decode(encode(target - agreed, message_dtype), message_dtype, 50, target.dtype)
    assert jnp.max(jnp.abs(target - agreed)) < 1e-6


def test_the_state_s_own_type_needs_no_rounding():
    assert lossless("full", jnp.float64)
    assert lossless("float32", jnp.float32)
    assert not lossless("float32", jnp.float64)


def test_both_ends_agree_at_all_times():
    """The value of q that the stage above keeps is the one that the stage below has received."""
    config = admm.Config()
    data = pdadmm.Data(*(rows[:200] for rows in digits()[:2]))
    mesh = pdadmm.make_mesh(4, 1, jax.devices()[:4])
    state = admm.init(jax.random.key(0), data, (64, 20, 20, 20, 10), config)
    state, data = shard(state, data, mesh, "int8")
    for _ in range(5):
        state, _ = admm.step(state, data, config)
        held = np.asarray(state.variables.edge_input.q)  # one layer per stage: in the edge slots
        _, received, *_ = state
        np.testing.assert_array_equal(np.asarray(received.q_above)[:-1], held[1:])
        f_below, f_sent = (np.asarray(rows) for rows in (received.f_below, received.f_sent))
        np.testing.assert_array_equal(f_below[1:], f_sent[:-1])


@pytest.mark.parametrize("message_dtype", selected(["bfloat16", "int8", "int4"], fast=["int4"]))
def test_digits_are_learnt_as_well_from_rounded_messages(message_dtype):
    config = admm.certified(admm.Config())
    data = pdadmm.Data(*(rows[:500] for rows in digits()[:2]))
    mesh = pdadmm.make_mesh(2, 1, jax.devices()[:2])
    start = admm.init(jax.random.key(0), data, (64, 30, 30, 10), config)

    def learn(message_dtype):
        state, info = admm.run(*shard(start, data, mesh, message_dtype), config, steps=150)
        return pdadmm.accuracy(pdadmm.params(state), data, config), info

    expected, plain = learn("full")
    accuracy, info = learn(message_dtype)
    assert abs(accuracy - expected) < 0.01
    assert abs(info.lagrangian[-1] / plain.lagrangian[-1] - 1) < 0.05
    # Descent is certain without rounding; with it the Lagrangian was never seen to rise either.
    assert jnp.max(jnp.diff(info.lagrangian)) <= 1e-5 * info.lagrangian[0]
    assert jnp.linalg.norm(info.primal_residual[-1]) < 0.05 * jnp.max(info.primal_residual)
