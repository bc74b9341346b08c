"""The memory that a process may have, which can be less than the machine's."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from experiments import build
from experiments.runtime import memory
from experiments.runtime.memory import Limit
from tests.commands import ALONE, ROOT, assert_refused

GB = 10**9
UNLIMITED = str(2**63 - 4096)  # what version 1 says


@pytest.mark.parametrize(
    ("groups", "files", "bounds"),
    [
        ("0::/job/step", {"job/step/memory.max": "max", "job/memory.max": str(3 * GB)}, {3 * GB}),
        ("0::/", {"memory.max": str(GB)}, {GB}),
        ("0::/seen/from/outside", {"memory.max": str(GB)}, {GB}),
        (
            "5:cpu:/job\n4:memory:/job/step\n0::/",
            {
                "memory/job/step/memory.limit_in_bytes": UNLIMITED,
                "memory/job/memory.limit_in_bytes": str(2 * GB),
                "cpu/job/memory.limit_in_bytes": "1",
            },
            {int(UNLIMITED), 2 * GB},
        ),
        ("1:name=systemd:/\n0::/job", {"unified/job/memory.max": str(GB)}, {GB}),
        ("0::/job", {"job/memory.max": "max"}, set()),
        ("0::/a:b", {"a:b/memory.max": str(GB)}, {GB}),
        (None, {}, set()),
    ],
)
def test_control_groups_and_those_around_them_are_read(tmp_path, groups, files, bounds):
    """Of versions 1, 2 and both; in a container, in a job, without any."""
    told, root = tmp_path / "cgroup", tmp_path / "fs"
    if groups is not None:
        told.write_text(groups + "\n")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    assert set(memory._control_groups(told, root).values()) == bounds


def test_limits_of_the_process_are_read(monkeypatch):
    given = {resource.RLIMIT_AS: (7 * GB, -1), resource.RLIMIT_DATA: (6 * GB, -1)}
    monkeypatch.setattr(resource, "getrlimit", given.get)
    alone = {one.bytes: one.source for one in memory.limits() if not one.shared}
    assert alone.keys() == {7 * GB, 6 * GB}
    assert alone[7 * GB].endswith("ulimit -v")
    assert alone[6 * GB].endswith("ulimit -d")


@pytest.mark.parametrize(
    ("processes", "together", "bound", "fits"),
    [
        (1, True, Limit(2 * GB, "here", True), False),
        (1, True, Limit(4 * GB, "here", True), True),
        (2, True, Limit(2 * GB, "here", True), False),  # of one launch: they share it
        (2, True, Limit(2 * GB, "each", False), True),
        (2, False, Limit(2 * GB, "here", True), True),  # of two machines
        (2, False, Limit(GB, "here", True), False),
    ],
)
def test_what_several_processes_share_counts_once(monkeypatch, processes, together, bound, fits):
    monkeypatch.setattr("jax.process_count", lambda: processes)
    monkeypatch.setattr(build, "on_one_machine", lambda: together)
    monkeypatch.setattr(build, "limits", lambda: [bound])
    widths = (1, 27_000, 27_000, 1)  # 2.9 GB
    if fits:
        build.check_fits(widths, 1)
    else:
        with pytest.raises(ValueError, match=r"need 2\.9 GB for their state alone, but there are"):
            build.check_fits(widths, 1)


def test_a_refusal_names_what_sets_the_bound(monkeypatch):
    monkeypatch.setattr(build, "limits", lambda: [Limit(GB // 2, "by a file", True)])
    assert_refused(
        ("train", "--network.hidden", 15000, 15000), "there are 0.5 GB by a file: choose fewer"
    )


@pytest.mark.slow
def test_a_process_under_ulimit_is_refused_what_does_not_fit():
    words = [sys.executable, "-m", "experiments", "train", "--network.hidden", "60000", "60000"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 12000000 && exec "$0" "$@"', *words],
        cwd=ROOT,
        env={**ALONE, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.endswith(
        "12 GB of address space for each process by ulimit -v: choose fewer of them."
    )
