"""The imputer against brute force: every pattern of a small problem, one row at a time, by the textbook formulas."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.stats import multivariate_normal

from emkit import EMImputer
from emkit.normal import MissingNormal, Normal, factor


def truth(rng, p):
    A = rng.normal(size=(p, p + 1))
    return 3.0 * rng.normal(size=p), A @ A.T + 0.1 * np.eye(p)


def conditional(x, mean, covariance):
    """Mean and covariance of the missing cells given the observed ones, by inverting the observed block."""
    m, o = np.isnan(x), ~np.isnan(x)
    slope = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)]) if o.any() else np.zeros((m.sum(), 0))
    return mean[m] + slope @ (x[o] - mean[o]), covariance[np.ix_(m, m)] - slope @ covariance[np.ix_(o, m)]


def density(x, mean, covariance):
    o = ~np.isnan(x)
    return multivariate_normal(mean[o], covariance[np.ix_(o, o)]).logpdf(x[o]) if o.any() else 0.0


def with_every_pattern(rng, p, mean, covariance, times=3):
    masks = np.array(list(product([False, True], repeat=p)))
    X = rng.multivariate_normal(mean, covariance, times * len(masks))
    X[np.tile(masks, (times, 1))] = np.nan
    return X


def set_by_hand(X, mean, covariance, **parameters):
    imputer = EMImputer(**parameters).fit(X)
    imputer.mean_, imputer.covariance_ = mean, covariance
    return imputer


@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_every_pattern(p):
    rng = np.random.default_rng(p)
    mean, covariance = truth(rng, p)
    X = with_every_pattern(rng, p, mean, covariance, times=6)
    imputer = set_by_hand(X, mean, covariance)
    filled, (_, std), scores = imputer.transform(X), imputer.conditional(X), imputer.score_samples(X)
    for i, x in enumerate(X):
        m = np.isnan(x)
        expected, spread = conditional(x, mean, covariance)
        np.testing.assert_allclose(filled[i, m], expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(std[i, m], np.sqrt(np.diagonal(spread)), rtol=1e-9)
        np.testing.assert_array_equal(filled[i, ~m], x[~m])
        assert (std[i, ~m] == 0.0).all()
        np.testing.assert_allclose(scores[i], density(x, mean, covariance), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("repeat", [1, 40], ids=["rows", "patterns summed"])
@pytest.mark.parametrize("p", [2, 3, 4])
def test_expected_statistics(p, repeat):
    """One E-step, row by row; with many rows of each pattern their scatter stands for them."""
    rng = np.random.default_rng(p)
    mean, covariance = truth(rng, p)
    X = with_every_pattern(rng, p, mean, covariance, times=repeat)
    weight = rng.exponential(size=len(X))
    model = MissingNormal()
    data = model.prepare(X, weight)
    assert repeat == 1 or len(data.rows) < len(X) / 2
    there = Normal(mean + 0.1, factor(1.3 * covariance))
    stats = model.expect(model.standardize(there, data), data)
    loglik, first, second, rows = 0.0, np.zeros(p), np.zeros((p, p)), 0.0
    for x, w in zip(X, weight, strict=True):
        m = np.isnan(x)
        if m.all():
            continue  # says nothing, and is left out
        expected, spread = conditional(x, there.mean, 1.3 * covariance)
        z = x - there.mean
        z[m] = expected - there.mean[m]
        zz = np.outer(z, z)
        zz[np.ix_(m, m)] += spread
        loglik, first, second = loglik + w * density(x, there.mean, 1.3 * covariance), first + w * z, second + w * zz
        rows += w
    np.testing.assert_allclose(stats.loglik, loglik, rtol=1e-10)
    np.testing.assert_allclose(stats.rows, rows)
    np.testing.assert_allclose(stats.first * data.scale, first, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(stats.second * np.outer(data.scale, data.scale), second, rtol=1e-8, atol=1e-8)


def test_the_maximum_is_a_maximum_of_the_likelihood():
    """A general optimiser finds nothing higher, and its curvature gives the same standard errors."""
    rng = np.random.default_rng(0)
    mean, covariance = truth(rng, 3)
    X = rng.multivariate_normal(mean, covariance, 80)
    X[rng.random(X.shape) < 0.25] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    imputer = EMImputer(prior=None, tol=1e-11).fit(X)
    lower = np.tril_indices(3)
    patterns = [(~mask, X[(np.isnan(X) == mask).all(axis=1)][:, ~mask]) for mask in np.unique(np.isnan(X), axis=0)]

    def loss(theta):
        sigma = np.zeros((3, 3))
        sigma[lower] = theta[3:]
        sigma += np.tril(sigma, -1).T
        if np.linalg.eigvalsh(sigma)[0] <= 0.0:
            return np.inf
        return -sum(multivariate_normal(theta[:3][o], sigma[np.ix_(o, o)]).logpdf(x).sum() for o, x in patterns)

    best = np.concatenate([imputer.mean_, imputer.covariance_[lower]])
    assert loss(best) == pytest.approx(-imputer.log_likelihood_)
    found = minimize(loss, 1.02 * best, method="Nelder-Mead", options={"maxiter": 1000, "adaptive": True})
    assert found.fun >= loss(best) - 1e-7
    h = 1e-4 * np.maximum(1.0, np.abs(best))
    hessian = np.array(
        [
            (approx_fprime(best + d, loss, 1e-6) - approx_fprime(best - d, loss, 1e-6)) / (2 * d.sum())
            for d in np.diag(h)
        ]
    )
    errors = np.sqrt(np.diagonal(np.linalg.inv(0.5 * (hessian + hessian.T))))
    se = imputer.standard_errors(X)
    np.testing.assert_allclose(se.mean_, errors[:3], rtol=2e-2)
    np.testing.assert_allclose(se.covariance_[lower], errors[3:], rtol=2e-2)


def test_standard_errors_of_complete_data_are_the_textbook_ones():
    rng = np.random.default_rng(1)
    X = rng.multivariate_normal(*truth(rng, 3), 50)
    imputer = EMImputer(prior=None).fit(X)
    S = imputer.covariance_
    se = imputer.standard_errors(X)
    np.testing.assert_allclose(se.mean_, np.sqrt(np.diagonal(S) / 50), rtol=1e-6)
    expected = np.sqrt((S**2 + np.outer(np.diagonal(S), np.diagonal(S))) / 50)
    np.testing.assert_allclose(se.covariance_, expected, rtol=1e-6)


def test_draws_have_the_conditional_distribution():
    rng = np.random.default_rng(2)
    mean, covariance = truth(rng, 3)
    row = np.array([mean[0] + 1.0, np.nan, np.nan])
    X = np.vstack([rng.multivariate_normal(mean, covariance, 30), np.tile(row, (40_000, 1))])
    imputer = set_by_hand(X[:60], mean, covariance, sample_posterior=True, random_state=3)
    drawn = imputer.transform(X)[30:, 1:]
    expected, spread = conditional(row, mean, covariance)
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=5 * np.sqrt(spread.max() / 40_000))
    np.testing.assert_allclose(np.cov(drawn.T), spread, atol=0.03 * spread.max())


def test_bounded_draws_have_the_truncated_distribution():
    rng = np.random.default_rng(4)
    X = np.vstack([rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 50), np.tile([0.0, np.nan], (20_000, 1))])
    imputer = set_by_hand(X[:100], np.zeros(2), np.eye(2), sample_posterior=True, min_value=0.0, random_state=5)
    drawn = imputer.transform(X)[50:, 1]
    assert drawn.min() >= 0.0
    assert drawn.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)  # a half-normal
    assert (drawn == 0.0).mean() < 1e-3


def test_missing_at_random_is_recovered():
    """y is missing where x is high: the mean of the observed y is far off, maximum likelihood is not."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=20_000)
    y = 2.0 + x + 0.5 * rng.normal(size=x.size)
    X = np.column_stack([x, np.where(x > 0.3, np.nan, y)])
    imputer = EMImputer(prior=None).fit(X)
    assert np.nanmean(X[:, 1]) < 1.5
    assert imputer.mean_[1] == pytest.approx(2.0, abs=0.03)
    np.testing.assert_allclose(imputer.covariance_, [[1.0, 1.0], [1.0, 1.25]], atol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_monotone_pattern_needs_one_step(seed):
    """The closed form is where EM ends from elsewhere."""
    rng = np.random.default_rng(seed)
    X = rng.multivariate_normal(*truth(rng, 4), 60)
    for j, share in zip([2, 0, 3], [0.2, 0.4, 0.6], strict=True):
        X[: int(share * 60), j] = np.nan
    model = MissingNormal()
    data = model.prepare(X)
    closed = model.start(data, rng)
    image = model.maximize(model.expect(closed, data), closed)
    np.testing.assert_allclose(image.mean, closed.mean, atol=1e-9)
    np.testing.assert_allclose(image.cholesky, closed.cholesky, atol=1e-9)
    imputer = EMImputer(prior=None).fit(X)
    assert imputer.n_iter_ == 1
    assert imputer.converged_


def test_monotone_with_summed_patterns_and_weights():
    rng = np.random.default_rng(7)
    X = rng.multivariate_normal(*truth(rng, 3), 400)
    X[:100, 2] = np.nan
    X[:50, 1] = np.nan
    weight = rng.integers(0, 3, 400).astype(float)
    one = EMImputer(prior=None).fit(X, sample_weight=weight)
    two = EMImputer(prior=None).fit(np.repeat(X, weight.astype(int), axis=0))
    assert one.n_iter_ == two.n_iter_ == 1
    np.testing.assert_allclose(one.mean_, two.mean_, rtol=1e-9)
    np.testing.assert_allclose(one.covariance_, two.covariance_, rtol=1e-9)
