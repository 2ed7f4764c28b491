"""The kernels of normal laws for rows on another device, in terms of the array API standard: torch, cupy.

The signatures are those of `reference`. Rows stay where they are; the parameters, which are small, go out to them and
the sums come back, in float64. All that is wanted of a chunk of rows are log-densities and sums over ``y = W_k z -
o_k``, the rows whitened under each component, and there are two ways to them:

- by features: a log-density is linear in the products of the columns of ``z``, which all components share, and so are
  the sums. Two products of matrices do it, but they give differences of numbers as large as ``|W_k|^2``, and so are
  done in float64;
- whitened: by one product, all ``y`` of all components. There is no such difference, so that narrow components do well,
  and float32; it moves more memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

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
# Rows over which sums are one product, in the precision of the rows: a GPU does many such products at once.
_PART = 2**10
LOG_2PI = float(np.log(2.0 * np.pi))
# As far as a row can be, and as improbable, in float64 and in float32.
_FARTHEST = {8: (1e140, -1e300), 4: (1e15, -3e38)}
# What features may lose of a log-density, and of a second moment relative to it, for each column.
_LOSS = 1e-11
# Products of columns, relative to cells of what is whitened, beyond which they move more memory.
_MANY = 3


class Whitening(NamedTuple):
    """Components as the rows see them: ``y = W_k z - offset_k``."""

    matrix: Array | None  # (k, d, d): the W_k; (d, d): one for all; None: they are diagonal
    slopes: Array | None  # (k, d): their diagonals
    offset: Array  # (k, d): W_k m_k
    constant: Array  # (k,): log-density of a row at the mean, and log weight


class Way(Protocol):
    """How log-densities and sums over ``y`` are computed."""

    width: int  # cells per row of the largest array
    dtype: Any  # of the rows that it sees

    def log_joint(self, z: Elsewhere) -> tuple[Elsewhere, Elsewhere]:
        """Log-probabilities (n, k) of standardised rows (n, d), and what `sums` needs of them."""

    def sums(self, kept: Elsewhere, resp: Elsewhere) -> list[Elsewhere]:
        """Give what is added up over chunks; ``kept`` may be overwritten."""

    def moments(self, totals: list[Array]) -> tuple[Array, Array, Array | None]:
        """Counts (k,), sums of ``y`` (k, d), and of ``y y'`` (k, d, d) or of squares (k, d), or None."""


def cells(X: Elsewhere) -> int:
    """How many numbers are looked at at once."""
    on_cpu = str(getattr(X, "device", "cpu")).lower().startswith("cpu")
    return _CELLS if on_cpu else _CELLS_GPU


def _chunks(
    X: Elsewhere, weight: Elsewhere | None, center: Array, scale: Array, width: int, dtype: Any = None
) -> Iterator[tuple[slice, Elsewhere, Elsewhere | None]]:
    """Rows (n, d), standardised in float64, with their weights."""
    xp, size = namespace(X), max(256, cells(X) // width)
    dtype = xp.float64 if dtype is None else dtype
    middle, unit = send(center, X), send(scale, X)
    farthest, _ = _FARTHEST[xp.finfo(dtype).bits // 8]
    for begin in range(0, X.shape[0], size):
        rows = slice(begin, min(begin + size, X.shape[0]))
        z = (xp.astype(X[rows, :], xp.float64) - middle) / unit
        yield rows, xp.astype(xp.clip(z, -farthest, farthest), dtype), None if weight is None else weight[rows]


def _beside_one(z: Elsewhere) -> Elsewhere:
    """Rows with another column, of ones."""
    xp = namespace(z)
    return xp.concat([z, xp.ones_like(z[:, :1])], axis=1)


def _floor(white: Whitening, n_bytes: int) -> Array:
    """Lowest log-probability of each component."""
    return np.where(white.constant == -np.inf, -np.inf, _FARTHEST[n_bytes][1])


class Whitened:
    """By the whitened rows themselves."""

    def __init__(self, X: Elsewhere, white: Whitening, seconds: str | None, dtype: Any = None):
        xp, (k, d) = namespace(X), white.offset.shape
        self._xp, self._seconds, self.width = xp, seconds, k * d
        self.dtype = X.dtype if dtype is None else dtype
        self._ones = send(np.ones((d, 1)), X, self.dtype)  # a product with it is a sum, faster than the library's
        self._constant = send(white.constant[:, None], X, self.dtype)
        self._floor = send(_floor(white, xp.finfo(self.dtype).bits // 8)[:, None], X, self.dtype)
        self._offset = send(white.offset[:, None, :], X, self.dtype)
        self._shared = self._each = self._slopes = None
        if white.matrix is None:
            assert white.slopes is not None
            self._slopes = send(white.slopes[:, None, :], X, self.dtype)
        elif white.matrix.ndim == 2:
            self._shared = send(white.matrix.T, X, self.dtype)
        else:
            turned = np.concatenate([white.matrix, -white.offset[:, :, None]], axis=2).transpose(0, 2, 1)
            self._each = send(turned, X, self.dtype)

    def whiten(self, z: Elsewhere) -> Elsewhere:
        """Give ``y`` (k, n, d)."""
        if self._each is not None:
            return _beside_one(z) @ self._each
        if self._shared is not None:
            return (z @ self._shared)[None, :, :] - self._offset
        return z[None, :, :] * self._slopes - self._offset

    def log_joint(self, z: Elsewhere) -> tuple[Elsewhere, Elsewhere]:
        """Log-probabilities, and ``y``."""
        xp, y = self._xp, self.whiten(z)
        joint = xp.maximum(self._constant - 0.5 * ((y * y) @ self._ones)[:, :, 0], self._floor)
        return xp.permute_dims(joint, (1, 0)), y

    def sums(self, kept: Elsewhere, resp: Elsewhere) -> list[Elsewhere]:
        """Counts, sums of ``y``, and of its products or squares."""
        xp, y = self._xp, kept
        shares = xp.permute_dims(resp, (1, 0))[:, :, None]
        counts = xp.sum(shares, axis=(1, 2), dtype=xp.float64)
        if self._seconds == "matrices":
            # With the square root of its responsibility in every row, both factors of the second moments are one array.
            root = xp.sqrt(shares)
            y *= root
            return [counts, _products(root, y)[:, 0, :], _products(y, y)]
        sums = [counts, _products(shares, y)[:, 0, :]]
        if self._seconds == "squares":
            sums.append(_products(shares, y * y)[:, 0, :])
        return sums

    def moments(self, totals: list[Array]) -> tuple[Array, Array, Array | None]:
        """They are what was added up."""
        counts, firsts, *rest = totals
        return counts, firsts, rest[0] if rest else None


def _products(left: Elsewhere, right: Elsewhere) -> Elsewhere:
    """Sums (k, a, b) over the rows of two arrays (k, n, a) and (k, n, b)."""
    xp, (k, n, a), b = namespace(left), left.shape, right.shape[2]
    n_parts = n // _PART
    whole = n_parts * _PART
    total = xp.astype(xp.permute_dims(left[:, whole:, :], (0, 2, 1)) @ right[:, whole:, :], xp.float64)
    if n_parts:
        left, right = (xp.reshape(side[:, :whole, :], (k * n_parts, _PART, -1)) for side in (left, right))
        parts = xp.reshape(xp.permute_dims(left, (0, 2, 1)) @ right, (k, n_parts, a, b))
        total += xp.sum(parts, axis=1, dtype=xp.float64)
    return total


class Featured:
    """By features, which all components share, in float64."""

    def __init__(self, X: Elsewhere, white: Whitening):
        self._xp, self._white, self.dtype = namespace(X), white, namespace(X).float64
        self._shared = None
        k, d = white.offset.shape
        constant = white.constant - 0.5 * (white.offset**2).sum(axis=1)
        if white.matrix is None:
            assert white.slopes is not None
            natural = [-0.5 * white.slopes**2, white.slopes * white.offset, constant[:, None]]
        elif white.matrix.ndim == 2:
            self._shared = send(white.matrix.T, X, self._xp.float64)
            natural = [white.offset, -np.ones((k, 1)), constant[:, None]]
        else:
            # Of (z, 1) beside itself: y is linear in (z, 1), and its square a quadratic form.
            self._line = np.concatenate([white.matrix, -white.offset[:, :, None]], axis=2)
            form = -0.5 * self._line.transpose(0, 2, 1) @ self._line
            form[:, d, d] = constant
            natural = [form.reshape(k, -1)]
        together = np.concatenate(natural, axis=1)
        self.width = together.shape[1]
        self._natural = send(together.T, X, self._xp.float64)
        self._floor = send(_floor(white, 8), X)

    def _features(self, z: Elsewhere) -> Elsewhere:
        xp = self._xp
        if self._white.matrix is None:
            return _beside_one(xp.concat([z * z, z], axis=1))
        if self._shared is not None:
            y = z @ self._shared
            return _beside_one(xp.concat([y, 0.5 * xp.sum(y * y, axis=1, keepdims=True)], axis=1))
        z = _beside_one(z)
        return xp.reshape(z[:, :, None] * z[:, None, :], (z.shape[0], -1))

    def log_joint(self, z: Elsewhere) -> tuple[Elsewhere, Elsewhere]:
        """Log-probabilities, and the features."""
        features = self._features(z)
        return self._xp.maximum(features @ self._natural, self._floor), features

    def sums(self, kept: Elsewhere, resp: Elsewhere) -> list[Elsewhere]:
        """Sums (k, F) of the features."""
        return [self._xp.permute_dims(resp, (1, 0)) @ kept]

    def moments(self, totals: list[Array]) -> tuple[Array, Array, Array | None]:
        """Of the sums of features."""
        (total,), white, (k, d) = totals, self._white, self._white.offset.shape
        counts = total[:, -1:]
        if white.matrix is None:
            assert white.slopes is not None
            squares, firsts = white.slopes**2 * total[:, :d], white.slopes * total[:, d : 2 * d]
            squares += white.offset * (counts * white.offset - 2.0 * firsts)
            return counts[:, 0], firsts - counts * white.offset, squares
        if white.matrix.ndim == 2:
            return counts[:, 0], total[:, :d] - counts * white.offset, None
        both = self._line @ total.reshape(k, d + 1, d + 1)
        return counts[:, 0], both[:, :, d], both @ self._line.transpose(0, 2, 1)


def _way(X: Elsewhere, white: Whitening, seconds: str | None = None) -> Way:
    """Features where their rounding does not matter, where they are few, and the rows float64 if they are many."""
    xp, (k, d) = namespace(X), white.offset.shape
    if white.matrix is None:
        assert white.slopes is not None
        squares = np.sum(white.slopes**2, axis=-1)
    else:
        squares = np.sum(white.matrix**2, axis=(-2, -1))
        if white.matrix.ndim == 3 and (X.dtype != xp.float64 or (d + 1) ** 2 > _MANY * k * d):
            return Whitened(X, white, seconds)
    if np.finfo(np.float64).eps * np.max(squares) < _LOSS * d:
        return Featured(X, white)
    return Whitened(X, white, seconds)


def _posterior(joint: Elsewhere) -> tuple[Elsewhere, Elsewhere]:
    """Log-densities (n,) and responsibilities (n, k)."""
    xp = namespace(joint)
    highest = xp.max(joint, axis=1, keepdims=True)
    highest = xp.where(xp.isfinite(highest), highest, xp.zeros_like(highest))
    resp = xp.exp(joint - highest)
    total = xp.sum(resp, axis=1, keepdims=True)
    return (highest + xp.log(total))[:, 0], resp / total


def _added(totals: list[Elsewhere] | None, sums: list[Elsewhere]) -> list[Elsewhere]:
    xp = namespace(sums[0])
    wide = [xp.astype(each, xp.float64) for each in sums]
    return wide if totals is None else [total + each for total, each in zip(totals, wide, strict=True)]


def _expect(
    X: Elsewhere, weight: Elsewhere | None, center: Array, scale: Array, white: Whitening, seconds: str | None
) -> tuple[float, Array, Array, Any]:
    """Log-likelihood, counts (k,), sums of ``y`` (k, d), and of ``y y'`` (k, d, d) or of squares (k, d), or None."""
    xp, way = namespace(X), _way(X, white, seconds)
    totals: list[Any] | None = None
    for _, z, w in _chunks(X, weight, center, scale, way.width, way.dtype):
        joint, kept = way.log_joint(z)
        density, resp = _posterior(joint)
        if w is not None:
            density, resp = density * w, resp * w[:, None]
        totals = _added(totals, [xp.sum(density, dtype=xp.float64), *way.sums(kept, resp)])
    assert totals is not None
    loglik, *sums = (bring(total) for total in totals)
    return float(loglik), *way.moments(sums)


def _summarize(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere, seconds: str | None
) -> tuple[Array, Array, Any]:
    """Counts, and sums about the means, for given responsibilities."""
    xp, (k, d) = namespace(X), means.shape
    # In float64: nothing is whitened, and collinear columns leave small differences of large numbers.
    way = Whitened(X, Whitening(None, np.ones((k, d)), means, np.zeros(k)), seconds, xp.float64)
    totals: list[Any] | None = None
    for rows, z, _ in _chunks(X, None, center, scale, way.width, way.dtype):
        totals = _added(totals, way.sums(way.whiten(z), xp.astype(resp[rows, :], xp.float64)))
    assert totals is not None
    return way.moments([bring(total) for total in totals])


def _log_prob(X: Elsewhere, center: Array, scale: Array, white: Whitening, out: Elsewhere) -> None:
    way = _way(X, white)
    for rows, z, _ in _chunks(X, None, center, scale, way.width, way.dtype):
        out[rows, :] = namespace(X).astype(way.log_joint(z)[0], out.dtype)


def _infer(X: Elsewhere, center: Array, scale: Array, white: Whitening, *out: Elsewhere | None) -> None:
    xp, way = namespace(X), _way(X, white)
    log_density, responsibilities, labels = out
    for rows, z, _ in _chunks(X, None, center, scale, way.width, way.dtype):
        joint, _ = way.log_joint(z)
        if labels is not None:
            labels[rows] = xp.argmax(joint, axis=1)
        if log_density is None and responsibilities is None:
            continue
        density, resp = _posterior(joint)
        if log_density is not None:
            log_density[rows] = xp.astype(density, log_density.dtype)
        if responsibilities is not None:
            responsibilities[rows, :] = xp.astype(resp, responsibilities.dtype)


# The four shapes ------------------------------------------------------------------------------------------------------


def _full(log_weights: Array, means: Array, cholesky: Array) -> Whitening:
    d = means.shape[1]
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1) - 0.5 * d * LOG_2PI
    offset = np.einsum("kij,kj->ki", whiten, means)
    return Whitening(whiten, None, offset, constant)


def _tied(log_weights: Array, means: Array, cholesky: Array) -> Whitening:
    whiten = np.linalg.inv(cholesky)
    constant = log_weights - np.log(np.diagonal(cholesky)).sum() - 0.5 * len(cholesky) * LOG_2PI
    return Whitening(whiten, None, means @ whiten.T, constant)


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
    return loglik, counts, firsts * np.sqrt(variances), seconds * variances


def expect_spherical(
    X: Elsewhere, weight: Elsewhere, center: Array, scale: Array, log_weights: Array, means: Array, variances: Array
) -> tuple[float, Array, Array, Array]:
    """Sums for spherical covariances; ``seconds`` (K,)."""
    white = _spherical(log_weights, means, variances)
    loglik, counts, firsts, seconds = _expect(X, weight, center, scale, white, "squares")
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
    counts, firsts, _ = _summarize(X, center, scale, means, resp, None)
    weight = namespace(X).astype(namespace(X).sum(resp, axis=1), X.dtype)
    return counts, firsts, scatter(X, weight, center, scale)


def summarize_diag(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere
) -> tuple[Array, Array, Array]:
    """Sums for diagonal covariances; ``seconds`` (K, d)."""
    return _summarize(X, center, scale, means, resp, "squares")


def summarize_spherical(
    X: Elsewhere, center: Array, scale: Array, means: Array, resp: Elsewhere
) -> tuple[Array, Array, Array]:
    """Sums for spherical covariances; ``seconds`` (K,)."""
    counts, firsts, seconds = _summarize(X, center, scale, means, resp, "squares")
    return counts, firsts, seconds.sum(axis=1)


# What is done once ----------------------------------------------------------------------------------------------------


def moments(X: Elsewhere, weight: Elsewhere | None, with_correlations: bool) -> tuple[Array, Array, Array]:
    """Mean, half the range of each column, and covariance about the mean in units of it; see ``_blocks.moments``."""
    xp, d = namespace(X), X.shape[1]
    seen = X if weight is None else X[weight > 0.0]
    low, high = (bring(extreme).astype(np.float64) for extreme in (xp.min(seen, axis=0), xp.max(seen, axis=0)))
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    spread[spread <= 4.0 * np.finfo(np.float64).eps * np.abs(middle)] = 0.0
    unit = np.where(spread > 0.0, spread, 1.0)
    count, first, second = 0.0, np.zeros(d), np.zeros((d, d) if with_correlations else d)
    for _, z, w in _chunks(X, weight, middle, unit, d):
        weighted = z if w is None else z * w[:, None]
        count += float(z.shape[0]) if w is None else float(xp.sum(w))
        first += bring(xp.sum(weighted, axis=0, dtype=xp.float64))
        second += bring(xp.permute_dims(weighted, (1, 0)) @ z if with_correlations else xp.sum(weighted * z, axis=0))
    first /= count
    first[spread == 0.0] = 0.0
    if not with_correlations:
        variances = np.maximum(second / count - first**2, 0.0)
        return middle + unit * first, spread, np.where(spread == 0.0, 0.0, variances)
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
