"""Standard errors against closed forms, published values and each other."""

import warnings

import numpy as np
import pytest

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, datasets
from emkit._accelerate import ACCELERATORS
from emkit._em import climb
from emkit._executors import serial
from emkit._standard_errors import Neighbourhood
from emkit.emissions import Poisson
from emkit.exceptions import DataWarning
from emkit.finite_mixture import Mixture


def two_normals(n=600, seed=0):
    rng = np.random.default_rng(seed)
    upper = rng.random(n) < 0.4
    return np.where(upper[:, None], 3.0, 0.0) + rng.normal(size=(n, 2)) * np.where(upper[:, None], 0.7, 1.2)


def chain_of_normals(n_sequences=40, length=30, seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(n_sequences):
        state = np.cumsum(rng.random(length) < 0.2) % 2
        parts.append(rng.normal(3.0 * state, 1.0)[:, None])
    return parts


def test_deaths_of_women_have_the_published_errors():
    """Exact errors of the rates and the weight: Jamshidian & Jennrich (2000), data of Hasselblad (1969)."""
    deaths = np.repeat(np.arange(10.0), [162, 267, 271, 185, 111, 61, 27, 8, 3, 1])[:, None]
    model = Mixture(Poisson(), 2)
    data = model.prepare(deaths)
    model = model.calibrate(data)
    blocks = model.split(data)
    start = model.start(model.sketch(data), np.random.default_rng(0))
    best = climb(model, blocks, start, tol=1e-12, max_iter=5000, accelerate=ACCELERATORS["auto"])
    here = Neighbourhood(model, blocks, model.canonical(best.params), serial)

    def named(params):
        outside = model.restore(params, data)
        return np.concatenate([outside.weights, outside.law.lambdas.ravel()])

    information, asymmetry = here.information()
    errors = here.carry_over(here.covariance(information), named)
    assert asymmetry < 1e-5
    np.testing.assert_allclose(named(model.canonical(best.params)), [0.3599, 0.6401, 1.2561, 2.6634], atol=1e-4)
    np.testing.assert_allclose(errors, [0.1946843, 0.1946843, 0.3500297, 0.2504783], atol=1e-5)


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
def test_one_normal_has_the_errors_of_a_textbook(shape):
    X = two_normals()
    n, d = X.shape
    fitted = EMGaussianMixture(1, covariance_type=shape, tol=1e-9, reg_covar=0.0).fit(X)
    found = fitted.standard_errors(X)
    S = np.cov(X.T, ddof=0)
    by_shape = {
        "full": np.sqrt((S**2 + np.outer(np.diag(S), np.diag(S))) / n)[None],
        "tied": np.sqrt((S**2 + np.outer(np.diag(S), np.diag(S))) / n),
        "diag": np.sqrt(2.0 / n) * np.diag(S)[None],
        "spherical": np.sqrt(2.0 / (n * d)) * np.array([np.trace(S) / d]),
    }
    np.testing.assert_allclose(found.covariances_, by_shape[shape], rtol=1e-5)
    np.testing.assert_array_equal(found.weights_, [0.0])  # it cannot vary


def test_means_of_one_normal_vary_as_means_do():
    X = two_normals()
    found = EMGaussianMixture(1, tol=1e-9, reg_covar=0.0).fit(X).standard_errors(X)
    np.testing.assert_allclose(found.means_[0], X.std(axis=0) / np.sqrt(len(X)), rtol=1e-6)


def test_well_separated_components_have_the_errors_of_their_own_rows():
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.normal(-50.0, 1.0, (200, 1)), rng.normal(50.0, 2.0, (600, 1))])
    fitted = EMGaussianMixture(2, tol=1e-9, reg_covar=0.0).fit(X)
    order = np.argsort(fitted.means_[:, 0])
    found = fitted.standard_errors(X)
    np.testing.assert_allclose(found.weights_, np.sqrt(0.25 * 0.75 / 800), rtol=1e-5)
    spread = [X[:200].std(), X[200:].std()]
    np.testing.assert_allclose(found.means_[order, 0], spread / np.sqrt([200.0, 600.0]), rtol=1e-5)


def test_weights_are_repetitions():
    X = two_normals(300)
    weight = np.random.default_rng(2).integers(0, 4, len(X)).astype(float)
    again = np.repeat(X, weight.astype(int), axis=0)
    fitted = EMGaussianMixture(2, tol=1e-9, random_state=0).fit(again)
    one = fitted.standard_errors(X, sample_weight=weight)
    two = fitted.standard_errors(again)
    for name, value in one.estimates.items():
        np.testing.assert_allclose(one[name], two[name], rtol=1e-6)
        np.testing.assert_array_equal(value, two.estimates[name])
    sandwiches = [
        fitted.standard_errors(X, method="sandwich", sample_weight=weight),
        fitted.standard_errors(again, method="sandwich"),
    ]
    np.testing.assert_allclose(sandwiches[0].means_, sandwiches[1].means_, rtol=1e-6)


def test_errors_carry_the_units_of_the_data():
    X = two_normals(400)
    fits = [EMGaussianMixture(2, tol=1e-9, random_state=0).fit(unit * X + 5.0) for unit in (1.0, 1e4)]
    one, other = (fit.standard_errors(unit * X + 5.0) for fit, unit in zip(fits, (1.0, 1e4), strict=True))
    np.testing.assert_allclose(other.means_, 1e4 * one.means_, rtol=1e-4)
    np.testing.assert_allclose(other.covariances_, 1e8 * one.covariances_, rtol=1e-4)
    np.testing.assert_allclose(other.weights_, one.weights_, rtol=1e-4)


@pytest.mark.parametrize("family", ["mixture", "chain", "imputer"])
def test_three_methods_agree_where_the_model_is_right(family):
    if family == "mixture":
        X = two_normals(2000)
        fitted = EMGaussianMixture(2, covariance_type="spherical", tol=1e-6, random_state=0).fit(X)
        names = ["means_", "covariances_", "weights_"]
    elif family == "chain":
        X = chain_of_normals(80)
        fitted = EMHiddenMarkov(2, tol=1e-6, random_state=0).fit(X)
        names = ["means_", "covariances_", "transmat_"]
    else:
        X = np.random.default_rng(3).multivariate_normal([0.0, 1.0], [[1.0, 0.6], [0.6, 2.0]], 1000)
        X[:300, 1] = np.nan
        fitted = EMImputer(prior=None, tol=1e-6).fit(X)
        names = ["mean_", "covariance_"]
    information = fitted.standard_errors(X)
    sandwich = fitted.standard_errors(X, method="sandwich")
    bootstrap = fitted.standard_errors(X, method="bootstrap", n_resamples=150, random_state=0)
    for name in names:
        assert (information[name] > 0.0).all()
        np.testing.assert_allclose(sandwich[name], information[name], rtol=0.35)
        np.testing.assert_allclose(bootstrap[name], information[name], rtol=0.35)


def test_the_sandwich_is_right_where_the_model_is_wrong():
    """The variance of a variance is mu4 - sigma^4; a normal model takes mu4 = 3 sigma^4 for granted."""
    x = np.random.default_rng(4).laplace(size=(4000, 1))
    fitted = EMGaussianMixture(1, tol=1e-9, reg_covar=0.0).fit(x)
    z = x - x.mean()
    right = np.sqrt((np.mean(z**4) - np.mean(z**2) ** 2) / len(x))
    found = fitted.standard_errors(x, method="sandwich")
    np.testing.assert_allclose(found.covariances_.item(), right, rtol=1e-4)
    assert fitted.standard_errors(x).covariances_.item() < 0.8 * right


@pytest.mark.parametrize("method", ["information", "sandwich", "bootstrap"])
def test_in_any_unit(method):
    X = np.random.default_rng(7).normal(size=(200, 2))
    found, tiny = (
        EMGaussianMixture(1, tol=1e-9).fit(scale * X).standard_errors(scale * X, method=method, random_state=0)
        for scale in (1.0, 2.0**-440)
    )
    np.testing.assert_allclose(tiny.covariances_ * 2.0**880, found.covariances_, rtol=1e-6)


def test_the_sandwich_needs_many_units():
    X = np.random.default_rng(5).normal(size=(300, 1)) + 5.0 * (np.arange(300)[:, None] // 20 % 2)
    fitted = EMHiddenMarkov(2, random_state=0).fit([X[:100], X[100:200], X[200:]])
    with pytest.raises(ValueError, match="more independent rows or sequences than parameters: X has 3 for 7; use"):
        fitted.standard_errors([X[:100], X[100:200], X[200:]], method="sandwich")


def test_a_probability_of_zero_is_held_and_named():
    mask = np.array([[True, True], [False, True]])
    X = np.concatenate([np.random.default_rng(5).normal(mean, 1.0, (40, 1)) for mean in (0.0, 6.0)])
    fitted = EMHiddenMarkov(2, transmat_mask=mask, random_state=0).fit(X)
    with pytest.warns(DataWarning, match=r"on the boundary.*transmat_\[1, 0\]"):
        found = fitted.standard_errors(X)
    assert found.transmat_[1, 0] == 0.0
    assert found.transmat_[0, 0] > 0.0


def test_intervals_are_symmetric_and_grow_with_the_level():
    X = two_normals(400)
    found = EMGaussianMixture(2, random_state=0).fit(X).standard_errors(X)
    low, high = found.intervals(0.95).means_
    np.testing.assert_allclose(0.5 * (low + high), found.estimates.means_)
    np.testing.assert_allclose(high - low, 2 * 1.959964 * found.means_, rtol=1e-6)
    assert (found.intervals(0.5).means_[1] < high).all()
    with pytest.raises(ValueError, match="level=1"):
        found.intervals(1)


def test_what_standard_errors_refuse_and_doubt():
    X = two_normals(400)
    fitted = EMGaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="method"):
        fitted.standard_errors(X, method="jackknife")
    with pytest.raises(ValueError, match="n_resamples"):
        fitted.standard_errors(X, method="bootstrap", n_resamples=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        fitted.standard_errors(X)
    with pytest.raises(ValueError, match=r"nats below the maximum.*give the rows of the fit"):
        fitted.standard_errors(X[:200])
    loose = EMGaussianMixture(3, random_state=0, tol=1.0, n_init=1, init_params="random_from_data").fit(X)
    with pytest.warns(DataWarning, match=r"nats below the maximum.*smaller tol"):
        loose.standard_errors(X)
    (sequence,) = chain_of_normals(1, 200)
    chain = EMHiddenMarkov(2, random_state=0).fit(sequence)
    with pytest.warns(DataWarning, match="boundary"), pytest.raises(ValueError, match="one sequence"):
        chain.standard_errors(sequence)
        chain.standard_errors(sequence, method="bootstrap")


METHODS = ("information", "sandwich", "bootstrap")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [EMGaussianMixture, EMHiddenMarkov, EMImputer])
def test_rows_of_another_fit_are_refused(make, method):
    """A shift keeps the curvature, and moves the maximum away."""
    X = two_normals(900)
    parts = np.split(X, 30) if make is EMHiddenMarkov else X
    fitted = make(tol=1e-6).set_params(random_state=0).fit(parts)
    fitted.standard_errors(parts, method=method, n_resamples=2, random_state=0)
    with pytest.raises(ValueError, match=r"nats below the maximum for these rows.*give the rows of the fit"):
        fitted.standard_errors([part + 0.3 for part in parts], method=method, n_resamples=2, random_state=0)


def test_the_gain_is_what_a_newton_step_promises():
    """The log-likelihood of a normal is a parabola in its mean: a shift by s costs n s^2 / (2 sigma^2)."""
    X = two_normals()[:, :1]
    fitted = EMGaussianMixture(1, reg_covar=0.0).fit(X)
    limit = np.sqrt(2.0 * 0.1 / len(X)) * X.std()
    fitted.standard_errors(X + 0.9 * limit)
    with pytest.raises(ValueError, match="nats below"):
        fitted.standard_errors(X + 1.1 * limit)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_the_fit_are_needed(method):
    X = two_normals(400)
    weight = np.where(X[:, 0] > 1.0, 3.0, 1.0)
    fitted = EMGaussianMixture(2, tol=1e-6, random_state=0).fit(X, sample_weight=weight)
    fitted.standard_errors(X, sample_weight=weight, method=method, n_resamples=2)
    with pytest.raises(ValueError, match="with its sample_weight"):
        fitted.standard_errors(X, method=method, n_resamples=2)


@pytest.mark.parametrize("prior", ["ridge", np.eye(2)], ids=["ridge", "wishart"])
def test_a_prior_belongs_to_the_maximum(prior):
    X = two_normals(12)
    X[:4, 1] = np.nan
    fitted = EMImputer(prior=prior, prior_strength=20.0, tol=1e-6).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (fitted.standard_errors(X).covariance_ > 0.0).all()


def test_a_fit_that_ended_early_is_refused():
    X = two_normals(400, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        early = EMGaussianMixture(3, random_state=0, max_iter=1, n_init=1, acceleration=None).fit(X)
    for method in METHODS:
        with pytest.raises(ValueError, match=r"n_iter_=1 steps; fit again with a larger max_iter"):
            early.standard_errors(X, method=method, n_resamples=2)
    stream = EMImputer().partial_fit(X[:300]).partial_fit(X[300:] + 1.0)
    with pytest.raises(ValueError, match=r"partial_fit forgets.*call fit with them"):
        stream.standard_errors(X[300:] + 1.0)


def test_an_imputer_of_real_data():
    table = datasets.load_cholesterol().data
    fitted = EMImputer(prior=None, tol=1e-8).fit(table)
    found = fitted.standard_errors(table)
    assert found.mean_.shape == (3,)
    assert (found.mean_ >= 0.98 * np.nanstd(table, axis=0) / np.sqrt(len(table))).all()
    assert found.asymmetry < 1e-5


def test_errors_belong_to_the_fit_whatever_is_set_after_it():
    X = two_normals(300)
    fitted = EMGaussianMixture(2, random_state=0).fit(X)
    before = fitted.standard_errors(X)
    after = fitted.set_params(covariance_type="diag", n_components=3, reg_covar=1.0).standard_errors(X)
    np.testing.assert_array_equal(after.covariances_, before.covariances_)


def test_a_degenerate_fit_has_no_errors():
    X = np.repeat(np.array([[0.0], [1.0]]), 10, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = EMGaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="degenerate"):
        fitted.standard_errors(X)


def test_a_symbol_that_cannot_be_is_said_to_be_on_the_boundary():
    rng, state, probabilities = np.random.default_rng(2), [0], np.array([[0.5, 0.3, 0.2], [0.0, 0.1, 0.9]])
    for _ in range(299):
        state.append(state[-1] if rng.random() < 0.9 else 1 - state[-1])
    X = np.array([rng.choice(3, p=probabilities[i]) for i in state])[:, None]
    model = EMHiddenMarkov(2, emission="categorical", random_state=0, tol=1e-6, start="stationary")
    model.fit(X, lengths=[30] * 10)
    with pytest.warns(DataWarning, match="on the boundary, and held there: probabilities below 1e-6"):
        errors = model.standard_errors(X, lengths=[30] * 10)
    assert errors.emissionprob_[1, 0] < 1e-12
