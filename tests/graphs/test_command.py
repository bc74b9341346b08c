"""``python -m experiments graphs`` on a small graph."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import pdadmm_jax as pdadmm
from experiments.algorithms.loop import Programs
from experiments.graphs.graph import Split, made
from experiments.graphs.inputs import in_span, inputs_of
from experiments.graphs.methods import METHODS, Setting
from experiments.graphs.trial import Plan, Point, best, grown, history, least_loss
from pdadmm_jax import admm
from tests.commands import assert_refused, finished

SPLIT = Split(np.arange(30), np.arange(30, 80), np.arange(80, 150))
SMALL = ("--layers", 4, "--growth", 2, 3, "--neurons", 16, "--passes", 20, "--seeds", 2)


@pytest.fixture(scope="module")
def parts():
    """Edges, features and labels; most edges join nodes of a class, which share some features."""
    random, labels = np.random.default_rng(0), np.arange(150) % 3
    own = np.arange(12) % 3 == labels[:, None]
    features = (random.random((150, 12)) < 0.15 + 0.5 * own).astype(float)
    one, other = random.integers(0, 150, (2, 900))
    kept = (labels[one] == labels[other]) | (random.random(900) < 0.2)
    return {"edges": np.stack([one, other], 1)[kept], "features": features, "labels": labels}


@pytest.fixture
def inputs(parts):
    return inputs_of(made("here", **parts, split=None), SPLIT, hops=2)


def compare(parts, directory, *words):
    """What the command printed and wrote of a graph."""
    directory.mkdir()
    np.savez(directory / "graph.npz", **parts, **SPLIT._asdict())
    options = "--data", directory / "graph.npz", *SMALL, *words
    return finished("graphs", directory / "runs", *options)


def test_methods_are_tuned_and_compared(parts, tmp_path):
    out, found = compare(parts, tmp_path / "one", "--methods", "pdadmm_g_q", "adam_grown")
    assert "30 nodes to train on, 50 for validation, 70 for the test" in out
    assert "1,920 as float32, 600 as int8 (-68.8%), 360 as int4 (-81.2%)" in out
    assert "of pdADMM-G-Q, whose codes need no scale, 480 as int8 (-75.0%), 240 as int4" in out
    assert "published" not in out
    for one, settings in zip(found["results"], (9, 12), strict=True):
        means = {
            (each["number"], each["mu"]): np.mean([run[-1]["validation"] for run in runs])
            for each in one["tuning"]
            if (runs := each["histories"])
        }
        assert len(means) == settings
        assert means[one["number"], one["mu"]] == max(means.values())
        assert all(p["test"] is None for t in one["tuning"] for run in t["histories"] for p in run)
        assert len(one["histories"]) == 2
        for run in one["histories"]:
            assert [(p["passes"], p["depth"]) for p in run] == [(10, 2), (12, 3), (20, 4)]
            assert run[-1]["test"] > 0.7


def test_what_was_chosen_trains_on_stages_too(parts, tmp_path):
    """From the same first weights, with messages of each dtype; back-propagation has no stages."""
    words = (
        *("--methods", "pdadmm_g", "pdadmm_g_q", "gd", "--tuning-seeds", 1, "--seeds", 1),
        *("--stages", 3, "--message-dtypes", "full", "int4"),
    )
    out, found = compare(parts, tmp_path / "one", *words)
    assert "on 3 stages, with what was chosen on one device" in out
    plain, quantised, other = found["results"]
    assert not other["on_stages"]
    for one in (plain, quantised):
        assert set(one["on_stages"]) == {"full", "int4"}
        for dtype, runs in one["on_stages"].items():
            for run, alone in zip(runs, one["histories"], strict=True):
                assert [point["depth"] for point in run] == [point["depth"] for point in alone]
                assert run[-1]["test"] == pytest.approx(alone[-1]["test"], abs=0.1), dtype
                if dtype == "full" and one is plain:
                    assert run[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=1e-3)


def test_penalties_rise_to_what_was_tuned(parts):
    """Geometrically, from evaluation to evaluation, in every trial."""
    plan = Plan(16, 3, 4, (2, 3), 20, 5, penalties_from=0.01)
    setting, used = Setting(0.1, 0.2), []
    method = METHODS["pdadmm_g"]

    def configured(widths, setting):
        used.append(setting)
        return METHODS["pdadmm_g"].configured(widths, setting)

    inputs = inputs_of(made("here", **parts, split=None), SPLIT, hops=2)
    given = inputs.train, {"validation": inputs.validation}, plan, Programs()
    points = history(method._replace(configured=configured), setting, 0, *given)
    assert [point.passes for point in points] == [5, 10, 12, 15, 20]
    begun = [one for one in used if one != setting]
    expected = [0.1 * 0.01 ** (1 - done / 20) for done in (0, 5, 10, 12, 15)]
    np.testing.assert_allclose([one.number for one in begun], expected)
    assert {one.mu for one in used} == {0.2}
    constant = history(method, setting, 0, *given[:2], plan._replace(penalties_from=1.0), given[3])
    assert constant[-1].loss != points[-1].loss


def test_test_nodes_are_not_looked_at_before_the_end(parts, tmp_path):
    labels = parts["labels"].copy()
    labels[SPLIT.test] = (labels[SPLIT.test] + 1) % 3
    same, other = (
        compare(of, tmp_path / name, "--methods", "gd", "--tuning-seeds", 1)[1]["results"][0]
        for name, of in (("one", parts), ("other", parts | {"labels": labels}))
    )
    for result in (same, other):
        for run in [run for each in result["tuning"] for run in each["histories"]]:
            for point in run:
                del point["seconds"]
    assert same["tuning"] == other["tuning"]
    assert (same["number"], same["mu"]) == (other["number"], other["mu"])
    for one, two in zip(same["histories"], other["histories"], strict=True):
        assert [point["validation"] for point in one] == [point["validation"] for point in two]
        assert one[-1]["test"] > two[-1]["test"]


def test_inputs_are_scaled_by_the_labelled_nodes(inputs):
    assert float((inputs.train.x**2).sum(1).mean()) == pytest.approx(1, rel=1e-5)
    assert float((inputs.times(10).train.x ** 2).sum(1).mean()) == pytest.approx(100, rel=1e-5)


def test_algorithm_1_does_the_same_in_the_span(inputs):
    inputs = inputs._replace(train=jax.tree.map(lambda a: a[:20], inputs.train))
    inside = in_span(inputs)
    assert inside.train.x.shape == (20, 20)
    basis = np.linalg.pinv(inside.train.x) @ inputs.train.x  # rows span the labelled inputs
    config = admm.Config(nu=0.03, rho=0.03, mu=0.2)
    (W, b), *rest = pdadmm.random_params(jax.random.key(0), (20, 16, 16, 3))
    found = []
    for splits, first in ((inputs, basis.T @ W), (inside, W)):
        state = admm.from_params([(first, b), *rest], splits.train, config)
        state, _ = admm.run(state, splits.train, config, steps=30)
        found.append([pdadmm.forward(state, split.x, config) for split in splits])
    for whole, reduced in zip(*found, strict=True):
        np.testing.assert_allclose(whole, reduced, atol=1e-3)
        np.testing.assert_array_equal(whole.argmax(1), reduced.argmax(1))


@pytest.mark.parametrize("name", ["pdadmm_g", "sweeps", "adam_grown"])
def test_growth_keeps_what_the_network_does(inputs, name):
    method, data = METHODS[name], inputs.train
    config = method.configured((36, 16, 3), method.settings()[0])
    params = pdadmm.random_params(jax.random.key(0), (36, 16, 3))
    before = method.algorithm.from_params(params, data, config)
    after = grown(method.algorithm, before, data, config, 3)
    assert len(method.algorithm.params(after)) == 5
    assert int(after.iteration) == int(before.iteration)
    outputs = (
        pdadmm.forward(method.algorithm.params(s), data.x, admm.Config()) for s in (before, after)
    )
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_depths_have_their_passes():
    plan = Plan(16, 3, 10, (2, 5), 200, 10)
    assert plan.stages(grows=True) == [(2, 100), (5, 120), (10, 200)]
    assert plan.stages(grows=False) == [(10, 200)]


def test_the_best_is_finite_and_least_loss_is_deep():
    def ended(loss, validation):
        return [[Point(10, 2, 0.0, loss, validation, None)]]

    nan, one, two = Setting(1.0, 0.0), Setting(2.0, 0.0), Setting(3.0, 0.0)
    assert best({nan: ended(np.nan, 0.9), one: ended(2.0, 0.8), two: ended(1.0, 0.8)}) == two
    points = [
        Point(10 * k, depth, 0.0, loss, 0.5, 0.5)
        for k, depth, loss in ((1, 2, 0.1), (2, 4, 0.5), (3, 4, 0.4), (4, 4, np.nan))
    ]
    assert least_loss(points) == points[2]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--hops", -1), "hops is -1: give 0 or more"),
        (("--layers", 1), "layers is 1: give 2 or more"),
        (("--layers", 5), "growth is 2 5 and layers 5: give ascending depths from 2 up"),
        (("--penalties-from", 0), "penalties_from is 0"),
        (("--growth", 1), "growth is 1 and layers 10"),
        (("--growth", *range(2, 8)), "growth has 6 depths: give 5 or less"),
        (("--passes", 9), "passes is 9: give 10 or more"),
        (("--stages", 11), "stages is 11, but the network has 10 layers"),
        (("--message-dtypes", "int8", "int8"), "message-dtypes has int8 twice"),
        (
            ("--stages", 2, "--message-dtypes", "bfloat16"),
            "message-dtypes has bfloat16, which takes q off the grid of pdadmm_g_q",
        ),
        (("--methods", "sgd"), "invalid choice 'sgd'"),
        (("--methods",), "methods is empty"),
        ((), "ind.cora.allx: cannot be read"),
        (("--name", "no"), "ind.no.allx: cannot be read"),
        (("--data", "nowhere"), "nowhere is neither a directory nor an npz file"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint, tmp_path):
    assert_refused(("graphs", "--data", tmp_path, *words), complaint)
    assert not list(tmp_path.iterdir())
