"""Dask arrays and dataframes, on threads and on a cluster of processes; workers that die or never answer."""

import importlib
import os
import signal
import warnings

import joblib
import numpy as np
import pytest
from specimens import blobs

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, _search
from emkit.emissions import Categorical

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")
_dask = importlib.import_module("emkit._dask")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

N, LENGTHS = 6000, [300] * 20


def cluster_of(n_workers):
    return distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs="CRITICAL"
    )


@pytest.fixture(scope="module")
def cluster():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cluster_of(2) as found:
            yield found


@pytest.fixture(params=["threads", "processes"])
def somewhere(request):
    """Where dask computes."""
    if request.param == "threads":
        with dask.config.set(scheduler="threads"):
            yield request.param
    else:
        with distributed.Client(request.getfixturevalue("cluster")):
            yield request.param


def as_array(X):
    return da.from_array(X, chunks=(1700, 2))


def as_frame(X):
    """With chunks of a length that nobody knows, and one that is empty."""
    frame = dd.from_pandas(pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])]), npartitions=4)
    return dd.concat([frame, frame[frame.c0 > 1e9]])


def check_same(estimator, X, there, names, **more):
    one = {name: getattr(estimator.fit(X, **more), name) for name in names}
    for name, value in one.items():
        np.testing.assert_allclose(getattr(estimator.fit(there, **more), name), value, rtol=1e-10, err_msg=name)
    return estimator


@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:X has feature names")
@pytest.mark.parametrize("kind", [as_array, as_frame])
def test_a_mixture(somewhere, kind):
    X = blobs(np.random.default_rng(0), n=N, d=3)
    there, names = kind(X), ["weights_", "means_", "covariances_", "log_likelihood_"]
    mixture = check_same(EMGaussianMixture(3, random_state=0), X, there, names)
    for method in (mixture.predict, mixture.predict_proba, mixture.score_samples):
        lazy, here = method(there), method(X)
        assert isinstance(lazy, da.Array)
        assert (lazy.dtype, lazy.ndim, lazy.shape[1:]) == (here.dtype, here.ndim, here.shape[1:])
        np.testing.assert_array_equal(lazy.compute(), here)
    assert mixture.predict(as_array(X)).chunks == (as_array(X).chunks[0],)
    assert mixture.score(there) == pytest.approx(mixture.score(X), rel=1e-12)
    assert mixture.icl(there) == pytest.approx(mixture.icl(X), rel=1e-12)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:X has feature names")
@pytest.mark.parametrize("kind", [as_array, as_frame])
def test_an_imputer(somewhere, kind):
    rng = np.random.default_rng(1)
    X = blobs(rng, n=N, d=3, k=1)
    X[rng.random(X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    there = kind(X)
    imputer = check_same(EMImputer(), X, there, ["mean_", "covariance_", "log_likelihood_"])
    assert imputer.transform(as_array(X.astype(np.float32))).compute().dtype == np.float32
    filled = imputer.transform(there)
    assert isinstance(filled, da.Array if kind is as_array else dd.DataFrame)
    np.testing.assert_allclose(np.asarray(filled), imputer.transform(X), rtol=1e-12)
    if kind is as_frame:
        assert list(filled.columns) == ["c0", "c1", "c2"]


@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:X has feature names")
@pytest.mark.parametrize("kind", [as_array, as_frame])
def test_a_chain(somewhere, kind):
    X = blobs(np.random.default_rng(2), n=N, d=2)
    there, names = kind(X), ["startprob_", "transmat_", "means_", "covariances_"]
    chain = check_same(EMHiddenMarkov(2, random_state=0), X, there, names, lengths=LENGTHS)
    lazy = chain.predict(there, lengths=LENGTHS)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(), chain.predict(X, lengths=LENGTHS))
    groups = np.repeat(np.arange(20), 300)
    assert chain.score(there, groups=groups) == pytest.approx(chain.score(X, groups=groups), rel=1e-12)


def test_a_chain_of_symbols():
    rng = np.random.default_rng(13)
    X = np.array(list("abc"))[np.repeat(rng.integers(3, size=40), 50)][:, None]
    chain = EMHiddenMarkov(2, emission=Categorical(categories=("a", "b", "c")), random_state=0)
    check_same(chain, X, da.from_array(X, chunks=(500, 1)), ["transmat_", "emissionprob_"])


def test_one_long_sequence_is_not_cut():
    X = blobs(np.random.default_rng(3), n=2000, d=2)
    chain = check_same(EMHiddenMarkov(2, random_state=0), X, da.from_array(X, chunks=(300, 2)), ["transmat_"])
    np.testing.assert_array_equal(chain.predict(da.from_array(X, chunks=(300, 2))).compute(), chain.predict(X))


@pytest.mark.parametrize("kind", [as_array, as_frame])
def test_what_is_persisted_already(somewhere, kind):
    X = blobs(np.random.default_rng(12), n=N, d=2, k=1)
    X[::9, 1] = np.nan
    check_same(EMImputer(), X, kind(X).persist(), ["mean_", "covariance_"])
    lazy = as_array(X) + da.random.default_rng(0).normal(size=(N, 2), chunks=(1700, 1))
    one = EMImputer().fit(lazy)
    np.testing.assert_array_equal(one.mean_, EMImputer().fit(lazy.persist()).mean_)


def test_weights():
    rng = np.random.default_rng(4)
    X, weight = blobs(rng, n=N, d=2), rng.integers(0, 3, N).astype(float)
    there, chunked = as_array(X), da.from_array(weight, chunks=1700)
    for estimator, name in ((EMGaussianMixture(3, random_state=0), "means_"), (EMImputer(), "mean_")):
        one = getattr(estimator.fit(X, sample_weight=weight), name)
        two = getattr(estimator.fit(there, sample_weight=chunked), name)
        np.testing.assert_allclose(two, one, rtol=1e-10)


def test_the_same_bits_on_threads_and_on_processes(cluster):
    X = as_array(blobs(np.random.default_rng(5), n=N, d=3))
    with dask.config.set(scheduler="threads"):
        one = EMGaussianMixture(3, random_state=0).fit(X)
    with distributed.Client(cluster):
        two = EMGaussianMixture(3, random_state=0).fit(X)
    np.testing.assert_array_equal(two.covariances_, one.covariances_)
    assert two.log_likelihood_ == one.log_likelihood_


def test_chunks_of_blocks_in_memory_give_the_same_sums():
    """Where chunks are the blocks of an array, sums are added in the same order."""
    from emkit._em import step
    from emkit._sources import read
    from emkit.emissions.shapes import Full
    from emkit.mixture import Mixture

    X = blobs(np.random.default_rng(6), n=13 * 100, d=2)
    model = Mixture(Full(), 2)
    data = model.prepare(X)
    params = model.start(model.sketch(data), np.random.default_rng(0))
    there = data._replace(X=read(da.from_array(X, chunks=(100, 2)), lambda block, first: block))
    blocks = [model.law.block(data, slice(i, i + 100)) for i in range(0, 1300, 100)]
    one, two = step(model, blocks, params), step(model, model.split(there), params)
    assert one.objective == two.objective
    np.testing.assert_array_equal(one.image.law.means, two.image.law.means)


def test_a_killed_worker_costs_no_answer(monkeypatch):
    X = blobs(np.random.default_rng(7), n=N, d=3, apart=1.0)
    expected = EMGaussianMixture(3, random_state=0, tol=1e-6, n_init=1).fit(as_array(X))
    answer, passes, killed = _dask._answer, [], []

    with cluster_of(2) as cluster, distributed.Client(cluster) as client:
        pid = next(iter(client.run(os.getpid).values()))

        def kill_later(asked):
            passes.append(asked)
            if len(passes) == 10:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            return answer(asked)

        monkeypatch.setattr(_dask, "_answer", kill_later)
        mixture = EMGaussianMixture(3, random_state=0, tol=1e-6, n_init=1).fit(as_array(X))
        assert len(passes) > 20
    assert killed
    np.testing.assert_array_equal(mixture.means_, expected.means_)
    assert mixture.n_iter_ == expected.n_iter_ > 3


def test_a_cluster_without_workers_is_not_waited_for_for_ever():
    X = as_array(blobs(np.random.default_rng(8), n=N, d=2))
    with cluster_of(0) as cluster, distributed.Client(cluster):
        with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
            with pytest.raises(TimeoutError, match="has no worker after 1s"):
                EMGaussianMixture(2).fit(X)


def test_a_worker_that_hangs_is_not_waited_for_for_ever():
    X = as_array(blobs(np.random.default_rng(9), n=N, d=2))
    with cluster_of(1) as cluster, distributed.Client(cluster) as client:
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGSTOP)
        try:
            with dask.config.set({"emkit.timeout": "2s"}):
                with pytest.raises(TimeoutError, match="did not answer within 2s"):
                    EMGaussianMixture(2).fit(X)
        finally:
            os.kill(pid, signal.SIGCONT)


def test_restarts_go_to_the_workers(cluster, monkeypatch):
    monkeypatch.setattr(_search, "_WORTH_SHARING", 0.0)
    X = blobs(np.random.default_rng(10), n=2000, d=2)
    here = EMGaussianMixture(3, n_init=4, n_jobs=2, random_state=0).fit(X)
    with distributed.Client(cluster) as client, distributed.get_task_stream(client) as tasks:
        with joblib.parallel_config(backend="dask"):
            there = EMGaussianMixture(3, n_init=4, n_jobs=2, random_state=0).fit(X)
    assert tasks.data
    np.testing.assert_array_equal(there.means_, here.means_)
    assert there.restarts_ == here.restarts_


def test_what_is_refused():
    X = blobs(np.random.default_rng(11), n=N, d=2)
    X[3000, 1] = np.inf
    with dask.config.set(scheduler="threads"):
        with pytest.raises(ValueError, match="block 1 of X: Input X contains infinity at row 1300, column 1"):
            EMGaussianMixture(2).fit(as_array(X))
        with pytest.raises(ValueError, match="no chunk has a row"):
            EMGaussianMixture(2).fit(as_array(X)[:0])
        mixture = EMGaussianMixture(2, random_state=0).fit(X[:2000])
        for ask in (mixture.score, mixture.aic, mixture.bic, mixture.icl):
            with pytest.raises(ValueError, match="n_samples=0"):
                ask(as_array(X)[:0])
        with pytest.raises(ValueError, match="give Categorical"):
            EMHiddenMarkov(2, emission="categorical").fit(da.from_array(np.zeros((10, 1), int)))
        with pytest.raises(ValueError, match="lengths or groups tell of 6000 rows, but X has 2500"):
            EMHiddenMarkov(2).fit(as_array(X[:2500]), lengths=LENGTHS)
