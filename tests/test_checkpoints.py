"""Checkpoints: whatever was saved comes back to the bit, and nothing that was not."""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.runtime.errors import UsageError
from experiments.train import checkpoints
from tests.run_directories import assert_damage_is_found, flip


class Own(NamedTuple):
    first: jax.Array
    more: dict


def tree(seed=0):
    """Arrays of several kinds, in containers of several kinds, an optimiser's memory among them."""
    rng = np.random.default_rng(seed)
    weights = {"W": jnp.asarray(rng.normal(size=(30, 20)), np.float32), "n": jnp.int32(seed)}
    memory = optax.adam(0.1).init({"W": weights["W"]})
    key = jax.random.key_data(jax.random.key(seed))
    return Own(weights["W"] * 2, {"weights": weights, "memory": memory, "order": key})


def shapes_of(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A directory with checkpoints 1, 2 and 3, of which 2 and 3 were to be kept."""
    directory = tmp_path_factory.mktemp("three")
    with checkpoints.writing(directory, keep=2) as writer:
        for number in (1, 2, 3):
            writer.save(number, tree(number), {"number": number, "rate": 0.1})
    return directory


@pytest.fixture
def directory(three, tmp_path):
    """A copy of it to do as one likes with."""
    return shutil.copytree(three, tmp_path / "checkpoints")


def test_any_pytree_comes_back_with_its_facts(directory):
    found, complaints = checkpoints.newest(directory)
    assert not complaints
    assert found.number == 3
    assert found.facts == {"number": 3, "rate": 0.1}
    assert_same(checkpoints.restore(found, shapes_of(tree())), tree(3))
    assert len(checkpoints.contents(found)) == len(jax.tree.leaves(tree()))


MESH = jax.make_mesh((4, 2), ("layer", "data"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def on(*axes):
    return jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec(*axes))


@pytest.mark.parametrize("saved", [on("layer", "data"), on("data"), on(None, "layer"), on(), None])
@pytest.mark.parametrize("read", [on("layer", "data"), on(None, "data"), on(), None])
def test_what_lies_on_some_devices_is_read_on_others(tmp_path, saved, read):
    tree = {"x": jnp.arange(64.0).reshape(8, 8), "half": jnp.ones((8, 8), jnp.bfloat16) / 3}
    with checkpoints.writing(tmp_path, keep=1) as writer:
        writer.save(1, jax.device_put(tree, saved), {})
    found, _ = checkpoints.newest(tmp_path)
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=read)
        for name, array in tree.items()
    }
    restored = checkpoints.restore(found, shapes)
    assert_same(restored, tree)
    assert read is None or restored["x"].sharding == read


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_rows_are_cut_or_filled_up_with_zeros(tmp_path, rows):
    array = jax.device_put(jnp.ones((4, 3)), on("layer"))
    with checkpoints.writing(tmp_path, keep=1) as writer:
        writer.save(1, {"x": array}, {})
    found, _ = checkpoints.newest(tmp_path)
    wanted = {"x": jax.ShapeDtypeStruct((rows, 3), jnp.float32, sharding=on("data"))}
    restored = checkpoints.restore(found, wanted, resize=True)["x"]
    np.testing.assert_array_equal(restored, np.arange(rows)[:, None] < np.full((1, 3), 4))


def test_what_orbax_has_saved_is_read(tmp_path):
    """Which once wrote all checkpoints."""
    import orbax.checkpoint as ocp

    path = tmp_path / "0000000005"
    with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as orbax:
        named = checkpoints._named(tree(5))
        orbax.save(path / "arrays", args=ocp.args.StandardSave(named))
    checkpoints._write_manifest(path, {"number": 5})
    found, complaints = checkpoints.newest(tmp_path)
    assert (found.facts, complaints) == ({"number": 5}, [])
    assert_same(checkpoints.restore(found, shapes_of(tree())), tree(5))
    assert checkpoints.contents(found).keys() == named.keys()


def test_older_ones_go(directory):
    assert [number for number, _ in checkpoints.sealed(directory)] == [2, 3]


def test_what_is_donated_after_the_call_is_saved_as_it_was(tmp_path):
    rows = np.arange(10**6, dtype=np.float32)
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with checkpoints.writing(tmp_path, keep=1) as writer:
        array = jnp.asarray(rows)
        writer.save(1, {"x": array}, {})
        jax.block_until_ready(overwrite(array))
    found, _ = checkpoints.newest(tmp_path)
    np.testing.assert_array_equal(checkpoints.contents(found)["x"], rows)


def test_damage_to_any_file_is_found_and_named(directory):
    assert_damage_is_found(directory, bits=1, chosen=random.Random(0))


def test_a_half_written_one_does_not_count_and_makes_way(directory):
    newest = checkpoints.sealed(directory)[-1][1]
    (newest / "manifest.json").unlink()
    found, complaints = checkpoints.newest(directory)
    assert (found.number, complaints) == (2, [])
    checkpoints.tidy(directory, found.number)
    assert not newest.exists()
    with checkpoints.writing(directory, keep=2, last=2) as writer:
        writer.save(3, tree(4), {})
    assert_same(checkpoints.restore(checkpoints.newest(directory)[0], shapes_of(tree())), tree(4))


@pytest.mark.parametrize("content", ["", "[]", "1", "{}"])
def test_a_manifest_of_another_kind_is_damaged(directory, content):
    (_, oldest), (number, path) = checkpoints.sealed(directory)[-2:]
    (path / "manifest.json").write_text(content)
    found, (complaint,) = checkpoints.newest(directory)
    assert found.path == oldest
    assert complaint.startswith(f"checkpoint {number} is not used, for ")
    assert complaint.endswith("manifest.json is damaged")


def test_a_damaged_one_is_set_aside(directory):
    newest = checkpoints.sealed(directory)[-1][1]
    flip(newest / "manifest.json", random.Random(0))
    checkpoints.tidy(directory, 2)
    assert not newest.exists()
    assert newest.with_suffix(".damaged").is_dir()
    assert [number for number, _ in checkpoints.sealed(directory)] == [2]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tree: tree._replace(more={}), "differ in what they hold: more."),
        (lambda tree: tree._replace(first=jnp.zeros((30, 21))), "first of shape (30, 20)"),
        (lambda tree: tree._replace(first=jnp.zeros((30, 20), int)), "dtype float32"),
    ],
)
def test_other_arrays_than_were_saved_are_refused(directory, change, complaint):
    found, _ = checkpoints.newest(directory)
    with pytest.raises(UsageError) as refusal:
        checkpoints.restore(found, shapes_of(change(tree())))
    assert complaint in str(refusal.value)


def test_a_failed_save_is_one_line_and_costs_no_older_one(directory):
    writer = checkpoints.Writer(directory, keep=2, last=3)
    (directory / "0000000004").write_text("in the way")
    with pytest.raises(UsageError) as failure:
        writer.save(4, tree(), {})
    assert "checkpoint 4 could not be written" in str(failure.value)
    assert "the last one is 3" in str(failure.value)
    assert [number for number, _ in checkpoints.sealed(directory)] == [2, 3]
    writer.save(5, tree(5), {})
    writer.wait()
    assert checkpoints.newest(directory)[0].number == 5


def test_another_process_that_is_lost_meanwhile_is_no_failure_to_write(directory, monkeypatch):
    def lost(*_, **__):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllGather failed: Connection reset by peer")

    monkeypatch.setattr("experiments.train.pieces.held", lost)
    with pytest.raises(UsageError, match="could not be written"):
        checkpoints.Writer(directory, keep=2, last=3).save(4, tree(4), {})
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):
        checkpoints.Writer(directory, keep=2, last=3).save(5, tree(5), {})
    assert [number for number, _ in checkpoints.sealed(directory)] == [2, 3]


def test_a_process_whose_part_is_missing_fails_the_save_of_all(directory, monkeypatch):
    """The others wait for it until it takes the directory away."""
    monkeypatch.setattr("jax.process_count", lambda: 2)
    writer = checkpoints.Writer(directory, keep=2, last=3)
    path = writer.save(4, tree(4), {})
    while not list(path.rglob("*.npz")):
        time.sleep(0.01)
    assert not (path / "manifest.json").exists()
    shutil.rmtree(path, ignore_errors=True)  # the writer does so too, as soon as a file is gone
    with pytest.raises(UsageError, match=r"\(another process could not write its part\)"):
        writer.wait()
    assert [number for number, _ in checkpoints.sealed(directory)] == [2, 3]


def test_a_disk_without_room_is_named_and_costs_no_older_one(directory):
    """Files that cannot grow, for a disk that is full: the same calls fail."""
    large = tree()._replace(first=jax.random.normal(jax.random.key(0), (500, 500)))
    writer = checkpoints.Writer(directory, keep=2, last=3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        writer.save(4, large, {})
        with pytest.raises(UsageError) as failure:
            writer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.wait()
    assert "checkpoint 4 could not be written" in str(failure.value)
    assert "(File too large); the last one is 3" in str(failure.value)
    assert [number for number, _ in checkpoints.sealed(directory)] == [2, 3]
