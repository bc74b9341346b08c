"""``python -m experiments train`` as a user meets it."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import pty
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args, get_type_hints
from unittest import mock

import jax
import pytest
from rich.progress_bar import ProgressBar

import pdadmm_jax as pdadmm
from experiments.__main__ import COMMANDS
from experiments.data import DataConfig, load
from experiments.options import devices, network
from experiments.report.measurement import table
from experiments.runtime import compilation_cache, screen
from experiments.runtime import run_directory as runs
from experiments.runtime.environment import settle_homes
from experiments.runtime.errors import UsageError
from experiments.runtime.jax_startup import jax_refusals
from experiments.train import checkpoints
from pdadmm_jax.admm.solvers import SOLVERS
from pdadmm_jax.numerics.products import PRECISIONS
from pdadmm_jax.parallel.compression import MESSAGE_TYPES
from pdadmm_jax.problems.activations import ACTIVATIONS
from pdadmm_jax.problems.losses import LOSSES
from tests.commands import ALONE, ROOT, assert_refused, finish, run, run_process, start
from tests.run_directories import directory_in, lines_of
from tests.selection import selected


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a[/b] :fire: [bold]  [v2]"
    options = ["--iterations", 45, "--growth.at", 25, "--growth.layers", 2, "--out", out]
    options += ["--refresh-every", 20]
    code, screen, err = run("train", "--network.hidden", 30, 30, *options)
    assert code == 0, err
    assert err == ""
    (directory,) = out.iterdir()
    return screen, directory


def test_the_screen_says_what_happened(trained):
    screen, directory = trained
    lines = screen.splitlines()
    assert lines[0].startswith("digits (bundled with the code): 1293 train, 144 validation, 360")
    assert sum(line.startswith("iteration ") for line in lines) == 6  # 10, 20, 25, 30, 40, 45
    progress = next(line for line in lines if line.startswith("iteration "))
    assert {"Lagrangian", "residual", "train", "val"} <= set(progress.split())
    assert sum(line.startswith("note: rho = 0.1 is not above 4") for line in lines) == 1
    assert "64-30-30-30-30-10" in screen
    assert str(directory) in lines[-1]


def test_metrics_have_a_line_per_iteration(trained):
    _, directory = trained
    lines = lines_of(directory)
    assert [line["iteration"] for line in lines] == list(range(1, 46))
    assert [line["layers"] for line in lines] == [3] * 25 + [5] * 20
    assert [len(line["residual_per_boundary"]) for line in lines] == [2] * 25 + [4] * 20
    assert [k["iteration"] for k in lines if "train_accuracy" in k] == [10, 20, 25, 30, 40, 45]
    # Every 20 iterations, at the evaluation that reaches them.
    drifts = {k["iteration"]: k["drift"] for k in lines if "drift" in k}
    assert drifts.keys() == {20, 40}
    assert all(0 < drift < 1e-5 for drift in drifts.values())
    assert all(line["finite"] and line["converged"] for line in lines)
    assert not any(line["in_certified_region"] for line in lines)  # rho = nu is outside
    assert lines[-1]["lagrangian"] < 0.1 * lines[0]["lagrangian"]


def test_weights_give_the_reported_accuracy(trained):
    _, directory = trained
    summary = json.loads((directory / "summary.json").read_text())
    network = runs.read_weights(directory)
    assert len(network.weights) == summary["layers"] == 5
    test = load(DataConfig())
    data = pdadmm.Data(test.x_test, test.y_test)
    assert float(network.evaluate(data)[1]) == pytest.approx(summary["test_accuracy"])
    assert summary["test_accuracy"] > 0.7


def test_the_run_directory_says_how_it_came_about(trained):
    _, directory = trained
    content = json.loads((directory / "config.json").read_text())
    assert content["config"]["growth"] == {"at": [25], "layers": 2}
    assert content["environment"].keys() >= {"devices", "jax", "python", "pdadmm_jax"}
    assert (directory / "training.png").stat().st_size > 20_000
    assert not list(directory.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method.nu", -1], "nu is -1.0, but has to be a finite number above 0"),
        (["--method.nu", 1e-60], "nu is 1e-60, but float32 reaches from"),
        (["--iterations", 0], "iterations is 0"),
        (["--iterations", "many"], "with base 10: 'many'"),
        (["--data.name", "mnits"], "invalid choice 'mnits'"),
        (["--metod.nu", 1], "Perhaps you meant: --method.nu"),
        (["extra"], "error: Unrecognized options: extra. For full helptext, run python -m"),
        (["--iterations"], "error: Missing value for argument '--iterations'. Expected 1"),
        (["--data.archives", "."], "archives is ., but digits comes with the code"),
        (["--iterations", 10**20], "give a number from 1 to 2,147,483,647"),
        (["--evaluate-every", 10**9], "evaluate-every is 1000000000"),
        (["--refresh-every", 0], "refresh-every is 0"),
        (["--seed", 2**32], "seed is 4294967296: give 4,294,967,295 or less"),
        (["--network.hidden", 10**7, 10**7], "choose fewer of them"),
        (["--growth.at", 5, "--growth.layers", 10**7], "growth.layers is 10000000: give 10,000 or"),
        (["--double", "--method.precision", "tf32"], "precision is tf32, but double asks for more"),
        (["--network.hidden", 0], "network.hidden has 0"),
        (["--network.hidden"], "network.hidden is empty"),
        (["--network.residual-block", 1], "Algorithm 1 trains plain chains alone"),
        (["--network.residual-block", -1], "network.residual_block is -1"),
        (["--network.residual-block", 1, "--network.hidden", 9, 8], "network.hidden is 9 8"),
        (
            ["--network.initializer", "looks_linear", "--network.activation", "tanh"],
            "network.activation is tanh: choose orthogonal",
        ),
        (["--data.limit", 5000], "limit is 5000, but only 1293"),
        (["--data.validation", 1.5], "validation is 1.5"),
        (["--method.loss", "binary_logistic"], "binary_logistic needs 2 classes"),
        (["--method.loss", "squared_error", "--method.smoothing", 0.1], "smoothing is 0.1, but"),
        (["--growth.at", 900], "growth.at has 900"),
        (["--growth.at", 5, "--network.activation", "tanh"], "a network with tanh"),
        (["--method.certified", "--method.proximal", 0], "proximal is 0"),
        (["--method.w-solver", "unit", "--method.damping", "nan"], "damping is nan, but has to be"),
        (["--method.search-growth", "nan"], "growth is nan, but has to be"),
        (["--out", "/proc/nowhere"], "choose another with --out"),
        (
            ["--data.name", "mnist", "--data.prepared", "/nowhere", "--data.no-download"],
            "train-images-idx3-ubyte.gz",
        ),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(arguments, message):
    assert_refused(("train", *arguments), message)


@pytest.mark.parametrize("options", [("--method.nu",), ("--algorithm", "sweeps", "--sweeps.nu")])
def test_a_number_out_of_range_makes_no_run_directory(options, tmp_path):
    words = ("train", *options, 1e-60, "--out", tmp_path / "runs")
    assert_refused(words, "nu is 1e-60, but float32 reaches from")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_programs_are_kept_for_later_runs(tmp_path):
    own = {name: None for name in os.environ if name.startswith(("JAX_COMP", "JAX_PERS"))}
    settings = own | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    kept = []
    for number in ("first", "second"):
        small = ("--iterations", 20, "--network.hidden", 20, 20, "--out", tmp_path / number)
        code, _, err = run_process("train", *small, settings=settings)
        assert (code, err) == (0, "")
        kept.append({path.name for path in (tmp_path / "cache").rglob("*-cache")})
    assert any(name.startswith("jit_run-") for name in kept[0])
    assert kept[1] == kept[0]  # nothing had to be compiled


def path_options(options, prefix="--"):
    """The options of a dataclass that are paths."""
    for name, kind in get_type_hints(options).items():
        option = f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(kind):
            yield from path_options(kind, f"{option}.")
        elif kind is Path or Path in get_args(kind):
            yield option


def all_path_options():
    """Words of commands that a path is to follow; what they cannot do without comes first."""
    for name, command in COMMANDS.items():
        options = list(path_options(command.options))
        for option in options:
            needed = ["RUN"] if "--run" in options and option != "--run" else []
            if name == "graphs" and option != "--data":
                needed = ["--data", "DATA"]
            yield (*name.split(), *needed, *([] if option == "--run" else [option]))


@pytest.mark.parametrize("words", list(all_path_options()), ids=" ".join)
def test_no_path_is_an_address(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused((*words, "gs://bucket/runs"), "gs://bucket/runs is an address")
    assert not list(tmp_path.iterdir())


NO_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "a path is empty"),
        ("~nobody-here/x", "~nobody-here/x is in a home directory that nobody knows"),
        ("s3://b", "s3://b is an address"),
        ("hdfs:///a  b", "hdfs:///a  b is an address"),
        ("file:/a", "file:/a is an address"),
        (NO_UTF8, "caf\\xe9 is no path in UTF-8"),
        ("a\nb", r"a\nb' has the control character '\n'"),
        ("a\x1b[31m", r"a\x1b[31m' has the control character '\x1b'"),
        ("a\u2028b", r"a\u2028b' has the control character '\u2028'"),
    ],
)
@pytest.mark.parametrize("option", ["--out", "--resume", "--data.file"])
def test_what_is_no_path_is_refused(option, value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(("train", f"{option}={value}"), message)
    assert_refused(("train", option, value), message)
    assert not list(tmp_path.iterdir())


def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "link"):
        assert_refused(("train", "--out", tmp_path / name), "choose another with --out")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_directory_without_a_name_in_utf8_is_refused(tmp_path, monkeypatch):
    (tmp_path / NO_UTF8).mkdir()
    monkeypatch.chdir(tmp_path / NO_UTF8)
    assert_refused(("train", "--iterations", 1), "caf\\xe9/runs is no path in UTF-8")
    assert not list((tmp_path / NO_UTF8).iterdir())


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = ("--iterations", 1, "--network.hidden", 4, "--checkpoint.keep", 0)
    assert run("train", *small, "--out=~/runs").code == 0
    assert run("report", "--runs", "~/runs").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "report.html").exists()


@pytest.fixture
def kept(monkeypatch):
    """Where compiled programs would be kept, or None."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")

    def where(**environment):
        for name in ("HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with mock.patch.object(type(jax.config), "update") as update:
            compilation_cache.enable_compilation_cache()
        settings = dict(call.args for call in update.call_args_list)
        return settings.get("jax_compilation_cache_dir")

    return where


def test_programs_are_kept_in_the_users_cache_if_there_is_one(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home, cache = str(tmp_path / "home"), str(tmp_path / "cache")
    assert kept(HOME=home).startswith(f"{home}/.cache/pdadmm_jax/")
    assert kept(HOME=home, XDG_CACHE_HOME=cache).startswith(f"{cache}/pdadmm_jax/")
    assert kept(HOME=home, XDG_CACHE_HOME="~/c").startswith(f"{home}/c/pdadmm_jax/")
    for no_place in ("relative", "~nobody-here/x", "gs://bucket/x", str(tmp_path / NO_UTF8)):
        assert kept(HOME=home, XDG_CACHE_HOME=no_place).startswith(f"{home}/.cache/")
    monkeypatch.setattr(pwd, "getpwuid", mock.Mock(side_effect=KeyError("uid not found")))
    assert kept() is None
    assert kept(XDG_CACHE_HOME="~/c") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "home"]


def test_directories_of_the_users_that_are_relative_do_not_count(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for given, settled in (
        ("~/c", "/home/me/c"),
        ("/c", "/c"),
        ("~nobody-here/c", None),
        ("c", None),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        settle_homes()
        assert os.environ.get("XDG_CACHE_HOME") == settled
        assert "XDG_CONFIG_HOME" not in os.environ


@pytest.mark.parametrize(
    "value",
    [
        "/data/projects/handwriting/preprocessed/version-3/without-duplicates,shuffled" * 2,
        "a  b [red]c[/red] :fire:",
        "--- | a │ b ╮ ---- |",
        "été.",
        "...",
    ],
)
def test_a_refused_value_is_shown_as_it_was_typed(value, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert_refused(("train", "--data.name", value), f"invalid choice '{value}' for argument")
    bare = value.rstrip(".")
    assert_refused(("train", f"--data.nam={value}"), f"options: --data.nam={bare}.")
    assert_refused(("train", f"x{value}"), f"options: x{bare}.")
    assert_refused(("train", "--iterations", value), f"with base 10: {value!r}. Argument helptext:")
    assert_refused(("train", "--data.archives", value), f"archives is {value}, but digits")


def test_a_complaint_is_one_line_with_its_blanks():
    assert str(UsageError(" a  b \n\n  c\n")) == "a  b c"


@pytest.mark.parametrize("columns", [0, 1, 3, 39])
def test_help_on_a_narrow_screen_ends(columns):
    help_ = start("train", "--help", settings={"COLUMNS": str(columns)})
    code, out, err = finish(help_, 60)
    assert (code, err) == (0, "")
    assert "--network.hidden" in out


@pytest.mark.parametrize("columns", [0, 1, 20, 80])
def test_tables_keep_words_and_numbers_whole(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    shown = table("", "number", "[test] %", "seconds per pass", title="[bold]title :fire:")
    shown.add_row("gradient descent", "rate 0.01", "12.34 ± 0.56", "1,234.5")
    shown.add_row("Adam [/x]", "", "not finite")
    screen.console().print(shown)
    screen.console().print("a text")
    text = sys.stdout.getvalue()
    whole = ("rate 0.01", "12.34 ± 0.56", "1,234.5", "not finite", "gradient", "Adam", "[/x]")
    for words in (*whole, "[test]", "seconds", "[bold]title", ":fire:", "a text\n"):
        assert words in text
    assert "…" not in text


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", r"l\xe4ufe \xb1 \u4f60"),
        ("latin-1", r"läufe ± \u4f60"),
        ("cp1252", r"läufe ± \u4f60"),
        ("utf-8", "läufe ± 你"),
    ],
)
def test_characters_that_a_screen_lacks_are_escaped(encoding, shown, tmp_path, monkeypatch):
    text, surrogate = "läufe ± 你", NO_UTF8
    with (tmp_path / "screen").open("w", encoding=encoding) as file:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, file)
        screen.prepare()
        made = table("", title=text)
        made.add_row(text)
        for what in (text, surrogate, made, ProgressBar(total=2, completed=1, width=9)):
            screen.console().print(what)
        print(text, surrogate)
        print(text, surrogate, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    written = (tmp_path / "screen").read_text(encoding)
    assert written.count(shown) == 5
    assert written.count(r"caf\udce9") == 3


def test_a_closed_screen_is_none(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    screen.prepare()
    with sys.stdout, sys.stderr:
        screen.console().print("nobody hears")
        print("likewise", file=sys.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_other_processes_complaints_are_shown_on_any_screen(encoding, tmp_path):
    words = ("launch", "--processes", 2, "train", "--data.file", tmp_path / "übel.npz")
    code, out, err = run_process(*words, settings={"PYTHONIOENCODING": encoding})
    assert (code, out) == (2, "")
    assert r"\xfcbel.npz, which is no file" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_training_needs_neither_a_home_nor_a_screen_of_utf8(tmp_path):
    settings = {name: None for name in os.environ if name.startswith(("JAX_COMP", "JAX_PERS"))}
    settings |= {"HOME": None, "XDG_CACHE_HOME": "~nobody-here", "PYTHONIOENCODING": "ascii"}
    settings |= {"MPLBACKEND": "module://of_a_notebook", "COLUMNS": "20"}
    words = ("--iterations", 20, "--network.hidden", 8, "--out", tmp_path / "läufe")
    before = set(ROOT.iterdir())
    code, out, err = run_process("train", *words, settings=settings)
    assert (code, err) == (0, "")
    assert r"l\xe4ufe" in out.splitlines()[-1]
    assert "training.png" in out.splitlines()[-1]
    assert set(ROOT.iterdir()) == before


REFUSED_BY_JAX = [
    ("JAX_PLATFORMS", "cuda"),
    ("JAX_PLATFORMS", "gpu"),
    ("JAX_PLATFORMS", "CPU"),
    ("JAX_PLATFORMS", "cpu,tpu"),
    ("JAX_PLATFORM_NAME", "nowhere"),
    ("JAX_NUM_CPU_DEVICES", "four"),
    ("JAX_NUM_CPU_DEVICES", "0"),
    ("JAX_ENABLE_X64", "maybe"),
    ("JAX_DEFAULT_DEVICE", "somewhere"),
    ("JAX_DEFAULT_MATMUL_PRECISION", "some"),
    ("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "many"),
    ("XLA_FLAGS", "--of_no_xla"),
    ("XLA_FLAGS", "of_no_file"),
    ("XLA_FLAGS", "--xla_force_host_platform_device_count=four"),
]


def assert_refuses_environment(name, value, *words):
    """In one line, which names both."""
    if value in ("cuda", "gpu") and Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has GPUs")
    code, out, err = run_process(*words, settings={name: value})
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert f"{name}={value}" in line
    assert "correct or unset it" in line


@pytest.mark.parametrize(
    ("name", "value"),
    selected(
        REFUSED_BY_JAX,
        fast=[
            ("JAX_PLATFORMS", "cuda"),
            ("JAX_NUM_CPU_DEVICES", "four"),
            ("XLA_FLAGS", "--of_no_xla"),
        ],
    ),
)
def test_what_jax_refuses_of_its_environment_gets_one_line(name, value, tmp_path):
    assert_refuses_environment(name, value, "train", "--out", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("JAX_NUM_CPU_DEVICES", "four"), ("XLA_FLAGS", "--of_no_xla")]
)
def test_what_is_launched_refuses_its_environment_once(name, value):
    assert_refuses_environment(name, value, "launch", "train")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["speed sizes", "study communication", "compare", "race"])
def test_every_command_refuses_devices_that_are_not_there(command, tmp_path):
    words = (*command.split(), "--out", tmp_path)
    assert_refuses_environment("JAX_PLATFORMS", "nowhere", *words)
    assert not list(tmp_path.iterdir())


def test_errors_of_other_origin_than_the_environment_pass():
    with pytest.raises(ValueError, match="mine"), jax_refusals():
        raise ValueError("mine")


def test_an_unknown_command_is_refused():
    assert_refused(("trian",), "choose one of train")


def piped(words, reader, tmp_path):
    """Exit code of a command whose output goes to a reader that ends early, and its errors."""
    script = f'set -o pipefail; "$0" -m experiments "$@" 2> {tmp_path / "errors"} | {reader}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, *map(str, words)],
        cwd=ROOT,
        env=os.environ | ALONE,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode, (tmp_path / "errors").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("report", "--help")])
def test_help_may_be_cut_off(words, tmp_path):
    assert piped(words, "head -1", tmp_path) == (0, "")


@pytest.mark.slow
def test_a_training_outlives_who_reads_along(tmp_path):
    words = ("train", "--iterations", 40, "--network.hidden", 8, "--out", tmp_path / "runs")
    assert piped(words, "head -1", tmp_path) == (0, "")
    (directory,) = (tmp_path / "runs").iterdir()
    assert json.loads((directory / "summary.json").read_text())["iterations"] == 40


@pytest.mark.slow
def test_a_terminal_that_closes_leaves_a_run_that_was_saved(tmp_path):
    """The signal comes first, and then whatever is written to the terminal fails."""
    words = ("train", "--iterations", 10**6, "--network.hidden", 8, "--out", tmp_path / "runs")
    terminal, ours = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *map(str, words)],
        cwd=ROOT,
        env=os.environ | ALONE,
        stdin=ours,
        stdout=ours,
        stderr=ours,
    )
    os.close(ours)
    shown = b""
    while b"network " not in shown:
        shown += os.read(terminal, 1000)
    run = directory_in(tmp_path / "runs")
    while not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 130
    found, _ = checkpoints.newest(run / checkpoints.DIRECTORY)
    assert json.loads((run / "summary.json").read_text())["iterations"] == found.number > 0


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "full"), RuntimeError("no devices")])
def test_a_run_directory_is_made_with_its_config_or_not_at_all(tmp_path, error, monkeypatch):
    if error is None:
        assert (runs.create(tmp_path, "train", DataConfig()) / runs.CONFIG).exists()
        return
    where = "environment" if isinstance(error, RuntimeError) else "write_json"
    monkeypatch.setattr(runs, where, mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        runs.create(tmp_path, "train", DataConfig())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interrupt_of_what_saves_nothing_is_no_traceback(tmp_path):
    settings = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    process = start("time", "--repeats", 10**5, "--neurons", 64, settings=settings)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("jit_run-*")) and time.monotonic() < deadline:
        time.sleep(0.05)  # it computes when that is compiled
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process, 60)
    assert (code, errors) == (130, "interrupted\n")


def test_the_options_name_all_that_the_library_has():
    for names, known in (
        (network.ActivationName, ACTIVATIONS),
        (network.LossName, LOSSES),
        (network.SolverName, SOLVERS),
        (devices.MessageDtype, MESSAGE_TYPES),
        (network.PrecisionName, PRECISIONS),
    ):
        assert get_args(names) == tuple(known)


def test_help_teaches():
    code, out, _ = run("train", "--help")
    assert code == 0
    for words in (
        "--data.name",
        "--method.rho",
        "--network.hidden",
        "certified",
        "default: digits",
    ):
        assert words in out
