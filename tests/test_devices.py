"""Rows of other libraries stay where they are, and give what NumPy's give."""

import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_array_api_input
from specimens import blobs

from emkit import EMGaussianMixture
from emkit._arrays import bring
from emkit.exceptions import DataWarning
from emkit.kernels import devices, reference

SHAPES = ("full", "tied", "diag", "spherical")
LIBRARIES = ("torch", "array_api_strict")


@pytest.fixture(autouse=True)
def dispatch(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


def rows(library, X, dtype="float64"):
    xp = pytest.importorskip(library)
    return xp.asarray(X, dtype=getattr(xp, dtype))


def parameters(rng, shape, k=4, d=3):
    factors = np.tril(rng.normal(size=(k, d, d))) + 3.0 * np.eye(d)
    spread = {
        "full": factors,
        "tied": factors[0],
        "diag": rng.exponential(size=(k, d)),
        "spherical": rng.exponential(size=k),
    }[shape]
    return np.log(rng.dirichlet(np.ones(k))), rng.normal(size=(k, d)), spread


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_kernels_give_the_sums_of_the_reference(library, shape, weighted, monkeypatch):
    monkeypatch.setattr(devices, "_CELLS", 600)  # several chunks, the last a short one
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1001, 3)) * 3.0
    weight = rng.integers(0, 3, len(X)).astype(float) if weighted else None
    center, scale = rng.normal(size=3), rng.exponential(size=3)
    log_weights, *params = parameters(rng, shape)
    log_weights[1] = -np.inf  # switched off
    there = rows(library, X)
    w = None if weight is None else rows(library, weight)
    expected = getattr(reference, f"expect_{shape}")(X, weight, center, scale, log_weights, *params)
    found = getattr(devices, f"expect_{shape}")(there, w, center, scale, log_weights, *params)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)
    out = [np.empty(len(X)), np.empty((len(X), 4)), np.empty(len(X), np.int64)]
    outside = [rows(library, array, array.dtype.name) for array in out]
    getattr(reference, f"infer_{shape}")(X, center, scale, log_weights, *params, *out)
    getattr(devices, f"infer_{shape}")(there, center, scale, log_weights, *params, *outside)
    for one, other in zip(outside, out, strict=True):
        np.testing.assert_allclose(bring(one), other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_equals_that_of_numpy(library, shape, weighted):
    rng = np.random.default_rng(1)
    X = blobs(rng, n=1500, d=3, k=3)
    weight = rng.integers(0, 3, len(X)).astype(float) if weighted else None
    here = EMGaussianMixture(3, covariance_type=shape, random_state=0).fit(X, sample_weight=weight)
    there = rows(library, X)
    w = None if weight is None else rows(library, weight)
    with config_context(array_api_dispatch=True):
        fitted = EMGaussianMixture(3, covariance_type=shape, random_state=0).fit(there, sample_weight=w)
        told = fitted.predict(there), fitted.predict_proba(there), fitted.score_samples(there)
        for name in ("weights_", "means_", "covariances_", "precisions_", "labels_"):
            assert type(getattr(fitted, name)) is type(there)
            np.testing.assert_allclose(bring(getattr(fitted, name)), getattr(here, name), rtol=1e-8, atol=1e-8)
        assert fitted.score(there) == pytest.approx(here.score(X), rel=1e-10)
        assert fitted.bic(there, w) == pytest.approx(here.bic(X, weight), rel=1e-10)
        assert fitted.icl(there) == pytest.approx(here.icl(X), rel=1e-8)
    assert fitted.n_iter_ == here.n_iter_
    expected = here.predict(X), here.predict_proba(X), here.score_samples(X)
    for one, other in zip(told, expected, strict=True):
        assert type(one) is type(there)
        np.testing.assert_allclose(bring(one), other, rtol=1e-7, atol=1e-8)


def test_float32_rows_far_from_the_origin():
    X = blobs(np.random.default_rng(2), n=3000, d=4, k=3).astype(np.float32) + np.float32(100.0)
    here = EMGaussianMixture(3, random_state=0).fit(X)
    with config_context(array_api_dispatch=True):
        there = EMGaussianMixture(3, random_state=0).fit(rows("torch", X, "float32"))
    np.testing.assert_allclose(bring(there.means_), here.means_, rtol=1e-4)
    np.testing.assert_allclose(bring(there.covariances_), here.covariances_, rtol=1e-2, atol=1e-3)


def test_many_rows_start_from_a_draw_of_them():
    X = blobs(np.random.default_rng(3), n=30_000, d=2, k=4, apart=8.0)
    here = EMGaussianMixture(4, random_state=0).fit(X)
    with config_context(array_api_dispatch=True):
        there = EMGaussianMixture(4, random_state=0).fit(rows("torch", X))
    assert there.log_likelihood_ == pytest.approx(here.log_likelihood_, abs=2e-3)


def test_a_cell_that_is_not_finite_is_named():
    X = np.ones((50, 2))
    X[7, 1] = np.nan
    with config_context(array_api_dispatch=True), pytest.raises(ValueError, match="NaN at row 7, column 1"):
        EMGaussianMixture(2).fit(rows("torch", X))


@pytest.mark.parametrize("library", LIBRARIES)
def test_scikit_learn_checks(library):
    pytest.importorskip(library)
    for category in (DataWarning, ConvergenceWarning):  # the data of these checks are few, and collinear
        warnings.simplefilter("ignore", category)
    check_array_api_input("EMGaussianMixture", EMGaussianMixture(random_state=0), library, dtype_name="float64")
