"""Callbacks, checkpoints, early stopping, interrupts: what happens while a fit runs."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from functools import cache

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer
from emkit.callbacks import Checkpoint, EarlyStopping

pytestmark = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="scikit-learn before 1.9 has no callbacks"
)

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(m, 1.0, (150, 2)) for m in (0.0, 1.5, 4.0)])
HOLES = np.where(RNG.random((200, 3)) < 0.2, np.nan, RNG.normal(size=(200, 3)) @ RNG.normal(size=(3, 3)))
SLOW = {"tol": 1e-9, "max_iter": 100}
ESTIMATORS = {
    "mixture": (EMGaussianMixture(3, n_init=3, random_state=0, **SLOW), X),
    "auto": (EMGaussianMixture(4, random_state=0, **SLOW), X),
    "plain": (EMGaussianMixture(3, n_init=1, acceleration=None, random_state=0, **SLOW), X),
    "anderson": (EMGaussianMixture(3, n_init=1, acceleration="anderson", random_state=0, **SLOW), X),
    "squarem": (EMGaussianMixture(3, n_init=1, acceleration="squarem", random_state=0, **SLOW), X),
    "momentum": (EMGaussianMixture(3, n_init=1, acceleration="momentum", random_state=0, **SLOW), X),
    "imputer": (EMImputer(acceleration=None, **SLOW), HOLES),
    "chain": (EMHiddenMarkov(3, n_init=2, random_state=0, **SLOW), X),
}


class Log:
    """Writes down every hook, scores what it is given; may raise or stop at the n-th step."""

    def __init__(self, at=None, error=None):
        self.calls, self.at, self.error, self.n_steps = [], at, error, 0

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.calls.append(("end", context.task_name))
        if context.task_name != "iter":
            return False
        assert np.isfinite(fitted_estimator.score_samples(X)).all()
        self.n_steps += 1
        if self.n_steps == self.at and self.error is not None:
            raise self.error
        return self.n_steps == self.at


def fitted(name, *callbacks):
    estimator, data = ESTIMATORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return sklearn.base.clone(estimator).set_callbacks(*callbacks).fit(data)


@cache
def undisturbed(name):
    return fitted(name)


def state(estimator):
    """Every fitted array and number, to compare bit for bit."""
    return {
        name: value
        for name, value in vars(estimator).items()
        if name.endswith("_") and isinstance(value, np.ndarray | float | int | str)
    }


def assert_same(one, other):
    assert state(one).keys() == state(other).keys()
    for name, value in state(one).items():
        np.testing.assert_array_equal(value, state(other)[name], err_msg=name)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_hooks_come_in_order(name):
    log = Log()
    watched = fitted(name, log)
    assert log.calls[:3] == [("setup", "fit"), ("begin", "fit"), ("begin", "init")]
    assert log.calls[-3:] == [("end", "init"), ("end", "fit"), ("teardown", "fit")]
    assert log.n_steps >= len(watched.history_)
    iterations = [hook for hook, task in log.calls if task == "iter"]
    assert iterations == ["begin", "end"] * log.n_steps
    assert_same(watched, undisturbed(name))


def test_a_callback_may_stop_a_climb():
    log = Log(at=4)
    mixture = EMGaussianMixture(3, n_init=1, random_state=0).set_callbacks(log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture.fit(X)
    assert mixture.status_ == "stopped"
    assert len(mixture.history_) == 4
    assert mixture.log_likelihood_ == pytest.approx(mixture.score_samples(X).sum(), rel=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_nothing_is_lost_when_a_callback_raises_or_the_user_interrupts(name, error):
    estimator, data = ESTIMATORS[name]
    log = Log(at=3, error=error)
    estimator = sklearn.base.clone(estimator).set_callbacks(log)
    with pytest.warns(ConvergenceWarning, match="stopped"):
        if isinstance(error, RuntimeError):
            with pytest.raises(RuntimeError, match="no"):
                estimator.fit(data)
        else:
            estimator.fit(data)
    assert estimator.status_ == "stopped"
    assert len(estimator.history_) == 3
    assert ("teardown", "fit") in log.calls
    assert np.isfinite(estimator.score(data))
    if name == "imputer":
        assert np.isfinite(estimator.transform(data)).all()
    if isinstance(error, RuntimeError):
        with pytest.warns(ConvergenceWarning, match="RuntimeError: no"):
            with pytest.raises(RuntimeError):
                estimator.set_callbacks(Log(at=3, error=error)).fit(data)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_checkpoint_resumes_to_the_same_bits(name, at, tmp_path):
    path = tmp_path / "fit.checkpoint"
    with pytest.raises(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator, data = ESTIMATORS[name]
        sklearn.base.clone(estimator).set_callbacks(
            Checkpoint(path, every=0.0), Log(at=at, error=RuntimeError("die"))
        ).fit(data)
    assert path.exists()
    log = Log()
    resumed = fitted(name, Checkpoint(path), log)
    assert not path.exists()
    assert_same(resumed, undisturbed(name))


SCRIPT = """
import numpy as np
from emkit import EMGaussianMixture
from emkit.callbacks import Checkpoint
X = np.random.default_rng(1).normal(size=(20000, 6))
mixture = EMGaussianMixture(8, n_init=2, n_jobs=1, random_state={seed}, tol=0.0, max_iter=60)
mixture.set_callbacks(Checkpoint({path!r}, every=0.02))
import warnings; warnings.simplefilter("ignore")
mixture.fit(X)
np.save({out!r}, np.concatenate([mixture.means_.ravel(), mixture.covariances_.ravel(), mixture.history_]))
"""


def test_a_killed_fit_resumes_to_the_same_bits(tmp_path):
    def run(path, out):
        code = textwrap.dedent(SCRIPT).format(seed=3, path=str(path), out=str(out))
        return subprocess.Popen([sys.executable, "-c", code])

    whole, resumed, path = tmp_path / "whole.npy", tmp_path / "resumed.npy", tmp_path / "fit.checkpoint"
    assert run(tmp_path / "other.checkpoint", whole).wait() == 0
    n_killed = 0
    while n_killed < 2:
        process = run(path, resumed)
        before = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.001)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        if process.wait() == 0:  # it was quicker
            break
        assert process.returncode == -signal.SIGKILL
        n_killed += 1
    assert n_killed
    assert run(path, resumed).wait() == 0
    np.testing.assert_array_equal(np.load(resumed), np.load(whole))
    assert not path.exists()


def interrupted(path, estimator=None, data=X):
    estimator = estimator or EMGaussianMixture(3, n_init=1, random_state=0)
    with pytest.raises(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.set_callbacks(Checkpoint(path, every=0.0), Log(at=3, error=RuntimeError("die"))).fit(data)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"n_components": 4}, "n_components is 3, not 4"),
        ({"tol": 1e-5}, "tol is 0.001, not 1e-05"),
        ({"means_init": np.zeros((3, 2))}, "means_init"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(changes, text, tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path)
    other = EMGaussianMixture(3, n_init=1, random_state=0).set_params(**changes).set_callbacks(Checkpoint(path))
    with pytest.raises(ValueError, match=text):
        other.fit(X)
    assert path.exists()


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path)
    mixture = EMGaussianMixture(3, n_init=1, random_state=0).set_callbacks(Checkpoint(path))
    with pytest.raises(ValueError, match="data have changed"):
        mixture.fit(X * [1.0, 1.01])
    with pytest.raises(ValueError, match="shape"):
        mixture.fit(X[1:])
    assert not hasattr(mixture, "means_")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-100], "flipped": content, "text": b"no", "empty": b""}[damage])
    with pytest.raises(ValueError, match="delete it to begin again"):
        EMGaussianMixture(3, n_init=1, random_state=0).set_callbacks(Checkpoint(path)).fit(X)


def test_a_checkpoint_is_numbers(tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path)
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(file["header"].tobytes())["estimator"] == "EMGaussianMixture"
        assert all(file[name].dtype != object for name in file.files)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # some seeds collapse
def test_a_random_fit_resumes_with_its_own_seed(tmp_path):
    path = tmp_path / "fit.checkpoint"
    interrupted(path, EMGaussianMixture(5, n_init=2))
    with np.load(path) as file:
        entropy, _ = json.loads(file["header"].tobytes())["seed"]
    resumed = EMGaussianMixture(5, n_init=2).set_callbacks(Checkpoint(path)).fit(X)
    again = EMGaussianMixture(5, n_init=2).set_callbacks(checkpoint := Checkpoint(path))
    checkpoint.open = lambda estimator, seed, n_rows: Checkpoint.open(
        checkpoint, estimator, np.random.SeedSequence(entropy), n_rows
    )
    assert_same(resumed, again.fit(X))


def test_checkpoints_of_parallel_climbs(tmp_path):
    path = tmp_path / "fit.checkpoint"
    rows = np.random.default_rng(5).normal(size=(30000, 4))  # long enough that climbs go side by side
    how = {"n_init": 4, "n_jobs": 2, "random_state": 0, "max_iter": 20, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = EMGaussianMixture(6, **how).fit(rows)
        interrupted_at = Log(at=50, error=RuntimeError("die"))
        with pytest.raises(RuntimeError):
            EMGaussianMixture(6, **how).set_callbacks(Checkpoint(path, every=0.0), interrupted_at).fit(rows)
        assert_same(EMGaussianMixture(6, **how).set_callbacks(Checkpoint(path)).fit(rows), whole)


@pytest.mark.parametrize("bad", [{"every": -1.0}, {"every": np.nan}])
def test_checkpoint_parameters(bad):
    with pytest.raises(ValueError, match="every"):
        Checkpoint("x", **bad)


def test_the_folder_of_a_checkpoint_must_exist(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        EMGaussianMixture(2).set_callbacks(Checkpoint(tmp_path / "none" / "x")).fit(X)


def test_early_stopping_keeps_held_out_rows_likely():
    rng = np.random.default_rng(3)
    train, held_out = rng.normal(size=(60, 3)), rng.normal(size=(500, 3))
    greedy = EMGaussianMixture(8, n_init=1, random_state=0)
    stopping = sklearn.base.clone(greedy).set_callbacks(EarlyStopping(held_out, patience=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        greedy.fit(train)
        stopping.fit(train)
    assert stopping.status_ == "stopped"
    assert len(stopping.history_) < len(greedy.history_)
    assert stopping.score(held_out) > greedy.score(held_out)
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(held_out, patience=0)


def test_a_progress_bar_runs(capsys):
    pytest.importorskip("rich", reason="scikit-learn's progress bar needs rich")
    from sklearn.callback import ProgressBar

    mixture = EMGaussianMixture(3, n_init=2, random_state=0).set_callbacks(ProgressBar()).fit(X)
    assert mixture.converged_
    assert "EMGaussianMixture" in capsys.readouterr().out
