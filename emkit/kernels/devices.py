"""The kernels of normal laws for rows on another device, in terms of the array API standard: torch, cupy.

The signatures are those of `reference`. Rows stay where they are; the parameters, which are small, go out to them and
the sums come back, in float64. A chunk of rows is whitened under all components by one product of matrices, ``y = W_k
(z - m_k)``, and all that is wanted are sums over ``y``: no difference of large numbers, so float32 rows do well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays import bring, namespace, send
from .devices_chain import filter_chain as filter_chain
from .devices_chain import forward_backward as forward_backward
from .devices_chain import viterbi as viterbi

Array = NDArray[Any]
Elsewhere = Any

# Cells of the largest array of a chunk: what fits into the caches of a processor; what keeps a GPU busy.
_CELLS, _CELLS_GPU = 2**19, 2**26
LOG_2PI = float(np.log(2.0 * np.pi))
# As far as a row can be, and as improbable, in float64 and in float32.
_FARTHEST = {8: (1e140, -1e300), 4: (1e15, -1e30)}


class Whitening(NamedTuple):
    """Components as the rows see them."""

    matrix: Array | None  # (d, k d): the W_k side by side; None: they are diagonal
    slopes: Array | None  # (k, d): their diagonals
    offset: Array  # (k, d): W_k m_k
    constant: Array  # (k,): log-density of a row at the mean, and log weight


def cells(X: Elsewhere) -> int:
    """How many numbers are looked at at once."""
    on_cpu = str(getattr(X, "device", "cpu")).lower().startswith("cpu")
    return _CELLS if on_cpu else _CELLS_GPU


def _chunks(
    X: Elsewhere, weight: Elsewhere | None, center: Array, scale: Array, width: int
) -> Iterator[tuple[slice, Elsewhere, Elsewhere | None]]:
    """Standardised rows (n, d) with their weights."""
    xp, size = namespace(X), max(256, cells(X) // width)
    middle, unit = send(center, X, X.dtype), send(scale, X, X.dtype)
    farthest, _ = _FARTHEST[xp.finfo(X.dtype).bits // 8]
    for begin in range(0, X.shape[0], size):
        rows = slice(begin, min(begin + size, X.shape[0]))
        z = (X[rows, :] - middle) / unit
        yield rows, xp.clip(z, -farthest, farthest), None if weight is None else weight[rows]


def _whitened(X: Elsewhere, white: Whitening) -> Callable[[Elsewhere], Elsewhere]:
    """Give the function from rows (n, d) to ``y`` (n, k, d)."""
    xp, (k, d) = namespace(X), white.offset.shape
    offset = send(white.offset, X, X.dtype)
    if white.matrix is None:
        assert white.slopes is not None
        slopes = send(white.slopes, X, X.dtype)
        return lambda z: z[:, None, :] * slopes[None, :, :] - offset[None, :, :]
    matrix = send(white.matrix, X, X.dtype)
    if matrix.shape[1] == d:  # one for all components
        return lambda z: (z @ matrix)[:, None, :] - offset[None, :, :]
    return lambda z: xp.reshape(z @ matrix, (z.shape[0], k, d)) - offset[None, :, :]


def _log_joint(X: Elsewhere, white: Whitening) -> Callable[[Elsewhere], Elsewhere]:
    """Give the function from ``y`` (n, k, d) to log-probabilities (n, k), never below the lowest."""
    xp = namespace(X)
    _, lowest = _FARTHEST[xp.finfo(X.dtype).bits // 8]
    constant = send(white.constant, X, X.dtype)
    floor = send(np.where(white.constant == -np.inf, -np.inf, lowest), X, X.dtype)
    return lambda y: xp.maximum(constant - 0.5 * xp.sum(y * y, axis=2), floor)


def _posterior(xp: Any, joint: Elsewhere) -> tuple[Elsewhere, Elsewhere]:
    """Log-densities (n,) and responsibilities (n, k)."""
    highest = xp.max(joint, axis=1, keepdims=True)
    highest = xp.where(xp.isfinite(highest), highest, xp.zeros_like(highest))
    resp = xp.exp(joint - highest)
    total = xp.sum(resp, axis=1, keepdims=True)
    return (highest + xp.log(total))[:, 0], resp / total


def _expect(
    X: Elsewhere, weight: Elsewhere | None, center: Array, scale: Array, white: Whitening, seconds: str | None
) -> tuple[float, Array, Array, Array | None]:
    """Log-likelihood, counts (k,), sums of ``y`` (k, d), and of ``y y'`` (k, d, d) or of squares (k, d), or None."""
    xp, (k, d) = namespace(X), white.offset.shape
    whiten, log_joint = _whitened(X, white), _log_joint(X, white)
    totals: list[Any] = [0.0] * (4 if seconds else 3)
    for _, z, w in _chunks(X, weight, center, scale, k * d):
        y = whiten(z)
        density, resp = _posterior(xp, log_joint(y))
        if w is not None:
            density, resp = density * w, resp * w[:, None]
        sums = [xp.sum(density), *_sums(xp, y, resp, seconds)]
        totals = [total + xp.astype(new, xp.float64) for total, new in zip(totals, sums, strict=True)]
    loglik, counts, firsts, *rest = (bring(total) for total in totals)
    return float(loglik), counts, firsts, rest[0] if rest else None


def _sums(xp: Any, y: Elsewhere, resp: Elsewhere, seconds: str | None) -> list[Elsewhere]:
    """Counts, and sums of a chunk of ``y`` (n, k, d), which is overwritten."""
    sums = [xp.sum(resp, axis=0)]
    by_part = xp.permute_dims(y, (1, 0, 2))
    if seconds == "matrices":
        # With the square root of its responsibility in every row, both factors of the second moments are one array.
        root = xp.sqrt(resp)
        y *= root[:, :, None]
        sums.append((xp.permute_dims(root, (1, 0))[:, None, :] @ by_part)[:, 0, :])
        sums.append(xp.permute_dims(by_part, (0, 2, 1)) @ by_part)
    else:
        shares = xp.permute_dims(resp, (1, 0))[:, None, :]
        sums.append((shares @ by_part)[:, 0, :])
        if seconds == "squares":
            sums.append((shares @ (by_part * by_part))[:, 0, :])
    return sums


def _summarize(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere, seconds: str | None
) -> list[Array]:
    """Counts, and sums about the means, for given responsibilities."""
    xp, (k, d) = namespace(X), means.shape
    whiten = _whitened(X, Whitening(None, np.ones((k, d)), means, np.zeros(k)))
    totals: list[Any] = [0.0] * (3 if seconds else 2)
    for rows, z, _ in _chunks(X, None, center, scale, k * d):
        sums = _sums(xp, whiten(z), xp.astype(resp[rows, :], X.dtype), seconds)
        totals = [total + xp.astype(new, xp.float64) for total, new in zip(totals, sums, strict=True)]
    return [bring(total) for total in totals]


def _log_prob(X: Elsewhere, center: Array, scale: Array, white: Whitening, out: Elsewhere) -> None:
    whiten, log_joint = _whitened(X, white), _log_joint(X, white)
    for rows, z, _ in _chunks(X, None, center, scale, white.offset.size):
        out[rows, :] = namespace(X).astype(log_joint(whiten(z)), out.dtype)


def _infer(X: Elsewhere, center: Array, scale: Array, white: Whitening, *out: Elsewhere | None) -> None:
    xp, (k, d) = namespace(X), white.offset.shape
    whiten, log_joint = _whitened(X, white), _log_joint(X, white)
    log_density, responsibilities, labels = out
    for rows, z, _ in _chunks(X, None, center, scale, k * d):
        joint = log_joint(whiten(z))
        if labels is not None:
            labels[rows] = xp.argmax(joint, axis=1)
        if log_density is None and responsibilities is None:
            continue
        density, resp = _posterior(xp, joint)
        if log_density is not None:
            log_density[rows] = xp.astype(density, log_density.dtype)
        if responsibilities is not None:
            responsibilities[rows, :] = xp.astype(resp, responsibilities.dtype)


# The four shapes ------------------------------------------------------------------------------------------------------


def _full(log_weights: Array, means: Array, cholesky: Array) -> Whitening:
    k, d = means.shape
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1) - 0.5 * d * LOG_2PI
    offset = np.einsum("kij,kj->ki", whiten, means)
    return Whitening(np.ascontiguousarray(whiten.reshape(k * d, d).T), None, offset, constant)


def _tied(log_weights: Array, means: Array, cholesky: Array) -> Whitening:
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky)).sum() - 0.5 * len(cholesky) * LOG_2PI
    return Whitening(np.ascontiguousarray(whiten.T), None, means @ whiten.T, constant)


def _diag(log_weights: Array, means: Array, variances: Array) -> Whitening:
    d = means.shape[1]
    slopes = 1.0 / np.sqrt(variances)
    constant = log_weights + np.log(slopes).sum(axis=1) - 0.5 * d * LOG_2PI
    return Whitening(None, slopes, means * slopes, constant)


def _spherical(log_weights: Array, means: Array, variances: Array) -> Whitening:
    return _diag(log_weights, means, np.repeat(variances[:, None], means.shape[1], axis=1))


def expect_full(
    X: Elsewhere, weight: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for full covariances."""
    white = _full(log_weights, means, cholesky)
    loglik, counts, firsts, seconds = _expect(X, weight, center, scale, white, "matrices")
    seconds = cholesky @ seconds @ cholesky.transpose(0, 2, 1)
    firsts = np.einsum("kij,kj->ki", cholesky, firsts)
    return loglik, counts, firsts, 0.5 * (seconds + seconds.transpose(0, 2, 1))


def expect_tied(
    X: Elsewhere, weight: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array
) -> tuple[float, Array, Array]:
    """Sums for one shared covariance."""
    white = _tied(log_weights, means, cholesky)
    loglik, counts, firsts, _ = _expect(X, weight, center, scale, white, None)
    return loglik, counts, firsts @ cholesky.T


def expect_diag(
    X: Elsewhere, weight: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for diagonal covariances; ``seconds`` (K, d)."""
    white = _diag(log_weights, means, variances)
    loglik, counts, firsts, seconds = _expect(X, weight, center, scale, white, "squares")
    assert seconds is not None
    return loglik, counts, firsts * np.sqrt(variances), seconds * variances


def expect_spherical(
    X: Elsewhere, weight: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for spherical covariances; ``seconds`` (K,)."""
    white = _spherical(log_weights, means, variances)
    loglik, counts, firsts, seconds = _expect(X, weight, center, scale, white, "squares")
    assert seconds is not None
    return loglik, counts, firsts * np.sqrt(variances)[:, None], seconds.sum(axis=1) * variances


def infer_full(
    X: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array, *out: Any
) -> None:
    """Posterior quantities for full covariances."""
    _infer(X, center, scale, _full(log_weights, means, cholesky), *out)


def infer_tied(
    X: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, cholesky: Array, *out: Any
) -> None:
    """Posterior quantities for one shared covariance."""
    _infer(X, center, scale, _tied(log_weights, means, cholesky), *out)


def infer_diag(
    X: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array, *out: Any
) -> None:
    """Posterior quantities for diagonal covariances."""
    _infer(X, center, scale, _diag(log_weights, means, variances), *out)


def infer_spherical(
    X: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array, *out: Any
) -> None:
    """Posterior quantities for spherical covariances."""
    _infer(X, center, scale, _spherical(log_weights, means, variances), *out)


def log_prob_full(X: Elsewhere, center: Array, scale: Array, means: Array, cholesky: Array, out: Elsewhere) -> None:
    """Log-densities for full covariances."""
    _log_prob(X, center, scale, _full(np.zeros(len(means)), means, cholesky), out)


def log_prob_tied(X: Elsewhere, center: Array, scale: Array, means: Array, cholesky: Array, out: Elsewhere) -> None:
    """Log-densities for one shared covariance."""
    _log_prob(X, center, scale, _tied(np.zeros(len(means)), means, cholesky), out)


def log_prob_diag(X: Elsewhere, center: Array, scale: Array, means: Array, variances: Array, out: Elsewhere) -> None:
    """Log-densities for diagonal covariances."""
    _log_prob(X, center, scale, _diag(np.zeros(len(means)), means, variances), out)


def log_prob_spherical(
    X: Elsewhere, center: Array, scale: Array, means: Array, variances: Array, out: Elsewhere
) -> None:
    """Log-densities for spherical covariances."""
    _log_prob(X, center, scale, _spherical(np.zeros(len(means)), means, variances), out)


def summarize_full(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere
) -> tuple[Array, Array, Array]:
    """Sums for full covariances and given responsibilities."""
    counts, firsts, seconds = _summarize(X, center, scale, means, resp, "matrices")
    return counts, firsts, 0.5 * (seconds + seconds.transpose(0, 2, 1))


def summarize_tied(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere
) -> tuple[Array, Array, Array]:
    """Sums for one shared covariance; ``seconds`` (d, d), the scatter of all rows about 0."""
    counts, firsts = _summarize(X, center, scale, means, resp, None)
    weight = namespace(X).astype(namespace(X).sum(resp, axis=1), X.dtype)
    return counts, firsts, scatter(X, weight, center, scale)


def summarize_diag(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere
) -> tuple[Array, Array, Array]:
    """Sums for diagonal covariances; ``seconds`` (K, d)."""
    counts, firsts, seconds = _summarize(X, center, scale, means, resp, "squares")
    return counts, firsts, seconds


def summarize_spherical(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere
) -> tuple[Array, Array, Array]:
    """Sums for spherical covariances; ``seconds`` (K,)."""
    counts, firsts, seconds = _summarize(X, center, scale, means, resp, "squares")
    return counts, firsts, seconds.sum(axis=1)


# What is done once ----------------------------------------------------------------------------------------------------


def moments(X: Elsewhere, weight: Elsewhere | None) -> tuple[Array, Array, Array]:
    """Mean, half the range of each column, and covariance about the mean in units of it; see ``_blocks.moments``."""
    xp, d = namespace(X), X.shape[1]
    seen = X if weight is None else X[weight > 0.0]
    low, high = (bring(extreme).astype(np.float64) for extreme in (xp.min(seen, axis=0), xp.max(seen, axis=0)))
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    spread[spread <= 4.0 * np.finfo(np.float64).eps * np.abs(middle)] = 0.0
    unit = np.where(spread > 0.0, spread, 1.0)
    count, first, second = 0.0, np.zeros(d), np.zeros((d, d))
    for _, z, w in _chunks(X, weight, middle, unit, d):
        weighted = z if w is None else z * w[:, None]
        count += float(z.shape[0]) if w is None else float(xp.sum(w))
        first += bring(xp.sum(weighted, axis=0, dtype=xp.float64))
        second += bring(xp.permute_dims(weighted, (1, 0)) @ z)
    first /= count
    first[spread == 0.0] = 0.0
    covariance = second / count - np.outer(first, first)
    covariance[spread == 0.0, :] = covariance[:, spread == 0.0] = 0.0
    return middle + unit * first, spread, 0.5 * (covariance + covariance.T)


def scatter(X: Elsewhere, weight: Elsewhere | None, center: Array, scale: Array) -> Array:
    """Weighted sum of ``z z'``."""
    xp, d = namespace(X), X.shape[1]
    total = np.zeros((d, d))
    for _, z, w in _chunks(X, weight, center, scale, d):
        total += bring(xp.permute_dims(z if w is None else z * w[:, None], (1, 0)) @ z)
    return total
