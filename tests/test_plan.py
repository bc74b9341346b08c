"""The plan: every layer in one place, in order, and nobody with much more to do than the others."""

from __future__ import annotations

import itertools

import pytest

from pdadmm_jax.parallel.plan import EdgeSlot, plan

DEPTHS = (2, 3, 4, 5, 7, 10, 13, 16, 20, 33)
STAGES = (1, 2, 3, 4, 5, 8, 16)


def network(depth, features=784, width=500, classes=10):
    return (features, *[width] * (depth - 1), classes)


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_layer_is_held_once_and_stages_hold_neighbours(depth, stages):
    found = plan(network(depth), stages)
    assert sorted(itertools.chain(*found.layers)) == list(range(1, depth + 1))
    hidden = [[layer for layer in held if 1 < layer < depth] for held in found.layers]
    assert list(itertools.chain(*hidden)) == list(range(2, depth))
    assert found.layers[0][0] == 1
    assert len(found.edge_slots) == found.stages == stages


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_messages_join_the_stages_of_neighbouring_layers_and_no_others(depth, stages):
    found = plan(network(depth), stages)
    home = {layer: stage for stage, held in enumerate(found.layers) for layer in held}
    crossings = {(home[layer], home[layer + 1]) for layer in range(1, depth)}
    assert set(found.upward) == {(one, other) for one, other in crossings if one != other}


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_no_stage_has_more_hidden_layers_than_it_must(depth, stages):
    found = plan(network(depth), stages)
    most = max(sum(1 < layer < depth for layer in held) for held in found.layers)
    assert most == -(-(depth - 2) // stages)


@pytest.mark.parametrize("widths", [network(16, width=1000), (1000,) * 17], ids=["ends", "equal"])
@pytest.mark.parametrize("stages", [4, 8, 16])
def test_sixteen_layers_balance(widths, stages):
    work = plan(widths, stages).work
    assert max(work) <= 1.15 * sum(work) / stages


def test_work_counts_the_products_of_all_layers():
    widths = network(7)
    total = sum((4 if l else 2) * n * m for l, (n, m) in enumerate(itertools.pairwise(widths)))
    for stages in STAGES:
        assert sum(plan(widths, stages).work) == total


def test_the_ring_is_taken_where_the_chain_would_cost_a_layer_more():
    assert (
        plan(network(5), 4).edge_slots[0] is EdgeSlot.FIRST_AND_LAST
    )  # a chain needs 2 layers somewhere
    assert plan(network(10), 2).edge_slots[0] is EdgeSlot.FIRST  # 5 and 5: no ring needed


def test_stages_beyond_the_layers_are_idle():
    found = plan(network(3), 8)
    assert found.active == 3
    assert found.layers[3:] == ((),) * 5


def test_any_widths_on_one_stage():
    assert plan((7, 6, 9, 5), 1).layers == ((1, 2, 3),)


UNEQUAL = [
    (784, 512, 256, 128, 64, 10),
    (64, 100, 80, 10),
    (784, 500, 500, 250, 250, 250, 125, 125, 60, 60, 60, 60, 10),
    (20, 8, 30, 8, 8, 30, 5),
]


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
@pytest.mark.parametrize("widths", UNEQUAL)
def test_unequal_layers_are_cut_where_the_busiest_stage_has_least_to_do(widths, stages):
    found, depth = plan(widths, stages), len(widths) - 1
    assert list(itertools.chain(*found.layers)) == list(range(1, depth + 1))
    assert found.stages == stages
    assert all(found.layers[: found.active])
    assert found.upward == tuple(itertools.pairwise(range(found.active)))
    products = [(4 if l else 2) * n * m for l, (n, m) in enumerate(itertools.pairwise(widths))]
    assert sum(found.work) == sum(products)
    assert max(found.work) == min(
        max(sum(products[low:high]) for low, high in itertools.pairwise((0, *cut, depth)))
        for cuts in range(min(stages, depth))
        for cut in itertools.combinations(range(1, depth), cuts)
    )


def test_no_stage_at_all_is_refused():
    with pytest.raises(ValueError, match="0 layer stages"):
        plan((64, 100, 10), 0)
