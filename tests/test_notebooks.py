"""The notebooks run as they are, show what they say, and are kept without what they showed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SETTINGS = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}

# Figures of every notebook, and what its output has to say.
OUTPUT = {
    "quick_start": (
        1,
        r"accuracy 9\d\.\d%",
        r"plain JAX: equal outputs",
        r"Flax: equal outputs",
        r"loaded 4 layers, bit by bit the same",
    ),
    "layer_parallelism": (
        1,
        r"8 x cpu: 8 stages x 1 shares",
        r"stage 7, \S+: layers 10, 11,",
        # Twice in every iteration: f(z) and q, 1,293 samples x 50 neurons x 4 bytes.
        r"collective-permute +f32 +258,600 +2 +2",
        r"equal, all variables of all layers to \de-0[5-9]",
        r"int4: 37,497 bytes",
    ),
    "against_optax": (
        2,
        r"Adam +rate [\d.]+ +9\d\.\d\d ± ",
        r"passes of Adam from there: 9\d\.\d %",
    ),
}


def notebook(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(found):
    return [cell for cell in found.cells if cell.cell_type == "code"]


def test_there_are_no_others():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(OUTPUT)


@pytest.mark.parametrize("name", OUTPUT)
def test_a_notebook_is_kept_without_outputs(name):
    found = notebook(name)
    nbformat.validate(found)
    assert set(found.metadata) == {"kernelspec", "language_info"}
    for cell in found.cells:
        assert not cell.metadata
    for cell in code_cells(found):
        assert not cell.outputs
        assert cell.execution_count is None


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
    outputs = [output for cell in code_cells(found) for output in cell.outputs]
    figures, *lines = OUTPUT[name]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == figures
    shown = "\n".join(map(text, outputs))
    for line in lines:
        assert re.search(line, shown), f"no {line!r} in:\n{shown}"
    assert not [output for output in outputs if output.get("name") == "stderr"], shown


def text(output):
    """What an output says, without the colours of a terminal."""
    said = output.get("text") or output.get("data", {}).get("text/plain", "")
    return re.sub(r"\x1b\[[\d;]*m", "", said)
