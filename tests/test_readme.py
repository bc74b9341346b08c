"""The README keeps its word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_library_examples_run_as_printed():
    """The second continues the first, on a mesh of virtual devices."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9


def test_the_map_names_files_that_exist():
    (tree,) = re.findall(r"```\n(pdadmm_jax/.*?)```", README, re.DOTALL)
    folder = ROOT
    for line in tree.splitlines():
        entry = line.split("   ")[0] if line[0] != " " else line[2:]
        if line[0] != " ":
            folder = ROOT / entry.split()[0]
            assert folder.is_dir()
            continue
        for name in re.findall(r"\b\w+\.py\b|\b\w+/(?= )", entry):
            assert (folder / name).exists(), name
    listed = set(re.findall(r"\b(\w+)\.py\b", tree))
    present = {path.stem for path in (ROOT / "pdadmm_jax").glob("*.py")}
    assert {name for name in present if not name.startswith("_")} <= listed


def test_the_choices_named_exist():
    import pdadmm_jax as pdadmm

    (table,) = re.findall(r"\| \| choices .*?\n\n", README, re.DOTALL)
    choices = [row.split("|")[2] for row in table.strip().splitlines()[2:]]
    names = re.findall(r"`(\w+)(?:\(|`)", " ".join(choices))
    assert len(names) >= 20
    for name in names:
        assert hasattr(pdadmm, name), name
