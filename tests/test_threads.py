"""How many threads there are: as the user, the environment and those who call us say; and none that waits for ever."""

import multiprocessing
import threading
from unittest import mock

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from specimens import blobs, with_holes
from threadpoolctl import threadpool_info

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, _executors
from emkit._executors import count_workers
from emkit.finite_mixture import Mixture

# Newer Pythons warn of a fork where there are threads; that it is safe is what is tested.
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

ESTIMATORS = {
    "mixture": (EMGaussianMixture(3, n_init=2, random_state=0), blobs(np.random.default_rng(0), n=40_000)),
    "chain": (EMHiddenMarkov(3, n_init=2, random_state=0), blobs(np.random.default_rng(1), n=20_000)),
    "imputer": (EMImputer(), with_holes(np.random.default_rng(2), n=20_000, d=12)),
}


@pytest.fixture
def eight_cores(monkeypatch):
    """A machine on which joblib counts eight cores, and nobody has set a limit."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    _executors._cores.cache_clear()
    yield monkeypatch
    _executors._cores.cache_clear()


# Counting
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_jobs", "n_threads"), [(None, 8), (1, 1), (3, 3), (20, 20), (-1, 8), (-2, 7), (-8, 1), (-20, 1)]
)
def test_n_jobs_is_a_number_of_threads_or_of_cores_to_leave(eight_cores, n_jobs, n_threads):
    assert count_workers(n_jobs) == n_threads


@pytest.mark.parametrize(
    ("limit", "n_threads"),
    [("1", 1), ("3", 3), ("3,2", 3), (" 4 ", 4), ("99", 8), ("0", 8), ("", 8), ("many", 8), ("-2", 8)],
)
def test_the_environment_limits_what_is_left_open(eight_cores, limit, n_threads):
    eight_cores.setenv("OMP_NUM_THREADS", limit)
    assert count_workers(None) == n_threads
    assert count_workers(5) == 5  # the user has asked
    assert count_workers(-1) == 8


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_joblib_is_configured_for_all(eight_cores, n_jobs):
    eight_cores.setenv("OMP_NUM_THREADS", "4")
    with joblib.parallel_config(n_jobs=n_jobs):
        assert count_workers(None) == n_jobs
        assert count_workers(3) == 3
    with joblib.parallel_config(n_jobs=-2):
        assert count_workers(None) == 7
    with joblib.parallel_config("threading"):  # says nothing of how many
        assert count_workers(None) == 4


def test_cores_are_those_that_joblib_leaves_to_the_process(monkeypatch):
    """joblib reads affinity, the quota of the cgroup, and a limit of its own."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert count_workers(None) == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert count_workers(None) == count_workers(-1) == 1
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")
    monkeypatch.setattr(joblib.externals.loky.backend.context, "_cpu_count_cgroup", lambda _: 1)
    assert joblib.cpu_count() == 1
    _executors._cores.cache_clear()  # asked once in a process
    assert count_workers(None) == count_workers(-1) == 1
    _executors._cores.cache_clear()


@FORKS
@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_inside_a_worker_of_joblib_there_is_one_thread(backend, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    inside = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(count_workers)(n) for n in (None, None, 3))
    assert inside == [1, 1, 3]
    alone = joblib.Parallel(n_jobs=1, backend=backend)(joblib.delayed(count_workers)(n) for n in (None, 3))
    assert alone == [joblib.cpu_count(), 3]  # nobody else is at work


# Inside scikit-learn's own parallelism
# ----------------------------------------------------------------------------------------------------------------------


def threads_of_a_fit(estimator, X, y=None):
    """How many threads take E-steps during a fit; also fails if BLAS brings its own."""
    seen, expect = set(), Mixture.expect

    def spy(self, params, data):
        seen.add(threading.get_ident())
        assert {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"} <= {1}
        return expect(self, params, data)

    with mock.patch.object(Mixture, "expect", spy):
        clone(estimator).fit(X)
    return len(seen)


@FORKS
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])  # the first also sets OMP_NUM_THREADS in its workers
def test_a_grid_search_has_no_more_threads_than_workers(backend, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    X = blobs(np.random.default_rng(3), n=60_000)
    mixture = EMGaussianMixture(3, n_init=1, tol=1.0, random_state=0)
    assert threads_of_a_fit(mixture.set_params(n_jobs=2), X) > 1  # so that the rest can fail
    grid = {"covariance_type": ["full", "diag"]}
    search = GridSearchCV(mixture.set_params(n_jobs=None), grid, cv=2, n_jobs=2, scoring=threads_of_a_fit)
    with joblib.parallel_config(backend):
        search.fit(X)
    assert [search.cv_results_[f"split{i}_test_score"].tolist() for i in (0, 1)] == [[1, 1], [1, 1]]


# After a fork
# ----------------------------------------------------------------------------------------------------------------------


def fit_again(estimator, X, told):
    told.send(clone(estimator).fit(X).log_likelihood_)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@FORKS
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_child_forked_after_a_fit_can_fit(name, held):
    estimator, X = ESTIMATORS[name]
    estimator = clone(estimator).set_params(n_jobs=2)
    here = estimator.fit(X).log_likelihood_
    context = multiprocessing.get_context("fork")
    heard, told = context.Pipe(duplex=False)
    child = context.Process(target=fit_again, args=(estimator, X, told))
    if held:  # as by another thread that begins or ends a fit
        with _executors._ONE_BLAS_THREAD._lock:
            child.start()
    else:
        child.start()
    answered = heard.poll(120)  # not a measurement: a deadlock has to end the test somehow
    there = heard.recv() if answered else None
    child.kill()
    child.join()
    assert answered
    assert there == here
