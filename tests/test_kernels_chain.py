"""Chains and the halves of Gaussian E-steps: the reference is the sum over all paths, compiled == reference."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emkit import kernels

SHAPES = ["full", "tied", "diag", "spherical"]
COMPILED = [name for name in kernels.available() if name != "reference"]

builds = pytest.mark.parametrize(
    "build", COMPILED or [pytest.param("none", marks=pytest.mark.skip(reason="not compiled"))]
)
every_build = pytest.mark.parametrize("build", kernels.available())


def forward_backward(build, log_prob, lengths, startprob, transmat, weight=None, n_threads=1):
    """Smoothed probabilities, log-likelihoods, starts, transitions."""
    gamma, logliks = log_prob.copy(), np.full(len(lengths), np.nan)
    sums = kernels.load(build).forward_backward(gamma, lengths, weight, startprob, transmat, logliks, n_threads)
    return gamma, logliks, *sums


def filter_chain(build, log_prob, lengths, startprob, transmat):
    filtered, increments = log_prob.copy(), np.full(len(log_prob), np.nan)
    kernels.load(build).filter_chain(filtered, lengths, startprob, transmat, increments)
    return filtered, increments


def viterbi(build, log_prob, lengths, startprob, transmat):
    path, scores = np.full(len(log_prob), -1), np.full(len(lengths), np.nan)
    kernels.load(build).viterbi(log_prob.copy(), lengths, startprob, transmat, path, scores)
    return path, scores


# Enumeration of all paths --------------------------------------------------------------------------------------------


def logarithm(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


def enumerate_paths(log_prob, startprob, transmat):
    """All paths (K^T, T) of one sequence, in lexicographic order, with their log-probabilities."""
    T, K = log_prob.shape
    paths = np.array(list(product(range(K), repeat=T)))
    log_joint = logarithm(startprob)[paths[:, 0]] + log_prob[np.arange(T), paths].sum(axis=1)
    log_joint += logarithm(transmat)[paths[:, :-1], paths[:, 1:]].sum(axis=1)
    return paths, log_joint


def split(log_prob, lengths):
    return np.split(log_prob, np.cumsum(lengths)[:-1])


def smooth_by_enumeration(log_prob, lengths, startprob, transmat, weight):
    gamma, logliks, transitions = [], [], np.zeros_like(transmat)
    for rows, w in zip(split(log_prob, lengths), weight, strict=True):
        paths, log_joint = enumerate_paths(rows, startprob, transmat)
        loglik = np.logaddexp.reduce(log_joint)
        probability = w * np.exp(log_joint - loglik) if loglik > -np.inf else np.zeros(len(paths))
        gamma.append([np.bincount(states, probability, len(startprob)) for states in paths.T])
        np.add.at(transitions, (paths[:, :-1], paths[:, 1:]), probability[:, None])
        logliks.append(loglik)
    starts = np.sum([g[0] for g in gamma], axis=0)
    return np.vstack(gamma), np.array(logliks), starts, transitions


def filter_by_enumeration(log_prob, lengths, startprob, transmat):
    filtered, increments = [], []
    for rows in split(log_prob, lengths):
        before = 0.0
        for t in range(1, len(rows) + 1):
            paths, log_joint = enumerate_paths(rows[:t], startprob, transmat)
            loglik = np.logaddexp.reduce(log_joint)
            possible = loglik > -np.inf
            increments.append(loglik - before if possible else -np.inf)
            probability = np.exp(log_joint - loglik) if possible else np.zeros(len(paths))
            filtered.append(np.bincount(paths[:, -1], probability, len(startprob)))
            before = loglik
    return np.array(filtered), np.array(increments)


def chain(rng, K, zeros):
    """startprob and transmat; with a third of the probabilities 0 if asked, the diagonal never."""
    startprob, transmat = rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K), size=K)
    if zeros:
        transmat[(rng.random((K, K)) < 1 / 3) & ~np.eye(K, dtype=bool)] = 0.0
        transmat /= transmat.sum(axis=1, keepdims=True)
        startprob[rng.random(K) < 1 / 3] = 0.0
        if not startprob.any():
            startprob[rng.integers(K)] = 1.0
        startprob /= startprob.sum()
    return startprob, transmat


def observe(rng, n, K, gap, impossible):
    """Log-densities up to ``gap`` nats apart, some of them -inf if asked."""
    log_prob = gap * rng.normal(size=(n, K)) + 10.0 * rng.normal(size=(n, 1))
    if impossible:
        log_prob[rng.random((n, K)) < 0.15] = -np.inf
    return log_prob


problems = given(
    seed=st.integers(0, 2**32 - 1),
    K=st.integers(1, 20),
    N=st.integers(1, 12),
    longest=st.sampled_from([1, 3, 30, 600]),
    gap=st.sampled_from([0.1, 3.0, 60.0, 500.0, 3000.0]),
    zeros=st.booleans(),
    impossible=st.booleans(),
)


def problem(seed, K, N, longest, gap, zeros, impossible):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, size=N)
    return observe(rng, lengths.sum(), K, gap, impossible), lengths, *chain(rng, K, zeros)


@every_build
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    K=st.integers(1, 4),
    gap=st.sampled_from([1.0, 60.0, 900.0]),
    zeros=st.booleans(),
    impossible=st.booleans(),
)
def test_every_path_is_counted(build, seed, K, gap, zeros, impossible):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, size=3)
    weight = rng.exponential(size=3)
    arguments = observe(rng, lengths.sum(), K, gap, impossible), lengths, *chain(rng, K, zeros)

    truth = smooth_by_enumeration(*arguments, weight)
    for value, true in zip(forward_backward(build, *arguments, weight), truth, strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-11, atol=1e-11)

    for value, true in zip(filter_chain(build, *arguments), filter_by_enumeration(*arguments), strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-11, atol=1e-11)

    path, scores = viterbi(build, *arguments)
    for rows, states, score in zip(split(arguments[0], lengths), split(path, lengths), scores, strict=True):
        paths, log_joint = enumerate_paths(rows, *arguments[2:])
        np.testing.assert_allclose(score, log_joint.max(), rtol=1e-12)
        if score > -np.inf:
            np.testing.assert_array_equal(states, paths[log_joint.argmax()])
