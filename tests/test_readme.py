"""The README keeps its word."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_the_first_two_commands_train_and_test():
    """CI runs them word for word, so they come first."""
    train, test, *_ = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    for command in (train, test):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert train.endswith(".venv/bin/python -m experiments train")
    assert test.endswith(".venv/bin/python -m pytest -q -n auto")


def test_the_example_needs_the_library_alone(
    capsys: pytest.CaptureFixture, monkeypatch, tmp_path: Path
):
    """What `pip install .` brings, arrays made in place, no network; and it learns."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else _names(node))
    }
    assert imported == {"jax", "pdadmm_jax"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the example asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(code, "README.md", "exec", dont_inherit=True), {})
    swept, by_admm = (float(line.split()[0]) for line in capsys.readouterr().out.splitlines())
    assert swept > 0.97
    assert by_admm > 0.97


def test_its_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    local = [target for target in targets if "://" not in target]
    assert len(local) > 10
    assert [target for target in local if not (ROOT / target).exists()] == []


def _names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]
