"""Every kernel in plain NumPy: the specification of the compiled ones, and what runs where none could be built.

A kernel is a function of arrays that returns sums (``expect_*``) or fills the arrays it is given (``infer_*``). It keeps
no state, never writes to its input and knows nothing of estimators.

Names shared by the kernels of this module, for ``n`` rows, ``d`` columns and ``K`` components:

==============  ====================================================================================================
``X``           (n, d) float32 or float64, any strides: the user's data, in the user's units
``weight``      (n,) float64 or None: how often each row counts; a row of weight 0 is never looked at
``center``      (d,) subtracted from every row ...
``scale``       (d,) ... and then divided by: ``z = (x - center) / scale``; all parameters live in these coordinates
``log_weights`` (K,) logarithms of the mixing weights; -inf switches a component off
``means``       (K, d)
==============  ====================================================================================================

``expect_*`` return ``(loglik, counts, firsts, seconds)``: the weighted log-likelihood of ``z``, and per component the sums of
``r``, ``r (z - mean)`` and ``r (z - mean)(z - mean)'`` (whatever part of it the covariance shape needs), with ``r`` the
responsibility times the weight. Centred on the current means, the sums do not cancel however far the data lie from the origin.

``infer_*`` fill whichever of ``log_density`` (n,), ``responsibilities`` (n, K) and ``labels`` (n,) int64 is not None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .missing import expect_missing as expect_missing
from .missing import infer_missing as infer_missing
from .missing import moments_missing as moments_missing
from .missing import range_missing as range_missing
from .missing import standardize_missing as standardize_missing

Array = NDArray[Any]
Distances = Callable[[Array], Array]

LOG_2PI = float(np.log(2.0 * np.pi))
# Far outside the data a squared distance overflows; this is as improbable as a row can be.
LOWEST_LOG_PROB = -1e300


def chunks(X: Array, weight: Array | None, center: Array, scale: Array, width: int) -> Iterator[tuple[slice, Array, Array]]:
    """Standardised pieces of X small enough to stay in cache: (rows, z, weight of each row)."""
    size = max(128, 262_144 // max(8, width))
    for begin in range(0, len(X), size):
        rows = slice(begin, min(begin + size, len(X)))
        z = (X[rows].astype(np.float64) - center) / scale
        count = np.ones(len(z)) if weight is None else weight[rows]
        if weight is not None:
            z[count == 0.0] = 0.0
        yield rows, z, count


def posterior(log_joint: Array) -> tuple[Array, Array]:
    """Turn (n, K) joint log-probabilities into log-densities (n,) and, in place, responsibilities (n, K)."""
    np.maximum(log_joint, LOWEST_LOG_PROB, out=log_joint, where=log_joint != -np.inf)
    highest = log_joint.max(axis=1)
    log_joint -= highest[:, None]
    resp = np.exp(log_joint, out=log_joint)
    total = resp.sum(axis=1)
    resp /= total[:, None]
    return highest + np.log(total), resp


def _infer(
    X: Array,
    center: Array,
    scale: Array,
    log_joint: Distances,
    n_components: int,
    log_density: Array | None,
    responsibilities: Array | None,
    labels: Array | None,
) -> None:
    for rows, z, _ in chunks(X, None, center, scale, len(center) + n_components):
        joint = log_joint(z)
        if labels is not None:
            labels[rows] = joint.argmax(axis=1)
        density, resp = posterior(joint)
        if log_density is not None:
            log_density[rows] = density
        if responsibilities is not None:
            responsibilities[rows] = resp


# Full covariances -----------------------------------------------------------------------------------------------------


def _full_log_joint(log_weights: Array, means: Array, cholesky: Array) -> Distances:
    d = means.shape[1]
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1) - 0.5 * d * LOG_2PI

    def log_joint(z: Array) -> Array:
        joint = np.empty((len(z), len(means)))
        for k, mean in enumerate(means):
            y = (z - mean) @ whiten[k].T
            joint[:, k] = constant[k] - 0.5 * np.einsum("ij,ij->i", y, y)
        return joint

    return log_joint


def expect_full(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for full covariances; ``cholesky`` (K, d, d) lower factors; ``seconds`` (K, d, d)."""
    K, d = means.shape
    log_joint = _full_log_joint(log_weights, means, cholesky)
    loglik, counts, firsts, seconds = 0.0, np.zeros(K), np.zeros((K, d)), np.zeros((K, d, d))
    for _, z, count in chunks(X, weight, center, scale, d + K):
        density, resp = posterior(log_joint(z))
        loglik += float(count @ density)
        resp *= count[:, None]
        counts += resp.sum(axis=0)
        for k, mean in enumerate(means):
            deviation = z - mean
            weighted = deviation * resp[:, k, None]
            firsts[k] += weighted.sum(axis=0)
            seconds[k] += weighted.T @ deviation
    return loglik, counts, firsts, 0.5 * (seconds + seconds.transpose(0, 2, 1))


def infer_full(
    X: Array,
    center: Array,
    scale: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    log_density: Array | None,
    responsibilities: Array | None,
    labels: Array | None,
) -> None:
    """Posterior quantities for full covariances."""
    log_joint = _full_log_joint(log_weights, means, cholesky)
    _infer(X, center, scale, log_joint, len(means), log_density, responsibilities, labels)


# One covariance for all components --------------------------------------------------------------------------------------


def _tied_log_joint(log_weights: Array, means: Array, cholesky: Array) -> Distances:
    d = means.shape[1]
    whiten = np.linalg.inv(cholesky).T
    constant = log_weights - np.log(np.diagonal(cholesky)).sum() - 0.5 * d * LOG_2PI
    white_means = means @ whiten

    def log_joint(z: Array) -> Array:
        y = z @ whiten  # once for all components
        joint = np.empty((len(z), len(means)))
        for k, mean in enumerate(white_means):
            deviation = y - mean
            joint[:, k] = constant[k] - 0.5 * np.einsum("ij,ij->i", deviation, deviation)
        return joint

    return log_joint


def expect_tied(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array
) -> tuple[float, Array, Array]:
    """Sums for one shared covariance; ``cholesky`` (d, d). No ``seconds``: the scatter of the data is the same at every pass."""
    K, d = means.shape
    log_joint = _tied_log_joint(log_weights, means, cholesky)
    loglik, counts, firsts = 0.0, np.zeros(K), np.zeros((K, d))
    for _, z, count in chunks(X, weight, center, scale, d + K):
        density, resp = posterior(log_joint(z))
        loglik += float(count @ density)
        resp *= count[:, None]
        counts += resp.sum(axis=0)
        for k, mean in enumerate(means):
            firsts[k] += resp[:, k] @ (z - mean)
    return loglik, counts, firsts


def infer_tied(
    X: Array,
    center: Array,
    scale: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    log_density: Array | None,
    responsibilities: Array | None,
    labels: Array | None,
) -> None:
    """Posterior quantities for one shared covariance."""
    log_joint = _tied_log_joint(log_weights, means, cholesky)
    _infer(X, center, scale, log_joint, len(means), log_density, responsibilities, labels)


# Diagonal and spherical covariances -------------------------------------------------------------------------------------


def _diag_log_joint(log_weights: Array, means: Array, variances: Array) -> Distances:
    d = means.shape[1]
    constant = log_weights - 0.5 * np.log(variances).sum(axis=1) - 0.5 * d * LOG_2PI
    precision = 1.0 / variances

    def log_joint(z: Array) -> Array:
        joint = np.empty((len(z), len(means)))
        for k, mean in enumerate(means):
            deviation = z - mean
            deviation *= deviation
            joint[:, k] = constant[k] - 0.5 * (deviation @ precision[k])
        return joint

    return log_joint


def expect_diag(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for diagonal covariances; ``variances`` (K, d); ``seconds`` (K, d)."""
    K, d = means.shape
    log_joint = _diag_log_joint(log_weights, means, variances)
    loglik, counts, firsts, seconds = 0.0, np.zeros(K), np.zeros((K, d)), np.zeros((K, d))
    for _, z, count in chunks(X, weight, center, scale, d + K):
        density, resp = posterior(log_joint(z))
        loglik += float(count @ density)
        resp *= count[:, None]
        counts += resp.sum(axis=0)
        for k, mean in enumerate(means):
            deviation = z - mean
            firsts[k] += resp[:, k] @ deviation
            deviation *= deviation
            seconds[k] += resp[:, k] @ deviation
    return loglik, counts, firsts, seconds


def infer_diag(
    X: Array,
    center: Array,
    scale: Array,
    log_weights: Array,
    means: Array,
    variances: Array,
    log_density: Array | None,
    responsibilities: Array | None,
    labels: Array | None,
) -> None:
    """Posterior quantities for diagonal covariances."""
    log_joint = _diag_log_joint(log_weights, means, variances)
    _infer(X, center, scale, log_joint, len(means), log_density, responsibilities, labels)


def _columns(variances: Array, means: Array) -> Array:
    """A spherical covariance written as a diagonal one."""
    return np.repeat(variances[:, None], means.shape[1], axis=1)


def expect_spherical(
    X: Array, weight: Array | None, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for spherical covariances; ``variances`` (K,); ``seconds`` (K,), summed over the columns."""
    loglik, counts, firsts, seconds = expect_diag(X, weight, center, scale, log_weights, means, _columns(variances, means))
    return loglik, counts, firsts, seconds.sum(axis=1)


def infer_spherical(
    X: Array,
    center: Array,
    scale: Array,
    log_weights: Array,
    means: Array,
    variances: Array,
    log_density: Array | None,
    responsibilities: Array | None,
    labels: Array | None,
) -> None:
    """Posterior quantities for spherical covariances."""
    infer_diag(
        X, center, scale, log_weights, means, _columns(variances, means), log_density, responsibilities, labels
    )
