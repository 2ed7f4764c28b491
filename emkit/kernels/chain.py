"""Sequences through a hidden Markov chain, in NumPy: the specification of the compiled kernels of the same names.

Names shared by both, for ``N`` sequences with ``n`` rows in all and ``K`` states:

==============  ====================================================================================================
``log_prob``    (n, K) float64: log-density of each row in each state; -inf: impossible
``lengths``     (N,) int64: how many rows each sequence has, at least one; the sequences follow each other
``startprob``   (K,) float64: probabilities of the first state
``transmat``    (K, K) float64: ``transmat[i, j]`` is the probability of going from state i to state j
==============  ====================================================================================================

All sequences advance together, one product of matrices per time step. Probabilities are kept relative to the largest
density of their row and to their own sum. What falls below the smallest float64 is then lost, and the sums ``c`` of the
forward and ``s`` of the backward pass tell whether it mattered: while they stay above ``LEAST``, everything lost
together is less than rounding. A sequence for which they do not is done again with logarithms.

References
----------
Rabiner, L. (1989). A tutorial on hidden Markov models and selected applications in speech recognition. *Proceedings of
the IEEE* 77(2), 257-286.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# A sum of probabilities below this may lack what was too small to be represented.
LEAST = 1e-200
# A state from which, and to which, every transition is at least this probable is never lost.
_MIXING = 1e-100
# As improbable as a row can be without being impossible.
_LOWEST = -1e300
# Numbers held at once for all pairs of states of some sequences.
_GROUP_SIZE = 2**20


class _Sequences(NamedTuple):
    """Some sequences, the longest first: those still running are always the first ones."""

    which: Array  # (N,) their numbers
    first: Array  # (N,) their first rows
    lengths: Array  # (N,)

    def take(self, chosen: Array) -> _Sequences:
        return _Sequences(self.which[chosen], self.first[chosen], self.lengths[chosen])

    def rows(self, t: int) -> Array:
        """Row of every sequence that has a time t."""
        return self.first[: int(np.searchsorted(-self.lengths, -t))] + t

    def times(self) -> range:
        return range(int(self.lengths[0]) if len(self.lengths) else 0)


def _sequences(lengths: Array) -> _Sequences:
    order = np.argsort(-lengths, kind="stable")
    first = np.cumsum(lengths) - lengths
    return _Sequences(order, first[order], lengths[order])


def _logarithm(probabilities: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def _relative(x: Array) -> tuple[Array, Array]:
    """Highest value of each row, and all values relative to it."""
    highest = np.maximum(x.max(axis=1), _LOWEST)
    return highest, x - highest[:, None]


def _densities(log_prob: Array) -> tuple[Array, Array]:
    """Highest log-density of each row, and the densities relative to it."""
    highest, relative = _relative(log_prob)
    return highest, np.exp(relative)


def _see(log_ahead: Array, log_prob: Array) -> tuple[Array, Array]:
    """``log_ahead + log_prob``, but for the highest log-density of the states that are possible, which comes first."""
    highest, relative = _relative(np.where(log_ahead > -np.inf, log_prob, -np.inf))
    return highest, log_ahead + relative


def _normalised(x: Array) -> tuple[Array, Array]:
    """Logarithm of the sum of ``exp(x)`` of each row, by which these become probabilities; -inf: impossible."""
    highest, relative = _relative(x)
    rest = _logarithm(np.exp(relative).sum(axis=1))
    return highest + rest, relative - np.where(rest > -np.inf, rest, 0.0)[:, None]


def _pairs(x: Array, log_matrix: Array) -> Iterator[tuple[slice, Array]]:
    """``x[:, i] + log_matrix[i, j]`` as (rows, j, i), some rows at a time."""
    size = max(1, _GROUP_SIZE // log_matrix.size)
    for begin in range(0, len(x), size):
        rows = slice(begin, begin + size)
        yield rows, x[rows, None, :] + log_matrix.T


def _log_product(x: Array, log_matrix: Array) -> Array:
    """Logarithm of ``exp(x) @ exp(log_matrix)``."""
    product = np.empty((len(x), log_matrix.shape[1]))
    for rows, pairs in _pairs(x, log_matrix):
        product[rows] = np.logaddexp.reduce(pairs, axis=2)
    return product


class _Smoothed(NamedTuple):
    good: Array  # (N,) bool: nothing was lost
    loglik: Array  # (N,)
    transitions: Array  # (K, K)


def _smooth(
    log_prob: Array, out: Array, sequences: _Sequences, weight: Array, startprob: Array, transmat: Array
) -> _Smoothed:
    """Forward and backward pass in probabilities; ``out`` receives weighted state probabilities."""
    N, K = len(sequences.which), len(startprob)
    loglik, good, pairs = np.zeros(N), np.ones(N, bool), np.zeros((K, K))
    for t in sequences.times():
        rows = sequences.rows(t)
        highest, density = _densities(log_prob[rows])
        forward = density * (out[rows - 1] @ transmat if t else startprob)
        c = forward.sum(axis=1)
        good[: len(rows)] &= c >= LEAST
        c = np.maximum(c, LEAST)
        loglik[: len(rows)] += np.log(c) + highest
        out[rows] = forward / c[:, None]
    after: Array = np.empty((0, K))  # probability of the rows from t + 1 on, relative to its sum, for each state then
    for t in reversed(sequences.times()):
        rows = sequences.rows(t)
        running = len(after)
        backward = np.ones((len(rows), K))
        backward[:running] = after @ transmat.T
        forward = out[rows]
        joint = forward * backward
        s = joint.sum(axis=1)
        good[: len(rows)] &= s >= LEAST
        share = weight[: len(rows)] / np.maximum(s, LEAST)
        pairs += forward[:running].T @ (after * share[:running, None])
        out[rows] = joint * share[:, None]
        _, after = _densities(log_prob[rows])
        after *= backward
        after /= np.maximum(after.sum(axis=1), LEAST)[:, None]
    return _Smoothed(good, loglik, pairs * transmat)


def _smooth_logarithms(
    log_prob: Array, out: Array, sequences: _Sequences, weight: Array, startprob: Array, transmat: Array
) -> _Smoothed:
    """The same in logarithms."""
    N, K = len(sequences.which), len(startprob)
    log_start, log_trans = _logarithm(startprob), _logarithm(transmat)
    loglik, transitions = np.zeros(N), np.zeros((K, K))
    for t in sequences.times():
        rows = sequences.rows(t)
        ahead = _log_product(out[rows - 1], log_trans) if t else np.tile(log_start, (len(rows), 1))
        highest, joint = _see(ahead, log_prob[rows])
        total, out[rows] = _normalised(joint)
        loglik[: len(rows)] += highest + total
    possible = loglik > -np.inf
    share = np.where(possible, weight, 0.0)[:, None]
    after: Array = np.empty((0, K))
    for t in reversed(sequences.times()):
        rows = sequences.rows(t)
        running = len(after)
        backward = np.zeros((len(rows), K))
        backward[:running] = _log_product(after, log_trans.T)
        backward[out[rows] == -np.inf] = -np.inf  # a state that cannot be reached is none to be relative to
        weights = share[: len(rows)]
        for group, pairs in _pairs(out[rows[:running]], log_trans):
            pairs += after[group, :, None]
            _, moves = _normalised(pairs.reshape(len(pairs), K * K))
            transitions += np.einsum("nji,n->ij", np.exp(moves).reshape(pairs.shape), weights[:running][group, 0])
        out[rows] = weights * np.exp(_normalised(out[rows] + backward)[1])
        after = _normalised(_see(backward, log_prob[rows])[1])[1]
    return _Smoothed(possible, loglik, transitions)


def forward_backward(
    log_prob: Array,
    lengths: Array,
    weight: Array | None,
    startprob: Array,
    transmat: Array,
    states: Array,
    logliks: Array,
    n_threads: int,
) -> tuple[Array, Array]:
    """Fill ``states`` (n, K) with the probabilities of the states given all rows of the sequence, times its weight.

    Parameters
    ----------
    log_prob, lengths, startprob, transmat
        See the head of this module.
    weight : ndarray of shape (N,) or None
        How often each sequence counts; None: once.
    logliks : ndarray of shape (N,)
        Receives the log-likelihood of each sequence, without its weight. An impossible sequence has -inf; its
        probabilities are 0 and it adds nothing.
    n_threads : int
        1 or 2; the answer is the same, bit by bit.

    Returns
    -------
    starts : ndarray of shape (K,)
        Weighted probabilities of the first states.
    transitions : ndarray of shape (K, K)
        Weighted expected number of transitions.
    """
    sequences = _sequences(lengths)
    weights = np.ones(len(lengths)) if weight is None else weight
    done = _smooth(log_prob, states, sequences, weights[sequences.which], startprob, transmat)
    logliks[sequences.which], transitions = done.loglik, done.transitions
    if not done.good.all():  # what the others have added is in the sums: the good ones go again without them
        transitions = np.zeros_like(transmat)
        for chosen, smooth in ((done.good, _smooth), (~done.good, _smooth_logarithms)):
            some = sequences.take(chosen)
            again = smooth(log_prob, states, some, weights[some.which], startprob, transmat)
            logliks[some.which] = again.loglik
            transitions += again.transitions
    return states[sequences.first].sum(axis=0), transitions


def expect_chain_symbols(
    numbers: Array, table: Array, lengths: Array, weight: Array | None, *chain: Any
) -> tuple[Array, Array, Array] | None:
    """E-step of a chain of symbols, without an (n, K) array: ``starts`` and ``transitions``, and how often each occurs.

    Parameters
    ----------
    numbers : ndarray of shape (n, 1)
        Numbers of the symbols as floats; NaN: missing.
    table : ndarray of shape (m + 1, K)
        Logarithms of the probabilities of the m symbols; the last row, of a missing one, is 0.
    lengths, weight, startprob, transmat, logliks, n_threads
        As in `forward_backward`.

    Returns
    -------
    starts, transitions : ndarray
        As in `forward_backward`.
    counts : ndarray of shape (m + 1, K)
        None instead of all three if probabilities were not enough for a sequence: `forward_backward` has logarithms.
    """
    startprob, transmat, logliks, n_threads = chain
    codes = np.where(np.isnan(numbers[:, 0]), len(table) - 1, numbers[:, 0]).astype(np.int64)
    states = np.empty((len(codes), len(startprob)))
    passes = forward_backward(table[codes], lengths, weight, startprob, transmat, states, logliks, n_threads)
    counts = np.zeros(table.shape)
    np.add.at(counts, codes, states)
    return (*passes, counts)


def filter_chain(log_prob: Array, lengths: Array, startprob: Array, transmat: Array, increments: Array) -> None:
    """Overwrite ``log_prob`` with the probabilities of the states given the rows up to each.

    ``increments`` (n,) receives the log-density of each row given those before it in its sequence. From the first
    impossible row of a sequence on, the probabilities are 0 and the increments -inf.

    No later row tells whether a lost state matters, so logarithms are taken wherever a state could be lost: unless
    every transition is possible.
    """
    sequences = _sequences(lengths)
    good = np.full(len(lengths), bool(transmat.min() >= _MIXING))
    kept = log_prob[sequences.first]
    good &= (_densities(kept)[1] * startprob).sum(axis=1) >= LEAST
    log_start, log_trans = _logarithm(startprob), _logarithm(transmat)

    some = sequences.take(good)
    for t in some.times():
        rows = some.rows(t)
        highest, density = _densities(log_prob[rows])
        density *= log_prob[rows - 1] @ transmat if t else startprob
        c = density.sum(axis=1)
        increments[rows] = _logarithm(c) + highest
        log_prob[rows] = density / np.maximum(c, LEAST)[:, None]

    some = sequences.take(~good)
    before: Array = np.empty((len(some.which), len(startprob)))
    for t in some.times():
        rows = some.rows(t)
        ahead = _log_product(before[: len(rows)], log_trans) if t else np.tile(log_start, (len(rows), 1))
        highest, joint = _see(ahead, log_prob[rows])
        total, before = _normalised(joint)
        increments[rows] = highest + total
        log_prob[rows] = np.exp(before)


def viterbi(
    log_prob: Array,
    lengths: Array,
    startprob: Array,
    transmat: Array,
    path: Array,
    scores: Array,
    n_threads: int = 1,
) -> None:
    """Fill ``path`` (n,) int64 with the most probable states, ``scores`` (N,) with their log-probabilities.

    Of equally probable states the first is taken. A sequence that is impossible scores -inf. The answer is the same for
    ``n_threads`` 1 and 2.
    """
    sequences = _sequences(lengths)
    log_trans, best = _logarithm(transmat), np.empty_like(log_prob)  # relative to the best of each row
    came_from = np.zeros(log_prob.shape, np.min_scalar_type(len(startprob) - 1))
    score = np.zeros(len(lengths))
    for t in sequences.times():
        rows = sequences.rows(t)
        ahead = np.tile(_logarithm(startprob), (len(rows), 1))
        for group, pairs in _pairs(best[rows - 1], log_trans) if t else ():
            came_from[rows[group]] = pairs.argmax(axis=2)
            ahead[group] = pairs.max(axis=2)
        highest, joint = _see(ahead, log_prob[rows])
        gained, best[rows] = _relative(joint)
        score[: len(rows)] += highest + gained
    last = sequences.first + sequences.lengths - 1
    path[last] = best[last].argmax(axis=1)
    scores[sequences.which] = score + best[last].max(axis=1)
    for t in reversed(sequences.times()[1:]):
        rows = sequences.rows(t)
        path[rows - 1] = came_from[rows, path[rows]]
