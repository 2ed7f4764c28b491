"""Paths of the hidden states: the best few, draws from their posterior, and what is ahead. One sequence at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Halvings of an interval that pin down a quantile to rounding.
_HALVINGS = 80


def best_paths(log_prob: Array, startprob: Array, transmat: Array, n_paths: int) -> tuple[Array, Array]:
    """Most probable paths: log-probabilities (m,), falling, and states (m, T); fewer than asked if there are fewer.

    Viterbi's recursion with the best few ways into each state kept instead of the best one (list Viterbi).

    References
    ----------
    Seshadri, N. & Sundberg, C.-E. (1994). List Viterbi decoding algorithms with applications. *IEEE Transactions on
    Communications* 42, 313-323.
    """
    n, k = log_prob.shape
    with np.errstate(divide="ignore"):
        log_start, log_trans = np.log(startprob), np.log(transmat)
    score = np.full((k, n_paths), -np.inf)
    score[:, 0] = log_start + log_prob[0]
    came_from = np.empty((n, k, n_paths), np.int32)
    for t in range(1, n):
        ways = (score[:, :, None] + log_trans[:, None, :]).reshape(k * n_paths, k)
        came_from[t] = np.argsort(-ways, axis=0, kind="stable")[:n_paths].T
        score = np.take_along_axis(ways.T, came_from[t].astype(np.int64), axis=1) + log_prob[t][:, None]
    ends = np.argsort(-score, axis=None, kind="stable")[:n_paths]
    scores = score.ravel()[ends]
    ends, scores = ends[scores > -np.inf], scores[scores > -np.inf]
    paths = np.empty((len(ends), n), np.int64)
    for t in range(n - 1, -1, -1):
        paths[:, t] = ends // n_paths
        if t:
            ends = came_from[t].reshape(-1)[ends]
    return scores, paths


def draw_paths(filtered: Array, transmat: Array, n_paths: int, rng: np.random.Generator) -> Array:
    """Draw paths (n_paths, T) given all rows: the last state from the filter, then backwards.

    References
    ----------
    Chib, S. (1996). Calculating posterior distributions and modal estimates in Markov mixture models. *Journal of
    Econometrics* 75, 79-97.
    """
    n = len(filtered)
    uniform = rng.random((n, n_paths))
    paths = np.empty((n_paths, n), np.int64)
    paths[:, -1] = _pick(np.broadcast_to(filtered[-1], (n_paths, filtered.shape[1])), uniform[-1])
    for t in range(n - 2, -1, -1):
        paths[:, t] = _pick(filtered[t] * transmat[:, paths[:, t + 1]].T, uniform[t])
    return paths


def walk(startprob: Array, transmat: Array, n_steps: int, rng: np.random.Generator) -> Array:
    """Draw one path (n_steps,) of the chain."""
    uniform, path = rng.random(n_steps), np.empty(n_steps, np.int64)
    start, rows = _cumulative(startprob), [_cumulative(row) for row in transmat]
    for t in range(n_steps):
        path[t] = (rows[path[t - 1]] if t else start).searchsorted(uniform[t], side="right")
    return path


def _cumulative(probabilities: Array) -> Array:
    """Steps of the distribution function; the last one that is possible is exactly 1."""
    steps = probabilities.cumsum()
    steps[np.flatnonzero(probabilities)[-1] :] = 1.0
    return np.asarray(steps)


def _pick(weights: Array, uniform: Array) -> Array:
    """One index of each row, with probability in proportion to its weight."""
    cumulative = weights.cumsum(axis=1)
    return np.asarray((uniform[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1))


def quantiles(cdf: Callable[[Array], Array], weights: Array, levels: Array) -> Array:
    """Quantiles (q, h) of mixtures: ``weights`` (h, k) of components with distribution functions ``cdf`` (m, k)."""
    level = np.repeat(levels, len(weights))
    weight = np.tile(weights, (len(levels), 1))

    def below(x: Array) -> Array:
        return np.asarray((cdf(x) * weight).sum(axis=1) < level)

    low, high = -np.ones(len(level)), np.ones(len(level))
    for bound, inside in ((low, False), (high, True)):
        outside = below(bound) == inside
        while outside.any():
            bound[outside] *= 2.0
            outside &= (below(bound) == inside) & (np.abs(bound) < 1e300)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        short = below(middle)
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high.reshape(len(levels), -1)
