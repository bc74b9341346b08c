"""The commands that time, compile and predict."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from experiments.benchmark import scaling_figure
from experiments.benchmark.batch_model import BlockRates, best_layout, seconds_per_batch
from experiments.benchmark.compiled_program import Message, messages, products, scheduled_products
from experiments.benchmark.iteration_time import time_blocks
from experiments.benchmark.scaling import HARDWARE, NEURONS, Hardware, predict
from experiments.benchmark.speedup import PAPER, Curves, Pair
from experiments.benchmark.sweeps_scaling import WAYS
from pdadmm_jax.parallel.plan import plan
from pdadmm_jax.sweeps.schedules import block_of_idle_time
from tests.commands import assert_refused, run, run_process


def test_a_machine_that_sends_for_nothing_is_as_fast_as_its_busiest_stage():
    free = Hardware("free", rate=1e9, bandwidth=1e30, latency=0.0, source="")
    widths = (784, *[1000] * 15, 10)
    for stages in (1, 4, 16):
        dealt = plan(widths, stages)
        made = predict(widths, stages, 500, free)
        assert made.speedup == pytest.approx(sum(dealt.work) / max(dealt.work))


def test_messages_that_products_cannot_hide_are_waited_for():
    widths = (784, *[1000] * 15, 10)
    slow = Hardware("slow", rate=1e30, bandwidth=1e9, latency=0.001, source="")
    made = predict(widths, 4, 500, slow)
    assert made.together == pytest.approx(2 * (0.001 + 500 * 1000 * 4 / 1e9))


def test_named_hardware_says_where_its_numbers_are_from():
    for one in HARDWARE:
        assert "data sheet" in one.source
        assert "assumed" in one.source
        assert all(10 < predict((196, *[h] * 19, 10), 20, 55_000, one).speedup < 20 for h in PAPER)


def test_predictions_are_labelled_and_saved(tmp_path):
    code, out, err = run("scaling", "--predict-only", "--out", tmp_path)
    assert code == 0, err
    assert out.count("PREDICTED, not measured") == len(HARDWARE)
    (directory,) = tmp_path.iterdir()
    saved = json.loads((directory / "scaling.json").read_text())["predicted"]
    for tables in saved.values():
        assert sorted(map(int, tables["by_neurons"])) == list(NEURONS)
    assert json.loads((directory / "output.json").read_text())["figures"] == ["scaling.png"]
    assert out.splitlines()[-1].endswith(": config.json, scaling.json, scaling.png")


@pytest.mark.slow
def test_scaling_measures_one_process_against_two(tmp_path):
    small = ("--layers", 4, "--neurons", 32, "--samples", 64, "--runs", 1)
    more = ("--more-neurons", 48, "--more-layers", 3)
    code, out, err = run("scaling", *small, *more, "--out", tmp_path)
    assert code == 0, err
    (directory,) = tmp_path.iterdir()
    found = json.loads((directory / "scaling.json").read_text())["measured"]
    assert found["speedup"] == pytest.approx(found["alone"] / found["together"])
    curves = {name: found.pop(name) for name in ("by_neurons", "by_layers")}
    assert all(value > 0 for value in found.values())
    assert {name: list(curve) for name, curve in curves.items()} == {
        "by_neurons": ["32", "48"],
        "by_layers": ["3", "4"],
    }
    middle = {"alone": found["alone"], "together": found["together"]}
    assert curves["by_neurons"]["32"] == curves["by_layers"]["4"] == middle
    assert all(min(one.values()) > 0 for curve in curves.values() for one in curve.values())
    assert "measured once: 4 layers, 64 samples" in out
    assert (directory / "scaling.png").stat().st_size > 20_000


def drawn(**given):
    """The figure's lines: panel -> label or None, and whether they are dashed."""
    figure = scaling_figure.figure(named="here", several="2 processes", hardware="chips", **given)
    return [
        {(line.get_linestyle(), line.get_marker(), tuple(line.get_xdata())) for line in axes.lines}
        for axes in figure.axes
    ]


def test_the_figure_tells_measured_from_predicted():
    curves = [Curves({at: Pair(2.0, 1.0)}, {at + 1: Pair(2.0, 1.0)}) for at in (1, 3, 5)]
    measured, paper, predicted = curves
    panels = drawn(measured=measured, paper=paper, predicted=predicted)
    for panel, shift in zip(panels, (0, 1, 0, 1), strict=True):
        solid, papers, dashed = ((at + shift,) for at in (1, 3, 5))
        assert panel == {("-", "o", solid), ("-", "s", papers), ("--", "None", dashed)}


def test_the_papers_speedups_are_those_it_prints():
    printed = [8.87, 10.97, 10.91, 11.50, 10.15, 11.26, 10.38, 10.68, 10.10, 12.27]
    assert [one.speedup for one in PAPER.values()] == pytest.approx(printed, abs=0.006)


def test_compile_shows_messages_without_running():
    size = ("--layers", 6, "--neurons", 1000, "--samples", 60_000)
    words = "--mesh.layer", 3, "--mesh.message-dtype", "int8"
    code, out, err = run_process("compile", *size, *words)
    assert code == 0, err
    (line,) = [row.split() for row in out.splitlines() if "collective-permute" in row]
    assert line == ["collective-permute", "s8", f"{60_000 * 1004:,}", "2", "2"]
    assert "memory per device" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("time", "--layers", 1), "layers is 1: give 2 or more"),
        (("time", "--samples", 10**9), "choose fewer of them"),
        (("compile", "--mesh.layer", 0), "mesh.layer is 0"),
        (("compile", "--mesh.message-dtype", "int3"), "int3"),
        (("scaling", "--runs", 0), "runs is 0: give 1 or more"),
        (("scaling", "--processes", 1), "processes is 1: give 2 or more"),
        (("scaling", "sweeps", "--microbatches", 129), "microbatches is 129, but a batch has 128"),
        (("time", "--batch", 8, "--microbatches", 9), "microbatches is 9, but a batch has 8"),
        (("race", "--batch", 8, "--microbatches", 9), "microbatches is 9, but a batch has 8"),
        (("scaling", "--more-layers", 1), "more-layers is 1: give 2 or more"),
        (("scaling", "--out", "/proc/none"), "cannot make a run directory"),
    ],
)
def test_wrong_settings_get_one_line(words, complaint):
    assert_refused(words, complaint)


TEXT = """HloModule example, is_scheduled=true

%fused (a: f32[4,8], b: f32[8,2]) -> f32[4,2] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (t: (f32[4,8])) -> (f32[4,8]) {
  %t = (f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%t), index=0
  %start = (f32[4,8]{1,0}, f32[4,8]{1,0}, u32[], u32[]) collective-permute-start(%x)
  %product = f32[4,2]{1,0} fusion(%x, %x), kind=kOutput, calls=%fused
  %done = f32[4,8]{1,0} collective-permute-done(%start)
  ROOT %out = (f32[4,8]{1,0}) tuple(%done)
}

%condition (t: (f32[4,8])) -> pred[] {
  %t = (f32[4,8]{1,0}) parameter(0)
  ROOT %c = pred[] constant(false)
}

ENTRY %main (x: f32[4,8]) -> (f32[4,8]) {
  %x = f32[4,8]{1,0} parameter(0)
  %in = (f32[4,8]{1,0}) tuple(%x)
  ROOT %while = (f32[4,8]{1,0}) while(%in), condition=%condition, body=%body
}
"""


def test_program_text_is_read_right():
    assert messages(TEXT) == [Message("collective-permute", "f32", 4 * 8 * 4, in_loop=True)]
    assert products(TEXT).always == 4 * 8 * 2
    assert scheduled_products(TEXT) == [1]


FREE = Hardware("free", rate=1e9, bandwidth=1e30, latency=0.0, source="")


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 2), (4, 6), (4, 24), (8, 14)])
def test_schedules_idle_as_long_as_theory_says(stages, microbatches):
    """Of equal layers: (S - 1) / (M + S - 1) for 1F1B, two thirds and one third of that here."""
    widths = (64, *[64] * (4 * stages))
    batch, reach = 10 * microbatches, stages - 1

    def seconds(way, stages=stages, shards=1):
        return seconds_per_batch(
            widths, stages, batch, way, FREE, shards=shards, microbatches=microbatches
        )

    share = seconds("synchronous", 1) / stages
    # The first layer has no product down, so that its stage waits a little.
    slack = pytest.approx(1, abs=0.1)
    assert seconds("streaming") / share == slack
    assert seconds("one_batch_late") / share == slack
    bubble = reach / microbatches
    assert seconds("synchronous") / share / (1 + 2 / 3 * bubble) == slack
    assert seconds("zero_bubble") / share / (1 + 1 / 3 * bubble) == slack
    assert seconds("1f1b") / share / (1 + bubble) == slack
    assert seconds("gpipe") == seconds("1f1b")
    assert seconds("data_parallel", 1, stages) / share == pytest.approx(1)
    assert seconds("streaming", shards=2) == pytest.approx(seconds("streaming") / 2)


def test_shared_samples_send_every_gradient():
    widths = (64, *[64] * 8)
    slow = Hardware("slow", rate=1e30, bandwidth=1e9, latency=0.001, source="")
    reduction = 2 * 3 * (0.001 + 4 * 8 * 64 * 64 / 4 / 1e9)
    found = seconds_per_batch(widths, 1, 128, "data_parallel", slow, shards=4)
    assert found == pytest.approx(reduction)
    # On two stages each sums up half of it, beside the messages of four blocks of 8 samples.
    found = seconds_per_batch(widths, 2, 128, "streaming", slow, shards=4, microbatches=4)
    reduction = 2 * 3 * (0.001 + 4 * 4 * 64 * 64 / 4 / 1e9)
    assert found == pytest.approx(reduction + 4 * (0.001 + 4 * 8 * 64 / 1e9))


@pytest.mark.parametrize("weights", [2.0, 1.0, 0.5, 0.25])
@pytest.mark.parametrize("way", ["zero_bubble", "synchronous"])
def test_emptied_pipelines_take_as_long_as_the_busiest_stage_of_every_step(way, weights):
    stages, blocks, layers = 4, 8, 8
    widths, reach = (64, *[64] * stages * layers), stages - 1
    product = 64 * 64 / 0.5  # seconds per sample of a layer's product up or down, at half the rate
    rates = BlockRates(0.5, 0.5 * weights)
    found = seconds_per_batch(
        widths, stages, blocks, way, FREE._replace(rate=1.0), microbatches=blocks, block_rates=rates
    )
    early = reach if way == "zero_bubble" else 0
    steps = np.arange(blocks + 2 * reach)[:, None]
    stage = np.arange(stages)
    up = (steps >= stage) & (steps < stage + blocks)
    down = (steps >= 2 * reach - stage) & (steps < 2 * reach - stage + blocks)
    block = np.asarray(block_of_idle_time(steps, stage, reach, blocks))
    made = (block >= 0) if early else np.zeros_like(block, bool)
    assert np.all(made.sum(0) == early)
    busiest = np.max(up * 1.0 + down * 1.0 + made / weights, axis=1).sum()
    rest = (blocks - early) * layers * 64 * 64
    assert found == pytest.approx(busiest * layers * product + rest, rel=0.02)


@pytest.mark.parametrize("block", [7, 4])
def test_blocks_that_do_not_divide_a_batch_are_timed(block):
    assert time_blocks((3, 4, 4, 2), 8, block) > 0


def test_a_product_costs_its_overhead_in_every_block():
    widths, devices = (64, *[64] * 8), FREE._replace(rate=1e30, overhead=1.0)
    assert seconds_per_batch(widths, 1, 128, "synchronous", devices) == pytest.approx(3 * 8)
    found = seconds_per_batch(widths, 4, 128, "streaming", devices)  # three blocks, two layers
    assert found == pytest.approx((2 * 3 + 1) * 2)


def test_the_best_layout_has_a_sample_for_every_block_and_shard():
    widths = (64, *[64] * 8)
    assert best_layout(widths, 4, 128, "data_parallel", FREE)[:2] == (1, 4)
    stages, shards, seconds = best_layout(widths, 8, 128, "one_batch_late", FREE)
    assert stages * shards == 8
    assert seconds == min(
        seconds_per_batch(widths, stages, 128, "one_batch_late", FREE, shards=8 // stages)
        for stages in (2, 4, 8)
    )
    assert best_layout(widths, 8, 8, "one_batch_late", FREE)[:2] == (2, 4)
    assert best_layout(widths, 7, 128, "streaming", FREE)[:2] == (7, 1)
    assert best_layout(widths, 64, 4, "streaming", FREE).seconds == math.inf


@pytest.mark.slow
def test_sweeps_scaling_measures_every_schedule(tmp_path):
    small = ("--layers", 4, "--neurons", 32, "--samples", 128, "--batch", 32, "--runs", 1)
    code, out, err = run("scaling", "sweeps", *small, "--out", tmp_path)
    assert code == 0, err
    (directory,) = tmp_path.iterdir()
    found = json.loads((directory / "scaling.json").read_text())["measured"]
    assert set(found["seconds"]) == {"alone", "blocks", "limit", *WAYS}
    assert set(found["model"]) == set(WAYS)
    assert all(name in out for name in ("1 process", "of the limit", "one batch late"))
    assert all(value > 0 for value in (*found["seconds"].values(), *found["model"].values()))
    assert out.count("PREDICTED, not measured") == len(HARDWARE) + 1
