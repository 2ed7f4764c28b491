"""Every kernel in plain NumPy: the specification of the compiled ones, and what runs where none could be built.

A kernel is a function of arrays that returns sums (``expect_*``) or fills the arrays it is given (``infer_*``). It
keeps no state, never writes to its input and knows nothing of estimators. Arrays are in C order, unless their strides
are said to be free; one that is filled shares no memory with another. The compiled kernels refuse what is not so before
they write anything; these trust their callers.

Names shared by the kernels of this module, for ``n`` rows, ``d`` columns and ``K`` components:

==============  ====================================================================================================
``X``           (n, d) float32 or float64, any strides: the user's data, in the user's units
``weight``      (n,) float64 or None, any strides: how often a row counts; one of weight 0 adds nothing, even of NaN
``center``      (d,) subtracted from every row ...
``scale``       (d,) ... and then divided by: ``z = (x - center) / scale``; all parameters live in these coordinates
``log_weights`` (K,) logarithms of the mixing weights; -inf switches a component off
``means``       (K, d)
==============  ====================================================================================================

``expect_*`` return ``(loglik, counts, firsts, seconds)``: the weighted log-likelihood of ``z``, and per component the
sums of ``r``, ``r (z - mean)`` and ``r (z - mean)(z - mean)'`` (whatever part of it the covariance shape needs), with
``r`` the responsibility times the weight. Centred on the current means, the sums do not cancel however far the data
lie from the origin.

``infer_*`` take three arrays last and fill whichever is not None: ``log_density`` (n,), ``responsibilities`` (n, K) and
``labels`` (n,) int64.

The two halves of ``expect_*`` stand alone for models that find responsibilities in another way: ``log_prob_*`` fill
``out`` (n, K) with log-densities of ``z``, ``summarize_*`` return ``(counts, firsts, seconds)`` for given ``resp``
(n, K), weights included. For a tied covariance these ``seconds`` (d, d) are the scatter of all rows about 0, each row
weighted by the sum of its responsibilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .chain import expect_chain_symbols as expect_chain_symbols
from .chain import filter_chain as filter_chain
from .chain import forward_backward as forward_backward
from .chain import viterbi as viterbi
from .missing import FARTHEST
from .missing import condense_missing as condense_missing
from .missing import expect_missing as expect_missing
from .missing import group_missing as group_missing
from .missing import infer_missing as infer_missing
from .missing import moments_missing as moments_missing
from .missing import range_missing as range_missing
from .missing import standardize_missing as standardize_missing

Array = NDArray[Any]
Sums = tuple[Array, Array, Array]  # counts, firsts, seconds
ChainSums = tuple[Array, Array, Array, Array, Array]  # starts, transitions, counts, firsts, seconds
LogJoint = Callable[[Array], Array]
# Adds a piece to sums: z (d, rows), resp (K, rows), means, firsts, seconds.
Add = Callable[[Array, Array, Array, Array, Array], None]

LOG_2PI = float(np.log(2.0 * np.pi))
# Far outside the data a squared distance overflows; this is as improbable as a row can be.
LOWEST_LOG_PROB = -1e300


def chunks(
    X: Array, weight: Array | None, center: Array, scale: Array, width: int
) -> Iterator[tuple[slice, Array, Array]]:
    """Standardised pieces of X, a few megabytes each: (rows, z, weight of each row), with ``z`` (d, rows).

    A column lies in one piece, and pieces are large: NumPy is slow at many short arrays. All share their memory.
    """
    size = max(128, 524_288 // width)
    buffer = np.empty((len(center), size))
    for begin in range(0, len(X), size):
        rows = slice(begin, min(begin + size, len(X)))
        z = buffer[:, : rows.stop - begin]
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(X[rows].T, center[:, None], out=z)
            z /= scale[:, None]
        np.fmax(z, -FARTHEST, out=z)
        np.fmin(z, FARTHEST, out=z)
        yield rows, z, np.ones(z.shape[1]) if weight is None else weight[rows]


def posterior(log_joint: Array) -> tuple[Array, Array]:
    """Turn (K, n) joint log-probabilities into log-densities (n,) and, in place, responsibilities (K, n)."""
    highest = np.maximum(log_joint.max(axis=0), LOWEST_LOG_PROB)
    log_joint -= highest
    resp = np.exp(log_joint, out=log_joint)
    total = np.maximum(resp.sum(axis=0), 1.0)  # less than 1 only if every component is switched off
    resp /= total
    return highest + np.log(total), resp


def _guarded(log_joint: LogJoint, log_weights: Array) -> LogJoint:
    """Never below the lowest, but for components that are switched off."""
    floor = np.where(log_weights == -np.inf, -np.inf, LOWEST_LOG_PROB)[:, None]

    def guarded(z: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            joint = log_joint(z)
        return np.fmax(joint, floor, out=joint)

    return guarded


def _infer(X: Array, center: Array, scale: Array, log_joint: LogJoint, n_components: int, *out: Array | None) -> None:
    log_density, responsibilities, labels = out
    for rows, z, _ in chunks(X, None, center, scale, len(center) + n_components):
        joint = log_joint(z)
        if labels is not None:
            labels[rows] = joint.argmax(axis=0)
        if log_density is None and responsibilities is None:
            continue
        density, resp = posterior(joint)
        if log_density is not None:
            log_density[rows] = density
        if responsibilities is not None:
            responsibilities[rows] = resp.T


def _log_prob(X: Array, center: Array, scale: Array, log_joint: LogJoint, out: Array) -> None:
    for rows, z, _ in chunks(X, None, center, scale, X.shape[1] + out.shape[1]):
        out[rows] = log_joint(z).T


def _expect(
    X: Array,
    weight: Array | None,
    center: Array,
    scale: Array,
    means: Array,
    log_joint: LogJoint,
    add: Add,
    seconds: Array,
) -> tuple[float, Array, Array]:
    """Log-likelihood, counts and firsts; ``add`` adds to firsts and seconds."""
    loglik, counts, firsts = 0.0, np.zeros(len(means)), np.zeros(means.shape)
    for _, z, count in chunks(X, weight, center, scale, sum(means.shape)):
        density, resp = posterior(log_joint(z))
        loglik += float(count @ density)
        resp *= count
        counts += resp.sum(axis=1)
        add(z, resp, means, firsts, seconds)
    return loglik, counts, firsts


def _summarize(
    X: Array, center: Array, scale: Array, means: Array, resp: Array, add: Add, seconds: Array
) -> tuple[Array, Array]:
    """Counts and firsts; ``add`` adds to firsts and seconds."""
    firsts = np.zeros(means.shape)
    for rows, z, _ in chunks(X, None, center, scale, sum(means.shape)):
        add(z, resp[rows].T, means, firsts, seconds)
    return resp.sum(axis=0), firsts


def _symmetric(matrices: Array) -> Array:
    return np.asarray(0.5 * (matrices + matrices.swapaxes(-1, -2)))


# Full covariances -----------------------------------------------------------------------------------------------------


def _full_log_joint(log_weights: Array, means: Array, cholesky: Array) -> LogJoint:
    d = means.shape[1]
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1) - 0.5 * d * LOG_2PI

    def log_joint(z: Array) -> Array:
        joint, deviation, y = np.empty((len(means), z.shape[1])), np.empty_like(z), np.empty_like(z)
        for k, mean in enumerate(means):
            np.subtract(z, mean[:, None], out=deviation)
            np.matmul(whiten[k], deviation, out=y)
            y *= y
            joint[k] = constant[k] - 0.5 * y.sum(axis=0)
        return joint

    return _guarded(log_joint, log_weights)


def _add_matrices(z: Array, resp: Array, means: Array, firsts: Array, seconds: Array) -> None:
    deviation, weighted = np.empty_like(z), np.empty_like(z)
    for k, mean in enumerate(means):
        np.subtract(z, mean[:, None], out=deviation)
        np.multiply(deviation, resp[k], out=weighted)
        firsts[k] += weighted.sum(axis=1)
        seconds[k] += weighted @ deviation.T


def expect_full(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for full covariances; ``cholesky`` (K, d, d) lower factors; ``seconds`` (K, d, d)."""
    seconds = np.zeros(cholesky.shape)
    log_joint = _full_log_joint(log_weights, means, cholesky)
    return *_expect(X, weight, center, scale, means, log_joint, _add_matrices, seconds), _symmetric(seconds)


def infer_full(
    X: Array, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array, *out: Array | None
) -> None:
    """Posterior quantities for full covariances."""
    _infer(X, center, scale, _full_log_joint(log_weights, means, cholesky), len(means), *out)


def log_prob_full(X: Array, center: Array, scale: Array, means: Array, cholesky: Array, out: Array) -> None:
    """Log-densities for full covariances."""
    _log_prob(X, center, scale, _full_log_joint(np.zeros(len(means)), means, cholesky), out)


def summarize_full(X: Array, center: Array, scale: Array, means: Array, resp: Array) -> tuple[Array, Array, Array]:
    """Sums for full covariances; ``seconds`` (K, d, d)."""
    seconds = np.zeros((*means.shape, means.shape[1]))
    return *_summarize(X, center, scale, means, resp, _add_matrices, seconds), _symmetric(seconds)


# One covariance for all components ------------------------------------------------------------------------------------


def _tied_log_joint(log_weights: Array, means: Array, cholesky: Array) -> LogJoint:
    d = means.shape[1]
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky)).sum() - 0.5 * d * LOG_2PI
    white_means = means @ whiten.T

    def log_joint(z: Array) -> Array:
        y = whiten @ z  # once for all components
        joint, deviation = np.empty((len(means), z.shape[1])), np.empty_like(z)
        for k, mean in enumerate(white_means):
            np.subtract(y, mean[:, None], out=deviation)
            deviation *= deviation
            joint[k] = constant[k] - 0.5 * deviation.sum(axis=0)
        return joint

    return _guarded(log_joint, log_weights)


def _add_firsts(z: Array, resp: Array, means: Array, firsts: Array, _: Array) -> None:
    deviation = np.empty_like(z)
    for k, mean in enumerate(means):
        np.subtract(z, mean[:, None], out=deviation)
        firsts[k] += deviation @ resp[k]


def _add_scatter(z: Array, resp: Array, means: Array, firsts: Array, scatter: Array) -> None:
    _add_firsts(z, resp, means, firsts, scatter)
    scatter += (z * resp.sum(axis=0)) @ z.T


def expect_tied(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array
) -> tuple[float, Array, Array]:
    """Sums for one shared covariance; ``cholesky`` (d, d). No ``seconds``: the data's scatter never changes."""
    log_joint = _tied_log_joint(log_weights, means, cholesky)
    return _expect(X, weight, center, scale, means, log_joint, _add_firsts, np.empty(0))


def infer_tied(
    X: Array, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array, *out: Array | None
) -> None:
    """Posterior quantities for one shared covariance."""
    _infer(X, center, scale, _tied_log_joint(log_weights, means, cholesky), len(means), *out)


def log_prob_tied(X: Array, center: Array, scale: Array, means: Array, cholesky: Array, out: Array) -> None:
    """Log-densities for one shared covariance."""
    _log_prob(X, center, scale, _tied_log_joint(np.zeros(len(means)), means, cholesky), out)


def summarize_tied(X: Array, center: Array, scale: Array, means: Array, resp: Array) -> tuple[Array, Array, Array]:
    """Sums for one shared covariance; ``seconds`` (d, d), the scatter of all rows about 0."""
    scatter = np.zeros((means.shape[1], means.shape[1]))
    return *_summarize(X, center, scale, means, resp, _add_scatter, scatter), _symmetric(scatter)


# Diagonal and spherical covariances -----------------------------------------------------------------------------------


def _diag_log_joint(log_weights: Array, means: Array, variances: Array) -> LogJoint:
    d = means.shape[1]
    constant = log_weights - 0.5 * np.log(variances).sum(axis=1) - 0.5 * d * LOG_2PI
    precision = 1.0 / variances

    def log_joint(z: Array) -> Array:
        joint, deviation = np.empty((len(means), z.shape[1])), np.empty_like(z)
        for k, mean in enumerate(means):
            np.subtract(z, mean[:, None], out=deviation)
            deviation *= deviation
            joint[k] = constant[k] - 0.5 * (precision[k] @ deviation)
        return joint

    return _guarded(log_joint, log_weights)


def _add_squares(z: Array, resp: Array, means: Array, firsts: Array, seconds: Array) -> None:
    deviation = np.empty_like(z)
    for k, mean in enumerate(means):
        np.subtract(z, mean[:, None], out=deviation)
        firsts[k] += deviation @ resp[k]
        deviation *= deviation
        seconds[k] += deviation @ resp[k]


def expect_diag(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for diagonal covariances; ``variances`` (K, d); ``seconds`` (K, d)."""
    seconds = np.zeros(means.shape)
    log_joint = _diag_log_joint(log_weights, means, variances)
    return *_expect(X, weight, center, scale, means, log_joint, _add_squares, seconds), seconds


def infer_diag(
    X: Array, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array, *out: Array | None
) -> None:
    """Posterior quantities for diagonal covariances."""
    _infer(X, center, scale, _diag_log_joint(log_weights, means, variances), len(means), *out)


def log_prob_diag(X: Array, center: Array, scale: Array, means: Array, variances: Array, out: Array) -> None:
    """Log-densities for diagonal covariances."""
    _log_prob(X, center, scale, _diag_log_joint(np.zeros(len(means)), means, variances), out)


def summarize_diag(X: Array, center: Array, scale: Array, means: Array, resp: Array) -> tuple[Array, Array, Array]:
    """Sums for diagonal covariances; ``seconds`` (K, d)."""
    seconds = np.zeros(means.shape)
    return *_summarize(X, center, scale, means, resp, _add_squares, seconds), seconds


def _columns(variances: Array, means: Array) -> Array:
    """A spherical covariance written as a diagonal one."""
    return np.repeat(variances[:, None], means.shape[1], axis=1)


def expect_spherical(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for spherical covariances; ``variances`` (K,); ``seconds`` (K,), summed over the columns."""
    loglik, counts, firsts, seconds = expect_diag(
        X, weight, center, scale, log_weights, means, _columns(variances, means)
    )
    return loglik, counts, firsts, seconds.sum(axis=1)


def infer_spherical(
    X: Array, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array, *out: Array | None
) -> None:
    """Posterior quantities for spherical covariances."""
    infer_diag(X, center, scale, log_weights, means, _columns(variances, means), *out)


def log_prob_spherical(X: Array, center: Array, scale: Array, means: Array, variances: Array, out: Array) -> None:
    """Log-densities for spherical covariances."""
    log_prob_diag(X, center, scale, means, _columns(variances, means), out)


def summarize_spherical(X: Array, center: Array, scale: Array, means: Array, resp: Array) -> tuple[Array, Array, Array]:
    """Sums for spherical covariances; ``seconds`` (K,), summed over the columns."""
    counts, firsts, seconds = summarize_diag(X, center, scale, means, resp)
    return counts, firsts, seconds.sum(axis=1)


# Normal laws in the states of a chain ---------------------------------------------------------------------------------


def _along_a_chain(log_prob: Callable[..., None], summarize: Callable[..., Sums]) -> Callable[..., ChainSums | None]:
    """E-step of a chain: ``starts``, ``transitions`` and the sums of ``summarize``; the arguments are those of both.

    None instead if probabilities were not enough for a sequence: `forward_backward` has logarithms.
    """

    def expect(
        X: Array, center: Array, scale: Array, means: Array, covariance: Array, *sequences: Any
    ) -> ChainSums | None:
        lengths, weight, startprob, transmat, logliks, n_threads = sequences
        log_densities = np.empty((len(X), len(means)))
        log_prob(X, center, scale, means, covariance, log_densities)
        states = np.empty_like(log_densities)
        passes = forward_backward(log_densities, lengths, weight, startprob, transmat, states, logliks, n_threads)
        return (*passes, *summarize(X, center, scale, means, states))

    return expect


expect_chain_full = _along_a_chain(log_prob_full, summarize_full)
expect_chain_tied = _along_a_chain(log_prob_tied, summarize_tied)
expect_chain_diag = _along_a_chain(log_prob_diag, summarize_diag)
expect_chain_spherical = _along_a_chain(log_prob_spherical, summarize_spherical)


def _decoded(log_prob: Callable[..., None]) -> Callable[..., None]:
    """`viterbi` for rows whose log-densities ``log_prob`` computes; the arguments are those of both."""

    def decode(X: Array, center: Array, scale: Array, means: Array, covariance: Array, *sequences: Any) -> None:
        log_densities = np.empty((len(X), len(means)))
        log_prob(X, center, scale, means, covariance, log_densities)
        viterbi(log_densities, *sequences)

    return decode


viterbi_full = _decoded(log_prob_full)
viterbi_tied = _decoded(log_prob_tied)
viterbi_diag = _decoded(log_prob_diag)
viterbi_spherical = _decoded(log_prob_spherical)
