"""Rows that come once: what is learned from them, and that statistics move with the parameters."""

import pickle
import warnings

import numpy as np
import pytest
from specimens import blobs

from emkit import EMGaussianMixture, EMImputer
from emkit.emissions import SHAPES
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
