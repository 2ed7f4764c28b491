"""Chains and the halves of Gaussian E-steps: the reference is the sum over all paths, compiled == reference."""

from itertools import product

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from emkit import kernels

SHAPES = ["full", "tied", "diag", "spherical"]
COMPILED = [name for name in kernels.available() if name != "reference"]

builds = pytest.mark.parametrize(
    "build", COMPILED or [pytest.param("none", marks=pytest.mark.skip(reason="not compiled"))]
)
every_build = pytest.mark.parametrize("build", kernels.available())


def forward_backward(build, log_prob, lengths, startprob, transmat, weight=None, n_threads=1):
    """Smoothed probabilities, log-likelihoods, starts, transitions."""
    states, logliks = np.full(log_prob.shape, np.nan), np.full(len(lengths), np.nan)
    sums = kernels.load(build).forward_backward(
        log_prob, lengths, weight, startprob, transmat, states, logliks, n_threads
    )
    return states, logliks, *sums


def filter_chain(build, log_prob, lengths, startprob, transmat):
    filtered, increments = log_prob.copy(order="K"), np.full(len(log_prob), np.nan)
    kernels.load(build).filter_chain(filtered, lengths, startprob, transmat, increments)
    return filtered, increments


def viterbi(build, log_prob, lengths, startprob, transmat):
    path, scores = np.full(len(log_prob), -1), np.full(len(lengths), np.nan)
    kernels.load(build).viterbi(log_prob.copy(order="K"), lengths, startprob, transmat, path, scores)
    return path, scores


# Enumeration of all paths ---------------------------------------------------------------------------------------------


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


chains = given(
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
@examples(60)
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


# Compiled == reference ------------------------------------------------------------------------------------------------


def assert_same(values, truths, digits=10):
    tol = 10.0**-digits
    for value, truth in zip(values, truths, strict=True):
        scale = np.abs(np.where(np.isfinite(truth), truth, 0.0)).max(initial=1.0)
        np.testing.assert_allclose(value, truth, rtol=tol, atol=tol * scale)


def assert_chains_agree(build, arguments, weight):
    assert_same(forward_backward(build, *arguments, weight), forward_backward("reference", *arguments, weight))
    assert_same(filter_chain(build, *arguments), filter_chain("reference", *arguments))
    path, scores = viterbi(build, *arguments)
    true_path, true_scores = viterbi("reference", *arguments)
    np.testing.assert_allclose(scores, true_scores, rtol=1e-12)
    possible = np.repeat(scores > -np.inf, arguments[1])
    np.testing.assert_array_equal(path[possible], true_path[possible])
    assert ((path >= 0) & (path < arguments[0].shape[1])).all()


@builds
@examples(80)
@chains
def test_compiled_is_reference(build, seed, K, N, longest, gap, zeros, impossible):
    arguments = problem(seed, K, N, longest, gap, zeros, impossible)
    assert_chains_agree(build, arguments, np.random.default_rng(seed).exponential(size=N) if seed % 2 else None)


@builds
@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 17])
@pytest.mark.parametrize(
    "gap, zeros, impossible", [(0.1, False, False), (3.0, True, False), (60.0, False, True), (150.0, False, False)]
)
def test_long_sequences(build, K, gap, zeros, impossible):
    """Long enough to be worked on in pieces and from both ends, beside short ones."""
    rng = np.random.default_rng(K)
    lengths = np.array([3, 1025, 1, 2500, 40])
    arguments = observe(rng, lengths.sum(), K, gap, impossible), lengths, *chain(rng, K, zeros)
    assert_chains_agree(build, arguments, rng.exponential(size=len(lengths)))


def left_right(K, steps=1, stay=0.9):
    """From each state to itself and the next ``steps``; the last is left to the first."""
    transmat = sum(np.roll(np.eye(K), step, axis=1) for step in range(steps + 1)) * (1 - stay) / steps
    transmat[np.arange(K), np.arange(K)] = stay
    transmat /= transmat.sum(axis=1, keepdims=True)
    return np.triu(transmat) / np.triu(transmat).sum(axis=1, keepdims=True)


@builds
@pytest.mark.parametrize("K", [32, 47, 64, 100, 300])
@pytest.mark.parametrize("form", ["dense", "left-right", "band", "permutation", "block"])
def test_many_states(build, K, form):
    rng = np.random.default_rng(K)
    transmat = rng.dirichlet(np.ones(K), size=K)
    if form == "left-right":
        transmat = left_right(K)
    elif form == "band":
        transmat *= np.abs(np.subtract.outer(np.arange(K), np.arange(K))) <= 2
    elif form == "permutation":
        transmat = np.eye(K)[rng.permutation(K)]
    elif form == "block":
        transmat *= np.equal.outer(np.arange(K) // 4, np.arange(K) // 4)
    transmat /= transmat.sum(axis=1, keepdims=True)
    lengths = np.array([150, 1, 64, 65])
    arguments = observe(rng, lengths.sum(), K, 3.0, False), lengths, np.full(K, 1 / K), transmat
    assert_chains_agree(build, arguments, None)


@builds
@pytest.mark.parametrize("K", range(1, 10))
@pytest.mark.parametrize("step", [0, 1])
def test_no_choice(build, K, step):
    """Each state leads to one, itself or the next: a matrix of one diagonal or two."""
    rng = np.random.default_rng(K)
    lengths = np.array([1, 30, 1500])
    arguments = observe(rng, lengths.sum(), K, 3.0, False), lengths, np.full(K, 1 / K), np.roll(np.eye(K), step, axis=1)
    assert_chains_agree(build, arguments, None)


bands = pytest.mark.parametrize(("behind", "ahead"), [(0, 1), (1, 0), (1, 1), (0, 3), (2, 2)])


def wander(K, behind, ahead, jumps):
    """A band, and states of a sequence that is in few of them at a time, wanders, hurries and jumps."""
    rng = np.random.default_rng(jumps)
    transmat = np.triu(np.tril(rng.exponential(0.01, (K, K)), ahead), -behind)
    np.fill_diagonal(transmat, 1.0)
    transmat /= transmat.sum(axis=1, keepdims=True)
    pace = np.repeat([0.0, 0.02, 0.3, 0.0, 0.1], 250) * (1 if ahead >= behind else -1)
    state = np.clip(K // 3 + np.cumsum(pace) + rng.normal(size=1250).round(), 0, K - 1)
    state[rng.integers(1250, size=jumps)] = rng.integers(K, size=jumps)
    return transmat, state, rng


@builds
@bands
@pytest.mark.parametrize(("gap", "jumps"), [(3.0, 0), (10.0, 5), (60.0, 5)])
def test_states_passed_over_are_not_missed(build, behind, ahead, gap, jumps):
    """Means are ``gap`` apart."""
    K = 43
    transmat, state, rng = wander(K, behind, ahead, jumps)
    x = gap * state + rng.normal(size=1250)
    log_prob = -0.5 * (x[:, None] - gap * np.arange(K)) ** 2
    arguments = log_prob, np.array([1250]), np.full(K, 1 / K), transmat
    assert_chains_agree(build, arguments, None)


@builds
@bands
@pytest.mark.parametrize(
    ("gap", "off", "dtype"),
    [
        (3.0, 0.0, np.float32),
        (3.0, 0.0, np.float64),
        (1.0, 9.0, np.float64),
        (3.0, 15.0, np.float64),
        (3.0, 1e3, np.float64),
    ],
)
def test_states_passed_over_are_not_missed_by_their_law(build, behind, ahead, gap, off, dtype):
    """Some rows are ``off``. What a law tells of the most probable row bounds them in the states passed over."""
    K = 43
    transmat, state, rng = wander(K, behind, ahead, 0)
    x = gap * state + rng.normal(size=1250)
    x[rng.integers(1250, size=5)] += off
    X, means, variances = x.astype(dtype)[:, None], gap * np.arange(K)[:, None], rng.uniform(0.8, 1.5, size=(K, 1))
    symbols = np.clip((x / gap).round(), 0, K - 1)[:, None]
    table = np.vstack([-0.5 * (gap * np.subtract.outer(np.arange(K), np.arange(K))) ** 2 - 1.0, np.zeros(K)])
    sequences = np.array([1250]), None, np.full(K, 1 / K), transmat
    for name, arguments in (
        ("expect_chain_diag", (X, np.zeros(1), np.ones(1), means, variances)),
        ("expect_chain_symbols", (symbols, table)),
    ):
        logliks, truth = np.empty(1), np.empty(1)
        sums = getattr(kernels.load(build), name)(*arguments, *sequences, logliks, 1)
        assert (sums is None) == (off == 1e3)  # logarithms are needed, which are for `forward_backward`
        if sums is None:
            continue
        truths = getattr(kernels.load("reference"), name)(*arguments, *sequences, truth, 1)
        assert_same((logliks, *sums), (truth, *truths), digits=10 if dtype == np.float64 else 4)


@builds
@pytest.mark.parametrize("seed", range(12))
@bands
def test_outliers_lose_no_states(build, behind, ahead, seed):
    """Rows far out make all states but a few negligible, which later rows do not bear out."""
    K, T, rng = 24, 200, np.random.default_rng(seed)
    transmat = np.triu(np.tril(10.0 ** rng.uniform(-8, 0, (K, K)), ahead), -behind)
    np.fill_diagonal(transmat, 1.0)
    transmat /= transmat.sum(axis=1, keepdims=True)
    x = 8.0 + np.cumsum(rng.random(T) < 0.1) * np.sign(ahead - behind) + rng.normal(size=T)
    x[rng.integers(T, size=3)] += rng.choice([-1, 1], 3) * rng.uniform(5.0, 45.0, 3)
    log_prob = -0.5 * (x[:, None] - np.arange(K)) ** 2
    assert_chains_agree(build, (log_prob, np.array([T]), np.full(K, 1 / K), transmat), None)


@builds
@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 8, 13, 40])
def test_two_threads_give_the_same_bits(build, K):
    rng = np.random.default_rng(K)
    # The best path through few states is found sooner than a second thread begins, unless it is very long.
    lengths = np.array([20_000, 1, 2, 3, 240_001 if K <= 4 else 40_001])
    arguments = observe(rng, lengths.sum(), K, 3.0, False), lengths, *chain(rng, K, False)
    weight = rng.exponential(size=len(lengths))
    one, two = (forward_backward(build, *arguments, weight, n_threads=n) for n in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
    best = []
    for n_threads in (1, 2):
        path, scores = np.empty(len(arguments[0]), np.int64), np.empty(len(lengths))
        kernels.load(build).viterbi(arguments[0].copy(), *arguments[1:], path, scores, n_threads)
        best.append((path, scores))
    np.testing.assert_array_equal(best[0][0], best[1][0])
    np.testing.assert_array_equal(best[0][1], best[1][1])


@every_build
@pytest.mark.parametrize("K", [3, 6, 40])
@pytest.mark.parametrize("gap", [100.0, 800.0, 5000.0])
def test_what_seemed_lost_is_found(build, K, gap):
    """A left-right chain whose rows favour the next state by ``gap``, many rows before it may go there."""
    T = 4 * K
    states = np.repeat(np.arange(K), 4)
    log_prob = np.where(np.arange(K) == states[:, None], 0.0, -gap)
    log_prob[2::4] = np.roll(log_prob[2::4], 1, axis=1)  # against it, once in each state
    arguments = log_prob, np.array([T]), np.eye(K)[0], left_right(K)
    log_trans = logarithm(arguments[3])
    forward = logarithm(arguments[2]) + log_prob[0]
    for row in log_prob[1:]:
        forward = np.logaddexp.reduce(forward[:, None] + log_trans, axis=0) + row
    gamma, logliks, starts, transitions = forward_backward(build, *arguments)
    np.testing.assert_allclose(logliks, np.logaddexp.reduce(forward), rtol=1e-12)
    np.testing.assert_allclose(gamma.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(transitions.sum(), T - 1, rtol=1e-9)
    np.testing.assert_allclose(starts, gamma[0])
    _, increments = filter_chain(build, *arguments)
    np.testing.assert_allclose(increments.sum(), logliks[0], rtol=1e-12)


@every_build
@pytest.mark.parametrize("n_copies", [1, 3, 8, 17])
def test_what_seemed_lost_at_the_first_row_is_found(build, n_copies):
    """Beside a state that is none to begin in, others seem impossible, one of which the second row bears out."""
    log_prob = np.tile([[-782.0, -690.0, 0.0], [0.0, -968.0, -379.0]], (n_copies, 1))
    startprob, transmat = np.array([0.5, 0.5, 0.0]), np.array([[2.0, 2.0, 2.0], [0.0, 3.0, 3.0], [2.0, 2.0, 2.0]]) / 6
    arguments = log_prob, np.full(n_copies, 2), startprob, transmat
    states, logliks, *_ = forward_backward(build, *arguments)
    truths, likely, *_ = smooth_by_enumeration(*arguments, np.ones(n_copies))
    np.testing.assert_allclose(logliks, likely, rtol=1e-12)
    np.testing.assert_allclose(states, truths, atol=1e-12)


@every_build
def test_what_underflows_step_by_step_is_found(build):
    """State 1 can only be the first. It falls behind by 900 nats at once, then gains 100 in each of 20 rows."""
    log_prob = np.vstack([[0.0, -900.0], np.tile([-100.0, 0.0], (20, 1))])
    arguments = log_prob, np.array([21]), np.array([0.5, 0.5]), np.eye(2)
    gamma, logliks, _, transitions = forward_backward(build, *arguments)
    np.testing.assert_allclose(logliks, [np.log(0.5) - 900.0], rtol=1e-14)
    np.testing.assert_allclose(gamma, np.tile([0.0, 1.0], (21, 1)), atol=1e-12)
    np.testing.assert_allclose(transitions, [[0, 0], [0, 20]], atol=1e-12)
    filtered, _ = filter_chain(build, *arguments)
    np.testing.assert_allclose(filtered[-1], [0, 1], atol=1e-12)


@every_build
@pytest.mark.parametrize("K", [3, 5, 40])
@pytest.mark.parametrize("fall", [1e7, 1e12, 1e18])
@pytest.mark.parametrize("out_of_reach", [False, True])
def test_a_row_as_improbable_in_every_state_tells_nothing(build, K, fall, out_of_reach):
    """In every state that can be reached, that is: the chain is never in state 0, where such a row may be probable."""
    rng = np.random.default_rng(K)
    T = 1500  # long enough for both ends
    startprob = np.eye(K)[1] if out_of_reach else np.full(K, 1 / K)
    transmat = left_right(K, stay=0.99) if out_of_reach else rng.dirichlet(np.ones(K), size=K)
    log_prob = observe(rng, T, K, 2.0, False)
    odd = [0, 100, 800, T - 1]
    log_prob[odd] = 0.0
    fallen = log_prob.copy()
    fallen[odd, int(out_of_reach) :] = -fall
    plain, arguments = ((rows, np.array([T]), startprob, transmat) for rows in (log_prob, fallen))

    path, score = viterbi(build, *arguments)
    best_path, best_score = viterbi(build, *plain)
    np.testing.assert_array_equal(path, best_path)
    np.testing.assert_allclose(score, best_score - len(odd) * fall, rtol=1e-12)

    gamma, loglik, starts, transitions = forward_backward(build, *arguments)
    true_gamma, true_loglik, true_starts, true_transitions = forward_backward(build, *plain)
    assert_same((gamma, starts, transitions), (true_gamma, true_starts, true_transitions))
    np.testing.assert_allclose(loglik, true_loglik - len(odd) * fall, rtol=1e-12)
    filtered, increments = filter_chain(build, *arguments)
    assert_same([filtered], [filter_chain(build, *plain)[0]])
    np.testing.assert_allclose(increments[odd], -fall, rtol=1e-6)


@every_build
@pytest.mark.parametrize("K", [3, 40])
@pytest.mark.parametrize("outlier", [-1e4, -1e6, -1e8, -1e9, 1e9])
def test_probabilities_sum_to_one_whatever_the_outlier(build, K, outlier):
    """A left-right chain that cannot be where the outlier is most probable; rows of a normal law."""
    x = np.repeat(30.0 * np.arange(K), 20) + np.random.default_rng(0).normal(size=20 * K)
    x[10 * K] = outlier
    log_prob = -0.5 * (x[:, None] - 30.0 * np.arange(K)) ** 2
    arguments = log_prob, np.array([20 * K]), np.eye(K)[0], left_right(K)
    passes = forward_backward(build, *arguments)
    gamma, _, _, transitions = passes
    np.testing.assert_allclose(gamma.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(transitions.sum(), 20 * K - 1, rtol=1e-9)
    assert_same(passes, forward_backward("reference", *arguments))
    filtered, _ = filter_chain(build, *arguments)
    np.testing.assert_allclose(filtered.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(viterbi(build, *arguments)[0], gamma.argmax(axis=1))


@every_build
@pytest.mark.parametrize("K", [2, 5, 40])
def test_impossible_sequences_add_nothing(build, K):
    rng = np.random.default_rng(K)
    lengths = np.array([30, 1, 70, 2])
    log_prob, (startprob, transmat) = observe(rng, lengths.sum(), K, 3.0, False), chain(rng, K, False)
    log_prob[[30, 90]] = -np.inf  # the second sequence, and a row of the third
    gamma, logliks, starts, transitions = forward_backward(build, log_prob, lengths, startprob, transmat)
    possible = np.repeat([True, False, False, True], lengths)
    kept = forward_backward(build, log_prob[possible], lengths[[0, 3]], startprob, transmat)
    np.testing.assert_array_equal(logliks == -np.inf, [False, True, True, False])
    assert_same([gamma[possible], logliks[[0, 3]], starts, transitions], kept)
    assert not gamma[~possible].any()
    filtered, increments = filter_chain(build, log_prob, lengths, startprob, transmat)
    assert (increments[90:101] == -np.inf).all()
    assert not filtered[90:101].any()
    assert np.isfinite(increments[31:90]).all()
    assert viterbi(build, log_prob, lengths, startprob, transmat)[1][2] == -np.inf


@every_build
@pytest.mark.parametrize("K", [2, 7, 33])
def test_weights_are_repetitions(build, K):
    rng = np.random.default_rng(K)
    lengths, weight = np.array([40, 7, 1]), np.array([2.0, 0.0, 1.0])
    rows, parameters = observe(rng, lengths.sum(), K, 3.0, False), chain(rng, K, True)
    gamma, _, starts, transitions = forward_backward(build, rows, lengths, *parameters, weight)
    repeated = np.vstack([rows[:40], rows[:40], rows[47:]]), np.array([40, 40, 1])
    again, _, same_starts, same_transitions = forward_backward(build, *repeated, *parameters)
    assert_same([starts, transitions, gamma[:40]], [same_starts, same_transitions, 2 * again[:40]])
    assert not gamma[40:47].any()


@every_build
def test_of_equal_paths_the_first_is_taken(build):
    for K in (2, 5, 40, 300):
        path, _ = viterbi(build, np.zeros((100, K)), np.array([60, 40]), np.full(K, 1 / K), np.full((K, K), 1 / K))
        assert not path.any()


@every_build
def test_no_sequences(build):
    arguments = np.empty((0, 3)), np.empty(0, np.int64), np.full(3, 1 / 3), np.full((3, 3), 1 / 3)
    assert not any(value.any() for value in forward_backward(build, *arguments))
    filter_chain(build, *arguments)
    viterbi(build, *arguments)


@builds
def test_parameters_are_left_alone(build):
    rng = np.random.default_rng(0)
    parameters = [np.array([50, 30]), *chain(rng, 6, True), rng.exponential(size=2)]
    before = [array.copy() for array in parameters]
    for array in parameters:
        array.flags.writeable = False
    log_prob = observe(rng, 80, 6, 900.0, False)
    forward_backward(build, log_prob, *parameters)
    filter_chain(build, log_prob, *parameters[:3])
    viterbi(build, log_prob, *parameters[:3])
    for array, copy in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(array, copy)


# The halves of a Gaussian E-step --------------------------------------------------------------------------------------


def gaussian(seed, shape, n, d, K, dtype=np.float64):
    """X, center, scale, means, spread and resp (n, K)."""
    rng = np.random.default_rng(seed)
    factors = np.linalg.cholesky(np.eye(d) + 0.3 * np.ones((d, d))) * rng.uniform(0.5, 2, size=(K, 1, 1))
    spread = {
        "full": factors,
        "tied": factors[0].copy(),
        "diag": rng.uniform(0.3, 3, size=(K, d)),
        "spherical": rng.uniform(0.3, 3, size=K),
    }[shape]
    center, scale, means = rng.normal(size=d), rng.uniform(0.5, 2, size=d), rng.normal(size=(K, d))
    X = (rng.normal(size=(n, d)) * scale + center).astype(dtype)
    return X, center, scale, means, spread, rng.dirichlet(np.full(K, 0.3), size=n) * rng.exponential(size=(n, 1))


def log_prob(build, shape, X, center, scale, means, spread):
    out = np.full((len(X), len(means)), np.nan)
    getattr(kernels.load(build), f"log_prob_{shape}")(X, center, scale, means, spread, out)
    return out


shapes = pytest.mark.parametrize("shape", SHAPES)


@every_build
@shapes
def test_log_prob_is_scipy(build, shape):
    X, center, scale, means, spread, _ = gaussian(0, shape, 50, 3, 4)
    covariance = {
        "full": lambda k: spread[k] @ spread[k].T,
        "tied": lambda k: spread @ spread.T,
        "diag": lambda k: np.diag(spread[k]),
        "spherical": lambda k: spread[k] * np.eye(3),
    }[shape]
    values = log_prob(build, shape, X, center, scale, means, spread)
    for k, mean in enumerate(means):
        true = multivariate_normal(mean, covariance(k)).logpdf((X - center) / scale)
        np.testing.assert_allclose(values[:, k], true, rtol=1e-12)


@every_build
@shapes
def test_sums_are_their_definition(build, shape):
    X, center, scale, means, _, resp = gaussian(1, shape, 70, 3, 4)
    z = (X - center) / scale
    deviation = z[:, None, :] - means
    products = np.einsum("nk,nki,nkj->kij", resp, deviation, deviation)
    seconds = {
        "full": products,
        "tied": np.einsum("nk,ni,nj->ij", resp, z, z),
        "diag": np.einsum("kii->ki", products),
        "spherical": np.einsum("kii->k", products),
    }[shape]
    sums = getattr(kernels.load(build), f"summarize_{shape}")(X, center, scale, means, resp)
    assert_same(sums, (resp.sum(axis=0), np.einsum("nk,nki->ki", resp, deviation), seconds))


@builds
@shapes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 1000),
    d=st.sampled_from([1, 2, 3, 8, 31]),
    K=st.integers(1, 20),
    switched_off=st.booleans(),
    strided=st.booleans(),
)
def test_compiled_halves_are_the_reference(build, shape, dtype, seed, n, d, K, switched_off, strided):
    X, center, scale, means, spread, resp = gaussian(seed, shape, n, d, K, dtype)
    X = np.repeat(X, 2, axis=0)[::2] if strided else X
    if switched_off:
        resp[:, seed % K] = 0.0
        resp[: n // 2] = 0.0
    tolerance = 1e-4 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(
        log_prob(build, shape, X, center, scale, means, spread),
        log_prob("reference", shape, X, center, scale, means, spread),
        rtol=tolerance,
        atol=tolerance,
    )
    arguments = X, center, scale, means, resp
    sums, truths = (getattr(kernels.load(name), f"summarize_{shape}")(*arguments) for name in (build, "reference"))
    for value, true in zip(sums, truths, strict=True):
        assert value.shape == true.shape
        np.testing.assert_allclose(value, true, rtol=0, atol=tolerance * (1 + np.abs(true).max(initial=0)))


# Whole steps ----------------------------------------------------------------------------------------------------------

# About whole vectors, blocks of them and windows of blocks, and long enough to be cut into pieces.
LENGTHS = [1, 2, 7, 8, 9, 23, 24, 25, 95, 97, 191, 192, 193, 385, 1030]


def expect_chain(build, shape, rows, lengths, weight, startprob, transmat, n_threads=1):
    logliks = np.full(len(lengths), np.nan)
    sums = getattr(kernels.load(build), f"expect_chain_{shape}")(
        *rows, lengths, weight, startprob, transmat, logliks, n_threads
    )
    return None if sums is None else (logliks, *sums)


@builds
@pytest.mark.parametrize("shape", [*SHAPES, "symbols"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=30),
    d=st.sampled_from([1, 2, 9]),
    K=st.integers(1, 20),
    zeros=st.booleans(),
    strided=st.booleans(),
)
def test_a_whole_step_is_the_reference(build, shape, dtype, seed, lengths, d, K, zeros, strided):
    rng, lengths = np.random.default_rng(seed), np.array(lengths)
    if shape == "symbols":
        numbers = rng.integers(5, size=(lengths.sum(), 1)).astype(np.float64)
        numbers[rng.random(len(numbers)) < 0.1] = np.nan
        table = np.vstack([np.log(rng.dirichlet(np.ones(5), size=K).T), np.zeros(K)])
        rows = numbers, np.ascontiguousarray(table)
    else:
        rows = gaussian(seed, shape, lengths.sum(), d, K, dtype)[:-1]
        if strided:
            rows = np.asfortranarray(rows[0]), *rows[1:]
    arguments = shape, rows, lengths, rng.exponential(size=len(lengths)), *chain(rng, K, zeros)
    found, true = expect_chain(build, *arguments), expect_chain("reference", *arguments)
    assert found is not None
    assert_same(found, true, digits=10 if dtype == np.float64 else 3)
    for one, two in zip(found, expect_chain(build, *arguments, n_threads=2), strict=True):
        np.testing.assert_array_equal(one, two)


@builds
@pytest.mark.parametrize("K", [2, 10])
def test_many_short_sequences_give_the_same_bits_on_two_threads(build, K):
    rng = np.random.default_rng(K)
    lengths = rng.integers(1, 60, size=6_000)
    rows = gaussian(K, "diag", lengths.sum(), 1, K)[:-1]
    arguments = "diag", rows, lengths, None, *chain(rng, K, False)
    for one, two in zip(*(expect_chain(build, *arguments, n_threads=n) for n in (1, 2)), strict=True):
        np.testing.assert_array_equal(one, two)
