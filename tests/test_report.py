"""The report: what was run, on a page that a browser can show."""

from __future__ import annotations

import base64
import html
import json
import os
import shutil
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from experiments.benchmark.options import SizesConfig
from experiments.report import command as report
from experiments.report.figures import save_figure
from experiments.report.measurement import Measurement, table
from experiments.report.options import ReportConfig
from experiments.report.plotting import log_axis
from experiments.report.saved_output import OUTPUT, SavedOutput
from tests.commands import ALONE, ROOT, assert_refused, run

MAGENTA = (255, 0, 255)
BROWSER = shutil.which("chromium")


def shown(folder, name, command, finished="2026-01-01 00:00:00", text="so it was"):
    """A run directory with a table, a text and a figure that is one bright colour."""
    directory = folder / name
    directory.mkdir()
    Image.new("RGB", (300, 200), MAGENTA).save(directory / "figure.png")
    made = table("", "accuracy", title="\nwhat | came out")
    made.add_row("a|b", "12.5 %")
    page = SavedOutput(Console(quiet=True), directory)
    page.show(made)
    page.show(text)
    page.figures.append("figure.png")
    page.save()
    content = json.loads((directory / OUTPUT).read_text())
    content |= {"command": f"python -m experiments {command}", "finished": finished}
    (directory / OUTPUT).write_text(json.dumps(content))
    return directory


def test_the_page_holds_tables_texts_commands_hardware_and_figures(tmp_path):
    shown(tmp_path, "one", "compare --seeds 2", text="so it was: <u, p - q>")
    assert report.main(ReportConfig(tmp_path)) == 0
    page = (tmp_path / "report.html").read_text()
    for content in (
        "python -m experiments compare --seeds 2",
        "<strong>what | came out</strong>",
        ">a|b</td>",
        "12.5 %",
        "so it was: &lt;u, p - q&gt;",
        "x cpu (cpu)",
        'id="one"',
        'href="#one"',
    ):
        assert content in page
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page  # nothing is fetched
    text = (tmp_path / "report.md").read_text()
    assert "| a\\|b | 12.5 % |" in text
    assert "(one/figure.png)" in text


def test_of_a_command_that_was_run_twice_the_newest_counts(tmp_path):
    shown(tmp_path, "20260102-000000-train", "train", "2026-01-02 00:00:00")
    shown(tmp_path, "20260101-000000-train", "train", "2026-01-01 00:00:00")
    shown(tmp_path, "compare-mnist-1", "performance", "2025-01-01 00:00:00")
    shown(tmp_path, "compare-kmnist-2", "performance", "2025-01-01 00:00:00")
    found = report.gathered(tmp_path)
    assert [path.name for path, _ in found] == [
        "compare-kmnist-2",
        "compare-mnist-1",
        "20260102-000000-train",
    ]


@pytest.mark.parametrize("odd", ["a*b*c", "[x](y)", "_a_ `b` ``c``", "<b> &amp; \\*", "![z](z)"])
def test_no_name_or_text_is_markup(odd, tmp_path):
    directory = shown(tmp_path, f"run {odd}", f"train --out '{odd}'", text=f"text {odd}")
    content = json.loads((directory / OUTPUT).read_text())
    content["parts"][0]["table"] |= {"title": f"title {odd}", "columns": ["", f"column {odd}"]}
    content["parts"][0]["table"]["rows"] = [["", f"cell {odd}"]]
    (directory / OUTPUT).write_text(json.dumps(content))
    assert report.main(ReportConfig(tmp_path)) == 0
    page = (tmp_path / "report.html").read_text()
    for where in ("run", "text", "title", "column", "cell"):
        assert f">{where} {html.escape(odd)}<" in page
    assert f"<code>python -m experiments train --out '{html.escape(odd)}'</code>" in page


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_shows_the_figures(tmp_path):
    shown(tmp_path, "one", "compare")
    report.main(ReportConfig(tmp_path))
    assert BROWSER is not None
    screenshot = tmp_path / "screenshot.png"
    subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--window-size=800,900",
            f"--screenshot={screenshot}",
            (tmp_path / "report.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pixels = np.asarray(Image.open(screenshot).convert("RGB"))
    assert (pixels == MAGENTA).all(-1).sum() == 300 * 200
    assert (pixels.sum(-1) < 300).sum() > 1000  # letters


def test_commands_leave_what_the_report_needs(tmp_path):
    words = ("train", "--iterations", 20, "--network.hidden", 8, "--out", tmp_path)
    code, _, err = run(*words)
    assert code == 0, err
    code, out, err = run("report", "--runs", tmp_path)
    assert code == 0, err
    assert out == f"1 run(s) gathered in {tmp_path}: report.html, report.md\n"
    text = (tmp_path / "report.md").read_text()
    assert f"`python -m experiments {' '.join(map(str, words))}`" in text
    assert "| validation |" in text
    assert "/training.png)" in text


def test_a_damaged_run_is_named(tmp_path):
    directory = shown(tmp_path, "one", "compare")
    (directory / OUTPUT).write_text("{")
    assert_refused(("report", "--runs", tmp_path), f"{directory / OUTPUT} is damaged")


def test_what_is_no_figure_is_named(tmp_path):
    directory = shown(tmp_path, "one", "compare")
    (directory / "figure.png").write_bytes(b"GIF89a")
    assert_refused(("report", "--runs", tmp_path), "figure.png is no PNG file")


def test_directories_may_have_any_name(tmp_path):
    shown(tmp_path, "été (2) & more", "compare")
    assert report.main(ReportConfig(tmp_path)) == 0
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,iVBOR") == 1


def test_texts_fetch_nothing(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("not for others")
    shown(tmp_path, "one", "compare", text=f"![a]({secret}) ![b](secret) ![c](http://a.b/c.png)")
    assert report.main(ReportConfig(tmp_path)) == 0
    page = (tmp_path / "report.html").read_text()
    assert base64.b64encode(b"not for others").decode() not in page
    assert page.count("<img") == page.count('<img src="data:') == 1  # that of the figure


def test_a_missing_figure_is_named(tmp_path):
    directory = shown(tmp_path, "one", "compare")
    (directory / "figure.png").unlink()
    assert_refused(("report", "--runs", tmp_path), "figure.png")


def test_nothing_to_report_is_said(tmp_path):
    assert_refused(("report", "--runs", tmp_path), "nothing was run")
    assert_refused(("report", "--runs", tmp_path / "none"), "which is no directory")


@pytest.mark.parametrize("range_", [(1e-9, 1e3), (1e-4, 1.0), (0.01, 0.5), (0.3, 0.4)])
def test_a_logarithmic_axis_has_labels_whatever_its_range(range_):
    axes = Figure().subplots()
    axes.plot([0, 1], range_)
    log_axis(axes.yaxis)
    low, high = axes.get_ylim()
    assert 3 <= sum(low <= tick <= high for tick in axes.get_yticks()) <= 14


def drawing():
    """A figure with letters, in a font that has none of the title's."""
    figure = Figure()
    figure.subplots().set(title="手書き 1e-3", xlabel=r"$\rho_l$", ylabel="x_y & 50 %")
    return figure


def test_figures_are_drawn_the_same_under_any_settings_of_the_users(tmp_path):
    own = {"text.usetex": True, "font.family": ["Nowhere"], "savefig.dpi": 7, "savefig.format": "x"}
    assert save_figure(tmp_path / "one.png", drawing) is None
    with matplotlib.rc_context(own):
        assert save_figure(tmp_path / "other.png", drawing) is None
        assert matplotlib.rcParams["text.usetex"]  # theirs again
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


SAVED_ALONE = """
import pathlib, sys
from experiments.report.figures import save_figure
assert "matplotlib" not in sys.modules
def draw():
    from matplotlib.figure import Figure
    return Figure()
print(save_figure(pathlib.Path(sys.argv[1]), draw))
"""


@pytest.mark.parametrize(
    ("settings", "content", "complaint"),
    [
        ({"MPLBACKEND": "module://of_a_notebook"}, b"backend: nonsense\nno setting", None),
        ({"MPLCONFIGDIR": "/proc/nowhere", "MPLBACKEND": "tkagg"}, b"text.usetex: True", None),
        ({}, b"font.family: \xff", "cannot be drawn (UnicodeDecodeError: 'utf-8' codec"),
    ],
)
def test_matplotlib_is_imported_whatever_the_user_has_set(settings, content, complaint, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", SAVED_ALONE, tmp_path / "figure.png"],
        env={**os.environ, **ALONE, "MATPLOTLIBRC": str(tmp_path), **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert complaint in line if complaint else line == "None"
    assert (tmp_path / "figure.png").exists() is not bool(complaint)


def failing(self, *_, **__):
    raise RuntimeError("no\nroom")


def test_a_figure_costs_no_result_of_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", failing)
    words = ("train", "--iterations", 1, "--network.hidden", 4, "--checkpoint.keep", 0)
    code, out, err = run(*words, "--out", tmp_path)
    assert (code, err) == (0, "")
    *_, complaint, last = out.splitlines()
    assert complaint == (
        "warning: training.png cannot be drawn (RuntimeError: no room); all else is saved"
    )
    (directory,) = tmp_path.iterdir()
    files = ["config.json", "metrics.jsonl", "output.json", "summary.json", "weights.npz"]
    assert sorted(path.name for path in directory.iterdir()) == files
    assert "training.png" not in last
    assert run("report", "--runs", tmp_path).code == 0
    assert complaint in (tmp_path / "report.md").read_text()


def test_a_figure_costs_no_result_of_a_measurement(tmp_path):
    measurement = Measurement("sizes", SizesConfig(out=tmp_path))
    measurement.draw("benchmark.sizes_figure", {"neurons": []})
    measurement.save({"results": []})
    assert json.loads((measurement.directory / "sizes.json").read_text()) == {"results": []}
    assert not (measurement.directory / "sizes.png").exists()
    assert "cannot be drawn" in (measurement.directory / OUTPUT).read_text()
