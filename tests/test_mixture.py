"""What is peculiar to Gaussian mixtures."""

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from specimens import blobs

from emkit import EMGaussianMixture

SHAPES = ["full", "tied", "diag", "spherical"]
X = blobs(np.random.default_rng(1), n=300, d=3, k=3)


def fit(shape="full", k=3, data=X, **params):
    return EMGaussianMixture(k, covariance_type=shape, **{"random_state": 0, **params}).fit(data)


def as_matrices(mixture):
    k, d = mixture.means_.shape
    covariances = mixture.covariances_
    if mixture.covariance_type == "tied":
        return np.repeat(covariances[None], k, axis=0)
    return covariances if covariances.ndim == 3 else covariances.reshape(k, -1)[:, :, None] * np.eye(d)


@pytest.mark.parametrize("shape", SHAPES)
def test_densities_are_scipy_s(shape):
    mixture = fit(shape)
    normal = [multivariate_normal(m, c) for m, c in zip(mixture.means_, as_matrices(mixture), strict=True)]
    joint = np.log(mixture.weights_) + np.column_stack([law.logpdf(X) for law in normal])
    density = np.logaddexp.reduce(joint, axis=1)
    np.testing.assert_allclose(mixture.score_samples(X), density, rtol=1e-10)
    np.testing.assert_allclose(mixture.predict_proba(X), np.exp(joint - density[:, None]), atol=1e-12)
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_precisions_are_inverse_covariances(shape):
    mixture = fit(shape)
    if shape in ("diag", "spherical"):
        np.testing.assert_allclose(mixture.precisions_ * mixture.covariances_, 1.0)
        np.testing.assert_allclose(mixture.precisions_cholesky_**2, mixture.precisions_)
    else:
        np.testing.assert_allclose(
            mixture.precisions_ @ mixture.covariances_,
            np.broadcast_to(np.eye(3), mixture.covariances_.shape),
            atol=1e-10,
        )
        upper = mixture.precisions_cholesky_
        np.testing.assert_allclose(upper @ np.swapaxes(upper, -1, -2), mixture.precisions_)
        np.testing.assert_array_equal(np.tril(upper, -1), 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_objective_is_the_likelihood_and_the_stated_prior(shape):
    """log prior = -reg_covar/2 tr(V Sigma^-1) for each covariance, V the variances of the data in the shape's units."""
    mixture = fit(shape, reg_covar=0.1)
    variances = X.var(axis=0)
    if shape == "spherical":
        variances = np.full(3, variances.mean())
    precisions = np.linalg.inv(as_matrices(mixture)[: 1 if shape == "tied" else None])
    log_prior = -0.05 * np.einsum("kii,i->", precisions, variances)
    np.testing.assert_allclose(mixture.objective_ - mixture.log_likelihood_, log_prior)
    np.testing.assert_allclose(mixture.log_likelihood_, mixture.score_samples(X).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_a_fixed_point(shape):
    """At the optimum of plain maximum likelihood the weighted moments give the parameters back."""
    mixture = fit(shape, reg_covar=0.0, tol=1e-10, max_iter=5000)
    resp = mixture.predict_proba(X)
    counts = resp.sum(axis=0)
    np.testing.assert_allclose(mixture.weights_, counts / len(X), atol=1e-4)
    np.testing.assert_allclose(mixture.means_, resp.T @ X / counts[:, None], atol=1e-3)
    deviations = X[:, None, :] - mixture.means_
    full = np.einsum("nk,nki,nkj->kij", resp, deviations, deviations) / counts[:, None, None]
    shaped = {
        "full": full,
        "tied": np.einsum("k,kij->ij", counts / len(X), full),
        "diag": np.einsum("kii->ki", full),
        "spherical": np.einsum("kii->k", full) / 3,
    }
    np.testing.assert_allclose(mixture.covariances_, shaped[shape], atol=1e-2)


def test_the_best_partition_of_few_rows_is_found():
    """Brute force: with far clusters the likelihood is that of the best hard partition."""
    rows = np.array([[0.0], [0.1], [0.25], [9.0], [9.2], [9.1]])
    best = -np.inf
    for labels in itertools.product([0, 1], repeat=6):
        parts = [rows[np.array(labels) == k, 0] for k in (0, 1)]
        if min(map(len, parts)) < 2:
            continue
        variance = sum(((p - p.mean()) ** 2).sum() for p in parts) / 6
        loglik = sum(len(p) * np.log(len(p) / 6) for p in parts) - 3 * (np.log(2 * np.pi * variance) + 1)
        best = max(best, loglik)
    mixture = fit("tied", 2, rows, reg_covar=0.0, tol=1e-9)
    np.testing.assert_allclose(mixture.log_likelihood_, best, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameter_counts(shape):
    """As R mclust's nMclustParams for VVV, EEE, VVI, VII: (G-1) + G d + covariances."""
    k, d = 3, 3
    covariances = {"full": k * d * (d + 1) // 2, "tied": d * (d + 1) // 2, "diag": k * d, "spherical": k}
    mixture = fit(shape)
    n_parameters = (mixture.aic(X) + 2 * mixture.log_likelihood_) / 2
    assert round(n_parameters, 6) == k - 1 + k * d + covariances[shape]
    np.testing.assert_allclose(mixture.bic(X), -2 * mixture.log_likelihood_ + n_parameters * np.log(len(X)))


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_follow_the_mixture(shape):
    mixture = fit(shape)
    rows, labels = mixture.sample(40_000, random_state=0)
    np.testing.assert_allclose(np.bincount(labels) / 40_000, mixture.weights_, atol=0.01)
    for k, covariance in enumerate(as_matrices(mixture)):
        drawn = rows[labels == k]
        scale = np.sqrt(np.diagonal(covariance))
        np.testing.assert_allclose((drawn.mean(axis=0) - mixture.means_[k]) / scale, 0.0, atol=0.05)
        np.testing.assert_allclose(
            np.cov(drawn.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.06
        )


def test_starting_values_are_used_exactly():
    given = {
        "weights_init": [0.2, 0.3, 0.5],
        "means_init": X[:3].tolist(),
        "precisions_init": np.stack([np.eye(3) * s for s in (1.0, 2.0, 3.0)]),
    }
    mixture = EMGaussianMixture(3, **given, max_iter=1)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        mixture.fit(X)
    laws = [multivariate_normal(m, np.linalg.inv(p)) for m, p in zip(X[:3], given["precisions_init"], strict=True)]
    joint = np.log(given["weights_init"]) + np.column_stack([law.logpdf(X) for law in laws])
    log_prior = -0.5e-6 * sum(np.trace(p) * 1.0 for p in given["precisions_init"] * X.var(axis=0))
    np.testing.assert_allclose(mixture.history_[0], np.logaddexp.reduce(joint, axis=1).sum() + log_prior, rtol=1e-9)


def test_components_keep_the_places_of_given_means():
    far = np.array([[9.0, 0.0], [0.0, 0.0], [5.0, 5.0]])
    rows = np.concatenate([m + np.random.default_rng(0).normal(size=(50, 2)) for m in far])
    np.testing.assert_allclose(fit("diag", 3, rows, means_init=far).means_, far, atol=0.5)
    np.testing.assert_allclose(fit("diag", 3, rows).means_, far[[1, 2, 0]], atol=0.5)  # otherwise by first column


def test_weights_change_and_mean_what_they_say():
    weight = np.random.default_rng(0).integers(0, 3, size=len(X)).astype(float)
    weighted = EMGaussianMixture(3, random_state=0).fit(X, sample_weight=weight)
    repeated = fit(data=np.repeat(X, weight.astype(int), axis=0))
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-6)
    np.testing.assert_allclose(weighted.log_likelihood_, repeated.log_likelihood_, rtol=1e-9)
    np.testing.assert_allclose(
        weighted.score(X, sample_weight=weight), weight @ weighted.score_samples(X) / weight.sum()
    )
    assert not np.allclose(weighted.means_, fit().means_, rtol=1e-4)
    labels = EMGaussianMixture(3, random_state=0).fit_predict(X, sample_weight=weight)
    np.testing.assert_array_equal(labels, weighted.labels_)


def test_the_race_reports_every_start():
    mixture = fit("full", 4)
    fates = [row["status"] for row in mixture.restarts_]
    assert fates.count("outrun") >= len(fates) / 2
    assert fates.count("converged") == 1
    assert next(row["objective"] for row in mixture.restarts_ if row["status"] == "converged") == mixture.objective_
    starts = fit("full", 4, n_init=6).restarts_
    assert [row["start"] for row in starts] == list(range(6))
    assert len({round(row["objective"], 3) for row in starts}) > 1  # restarts differ


def test_a_sketch_is_enough_for_starts_on_many_rows():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 3)) * 20
    rows = centres[rng.integers(6, size=60_000)] + rng.normal(size=(60_000, 3))
    means = fit("spherical", 6, rows).means_
    np.testing.assert_allclose(means, centres[np.lexsort(centres.T[::-1])], atol=0.1)


def test_float32_is_close_to_float64():
    single, double = fit(data=X.astype(np.float32)), fit()
    np.testing.assert_allclose(single.means_, double.means_, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(single.log_likelihood_, double.log_likelihood_, rtol=1e-5)
    assert single.means_.dtype == np.float64


def test_equal_starting_components_are_refused():
    X = np.random.default_rng(0).normal(size=(60, 2))
    given = {"means_init": [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]}
    with pytest.raises(ValueError, match="the same mean: they would stay alike"):
        EMGaussianMixture(3, **given).fit(X)
    with pytest.raises(ValueError, match="the same mean, precisions_init the same precision"):
        EMGaussianMixture(3, covariance_type="diag", precisions_init=np.ones((3, 2)), **given).fit(X)
    with pytest.raises(ValueError, match="the same mean: they would stay alike"):
        EMGaussianMixture(3, covariance_type="tied", precisions_init=np.eye(2), **given).fit(X)


@pytest.mark.parametrize("k", [2, 8])
def test_too_few_rows_for_one_covariance(k):
    X = np.random.default_rng(0).normal(size=(30, 28))
    with pytest.warns(ConvergenceWarning, match=r"\(degenerate\): the components hold 30 rows where their common"):
        mixture = EMGaussianMixture(k, covariance_type="tied", random_state=0).fit(X)
    assert mixture.bic(X) == np.inf
