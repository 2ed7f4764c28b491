"""Rows that come once: what is learned from them, and that statistics move with the parameters."""

import gc
import pickle
import warnings
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.base import clone
from specimens import blobs

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer
from emkit.emissions import SHAPES, Categorical, Columns, Emission, MixedGaussian, StudentT
from emkit.exceptions import DataWarning


@pytest.mark.parametrize("shape", SHAPES)
def test_recentred_sums_are_those_about_the_new_means(shape):
    rng = np.random.default_rng(0)
    X = blobs(rng, n=300, d=3)
    law = SHAPES[shape]()
    rows = law.block(law.prepare(X, None), slice(None))
    resp = rng.dirichlet(np.ones(3), size=len(X))
    here = law.start(rows, resp)
    there = here._replace(means=here.means + rng.normal(size=here.means.shape))
    moved = law.recentre(law.summarize(here, rows, resp), here, there)
    expected = law.summarize(there, rows, resp)
    np.testing.assert_allclose(moved.firsts, expected.firsts, atol=1e-9)
    np.testing.assert_allclose(moved.seconds, expected.seconds, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shuffled_stream_leads_near_the_optimum_of_all_its_rows(shape):
    rng = np.random.default_rng(1)
    X = blobs(rng, n=60_000, d=3, k=4, apart=2.0)
    stream = EMGaussianMixture(4, covariance_type=shape, random_state=0)
    for batch in np.array_split(X, 60):
        stream.partial_fit(batch)
    whole = EMGaussianMixture(
        4, covariance_type=shape, means_init=stream.means_, weights_init=stream.weights_, n_init=1
    ).fit(X)
    assert whole.score(X) - stream.score(X) < 2e-3
    assert stream.n_features_in_ == 3
    assert stream.labels_.shape == (1000,)


def test_a_stream_with_holes_leads_near_the_optimum_of_all_its_rows():
    rng = np.random.default_rng(6)
    X = rng.multivariate_normal(np.arange(4.0), np.eye(4) + 1.0, 40_000)
    X[rng.random(X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    whole, stream = EMImputer(prior=None).fit(X), EMImputer(prior=None)
    for batch in np.array_split(X, 40):
        stream.partial_fit(batch)
    assert whole.score(X) - stream.score(X) < 1e-3
    assert np.isfinite(stream.transform(X[:50])).all()
    with pytest.raises(ValueError, match="no row has an observed cell"):
        stream.partial_fit(np.full((3, 4), np.nan))


def test_a_stream_of_complete_rows_seen_once_is_their_running_mean():
    """With the power 1 it would be their mean itself; with less, later rows count more."""
    X = np.random.default_rng(7).normal(size=(1000, 2))
    stream = EMImputer(prior=None).partial_fit(X[:500])
    np.testing.assert_allclose(stream.mean_, X[:500].mean(axis=0), rtol=1e-10)
    stream.partial_fit(X[500:])
    share = 0.5**0.6
    mean = (1.0 - share) * X[:500].mean(axis=0) + share * X[500:].mean(axis=0)
    np.testing.assert_allclose(stream.mean_, mean, rtol=1e-10)
    moments = [(1.0 - share) * X[:500].T @ X[:500] / 500 + share * X[500:].T @ X[500:] / 500]
    np.testing.assert_allclose(stream.covariance_, moments[0] - np.outer(mean, mean), rtol=1e-9)


def test_a_drifting_stream_is_followed():
    rng = np.random.default_rng(2)
    stream = EMGaussianMixture(2, random_state=0)
    for at in np.linspace(0.0, 10.0, 200):
        centres = np.array([[at, 0.0], [at + 6.0, 0.0]])
        stream.partial_fit(centres[rng.integers(2, size=500)] + rng.normal(size=(500, 2)))
    means = stream.means_[np.argsort(stream.means_[:, 0])]
    assert np.abs(means[:, 0] - [10.0, 16.0]).max() < 2.5  # the mean of all that was seen lies 5 behind


def test_a_stream_goes_on_from_a_fit_and_after_pickling():
    rng = np.random.default_rng(3)
    X = blobs(rng, n=4000, d=2, k=2)
    fitted = EMGaussianMixture(2, random_state=0).fit(X[:2000])
    before = fitted.means_.copy()
    fitted.partial_fit(X[2000:3000])
    assert not np.array_equal(fitted.means_, before)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(fitted.partial_fit(X[3000:]).covariances_, again.partial_fit(X[3000:]).covariances_)
    fresh = EMGaussianMixture(2, random_state=0).fit(X[:2000])
    np.testing.assert_array_equal(fitted.fit(X[:2000]).means_, fresh.means_)  # a fit begins anew
    np.testing.assert_array_equal(fitted.partial_fit(X[2000:3000]).means_, fresh.partial_fit(X[2000:3000]).means_)


@pytest.mark.parametrize("estimator", [EMGaussianMixture(2), EMHiddenMarkov(2)])
def test_an_outlier_is_called_one(estimator):
    X = blobs(np.random.default_rng(5), n=600, d=3, k=2)
    Z = X.copy()
    Z[300] = 1e12
    fitted = clone(estimator).set_params(random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"is singular; remove outliers .* larger reg_covar \(of a chain: that of the"):
        for batch in (X, Z, X, X, X):
            means = fitted.means_
            fitted.partial_fit(batch)
    assert fitted.means_ is means


@pytest.mark.parametrize(
    ("estimator", "change", "message"),
    [
        (EMGaussianMixture(2), {"n_components": 3}, "n_components=3, but {} continues a fit with 2; {} to start anew"),
        (
            EMGaussianMixture(2),
            {"covariance_type": "diag"},
            "covariance_type='diag', but {} continues a fit with",
        ),
        (EMHiddenMarkov(2), {"n_states": 3}, "n_states=3, but {} continues a fit with 2; {} to start anew"),
        (EMHiddenMarkov(2), {"covariance_type": "tied"}, "covariance_type='tied', but {} continues a fit with"),
        (EMHiddenMarkov(2), {"emission": "poisson"}, "emission='poisson', but {} continues a fit with Full"),
    ],
)
def test_what_a_fit_goes_on_with_is_what_it_was(estimator, change, message):
    X = blobs(np.random.default_rng(16), n=300, d=2, k=2)
    fitted = clone(estimator).set_params(random_state=0).fit(X).set_params(**change)
    with pytest.raises(ValueError, match=message.format("partial_fit", "call fit")):
        fitted.partial_fit(X)
    fitted.set_params(warm_start=True)
    with pytest.raises(ValueError, match=message.format("warm_start=True", "set warm_start=False")):
        fitted.fit(X)
    fitted.set_params(**{name: getattr(estimator, name) for name in change}).partial_fit(X)


@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
@pytest.mark.parametrize("estimator", [EMGaussianMixture(2), EMHiddenMarkov(2), EMImputer(prior=None)])
def test_a_column_that_did_not_vary_at_first(estimator):
    """A mixture learns of it, an imputer does not."""
    X = blobs(np.random.default_rng(17), n=400, d=2, k=2)
    constant = X.copy()
    constant[:, 1] = 3.0
    stream = clone(estimator).set_params(random_state=0).partial_fit(constant)
    for _ in range(20):
        stream.partial_fit(X)
    if isinstance(estimator, EMImputer):
        assert (stream.mean_[1], stream.covariance_[1, 1]) == (3.0, 0.0)
    else:
        assert np.abs(stream.means_[:, 1] - 3.0).max() > 0.1
        assert stream.covariances_[:, 1, 1].max() > 0.1


def test_weights_are_repetitions_in_a_stream():
    rng = np.random.default_rng(4)
    X = blobs(rng, n=1500, d=2, k=2)
    weight = rng.integers(0, 3, len(X)).astype(float)
    one, two = EMGaussianMixture(2, tol=1e-8, random_state=0), EMGaussianMixture(2, tol=1e-8, random_state=0)
    for part in np.array_split(np.arange(len(X)), 3):
        one.partial_fit(X[part], sample_weight=weight[part])
        two.partial_fit(np.repeat(X[part], weight[part].astype(int), axis=0))
    np.testing.assert_allclose(one.means_, two.means_, rtol=1e-5)
    np.testing.assert_allclose(one.covariances_, two.covariances_, rtol=1e-4)


@pytest.mark.parametrize("estimator", [EMGaussianMixture(2), EMHiddenMarkov(2), EMImputer()])
def test_no_rows_are_kept(estimator):
    X = blobs(np.random.default_rng(14), n=300, d=2, k=2)
    alive = weakref.ref(X)
    stream = clone(estimator).set_params(random_state=0).partial_fit(X)
    del X
    gc.collect()
    assert alive() is None
    stream.partial_fit(blobs(np.random.default_rng(15), n=300, d=2, k=2))


def test_what_a_stream_refuses():
    X = blobs(np.random.default_rng(5), n=400, d=2, k=2)
    stream = EMGaussianMixture(2, random_state=0).partial_fit(X)
    with pytest.raises(ValueError, match="features"):
        stream.partial_fit(X[:, :1])
    kept = stream.means_.copy()
    with pytest.raises(ValueError, match="NaN at row 0"):
        stream.partial_fit(np.full((3, 2), np.nan))
    np.testing.assert_array_equal(stream.means_, kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.raises(ValueError, match="n_components=2"):
            EMGaussianMixture(2).partial_fit(X[:1])


# Chains: whole sequences come in batches
# ----------------------------------------------------------------------------------------------------------------------

TRANSMAT = np.array([[0.85, 0.15, 0.0], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]])


def paths(rng, n_sequences, n_rows):
    """States (n_sequences, n_rows) of a chain whose starts are even."""
    state = rng.integers(3, size=n_sequences)
    found = [state]
    for _ in range(n_rows - 1):
        state = (rng.random(n_sequences)[:, None] > TRANSMAT.cumsum(axis=1)[state]).sum(axis=1)
        found.append(state)
    return np.stack(found, axis=1)


def observations(rng, state):
    """For each law, rows (..., d) given the states."""
    normal = np.array([[0.0, 0.0], [2.5, 0.0], [2.5, 3.0]])[state] + rng.normal(size=(*state.shape, 2))
    holes = np.where(rng.random(normal.shape) < 0.1, np.nan, normal)
    counts = rng.poisson(np.array([[1.0], [6.0], [20.0]])[state])
    symbols = (rng.random(state.shape)[..., None] > np.array([[0.7, 0.9], [0.1, 0.8], [0.1, 0.2]])[state]).sum(axis=-1)
    heavy = np.array([[0.0], [6.0], [12.0]])[state] + rng.standard_t(4, (*state.shape, 1))
    parts = (
        np.array([[0.0], [15.0], [40.0]])[state] + rng.choice([-4.0, 4.0], (*state.shape, 1)) + normal[..., :1] / 2.0
    )
    return {
        **{f"gaussian-{shape}": (SHAPES[shape](), normal) for shape in SHAPES},
        "gaussian-holes": ("gaussian", holes),
        "poisson": ("poisson", counts),
        "exponential": ("exponential", rng.exponential(np.array([[1.0], [9.0], [80.0]])[state])),
        "gamma": ("gamma", rng.gamma(np.array([[2.0], [20.0], [90.0]])[state])),
        "bernoulli": ("bernoulli", rng.random((*state.shape, 4)) < np.array([0.1, 0.5, 0.95])[state][..., None]),
        "multinomial": (
            "multinomial",
            rng.multinomial(9, np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])[state]),
        ),
        "categorical": ("categorical", symbols[..., None]),
        "student-t": (StudentT(), heavy),
        "gaussian-mixture": (MixedGaussian(2, "tied"), parts),
        "columns": (Columns([("gaussian", [0, 1]), ("poisson", [2])]), np.concatenate([normal, counts], axis=-1)),
    }


LAWS_SEEN = list(observations(np.random.default_rng(0), np.zeros((1, 1), int)))


@pytest.mark.parametrize("name", LAWS_SEEN)
def test_a_shuffled_stream_of_sequences_leads_near_the_optimum_of_all(name):
    rng = np.random.default_rng(8)
    law, X = observations(rng, paths(rng, 4_000, 12))[name]
    stream = EMHiddenMarkov(3, emission=law, random_state=0)
    for batch in np.array_split(X, 40):
        stream.partial_fit(list(batch))
    reached = np.concatenate(stream.score_samples(list(X))).mean()
    best = stream.set_params(warm_start=True, max_iter=2000).fit(list(X))  # the optimum nearby
    assert best.converged_
    assert best.log_likelihood_ / (4_000 * 12) - reached < 1e-3
    assert np.concatenate(best.labels_).shape == (4_000 * 12,)


def test_drifting_sequences_are_followed():
    rng = np.random.default_rng(9)
    stream = EMHiddenMarkov(3, random_state=0)
    for at in np.linspace(0.0, 10.0, 150):
        state = paths(rng, 60, 8)[..., None]
        stream.partial_fit(list(6.0 * state + at + rng.normal(size=state.shape)))
    lag = np.array([10.0, 16.0, 22.0]) - np.sort(stream.means_[:, 0])
    assert np.abs(lag).max() < 2.5  # the mean of all that was seen lies 5 behind
    np.testing.assert_allclose(stream.transmat_.sum(axis=1), 1.0)


@pytest.mark.parametrize("start", ["free", "stationary"])
def test_weights_are_repetitions_in_a_stream_of_sequences(start):
    rng = np.random.default_rng(10)
    _, X = observations(rng, paths(rng, 240, 10))["gaussian-full"]
    weight = rng.integers(0, 3, len(X)).astype(float)
    one, two = (EMHiddenMarkov(3, start=start, tol=1e-8, random_state=0) for _ in range(2))
    for part in np.array_split(np.arange(len(X)), 3):
        one.partial_fit(list(X[part]), sample_weight=np.repeat(weight[part], 10))
        two.partial_fit(list(np.repeat(X[part], weight[part].astype(int), axis=0)))
    np.testing.assert_allclose(one.transmat_, two.transmat_, atol=1e-6)
    np.testing.assert_allclose(one.startprob_, two.startprob_, atol=1e-6)
    np.testing.assert_allclose(one.means_, two.means_, rtol=1e-5, atol=1e-6)
    assert one.log_likelihood_ == pytest.approx(two.log_likelihood_, abs=1e-3)


def test_sequences_come_in_any_form_and_a_stream_goes_on_after_pickling():
    rng = np.random.default_rng(11)
    _, X = observations(rng, paths(rng, 120, 10))["columns"]
    law = Columns([("gaussian", [0, 1]), ("poisson", [2])])
    streams = [EMHiddenMarkov(3, emission=law, random_state=0) for _ in range(4)]
    for batch in np.array_split(X, 3):
        rows, n = np.concatenate(batch), len(batch)
        mixed = np.argsort(np.tile(np.arange(10), n), kind="stable")  # sequences in turn
        streams[0].partial_fit(list(batch))
        streams[1].partial_fit(rows, lengths=np.full(n, 10))
        streams[2].partial_fit(rows[mixed], groups=np.repeat(np.arange(n), 10)[mixed])
        streams[1] = pickle.loads(pickle.dumps(streams[1]))
        streams[3].partial_fit(lambda batch=batch: iter(batch))
    for other in streams[1:3]:
        np.testing.assert_array_equal(other.transmat_, streams[0].transmat_)
        np.testing.assert_array_equal(other.means_, streams[0].means_)
    np.testing.assert_allclose(streams[3].transmat_, streams[0].transmat_, rtol=1e-10)  # summed in other blocks
    np.testing.assert_allclose(streams[3].means_, streams[0].means_, rtol=1e-10)


def test_a_chain_of_complete_counts_seen_once_is_their_running_mean():
    rng = np.random.default_rng(12)
    X = rng.poisson(4.0, (50, 6, 1)).astype(float)
    stream = EMHiddenMarkov(1, emission="poisson").partial_fit(list(X[:20])).partial_fit(list(X[20:]))
    share = (30 / 50) ** 0.6
    np.testing.assert_allclose(stream.lambdas_, (1.0 - share) * X[:20].mean() + share * X[20:].mean(), rtol=1e-10)


class Geometric(NamedTuple):
    chances: np.ndarray


class Days(NamedTuple):
    loglik: float
    counts: np.ndarray
    days: np.ndarray


class Waits(Emission):
    """Three methods, and no more; days beyond 1000 are impossible."""

    def log_prob(self, params, rows):
        chance = np.clip(params.chances, 1e-9, 1.0 - 1e-9)
        return np.where(rows.X > 1000.0, -np.inf, np.log(chance) + (rows.X - 1.0) * np.log1p(-chance))

    def summarize(self, params, rows, resp):
        return Days(0.0, resp.sum(axis=0), resp.T @ rows.X[:, 0])

    def maximize(self, stats, params):
        return Geometric(stats.counts / np.maximum(stats.days, 1e-9))


class StreamedWaits(Waits):
    streams = True


def test_what_a_stream_of_sequences_refuses():
    rng = np.random.default_rng(13)
    days = rng.geometric(np.array([0.5, 0.05])[np.cumsum(rng.random(600) < 0.1) % 2])[:, None].astype(float)
    for law in (Waits(), Columns([(Waits(), [0])])):
        with pytest.raises(ValueError, match=r"emission=.*Waits.* cannot follow a stream.*streams=True"):
            EMHiddenMarkov(2, emission=law).partial_fit([[np.inf]])
        with pytest.raises(ValueError, match="cannot follow a stream"):
            EMHiddenMarkov(2, emission=law, random_state=0).fit(days).partial_fit(days)
    stream = EMHiddenMarkov(2, emission=StreamedWaits(), random_state=0).partial_fit(days, lengths=[300, 300])
    kept = stream.chances_.copy()
    with pytest.raises(ValueError, match="nothing was learned from these rows: sequence 1 is impossible"):
        stream.partial_fit([days[:9], [[2.0], [2000.0]]])
    with pytest.raises(ValueError, match="features"):
        stream.partial_fit(np.ones((5, 2)))
    with pytest.raises(ValueError, match="give one of them"):
        stream.partial_fit(days, lengths=[600], groups=np.zeros(600))
    with pytest.raises(ValueError, match="a sequence counts as a whole"):
        stream.partial_fit(days, lengths=[300, 300], sample_weight=np.arange(1.0, 601.0))
    with pytest.raises(ValueError, match="n_states"):
        EMHiddenMarkov(0).partial_fit(days)
    np.testing.assert_array_equal(stream.chances_, kept)
    words = EMHiddenMarkov(2, emission="categorical", random_state=0).partial_fit([["a"], ["b"], ["a"], ["b"]] * 9)
    with pytest.raises(ValueError, match="'c'"):
        words.partial_fit([["a"], ["c"]])
    known = EMHiddenMarkov(2, emission=Categorical(("a", "b", "c")), random_state=0)
    known.partial_fit([["a"], ["b"], ["a"], ["b"]] * 9).partial_fit([["a"], ["c"], ["b"], ["c"]] * 9)
    assert known.emissionprob_[:, 2].max() > 0.1
