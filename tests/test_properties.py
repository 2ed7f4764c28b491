"""The public API under whatever arrays there are: a valid, finite answer, or a ValueError that says what to mend."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info, threadpool_limits

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer
from emkit._executors import one_blas_thread
from emkit.exceptions import DataWarning

EXAMPLES = settings(examples(25), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
# A message that a user can act on names what it speaks of.
NAMES = ("row", "column", "sequence", "n_samples", "sample", "n_components", "n_states", "sample_weight", "cell", "X ")
SHAPES = ["full", "tied", "diag", "spherical"]


@st.composite
def tables(draw, holes=True):
    """Rows of clusters, or worse, in any type, order and place in memory."""
    n, d = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X = rng.normal(size=(n, d)) + 4.0 * rng.integers(3, size=(n, 1))
    for column in range(d):
        kind = draw(st.sampled_from(["as is"] * 4 + ["constant", "copy", "huge", "tiny", "far", "whole"]))
        if kind == "constant":
            X[:, column] = rng.choice([0.0, 1.0, -3.7e8])
        elif kind == "copy":
            X[:, column] = X[:, 0]
        elif kind == "far":
            X[:, column] += 1e8
        elif kind == "whole":
            X[:, column] = np.round(X[:, column])
        elif kind != "as is":
            X[:, column] *= 1e150 if kind == "huge" else 1e-150
    if draw(st.booleans()):
        X = X[rng.integers(n, size=n)]  # duplicates
    dtype = draw(st.sampled_from([np.float64] * 3 + [np.float32, np.int64, np.int32, np.uint8, bool, object, ">f8"]))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if np.dtype(dtype).kind in "iub":
            X = np.clip(np.nan_to_num(np.round(X)), 0, 200)
        X = X.astype(dtype)
    if holes and X.dtype.kind in "fO":
        pattern = draw(st.sampled_from(["none", "none", "some", "many", "column", "row"]))
        if pattern in ("some", "many"):
            X[rng.random(X.shape) < {"some": 0.1, "many": 0.7}[pattern]] = np.nan
        elif pattern == "column":
            X[:, -1] = np.nan
        elif pattern == "row":
            X[0] = np.nan
    return placed(X, draw(st.sampled_from(["C", "F", "strided", "backwards", "read-only", "list", "unaligned"])))


def placed(X, where):
    """The same numbers elsewhere in memory."""
    if where == "F":
        return np.asfortranarray(X)
    if where == "strided":
        wide = np.zeros((2 * X.shape[0], 3 * X.shape[1]), X.dtype)
        wide[::2, ::3] = X
        return wide[::2, ::3]
    if where == "backwards":
        return X[::-1, ::-1].copy()[::-1, ::-1]
    if where == "read-only":
        X = X.copy()
        X.flags.writeable = False
        return X
    if where == "list":
        return X.tolist()
    if where == "unaligned" and X.dtype != object:
        raw = np.zeros(X.nbytes + 1, np.uint8)
        away = raw[1:].view(X.dtype).reshape(X.shape)
        away[...] = X
        return away
    return X


@st.composite
def weights(draw, n):
    """None, or weights, some of them zero."""
    kind = draw(st.sampled_from(["none", "none", "ones", "some zero", "any"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return {"none": None, "ones": np.ones(n), "some zero": rng.integers(0, 3, n), "any": 3.0 * rng.random(n)}[kind]


def attempt(act):
    """What the act gives, or None if it was refused with a message that says why; NumPy must have no doubts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return act()
        except ValueError as error:
            assert any(name in str(error) for name in NAMES), error
            return None


def check_record(fitted):
    """What every fit records is finite and consistent."""
    assert np.isfinite(fitted.log_likelihood_)
    assert np.isfinite(fitted.objective_)
    assert np.isfinite(fitted.history_).all()
    assert fitted.status_ in ("converged", "max_iter", "stalled", "degenerate", "stopped")
    assert fitted.rate_ >= 0.0
    assert fitted.rate_ < 1.0 or not fitted.converged_  # 1 and more: the climb is leaving a saddle
    assert fitted.gap_ >= 0.0
    for name, value in vars(fitted).items():
        if name.endswith("_") and isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert np.isfinite(value).all(), name


def check_probabilities(values, shape):
    assert values.shape == shape
    assert (values >= 0.0).all()
    np.testing.assert_allclose(values.sum(axis=-1), 1.0, atol=1e-9)


def check_covariances(covariances):
    """Symmetric and positive definite, in whatever shape; each in its own units."""
    if covariances.ndim < 2 or (covariances.ndim == 2 and not np.allclose(covariances, covariances.T)):
        assert (covariances > 0.0).all()
        return
    for matrix in covariances if covariances.ndim == 3 else [covariances]:
        deviation = np.sqrt(np.diagonal(matrix))
        assert (deviation > 0.0).all()
        correlation = matrix / deviation / deviation[:, None]
        np.testing.assert_allclose(correlation, correlation.T, atol=1e-12)
        assert np.linalg.eigvalsh(correlation)[0] > -1e-9


@EXAMPLES
@given(data=st.data())
def test_mixtures(data):
    X = data.draw(tables())
    n, d = np.shape(X)
    mixture = EMGaussianMixture(
        data.draw(st.integers(1, 4)),
        covariance_type=data.draw(st.sampled_from(SHAPES)),
        init_params=data.draw(st.sampled_from(["k-means++", "random", "kmeans"])),
        n_init=data.draw(st.sampled_from(["auto", 1, 3])),
        reg_covar=data.draw(st.sampled_from([1e-6, 1e-3])),
        random_state=0,
        max_iter=50,
    )
    weight = data.draw(weights(n))
    fitted = attempt(lambda: mixture.fit(X, sample_weight=weight))
    if fitted is None:
        assert not hasattr(mixture, "means_")
        return
    k = mixture.n_components
    check_record(fitted)
    check_probabilities(fitted.weights_, (k,))
    assert fitted.means_.shape == (k, d)
    if mixture.covariance_type in ("full", "tied"):
        check_covariances(fitted.covariances_)
    else:
        assert (fitted.covariances_ > 0.0).all()
    proba, labels = attempt(lambda: fitted.predict_proba(X)), attempt(lambda: fitted.predict(X))
    check_probabilities(proba, (n, k))
    assert sorted(set(fitted.labels_.tolist())) == list(range(fitted.labels_.max() + 1))
    assert labels.min() >= 0
    assert labels.max() < k
    densities = attempt(lambda: fitted.score_samples(X))
    assert np.isfinite(densities).all()
    total = densities.sum() if weight is None else weight @ densities
    np.testing.assert_allclose(fitted.log_likelihood_, total, rtol=1e-6, atol=1e-5 * max(1.0, np.abs(densities).sum()))
    drawn, parts = attempt(lambda: fitted.sample(3, random_state=0))
    assert np.isfinite(drawn).all()
    assert parts.shape == (3,)
    for criterion in (fitted.aic, fitted.bic, fitted.icl):
        assert not np.isnan(attempt(lambda criterion=criterion: criterion(X, sample_weight=weight)))


@EXAMPLES
@given(data=st.data())
def test_imputers(data):
    X = data.draw(tables())
    imputer = EMImputer(
        prior=data.draw(st.sampled_from(["auto", "ridge", None])),
        prior_strength=data.draw(st.sampled_from([1.0, 0.1, 20.0])),
        keep_empty_features=data.draw(st.booleans()),
        add_indicator=data.draw(st.booleans()),
        sample_posterior=data.draw(st.booleans()),
        random_state=0,
        max_iter=50,
    )
    weight = data.draw(weights(len(X)))
    fitted = attempt(lambda: imputer.fit(X, sample_weight=weight))
    if fitted is None:
        assert not hasattr(imputer, "mean_")
        return
    check_record(fitted)
    varies = np.diagonal(fitted.covariance_) > 0.0
    if varies.any():
        check_covariances(fitted.covariance_[np.ix_(varies, varies)])
    filled = attempt(lambda: fitted.transform(X))
    assert filled.shape == (len(X), len(fitted.get_feature_names_out()))
    assert np.isfinite(filled).all()
    given_ = np.asarray(X, dtype=float)[:, fitted._kept]
    seen = ~np.isnan(given_)
    np.testing.assert_array_equal(filled[:, : given_.shape[1]][seen], given_[seen])
    assert np.isfinite(attempt(lambda: fitted.score_samples(X))).all()
    mean, std = attempt(lambda: fitted.conditional(X))
    assert np.isfinite(mean).all()
    assert (std >= 0.0).all()
    assert np.isfinite(attempt(lambda: fitted.sample(3, random_state=0))).all()
    assert not np.isnan(attempt(lambda: fitted.bic(X, sample_weight=weight)))


NUMBERS = {"gaussian", "student-t", "gaussian-mixture"}


@EXAMPLES
@given(data=st.data())
def test_chains(data):
    X = data.draw(tables())
    law = data.draw(st.sampled_from(["gaussian"] * 4 + ["student-t", "gaussian-mixture", "poisson", "exponential"]))
    if law not in NUMBERS:
        with np.errstate(all="ignore"):
            X = np.abs(np.round(np.asarray(X, dtype=float)))
    n = len(X)
    model = EMHiddenMarkov(
        data.draw(st.integers(1, 3)),
        emission=law,
        covariance_type=data.draw(st.sampled_from(SHAPES)),
        start=data.draw(st.sampled_from(["free", "stationary"])),
        algorithm=data.draw(st.sampled_from(["viterbi", "map"])),
        n_init=data.draw(st.sampled_from(["auto", 1, 2])),
        random_state=0,
        max_iter=30,
    )
    cuts = data.draw(st.sampled_from([None, "groups", "lengths"]))
    how = {}
    if cuts:
        ends = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=3))) if n > 1 else []
        lengths = np.diff([0, *ends, n])
        how = {"lengths": lengths} if cuts == "lengths" else {"groups": np.repeat(np.arange(len(lengths)), lengths)}
    fitted = attempt(lambda: model.fit(X, **how))
    if fitted is None:
        assert not hasattr(model, "startprob_")
        return
    k = model.n_states
    check_record(fitted)
    check_probabilities(fitted.startprob_, (k,))
    check_probabilities(fitted.transmat_, (k, k))
    check_probabilities(attempt(lambda: fitted.predict_proba(X, **how)), (n, k))
    path = attempt(lambda: fitted.predict(X, **how))
    assert path.shape == (n,)
    assert path.min() >= 0
    assert path.max() < k
    densities = attempt(lambda: fitted.score_samples(X, **how))
    assert np.isfinite(densities).all()
    np.testing.assert_allclose(
        fitted.log_likelihood_, densities.sum(), rtol=1e-6, atol=1e-5 * max(1.0, np.abs(densities).sum())
    )
    drawn, states = attempt(lambda: fitted.sample(3, random_state=0))
    assert np.isfinite(drawn).all()
    assert states.max() < k
    assert not np.isnan(attempt(lambda: fitted.bic(X, **how)))


@EXAMPLES
@given(data=st.data(), what=st.sampled_from(["C", "F", "strided", "backwards", "read-only", "list", "unaligned"]))
def test_the_place_in_memory_changes_nothing(data, what):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    X = rng.normal(size=(40, 3)) + 4.0 * rng.integers(2, size=(40, 1))
    H = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    for estimator, rows in (
        (EMGaussianMixture(2, n_init=2, random_state=0), X),
        (EMImputer(), H),
        (EMHiddenMarkov(2, n_init=2, random_state=0), H),
    ):
        here, there = clone(estimator), clone(estimator)
        attempt(lambda here=here, rows=rows: here.fit(rows))
        attempt(lambda there=there, rows=rows: there.fit(placed(rows, what)))
        scores = there.score_samples(placed(rows, what)), here.score_samples(rows)
        np.testing.assert_allclose(*scores, rtol=1e-9)  # sums over columns are taken in the order of memory
        assert there.log_likelihood_ == pytest.approx(here.log_likelihood_, rel=1e-12)


# Threads ---------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(3000, 4)) + 5.0 * RNG.integers(3, size=(3000, 1))
WITH_HOLES = np.where((RNG.random(ROWS.shape) < 0.1) & [False, True, True, True], np.nan, ROWS)
THREADED = {
    "mixture": (EMGaussianMixture(3, random_state=0), ROWS, ("predict", "predict_proba", "score_samples", "bic")),
    "imputer": (EMImputer(), WITH_HOLES, ("transform", "score_samples", "conditional")),
    "chain": (
        EMHiddenMarkov(3, random_state=0),
        WITH_HOLES,
        ("predict", "predict_proba", "score_samples", "transform"),
    ),
}


@pytest.mark.parametrize("name", THREADED)
def test_one_fitted_estimator_serves_many_threads(name):
    estimator, X, methods = THREADED[name]
    fitted = clone(estimator).fit(X)
    parts = [X[i::8] for i in range(8)]
    calls = [(method, part) for part in parts for method in methods] * 3
    alone = [getattr(fitted, method)(part) for method, part in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda call: getattr(fitted, call[0])(call[1]), calls))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(other, one)


def test_fits_in_many_threads_are_those_of_one():
    seeds = list(range(8))

    def fit(seed):
        return EMGaussianMixture(3, random_state=seed).fit(ROWS[:500]).history_

    alone = [fit(seed) for seed in seeds]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(fit, seeds), strict=True):
            np.testing.assert_array_equal(other, one)


def test_the_limit_of_blas_is_lifted_by_the_last_who_asked_for_it():
    """Two calls that overlap in time, the first to begin being the first to end."""

    def n_threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(3, user_api="blas"):
        one, other = one_blas_thread(), one_blas_thread()
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        assert n_threads() == {1}
        other.__exit__(None, None, None)
        assert n_threads() == {3}
