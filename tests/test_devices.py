"""Rows of other libraries stay where they are, and give what NumPy's give."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_array_api_input
from specimens import blobs

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer
from emkit._arrays import bring
from emkit.exceptions import DataWarning
from emkit.kernels import devices, reference

SHAPES = ("full", "tied", "diag", "spherical")
LIBRARIES = ("torch", "array_api_strict")
ASKED = ("predict", "predict_proba", "filter_proba", "score_samples")


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
@pytest.mark.parametrize("loss", [0.0, 1.0])  # whitened, by features
def test_kernels_give_the_sums_of_the_reference(library, shape, weighted, loss, monkeypatch):
    monkeypatch.setattr(devices, "_LOSS", loss)
    monkeypatch.setattr(devices, "_CELLS", 6000)  # several chunks, the last a short one
    monkeypatch.setattr(devices, "_PART", 150)
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
    log_prob, resp = out[1], rng.dirichlet(np.ones(4), size=len(X))
    getattr(reference, f"log_prob_{shape}")(X, center, scale, *params, log_prob)
    getattr(devices, f"log_prob_{shape}")(there, center, scale, *params, outside[1])
    np.testing.assert_allclose(bring(outside[1]), log_prob, rtol=1e-10)
    expected = getattr(reference, f"summarize_{shape}")(X, center, scale, params[0], resp)
    found = getattr(devices, f"summarize_{shape}")(there, center, scale, params[0], rows(library, resp))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)


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


@pytest.mark.parametrize("shape", SHAPES)
def test_narrow_components_are_whitened(shape):
    rng = np.random.default_rng(4)
    log_weights, means, spread = parameters(rng, shape)
    narrow = 1e-6 if shape in ("full", "tied") else 1e-12  # factors, variances
    X = means[rng.integers(4, size=1000)] + 1e-6 * rng.normal(size=(1000, 3))
    given = np.zeros(3), np.ones(3), log_weights, means, narrow * spread
    expected = getattr(reference, f"expect_{shape}")(X, None, *given)
    found = getattr(devices, f"expect_{shape}")(rows("torch", X), None, *given)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8 * np.abs(other).max())


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


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_rows_keep_their_digits_far_from_the_origin(shape):
    X = (blobs(np.random.default_rng(5), n=1000, d=3, k=2) + 1e5).astype(np.float32)
    here = EMGaussianMixture(2, covariance_type=shape, random_state=0).fit(X)
    with config_context(array_api_dispatch=True):
        there = EMGaussianMixture(2, covariance_type=shape, random_state=0).fit(rows("torch", X, "float32"))
        told = bring(there.score_samples(rows("torch", X, "float32")))
    assert there.log_likelihood_ == pytest.approx(here.log_likelihood_, rel=1e-5)
    assert told.astype(float).sum() == pytest.approx(there.log_likelihood_, rel=1e-5)


def test_many_columns_need_no_more_than_their_share(monkeypatch):
    X = np.random.default_rng(6).normal(size=(40, 300))
    there = rows("torch", X)
    log_weights, means, spread = np.zeros(1), np.zeros((1, 300)), np.eye(300)[None]
    monkeypatch.setattr(devices.Featured, "__init__", None)  # 90,601 products for each row
    loglik, *_ = devices.expect_full(there, None, np.zeros(300), np.ones(300), log_weights, means, spread)
    assert loglik == pytest.approx(-0.5 * np.sum(X**2) - 40 * 150 * devices.LOG_2PI)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_chain_learns_from_a_stream_of_tensors(library):
    X = walks(np.random.default_rng(8), [200, 150])
    with config_context(array_api_dispatch=True):
        fitted = EMHiddenMarkov(3, random_state=0).partial_fit(rows(library, X[:200]))
        fitted.partial_fit(rows(library, X[200:]))
        assert type(fitted.means_) is type(fitted.predict(rows(library, X))) is type(rows(library, X))


def test_a_cell_that_is_not_finite_is_named():
    X = np.ones((50, 2))
    X[7, 1] = np.nan
    with config_context(array_api_dispatch=True), pytest.raises(ValueError, match="NaN at row 7, column 1"):
        EMGaussianMixture(2).fit(rows("torch", X))


ESTIMATORS = [EMGaussianMixture(1), EMImputer(), EMHiddenMarkov(1)]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_blocks_of_rows_elsewhere(library, estimator):
    X = np.random.default_rng(0).normal(size=(60, 2))
    there = [rows(library, X[:20]), rows(library, X[20:])]
    mean = "mean_" if isinstance(estimator, EMImputer) else "means_"
    expected = [getattr(estimator.fit([X[:20], X[20:]]), mean), estimator.score(X[:20]), estimator.score_samples(X)]
    with config_context(array_api_dispatch=True):
        np.testing.assert_array_equal(getattr(estimator.fit(lambda: there), mean), expected[0])
        assert estimator.score(lambda: there[:1]) == pytest.approx(expected[1])
        if not isinstance(estimator, EMHiddenMarkov):
            told = estimator.score_samples(lambda: there)
            np.testing.assert_allclose(np.concatenate([bring(part) for part in told]), expected[2])


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_imputer_brings_its_rows(library):
    X = np.random.default_rng(0).normal(size=(60, 2))
    X[::5, 1] = np.nan
    filled = EMImputer().fit_transform(X)
    with config_context(array_api_dispatch=True):
        np.testing.assert_array_equal(EMImputer().fit_transform(rows(library, X)), filled)
        np.testing.assert_array_equal(EMImputer().fit(X).transform(rows(library, X)), filled)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("dispatches", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_tensors_whose_numbers_cannot_be_read(dispatches, estimator):
    X = rows("torch", np.ones((60, 2)))
    with config_context(array_api_dispatch=dispatches):
        for hidden in (X.to_sparse(), X.to_sparse_csr()):
            with pytest.raises(ValueError, match=r"sparse input is not supported: give X.to_dense\(\)"):
                estimator.fit(hidden)
        with pytest.raises(ValueError, match="device 'meta', which holds no numbers"):
            estimator.fit(X.to("meta"))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("estimator", [EMGaussianMixture(1), EMHiddenMarkov(1)])
def test_complex_numbers_are_refused(library, estimator):
    X = np.random.default_rng(0).normal(size=(50, 2))
    with config_context(array_api_dispatch=True):
        estimator.fit(rows(library, X))
        for method in (estimator.fit, estimator.predict):
            with pytest.raises(ValueError, match="Complex data not supported"):
                method(rows(library, X + 1j, "complex128"))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("estimator", [EMGaussianMixture(random_state=0), EMHiddenMarkov(random_state=0)])
def test_scikit_learn_checks(library, dtype, estimator):
    pytest.importorskip(library)
    if dtype == "float32" and tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9):
        pytest.skip("columns of the data of older checks are collinear in float32, and the fit says so")
    for category in (DataWarning, ConvergenceWarning):  # the data of these checks are few, and collinear
        warnings.simplefilter("ignore", category)
    check_array_api_input(type(estimator).__name__, estimator, library, dtype_name=dtype)


# Sequences


LENGTHS = np.array([300, 1, 170, 2, 400])


def walks(rng, lengths, k=3, d=2, apart=4.0):
    """Rows of sticky chains whose states lie apart."""
    states = np.concatenate([np.cumsum(rng.random(n) < 0.1) % k for n in lengths])
    return apart * rng.normal(size=(k, d))[states] + rng.normal(size=(len(states), d))


def chain_arguments(rng, k, masked):
    startprob, transmat = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), size=k)
    if masked:
        transmat = np.triu(transmat) / np.triu(transmat).sum(axis=1, keepdims=True)
        startprob = np.eye(k)[0]
    return startprob, transmat


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lengths", [[40] * 30, [900, 1, 80], [3000]], ids=["many", "some", "one"])
@pytest.mark.parametrize("spread", [1.0, 40.0, 3000.0])
def test_passes_equal_those_of_the_reference(library, masked, lengths, spread):
    rng = np.random.default_rng(4)
    lengths, k = np.array(lengths), 4
    n, N = lengths.sum(), len(lengths)
    log_prob, weight = spread * rng.normal(size=(n, k)), rng.exponential(size=N)
    startprob, transmat = chain_arguments(rng, k, masked)
    results = []
    for kernels, like in ((reference, "numpy"), (devices, library)):
        states, logliks, increments, scores = np.empty((n, k)), np.empty(N), np.empty(n), np.empty(N)
        states, filtered, increments = (rows(like, array.copy()) for array in (states, log_prob, increments))
        path = rows(like, np.zeros(n), "int64")
        given = rows(like, log_prob), lengths
        sums = kernels.forward_backward(*given, weight, startprob, transmat, states, logliks, 1)
        kernels.filter_chain(filtered, lengths, startprob, transmat, increments)
        kernels.viterbi(*given, startprob, transmat, path, scores, 1)
        assert type(states) is type(filtered) is type(path)
        results.append([*sums, logliks, scores, *map(bring, (states, filtered, increments, path))])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-11 * n)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("lengths", [[50] * 20, [1000]], ids=["many", "one"])
def test_a_row_as_improbable_in_every_state_tells_no_path(library, lengths):
    rng = np.random.default_rng(6)
    lengths, chain = np.array(lengths), chain_arguments(rng, 4, False)
    plain = rng.normal(size=(1000, 4))
    plain[120] = 0.0
    fallen = plain.copy()
    fallen[120] = -1e18
    found, true_path, scores = rows(library, np.zeros(1000), "int64"), np.empty(1000, np.int64), np.empty(len(lengths))
    reference.viterbi(plain, lengths, *chain, true_path, scores)
    devices.viterbi(rows(library, fallen), lengths, *chain, found, scores)
    np.testing.assert_array_equal(bring(found), true_path)
    assert scores.min() == pytest.approx(-1e18)


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_impossible_sequence_is_told_from_the_others(library):
    log_prob = np.zeros((100, 2))
    log_prob[70, :] = -np.inf
    states, logliks = rows(library, np.empty((100, 2))), np.empty(2)
    startprob, transmat = chain_arguments(np.random.default_rng(0), 2, False)
    given = rows(library, log_prob), np.array([50, 50]), None, startprob, transmat
    devices.forward_backward(*given, states, logliks, 1)
    assert logliks[0] == pytest.approx(0.0, abs=1e-12)
    assert logliks[1] == -np.inf
    assert not bring(states)[50:].any()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_chain_equals_that_of_numpy(library, shape, weighted):
    rng = np.random.default_rng(5)
    X = walks(rng, LENGTHS)
    weight = np.repeat([1.0, 2.0, 0.0, 1.5, 0.5], LENGTHS) if weighted else None
    given = {"covariance_type": shape, "n_init": 3, "random_state": 0, "tol": 1e-9}
    here = EMHiddenMarkov(3, **given).fit(X, lengths=LENGTHS, sample_weight=weight)
    there, lengths = rows(library, X), rows(library, LENGTHS, "int64")
    w = None if weight is None else rows(library, weight)
    with config_context(array_api_dispatch=True):
        fitted = EMHiddenMarkov(3, **given).fit(there, lengths=lengths, sample_weight=w)
        asked = {name: getattr(fitted, name)(there, lengths=lengths) for name in ASKED}
        assert fitted.score(there, lengths=lengths) == pytest.approx(here.score(X, lengths=LENGTHS), rel=1e-10)
        assert fitted.decode(there, lengths=lengths)[0] == pytest.approx(here.decode(X, lengths=LENGTHS)[0], rel=1e-9)
        fitted.set_params(algorithm="map")
        most_probable = fitted.predict(there, lengths=lengths)
    assert fitted.n_iter_ == here.n_iter_
    for name in ("startprob_", "transmat_", "means_", "covariances_", "labels_"):
        assert type(getattr(fitted, name)) is type(there)
        np.testing.assert_allclose(bring(getattr(fitted, name)), getattr(here, name), rtol=1e-8, atol=1e-8)
    for name, told in asked.items():
        assert type(told) is type(there)
        assert told.device == there.device
        np.testing.assert_allclose(bring(told), getattr(here, name)(X, lengths=LENGTHS), rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(bring(most_probable), here.set_params(algorithm="map").predict(X, lengths=LENGTHS))


@pytest.mark.parametrize("library", LIBRARIES)
def test_sequences_in_every_form(library):
    rng = np.random.default_rng(6)
    X = walks(rng, [60, 90])
    shuffled = rng.permutation(np.repeat([0, 1], [60, 90]))
    interleaved = np.empty_like(X)
    interleaved[np.argsort(shuffled, kind="stable")] = X
    with config_context(array_api_dispatch=True):
        model = EMHiddenMarkov(3, random_state=0, n_init=1).fit(rows(library, X), lengths=[60, 90])
        expected = bring(model.predict(rows(library, X), lengths=[60, 90]))
        first, second = model.predict([rows(library, X[:60]), rows(library, X[60:])])
        by_group = model.predict(rows(library, interleaved), groups=rows(library, shuffled, "int64"))
    np.testing.assert_array_equal(np.concatenate([bring(first), bring(second)]), expected)
    np.testing.assert_array_equal(bring(by_group)[np.argsort(shuffled, kind="stable")], expected)
    assert type(first) is type(by_group) is type(rows(library, X))


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_else_a_chain_tells_of_rows_elsewhere(library):
    X = walks(np.random.default_rng(7), [240], apart=8.0)
    here = EMHiddenMarkov(3, random_state=0, n_init=1).fit(X)
    there = rows(library, X)
    with config_context(array_api_dispatch=True):
        fitted = EMHiddenMarkov(3, random_state=0, n_init=1).fit(there)
        assert type(fitted.transform(there)) is type(there)
        pairs = [
            (fitted.transform(there), here.transform(X)),
            (fitted.forecast(there, 3).mean, here.forecast(X, 3).mean),
            (fitted.k_best_paths(there, 2)[0], here.k_best_paths(X, 2)[0]),
            (fitted.sample_paths(there, 2, random_state=0), here.sample_paths(X, 2, random_state=0)),
            (fitted.filter(there[0, :]), here.filter(X[0])),
            (fitted.stationary_distribution(), here.stationary_distribution()),
            (fitted.expected_dwell_times(), here.expected_dwell_times()),
            (fitted.bic(there), here.bic(X)),
        ]
        with pytest.warns(DataWarning, match="startprob_"):
            pairs.append((fitted.standard_errors(there).means_, here.standard_errors(X).means_))
        again = fitted.set_params(warm_start=True).fit(there)
    for one, other in pairs:
        np.testing.assert_allclose(bring(one), other, rtol=1e-5, atol=1e-7)
    assert again.log_likelihood_ >= here.log_likelihood_ - 1e-6


# Whether so few digits show that the gap is closed is chance.
@pytest.mark.filterwarnings("ignore:.*as good as the arithmetic allows:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_chain_of_float32_rows_and_many_of_them(library):
    lengths = [9_000, 40, 11_000]  # more rows than a start looks at
    X = walks(np.random.default_rng(8), lengths, apart=8.0).astype(np.float32) + np.float32(100.0)
    here = EMHiddenMarkov(3, random_state=0, n_init=1).fit(X, lengths=lengths)
    with config_context(array_api_dispatch=True):
        there = EMHiddenMarkov(3, random_state=0, n_init=1).fit(rows(library, X, "float32"), lengths=lengths)
    assert there.log_likelihood_ == pytest.approx(here.log_likelihood_, rel=1e-5)
    np.testing.assert_allclose(bring(there.means_), here.means_, rtol=1e-4)


def test_what_only_numpy_arrays_can_be():
    X = np.ones((50, 2))
    X[7, 1] = np.nan
    with config_context(array_api_dispatch=True):
        with pytest.raises(ValueError, match=r"NaN at row 7, .*only NumPy arrays may have missing cells"):
            EMHiddenMarkov(2).fit(rows("torch", X))
        with pytest.raises(ValueError, match="Poisson are read from NumPy arrays only"):
            EMHiddenMarkov(2, emission="poisson").fit(rows("torch", np.ones((50, 2))))
    assert EMHiddenMarkov(2, n_init=1, random_state=0).fit(rows("torch", np.arange(40.0)[:, None])).means_.shape == (
        2,
        1,
    )


@pytest.mark.parametrize("estimator", [EMGaussianMixture(2, random_state=0), EMHiddenMarkov(2, random_state=0)])
def test_rows_of_another_library_than_those_of_the_fit(estimator):
    X = walks(np.random.default_rng(9), [100], k=2, apart=8.0)
    with config_context(array_api_dispatch=True):
        estimator.fit(rows("torch", X))
        for method in ("predict", "predict_proba", "score_samples"):
            with pytest.raises(ValueError, match=rf"{method}\(\) must use the same namespace"):
                getattr(estimator, method)(X)


def test_rows_on_another_device_than_weights():
    X = walks(np.random.default_rng(9), [100], k=2, apart=8.0)
    xp = pytest.importorskip("array_api_strict")
    there = xp.asarray(X, device=xp.Device("device1"))
    with config_context(array_api_dispatch=True):
        model = EMHiddenMarkov(2, random_state=0, n_init=1).fit(there, sample_weight=rows("torch", np.full(100, 2.0)))
        assert model.predict(there).device == model.means_.device == there.device
