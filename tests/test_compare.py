"""Methods side by side: tuning, what is kept, and the commands as a user meets them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from experiments.compare import runner, trial_store
from experiments.compare.options import CompareConfig, PerformanceConfig
from experiments.compare.performance import PUBLISHED
from experiments.compare.results import Result
from experiments.compare.trial import Point, Trial
from experiments.compare.tuning import best, tuned
from tests.commands import assert_refused, run, stopping

SMALL = ("--network.hidden", 12, 12, 12, "--data.limit", 200, "--passes", 8, "--evaluate-every", 4)
TWO = ("--methods", "pdadmm", "adam", "--seeds", 2)


def point(accuracy, loss=1.0, train_loss=1.0):
    return Point(1, 0.1, 0.0, train_loss, accuracy, loss, accuracy)


def courses(accuracies):
    return {number: [[point(accuracy)]] for number, accuracy in accuracies.items()}


def test_the_best_number_has_the_highest_accuracy_then_the_lowest_loss():
    assert best(courses({0.1: 0.5, 1.0: 0.7, 10.0: 0.6})) == 1.0
    tied = {0.1: [[point(0.7, loss=2.0)]], 1.0: [[point(0.7, loss=1.0)]]}
    assert best(tied) == 1.0
    mean = {0.1: [[point(0.9)], [point(0.1)]], 1.0: [[point(0.6)], [point(0.6)]]}
    assert best(mean) == 1.0


def test_a_course_that_ceased_to_be_finite_is_never_the_best():
    broken = {0.1: [[point(0.9, train_loss=float("nan"))]], 1.0: [[point(0.1)]]}
    assert best(broken) == 1.0


def test_a_result_says_how_many_seeds_broke_off():
    broken = point(0.9, train_loss=float("nan"))
    assert Result("adam", 0.1, [[point(0.5)], [point(0.7)]]).accuracy(1) == "60.0 ± 14.1"
    assert Result("adam", 0.1, [[point(0.5)], [broken]]).accuracy(1) == "1 of 2 not finite"


def test_seconds_per_pass_are_those_of_the_whole_network():
    """Passes before growth are faster; what delays a few passes is not the method's."""

    def course(*seconds):
        ends = zip(range(5, 45, 5), np.cumsum(seconds), strict=True)
        return [point(0.5)._replace(passes=passes, seconds=end) for passes, end in ends]

    courses = [course(1, 1, 1, 1, 10, 10, 10, 10), course(1, 1, 1, 1, 10, 99, 10, 10)]
    assert Result("pdadmm", 0.1, courses).seconds_per_pass() == 2
    assert Result("pdadmm", 0.1, [[point(0.5)]]).seconds_per_pass() == 0.1


@pytest.mark.parametrize(
    ("peak", "tried", "chosen"),
    [
        (0.1, {0.01, 0.1, 1.0}, 0.1),
        (10.0, {0.01, 0.1, 1.0, 10.0, 100.0}, 10.0),
        (1e-3, {1e-4, 1e-3, 0.01, 0.1, 1.0}, 1e-3),
        (1e9, {0.01, 0.1, 1.0, 10.0, 100.0, 1000.0}, 1000.0),
    ],
)
def test_tuning_looks_beyond_the_ends(peak, tried, chosen):
    seen = set()

    def courses_of(number):
        seen.add(number)
        return [[point(1 - abs(np.log10(number / peak)) / 20)]]

    assert tuned((0.01, 0.1, 1.0), courses_of) == chosen
    assert seen == tried


def test_what_is_kept_is_found_again_and_nothing_else(tmp_path):
    config = CompareConfig(out=tmp_path)
    directory = trial_store.trials_directory(tmp_path, "compare-digits", config)
    trial, other = Trial("adam", 0.003, 1, True), Trial("adam", 0.003, 1, False)
    course = [point(0.5), point(float("nan"), loss=float("inf"))]
    assert trial_store.find(directory, trial) is None
    trial_store.save(directory, trial, course)
    found = trial_store.find(directory, trial)
    assert found is not None
    assert found[0] == course[0]
    assert np.isnan(found[1].accuracy)
    assert np.isnan(found[1].loss)
    assert trial_store.find(directory, other) is None


def test_a_study_has_one_directory_and_another_study_another(tmp_path):
    one = trial_store.study_directory(tmp_path, "compare", CompareConfig(out=tmp_path))
    same = trial_store.study_directory(tmp_path, "compare", CompareConfig(out=tmp_path))
    other = trial_store.study_directory(tmp_path, "compare", CompareConfig(out=tmp_path, passes=7))
    assert one == same != other


def test_trials_of_other_code_or_other_hardware_are_not_mixed_in(tmp_path, monkeypatch):
    def directory():
        return trial_store.trials_directory(tmp_path, "compare", CompareConfig(out=tmp_path))

    found = {directory(), directory()}
    assert len(found) == 1
    monkeypatch.setattr(trial_store, "_code", lambda: "another")
    found.add(directory())
    monkeypatch.setattr(trial_store.runs, "environment", lambda: {"devices": "8 x TPU"})
    found.add(directory())
    assert len(found) == 3


def kept_trials(out):
    """Files of all finished trials."""
    return sorted(path for path in out.glob("trials/*/*.json") if path.name != "config.json")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    code, screen, err = run("compare", *SMALL, *TWO, "--out", out)
    assert code == 0, err
    assert err == ""
    (directory,) = out.glob("compare-*")
    return out, directory, screen


def test_compare_says_what_came_out(compared):
    out, directory, screen = compared
    lines = screen.splitlines()
    start = "digits (bundled with the code): 200 training samples, 360 test samples; tuning trains"
    assert lines[0].startswith(start)
    found = json.loads((directory / "compare.json").read_text())["results"]
    assert [one["method"] for one in found] == ["pdadmm", "adam"]
    for one, title in zip(found, ("pdADMM", "Adam"), strict=True):
        assert one["passes"] == [8, 8]
        (row,) = (line for line in lines if line.strip().startswith(f"{title} "))
        assert f"{100 * np.mean(one['accuracy']):.2f} ±" in row
        assert max(map(len, lines[2:-1])) <= 80
    saved = f"saved to {directory}: config.json, compare.json, compare.png; trials: "
    assert lines[-1].removeprefix(saved) == str(next(out.glob("trials/*")))
    assert (directory / "compare.png").stat().st_size > 10_000


def test_results_are_those_of_the_number_that_did_best(compared):
    out, directory, _ = compared
    files = [json.loads(path.read_text()) for path in kept_trials(out)]
    for one in json.loads((directory / "compare.json").read_text())["results"]:
        own = [file for file in files if file["trial"]["method"] == one["method"]]
        tuning = [file for file in own if file["trial"]["tuning"]]
        results = [file for file in own if not file["trial"]["tuning"]]
        top = max(file["points"][-1]["accuracy"] for file in tuning)
        (chosen,) = (file for file in tuning if file["trial"]["number"] == one["number"])
        assert chosen["points"][-1]["accuracy"] == top
        assert {file["trial"]["number"] for file in results} == {one["number"]}
        assert sorted(file["trial"]["seed"] for file in results) == [0, 1]
        assert not {file["trial"]["seed"] for file in tuning} & {0, 1}
        assert [point["passes"] for point in own[0]["points"]] == [4, 8]


def test_the_same_command_runs_what_is_missing_and_nothing_else(compared):
    out, _, screen = compared
    missing, *kept = kept_trials(out)
    before = {path: path.read_bytes() for path in kept}
    missing.unlink()
    code, again, err = run("compare", *SMALL, *TWO, "--out", out)
    assert code == 0, err
    assert {path: path.read_bytes() for path in kept} == before
    assert missing.exists()
    accuracies = [line.split(" in ")[0] for line in screen.splitlines()[:4]]
    assert [line.split(" in ")[0] for line in again.splitlines()[:4]] == accuracies


def test_less_of_the_same_runs_nothing_again_and_leaves_the_rest_alone(compared, tmp_path):
    out, directory, _ = compared
    copy = shutil.copytree(out, tmp_path / "runs")
    code, screen, err = run("compare", *SMALL, *TWO, "--methods", "adam", "--out", copy)
    assert code == 0, err
    assert " pdADMM " not in screen
    trials = [path.relative_to(out) for path in kept_trials(out)]
    assert [path.relative_to(copy) for path in kept_trials(copy)] == trials
    for path in (*trials, directory.relative_to(out) / "compare.json"):
        assert (copy / path).read_bytes() == (out / path).read_bytes()
    assert len(list(copy.glob("compare-*"))) == 2


def test_a_damaged_trial_is_named_and_nothing_is_lost(compared):
    out, _, _ = compared
    trial = kept_trials(out)[-1]
    content = trial.read_text()
    trial.write_text(content[: len(content) // 2])
    code, _, err = run("compare", *SMALL, *TWO, "--out", out)
    assert code == 2
    (line,) = err.splitlines()
    assert str(trial) in line
    assert "remove it" in line
    trial.write_text(content)


def test_an_interrupt_keeps_what_is_finished(tmp_path, monkeypatch):
    """Two evaluations of a trial, and one of the next."""
    monkeypatch.setattr(runner, "stop_requests", lambda: stopping(3))
    code, out, err = run("compare", *SMALL, "--methods", "adam", "--out", tmp_path)
    assert (code, err) == (130, "")
    assert out.splitlines()[-1].startswith("interrupted: finished trials are kept in")
    (path,) = kept_trials(tmp_path)
    assert len(json.loads(path.read_text())["points"]) == 2


def test_performance_names_the_sets_that_are_not_at_hand(tmp_path):
    words = ("--no-download", "--archives", tmp_path / "none", "--prepared", tmp_path / "tfds")
    code, _, err = run("performance", *words, "--out", tmp_path / "runs")
    assert code == 2
    assert "mnist" in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def own(tmp_path):
    """An npz file as users have them: images that a network can tell apart."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 120), ("test", 30)):
        arrays[f"y_{split}"] = labels = np.arange(count) % 2
        dark = random.integers(0, 100, (count, 8, 8))
        arrays[f"x_{split}"] = (dark + 120 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "stripes.npz", x_test_plain=np.arange(30) < 9, **arrays)
    return tmp_path / "stripes.npz"


def test_performance_takes_files_and_says_how_large_they_are(own, tmp_path):
    small = ("--layers", 4, "--neurons", 8, "--passes", 20, "--seeds", 1, "--methods", "adam")
    words = ("performance", "--sets", "--files", own, *small, "--out", tmp_path / "runs")
    code, out, err = run(*words)
    assert code == 0, err
    rows = {" ".join(line.split()[:-1]): line.split()[-1] for line in out.splitlines()}
    assert float(rows["Adam"]) > 80
    assert (rows["training samples"], rows["test samples"]) == ("120", "30")
    assert f"stripes: {own}, x_test_plain marks 9 of 30" in out
    assert "tuning trains on 108 and is scored on 12 others; network 16 - 8 - 8 - 8 - 2;" in out
    assert len(list((tmp_path / "runs").glob("compare-stripes-*"))) == 1

    arrays = dict(np.load(own))
    np.savez(own, **arrays | {"y_train": 1 - arrays["y_train"]})  # another set by the same name
    code, _, err = run(*words)
    assert code == 0, err
    assert len(list((tmp_path / "runs").glob("compare-stripes-*"))) == 2


@pytest.mark.slow
def test_performance_leaves_out_what_is_not_at_hand_and_nothing_else(own, tmp_path):
    arrays = dict(np.load(own))
    fewer = {name: arrays[name][:60] for name in ("x_train", "y_train")}
    np.savez(tmp_path / "few.npz", **arrays | fewer)
    small = ("--layers", 4, "--neurons", 8, "--passes", 20, "--seeds", 1, "--methods", "adam")
    words = ("performance", "--sets", "--files", own, tmp_path / "few.npz", *small, "--limit", 80)
    code, _, err = run(*words, "--out", tmp_path / "runs")
    assert code == 2
    assert "limit is 80, but only 60 samples" in err

    nowhere = ("--archives", tmp_path, "--no-download", "--prepared", tmp_path / "tfds")
    words = ("performance", "--sets", "mnist", *nowhere, "--files", own, *small)
    code, out, err = run(*words, "--out", tmp_path / "runs")
    assert code == 0, err
    assert f"left out: archives is {tmp_path / 'mnist'}, which is no directory" in out


def test_train_takes_a_file(own, tmp_path):
    words = ("--data.file", own, "--network.hidden", 8, "--iterations", 20)
    code, out, err = run("train", *words, "--out", tmp_path / "runs")
    assert code == 0, err
    assert out.startswith(f"stripes ({own}, x_test_plain marks 9 of 30): 108 train, 12 validation,")
    assert len(list((tmp_path / "runs").glob("*-train-stripes"))) == 1
    own.write_bytes(own.read_bytes()[:500])
    assert_refused(("train", "--data.file", own), f"{own}: no sound npz file")


def test_the_protocol_is_the_papers():
    config = PerformanceConfig()
    study = config.studies()[0]
    assert study.data.name == "mnist"
    assert config.sets == (
        "mnist",
        "fashion_mnist",
        "kmnist",
        "svhn_cropped",
        "cifar10",
        "cifar100",
    )
    assert (study.data.protocol, study.passes, study.first_layers) == ("paper", 100, 5)
    assert study.network.hidden == (500,) * 9
    assert {name for found in PUBLISHED.values() for name in found} <= set(config.sets)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("compare", "--passes", 0), "passes is 0: give 1 or more"),
        (("compare", "--methods", "newton"), "newton"),
        (("compare", "--network.hidden", 0), "network.hidden has 0: give widths from 1 to"),
        (("compare", "--network.residual-block", 1), "Algorithm 1 trains plain chains alone"),
        (("compare", "--data.limit", 10**6), "only 1437 samples can be trained on"),
        (("compare", "--methods", "adam", "adam"), "methods has adam twice"),
        (("compare", "--data.validation", 0), "tuning needs held-out samples"),
        (("compare", "--data.validation", 3e-4), "0.0003, of 1437 samples not one"),
        (("study", "ablations", "--data.validation", 3e-4), "0.0003, of 1437 samples not one"),
        (
            ("compare", "--first-layers", 2, "--network.activation", "tanh"),
            "network.activation is tanh, but growth is for relu",
        ),
        (("compare", "--first-layers", 4), "the network has 4 layers: give a number from 2 to 3"),
        (
            ("compare", "--network.hidden", 9, "--first-layers", 2),
            "first-layers is 2, but the network has 2 layers: leave it out",
        ),
        (("performance", "--sets", "digits"), "sets has digits, which the paper does not have"),
        (("compare", "--out", "/proc/none"), "choose another with --out"),
        (("performance", "--sets"), "sets and files are empty"),
        (("performance", "--files", "none.npz"), "file is none.npz, which is no file"),
        (("performance", "--sets", "mnist", "mnist"), "sets and files have mnist twice"),
        (("performance", "--layers", 2**31 - 1), "layers is 2147483647: give 10,000 or less"),
        (("compare", "--network.hidden", 10**8), "but there are"),
        (("performance", "--tuning-limit", 0), "tuning-limit is 0: give 1 or more"),
    ],
)
def test_a_mistake_gets_one_line(words, complaint):
    assert_refused(words, complaint)
