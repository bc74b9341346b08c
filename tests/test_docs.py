"""The documentation: its code runs, its commands exist, its site is built without a warning."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import pdadmm_jax as pdadmm
from experiments.__main__ import parse
from pdadmm_jax import admm, sweeps
from tests.selection import selected

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
READ = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES]
RUN_DIRECTORY = "runs/20260101-120000-train-digits"  # of nobody


def _blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The code blocks of a page, with the line that each begins on."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(text[: block.start(1)].count("\n"), block[1]) for block in found]


def _commands() -> list[str]:
    """What the pages tell to run as python -m experiments, in blocks and in running text."""
    texts = [page.read_text() for page in READ if page.stem != "variants"]  # of an old commit
    found = [
        words
        for text in texts
        for words in re.findall(r"python -m experiments ([^`\n]*[^`\s])", text)
    ]
    return sorted({words for words in found if RUN_DIRECTORY not in words})


CODE = [page for page in PAGES if _blocks(page, "python") and page.stem != "programs"]


@pytest.mark.parametrize(
    "page",
    selected(CODE, fast=[page for page in CODE if page.stem not in ("recipes", "devices")]),
    ids=lambda page: page.stem,
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch):
    """Block by block as printed; the blocks of a page share their names."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    with jax.numpy_dtype_promotion("standard"):
        for line, code in _blocks(page, "python"):
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)


PROGRAMS = _blocks(DOCS / "programs.md", "python")


@pytest.mark.parametrize(("line", "code"), PROGRAMS, ids=[str(line) for line, _ in PROGRAMS])
def test_a_short_program_is_short_and_runs_by_itself(line: int, code: str, tmp_path, monkeypatch):
    assert len(code.splitlines()) < 20
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"):
        exec(compile("\n" * line + code, "programs.md", "exec", dont_inherit=True), {})


def test_there_are_ten_programs():
    assert len(PROGRAMS) == 10


@pytest.mark.parametrize("words", _commands())
def test_a_command_is_one_that_exists(words: str, tmp_path: Path, monkeypatch):
    """Its options are parsed and checked; nothing is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIRECTORY").mkdir()
    (tmp_path / "runs").mkdir()
    for name in ("FILE", "cifar10", "kmnist"):
        (tmp_path / f"{name}.npz").touch()
    (tmp_path / "FILE.csv").touch()
    words = words.replace("HOST:PORT", "localhost:8476").replace(" N ", " 2 ").replace(" K", " 0")
    with contextlib.suppress(SystemExit):  # of --help; what is wrong is a UsageError
        parse(shlex.split(words))


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    """Broken links, missing anchors and pages outside the navigation are warnings, too."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for module in (pdadmm, admm, sweeps):
        page = (tmp_path / "api" / module.__name__.split(".")[-1] / "index.html").read_text()
        entries = [name for name in module.__all__ if name not in ("admm", "sweeps")]
        assert len(entries) > 10
        ids = {name: f'id="{module.__name__}.{name}' for name in entries}
        # A function of its module's name is found under both.
        missing = [
            name for name, id in ids.items() if f'{id}"' not in page and f'{id}.{name}"' not in page
        ]
        assert missing == []


def test_the_recommended_settings_are_the_librarys():
    text = (DOCS / "settings.md").read_text()
    (table,) = re.findall(r"^\| batch \| `nu` .*?\n\n", text, re.DOTALL | re.MULTILINE)
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in table.strip().splitlines()[2:]
    ]
    widths = (4, *[400] * 4, 2)
    cases = (None, 1, None), (128, 1, 100), (128, 1, 99), (128, 4, 100)
    for row, (batch, stages, updates) in zip(rows, cases, strict=True):
        config = sweeps.recommended(widths, batch, stages, updates=updates)
        assert float(row[1].split(",")[0]) == config.nu
        assert f'"{config.schedule}"' in row[3]
        name, numbers = re.findall(r"`(\w+)(?:\(([^)]*)\))?`", row[2])[0]
        assert type(config.rule).__name__ == name
        for field, value in re.findall(r"(\w+)=([\d.]+)", numbers):
            assert getattr(config.rule, field) == float(value)
    (share,) = re.findall(r"`clipping` is ([\d.]+) / layers", rows[0][2])
    assert sweeps.recommended(widths).rule.clipping == float(share) / 5
    (most,) = re.findall(r"1 / sum of hidden widths, at most ([\d.]+)", rows[2][2])
    assert sweeps.recommended(widths, 128).rule.rate == 1 / 1600
    assert sweeps.recommended((4, 8, 2), 128).rule.rate == float(most)
    assert sweeps.recommended(widths, 128, 4).rule.rate == 1 / 16000
    assert sweeps.recommended(widths, 128, 4, updates=100).rule.rate == 2 / 1600 / 5


def test_the_new_names_of_the_changelog_exist():
    text = (ROOT / "CHANGELOG.md").read_text()
    (table,) = re.findall(r"^\| old \| new \|\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    new = " ".join(row.split("|")[2] for row in table.splitlines())
    names = re.findall(r"\b(admm|sweeps)\.(\w+)", new)
    assert len(names) > 15
    for module, name in names:
        assert hasattr(getattr(pdadmm, module), name), f"{module}.{name}"


def test_what_is_said_of_gradients_is_said_in_full():
    """Sweeps go the way of back-propagation, and a page that speaks of doing without says so."""
    texts = {page.name: page.read_text() for page in READ}
    texts["pyproject.toml"] = (ROOT / "pyproject.toml").read_text()
    for name, text in texts.items():
        text = text.replace("Gradient-free ADMM", "").replace("Gradient-free {ADMM}", "")
        assert not re.search(r"no gradients|without (back-?propagation|gradients)", text, re.I), (
            name
        )
        if re.search(r"gradient-free", text, re.I):
            assert "0.999" in text, name


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", text, re.MULTILINE) == [pdadmm.__version__]
