"""The notebooks are kept with their outputs, and running them again gives what they say."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SETTINGS = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
LARGEST = 300_000  # bytes of a notebook with its figures

# Figures of every notebook, and what its output has to say.
OUTPUT = {
    "quick_start": (
        2,
        r"sweeps, 20 passes: .* test accuracy 9\d\.\d%",
        r"Algorithm 1, 500 iterations: test accuracy 9\d\.\d%",
        r"all finite: True",
        r"plain JAX: equal outputs",
        r"loaded 4 layers, the same test accuracy: True",
    ),
    "layer_parallelism": (
        2,
        r"stage 0, \S+: layers 1, 2\n",
        r"stage 7, \S+: layers 10, 11\n",
        r"sweeps, 20 steps on 8 stages: equal weights to \de-0[4-9]",
        r"Algorithm 1, 20 steps on 8 stages: equal weights to \de-0[4-9]",
        # A block of sweeps, its rows of 50 neurons; with int8 each has four bytes for its scale.
        r"full: f32\[1, 93, 50\], 18,600 bytes per message",
        r"int8: s8\[1, 93, 54\], 5,022 bytes per message",
    ),
    "against_optax": (
        2,
        r"\nsweeps +test accuracy 9\d\.\d ± ",
        r"optax\.adam +test accuracy 9\d\.\d ± ",
        r"Algorithm 1 +test accuracy \d\d\.\d ± ",
        r"sweeps, adamw +test accuracy 9\d\.\d ± ",
        r"nu 100: cosine .* (0\.999\d|1\.0000)",
    ),
}


def notebook(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(found):
    return [cell for cell in found.cells if cell.cell_type == "code"]


def check_outputs(name, found):
    """No errors or warnings, the figures, and what the text has to say."""
    outputs = [output for cell in code_cells(found) for output in cell.outputs]
    shown = "\n".join(map(text, outputs))
    assert not [output for output in outputs if output.output_type == "error"], shown
    assert not [output for output in outputs if output.get("name") == "stderr"], shown
    figures, *lines = OUTPUT[name]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == figures
    for line in lines:
        assert re.search(line, shown), f"no {line!r} in:\n{shown}"


def text(output):
    """What an output says, without the colours of a terminal."""
    said = output.get("text") or output.get("data", {}).get("text/plain", "")
    return re.sub(r"\x1b\[[\d;]*m", "", said)


def test_there_are_no_others():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(OUTPUT)


@pytest.mark.parametrize("name", OUTPUT)
def test_a_notebook_is_kept_with_the_outputs_of_one_run(name):
    """Executed from top to bottom in a fresh kernel."""
    found = notebook(name)
    nbformat.validate(found)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    cells = code_cells(found)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    check_outputs(name, found)


@pytest.mark.parametrize("name", OUTPUT)
def test_a_notebook_uses_the_public_interface(name):
    """Of the experiments it takes the data alone."""
    source = "\n".join(cell.source for cell in code_cells(notebook(name)))
    imports = re.findall(r"^(?:from|import) ((?:experiments|pdadmm_jax).*)$", source, re.MULTILINE)
    assert sorted(imports) == [
        "experiments.data import DataConfig, load",
        "pdadmm_jax as pdadmm",
        "pdadmm_jax import admm, sweeps",
    ]


def test_all_begin_alike():
    """With the cell that finds the repository."""
    assert len({code_cells(notebook(name))[0].source for name in OUTPUT}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUT)
def test_a_notebook_shows_what_it_says(name, tmp_path, monkeypatch):
    for setting, value in SETTINGS.items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = notebook(name)
    nbclient.NotebookClient(
        found,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": os.fspath(FOLDER)}},
    ).execute()
    check_outputs(name, found)
