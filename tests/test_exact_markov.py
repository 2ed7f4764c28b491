"""Hidden Markov models against the sum over all paths, and what follows from it."""

import warnings
from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, poisson
from sklearn.exceptions import ConvergenceWarning

from emkit import EMHiddenMarkov

K, T = 3, 5
ZEROS = np.array([[0.6, 0.4, 0.0], [0.0, 0.7, 0.3], [0.5, 0.0, 0.5]])


def fitted(X, zeros=False, **how):
    """A model fitted for two steps, so that its parameters are anything but special."""
    how = {"n_init": 1, "max_iter": 2, "random_state": 0, "acceleration": None} | how
    if zeros:
        how["transmat_init"] = ZEROS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMHiddenMarkov(K, **how).fit(X)


def problem(holes, zeros, emission):
    rng = np.random.default_rng(0)
    state = rng.integers(K, size=60)
    if emission == "poisson":
        X = rng.poisson(np.array([[1.0, 5.0], [4.0, 5.0], [9.0, 1.0]])[state]).astype(float)
    else:
        X = 2.0 * state[:, None] + rng.normal(size=(60, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    if holes:
        X[rng.random(X.shape) < 0.3] = np.nan
        X[3] = np.nan
    return fitted(X, zeros, emission=emission), X


def log_densities(model, X):
    """Log-density of the observed cells of each row under each state, by scipy."""
    out = np.zeros((len(X), K))
    for t, k in product(range(len(X)), range(K)):
        seen = ~np.isnan(X[t])
        if not seen.any():
            continue
        if hasattr(model, "lambdas_"):
            out[t, k] = poisson(model.lambdas_[k, seen]).logpmf(X[t, seen]).sum()
        else:
            covariance = model.covariances_[k][np.ix_(seen, seen)]
            out[t, k] = multivariate_normal(model.means_[k, seen], covariance).logpdf(X[t, seen])
    return out


def all_paths(model, X):
    """Every path (K^T, T) and its log-probability together with the rows."""
    log_density = log_densities(model, X)
    paths = np.array(list(product(range(K), repeat=len(X))))
    with np.errstate(divide="ignore"):
        log_joint = np.log(model.startprob_)[paths[:, 0]]
        for t in range(1, len(X)):
            log_joint = log_joint + np.log(model.transmat_)[paths[:, t - 1], paths[:, t]]
    return paths, log_joint + log_density[np.arange(len(X)), paths].sum(axis=1)


cases = pytest.mark.parametrize("emission", ["gaussian", "poisson"])
holes = pytest.mark.parametrize("holes", [False, True])
zeros = pytest.mark.parametrize("zeros", [False, True])


@cases
@holes
@zeros
def test_everything_said_of_the_states(holes, zeros, emission):
    model, rows = problem(holes, zeros, emission)
    X = rows[:T]
    paths, log_joint = all_paths(model, X)
    loglik = np.logaddexp.reduce(log_joint)
    posterior = np.exp(log_joint - loglik)

    np.testing.assert_allclose(model.score_samples(X).sum(), loglik, rtol=1e-10)
    np.testing.assert_allclose(model.score(X), loglik / T, rtol=1e-10)
    smoothed = np.array([[posterior[paths[:, t] == k].sum() for k in range(K)] for t in range(T)])
    np.testing.assert_allclose(model.predict_proba(X), smoothed, atol=1e-10)

    log_prob, path = model.decode(X)
    np.testing.assert_allclose(log_prob, log_joint.max(), rtol=1e-10)
    np.testing.assert_allclose(log_joint[np.ravel_multi_index(path, (K,) * T)], log_joint.max(), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), path)
    np.testing.assert_array_equal(model.set_params(algorithm="map").predict(X), smoothed.argmax(axis=1))

    best = np.sort(log_joint)[::-1]
    log_probs, found = model.k_best_paths(X, 10)
    np.testing.assert_allclose(log_probs, best[: len(log_probs)], rtol=1e-10)
    assert len(log_probs) == min(10, np.isfinite(best).sum())
    assert len(np.unique(found, axis=0)) == len(found)
    for value, path in zip(log_probs, found, strict=True):
        np.testing.assert_allclose(log_joint[np.ravel_multi_index(path, (K,) * T)], value, rtol=1e-10)

    drawn = np.ravel_multi_index(model.sample_paths(X, 20_000, random_state=0).T, (K,) * T)
    frequency = np.bincount(drawn, minlength=K**T) / 20_000
    assert (np.abs(frequency - posterior) <= 5 * np.sqrt(posterior * (1 - posterior) / 20_000) + 10 / 20_000).all()


@cases
@holes
def test_filter_is_the_posterior_of_the_past_and_streams(holes, emission):
    model, rows = problem(holes, False, emission)
    X, state = rows[:T], None
    filtered, increments = model.filter_proba(X), model.score_samples(X)
    before = 0.0
    for t in range(T):
        paths, log_joint = all_paths(model, X[: t + 1])
        loglik = np.logaddexp.reduce(log_joint)
        posterior = np.exp(log_joint - loglik)
        last = [posterior[paths[:, t] == k].sum() for k in range(K)]
        np.testing.assert_allclose(filtered[t], last, atol=1e-10)
        np.testing.assert_allclose(increments[t], loglik - before, atol=1e-9)
        state = model.filter(X[t], state)
        np.testing.assert_allclose(state, last, atol=1e-10)
        before = loglik


@holes
def test_one_em_step_by_enumeration(holes):
    """Starts, transitions and, for complete rows, means after one more step, over several sequences with weights."""
    model, rows = problem(holes, True, "poisson")
    lengths, weight = [4, 1, 3], np.array([2.0, 1.0, 3.0])
    X = rows[: sum(lengths)]
    starts, transitions = np.zeros(K), np.zeros((K, K))
    totals, exposure = np.zeros((K, 2)), np.zeros((K, 2))
    for x, w in zip(np.split(X, np.cumsum(lengths)[:-1]), weight, strict=True):
        paths, log_joint = all_paths(model, x)
        for path, p in zip(paths, w * np.exp(log_joint - np.logaddexp.reduce(log_joint)), strict=True):
            starts[path[0]] += p
            np.add.at(transitions, (path[:-1], path[1:]), p)
            np.add.at(totals, path, p * np.nan_to_num(x))
            np.add.at(exposure, path, p * ~np.isnan(x))
    model.set_params(warm_start=True, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, lengths=lengths, sample_weight=np.repeat(weight, lengths))
    np.testing.assert_allclose(model.startprob_, starts / starts.sum(), atol=1e-10)
    np.testing.assert_allclose(model.transmat_, transitions / transitions.sum(axis=1, keepdims=True), atol=1e-10)
    np.testing.assert_allclose(model.lambdas_, totals / exposure, atol=1e-9)
    assert (model.transmat_[ZEROS == 0.0] == 0.0).all()


@cases
def test_missing_cells_are_filled_with_their_expectation(emission):
    model, rows = problem(True, False, emission)
    X = rows[:T]
    paths, log_joint = all_paths(model, X)
    posterior = np.exp(log_joint - np.logaddexp.reduce(log_joint))
    expected = X.copy()
    for t in range(T):
        hole = np.isnan(X[t])
        if not hole.any():
            continue
        mean = np.zeros(hole.sum())
        for k in range(K):
            if emission == "poisson":
                conditional = model.lambdas_[k, hole]
            else:
                S, m = model.covariances_[k], model.means_[k]
                gap = X[t, ~hole] - m[~hole]
                conditional = m[hole] + S[np.ix_(hole, ~hole)] @ np.linalg.solve(S[np.ix_(~hole, ~hole)], gap)
            mean += posterior[paths[:, t] == k].sum() * conditional
        expected[t, hole] = mean
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-9)


def test_forecast():
    model, rows = problem(False, False, "gaussian")
    ahead = model.forecast(rows, 4, quantiles=[0.1, 0.9])
    state = model.filter_proba(rows)[-1]
    for step in range(4):
        state = state @ model.transmat_
        np.testing.assert_allclose(ahead.state_proba[step], state)
        np.testing.assert_allclose(ahead.mean[step], state @ model.means_)
        for column in range(2):
            deviations = np.sqrt(model.covariances_[:, column, column])
            below = norm.cdf(ahead.quantiles[:, step, column][:, None], model.means_[:, column], deviations) @ state
            np.testing.assert_allclose(below, [0.1, 0.9], atol=1e-9)


def test_stationary_distribution_and_dwell_times():
    model, _ = problem(False, True, "gaussian")
    delta = model.stationary_distribution()
    np.testing.assert_allclose(delta @ model.transmat_, delta, atol=1e-12)
    np.testing.assert_allclose(delta.sum(), 1.0)
    np.testing.assert_allclose(model.expected_dwell_times() * (1 - np.diagonal(model.transmat_)), 1.0)


def test_a_sample_has_the_moments_of_the_model():
    model, _ = problem(False, False, "poisson")
    X, states = model.sample(200_000, random_state=0)
    pairs = np.zeros((K, K))
    np.add.at(pairs, (states[:-1], states[1:]), 1.0)
    np.testing.assert_allclose(pairs / pairs.sum(axis=1, keepdims=True), model.transmat_, atol=0.01)
    for k in range(K):
        np.testing.assert_allclose(X[states == k].mean(axis=0), model.lambdas_[k], rtol=0.02)
