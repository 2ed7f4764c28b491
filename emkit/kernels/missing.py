"""Rows of a multivariate normal with holes, in NumPy: the specification of the compiled kernels of the same names.

Names shared by both, for ``S`` patterns of missing cells, sorted by how many cells each misses, and ``p`` columns:

=============  =====================================================================================================
``missing``    (S, p) bool: the columns that a pattern misses
``starts``     (S + 1,) int64, from 0 to the number of rows: those of pattern ``s`` are from ``starts[s]`` to
               ``starts[s + 1]``
``mean``       (p,) in standardised coordinates
``precision``  (p, p) inverse of the covariance, in standardised coordinates: ``K`` in the formulas
=============  =====================================================================================================

With ``m`` the missing and ``o`` the observed columns, the conditional distribution of ``m`` given ``o`` needs nothing
but ``K``: covariance ``C = K_mm^-1`` and mean ``mean_m - C K_mo (x_o - mean_o)``. One Cholesky factor of ``K_mm`` gives
the mean, the covariance, a draw and the determinant ``log|Sigma_oo| = log|Sigma| + log|K_mm|``.

References
----------
Ghahramani, Z. & Jordan, M. (1994). Supervised learning from incomplete data via an EM approach. *NIPS* 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Numbers held at once for the conditional covariances of a group of patterns.
_GROUP_SIZE = 2**20
# Rows of one block of the passes before the first E-step, and patterns whose rows are standardised at once.
_PASS_ROWS, _PATTERNS = 16_384, 4_096
# Rows are brought this close: the sum of their squares is then finite.
FARTHEST = 1e140


class _Group(NamedTuple):
    """Some patterns that miss the same number of cells, and their rows."""

    patterns: slice
    rows: slice
    columns: Array  # (S_m, m) the missing columns
    pattern: Array  # (rows,) number of each row's pattern within the group


def _groups(starts: Array, missing: Array) -> Iterator[_Group]:
    """Contiguous groups, because patterns are sorted by how many cells they miss."""
    sizes = missing.sum(axis=1)
    edges = np.flatnonzero(np.diff(sizes, prepend=-1, append=-1))
    lengths = np.diff(starts)
    for first, last in pairwise(edges):
        m = int(sizes[first])
        if m == 0:
            continue
        begin = first
        while begin < last:
            # As many patterns as fit, at least one; each row of a pattern holds one copy of its covariance.
            needed = np.cumsum(lengths[begin:last] + 1) * m * m
            end = begin + max(1, int(np.searchsorted(needed, _GROUP_SIZE, side="right")))
            patterns = slice(begin, end)
            columns = np.nonzero(missing[patterns])[1].reshape(-1, m)
            rows = slice(int(starts[begin]), int(starts[end]))
            yield _Group(patterns, rows, columns, np.repeat(np.arange(end - begin), lengths[patterns]))
            begin = end


def _conditionals(precision: Array, columns: Array) -> tuple[Array, Array, Array]:
    """Inverse Cholesky factors of ``K_mm``, ``K_mm^-1`` and ``log|K_mm|``, for patterns of one size."""
    factors = np.linalg.cholesky(precision[columns[:, :, None], columns[:, None, :]])
    inverses = np.linalg.inv(factors)
    log_determinants = 2.0 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    return inverses, np.swapaxes(inverses, 1, 2) @ inverses, log_determinants


def range_missing(X: Array) -> tuple[Array, Array]:
    """Smallest and largest observed value of each column of X (n, p), float32 or float64; inf, -inf if it has none."""
    low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
    for begin in range(0, len(X), _PASS_ROWS):
        x = X[begin : begin + _PASS_ROWS]
        low = np.fmin(low, np.fmin.reduce(x, axis=0)).astype(np.float64)
        high = np.fmax(high, np.fmax.reduce(x, axis=0)).astype(np.float64)
    return low, high


def moments_missing(X: Array, weight: Array | None, middle: Array, unit: Array) -> tuple[Array, Array, Array]:
    """Per column the sums of ``w``, ``w z`` and ``w z^2`` over the observed cells, with ``z = (x - middle) / unit``."""
    seen, first, second = np.zeros(len(unit)), np.zeros(len(unit)), np.zeros(len(unit))
    for begin in range(0, len(X), _PASS_ROWS):
        z = X[begin : begin + _PASS_ROWS].astype(np.float64)
        z -= middle
        z *= 1.0 / unit
        holes = np.isnan(z)
        z[holes] = 0.0
        w = np.ones(len(z)) if weight is None else weight[begin : begin + _PASS_ROWS]
        seen += w @ ~holes
        first += w @ z
        z *= z
        second += w @ z
    return seen, first, second


def group_missing(X: Array) -> tuple[Array, Array, Array]:
    """Sort the rows of X (n, p) by which cells are missing; any number of columns.

    Returns ``order`` (n,) int64, the rows sorted by pattern, patterns by how many cells they miss, the rows of one
    pattern as they came; ``starts`` and ``missing``.
    """
    n, p = X.shape
    holes = np.isnan(X)
    bits = np.zeros((n, max(1, -(-p // 64)) * 8), np.uint8)
    bits[:, : -(-p // 8)] = np.packbits(holes, axis=1, bitorder="little")
    sizes = holes.sum(axis=1)
    if p <= 56:  # one word has room for the sizes, in its highest byte
        bits[:, 7] = sizes
        keys = bits.view("<u8")
        order = np.argsort(keys[:, 0], kind="stable")
    else:
        keys = bits.view("<u8")
        order = np.lexsort((*keys.T, sizes))
    new = (np.diff(keys[order], axis=0) != 0).any(axis=1)
    first = np.concatenate([[0], np.flatnonzero(new) + 1]) if n else np.empty(0, np.int64)
    starts = np.append(first, n).astype(np.int64)
    return order.astype(np.int64), starts, np.ascontiguousarray(holes[order[first]])


def standardize_missing(X: Array, order: Array, center: Array, scale: Array, rows: Array) -> None:
    """Write ``(X[order] - center) / scale`` into ``rows`` (r, p) float64, with 0 in the holes."""
    rows[...] = X[order]
    rows -= center
    rows /= scale
    rows[np.isnan(rows)] = 0.0


def condense_missing(
    rows: Array, weight: Array, moves: Array, starts: Array, missing: Array, counts: Array, worth: float
) -> Array:
    """Replace the rows of every large pattern by their mean and a root of their scatter about it, in place.

    A pattern with ``o`` observed columns is large if it has more than ``worth (o + 1)`` rows, ``worth`` being at least
    1; one whose columns are collinear stays as it is. Returns the new ``starts``: what lies beyond the last of them is
    of no more use.
    """
    begins, used = np.zeros(len(starts), np.int64), 0
    for s in range(len(missing)):
        begin, end = int(starts[s]), int(starts[s + 1])
        seen = np.flatnonzero(~missing[s])
        z, w, moving = rows[begin:end].copy(), weight[begin:end].copy(), moves[begin:end].copy()
        if end - begin > worth * (len(seen) + 1):
            mean = w @ z[:, seen] / counts[s]
            centered = (z[:, seen] - mean) * np.sqrt(w)[:, None]
            root = _root(centered.T @ centered)
            if root is not None:
                z = np.zeros((len(seen) + 1, rows.shape[1]))
                z[0, seen], z[1:, seen] = mean, root
                w, moving = np.ones(len(z)), np.zeros(len(z), bool)
                w[0], moving[0] = counts[s], True
        begins[s], used = used, used + len(z)
        rows[begins[s] : used], weight[begins[s] : used], moves[begins[s] : used] = z, w, moving
    begins[-1] = used
    return begins


def _root(scatter: Array) -> Array | None:
    """Upper triangular ``R`` with ``R'R`` the scatter; None if columns are collinear."""
    root = np.zeros_like(scatter)
    varied = np.flatnonzero(np.diagonal(scatter) > 0.0)
    inside = np.ix_(varied, varied)
    try:
        root[inside] = np.linalg.cholesky(scatter[inside]).T
    except np.linalg.LinAlgError:
        return None
    return root if (np.square(np.diagonal(root)) >= 1e-13 * np.diagonal(scatter)).all() else None


def expect_missing(
    rows: Array,
    weight: Array,
    moves: Array,
    starts: Array,
    missing: Array,
    counts: Array,
    mean: Array,
    precision: Array,
    sums: Array | None,
) -> tuple[float, Array, Array]:
    """Sums over completed deviations from the mean.

    ``rows`` (r, p) float64, standardised, 0 in the holes; ``weight`` (r,); ``moves`` (r,) bool: whether the mean is
    subtracted from a row (rows that stand for a pattern's scatter do not move with the mean); ``counts`` (S,): how much
    each pattern counts, whatever number of rows stand for it. ``sums`` (p + 1, p + 1): ``sum weight (x, moves)(x,
    moves)'`` of the rows ``x`` as they are, if known; a compiled kernel then adds no more than what the holes hold.

    Returns ``sum counts log|K_mm|``, ``first = sum weight moves z`` and ``second = sum weight z z' + sum counts C``,
    where ``z`` is the row's deviation from the mean with its holes filled by their conditional expectation.
    """
    p = len(mean)
    deviation = rows - moves[:, None] * mean
    deviation[np.repeat(missing, np.diff(starts), axis=0)] = 0.0
    gradient = deviation @ precision
    log_determinant, spread = 0.0, np.zeros(p * p)
    for group in _groups(starts, missing):
        _, covariances, log_determinants = _conditionals(precision, group.columns)
        count = counts[group.patterns]
        log_determinant += float(count @ log_determinants)
        columns = group.columns[group.pattern]
        here = np.arange(group.rows.start, group.rows.stop)[:, None]
        deviation[here, columns] = -np.matmul(covariances[group.pattern], gradient[here, columns][:, :, None])[:, :, 0]
        cells = group.columns[:, :, None] * p + group.columns[:, None, :]
        spread += np.bincount(cells.ravel(), (count[:, None, None] * covariances).ravel(), minlength=p * p)
    second = (deviation * weight[:, None]).T @ deviation + spread.reshape(p, p)
    return log_determinant, (weight * moves) @ deviation, 0.5 * (second + second.T)


def infer_missing(
    X: Array,
    order: Array,
    starts: Array,
    missing: Array,
    center: Array,
    scale: Array,
    mean: Array,
    precision: Array,
    noise: Array | None,
    filled: Array | None,
    deviation: Array | None,
    distance: Array | None,
    log_determinant: Array | None,
) -> None:
    """Fill what is wanted of each row of the user's data.

    ``X`` (n, p) float32 or float64, in the user's units; ``order`` (r,) int64: the rows of the patterns; ``center`` and
    ``scale`` (p,) standardise. ``noise`` (n, p): standard normal numbers, which make a draw of what would else be a
    mean.

    ``filled`` (n, p), in the user's units, has its missing cells written. ``deviation`` (n, p): standard deviation of
    each missing cell. ``distance`` (n,): squared Mahalanobis distance of the observed cells. ``log_determinant`` (n,):
    ``log|K_mm|``.
    """
    for cut in range(0, len(missing), _PATTERNS):
        patterns = slice(cut, min(cut + _PATTERNS, len(missing)))
        begin, end = int(starts[patterns.start]), int(starts[patterns.stop])
        index = order[begin:end]
        local = starts[patterns.start : patterns.stop + 1] - begin
        z = np.clip((X[index].astype(np.float64) - center) / scale - mean, -FARTHEST, FARTHEST)
        z[np.repeat(missing[patterns], np.diff(local), axis=0)] = 0.0
        gradient = z @ precision
        for group in _groups(local, missing[patterns]):
            inverses, covariances, log_determinants = _conditionals(precision, group.columns)
            columns = group.columns[group.pattern]
            here, there = np.arange(group.rows.start, group.rows.stop)[:, None], index[group.rows][:, None]
            z[here, columns] = -np.matmul(covariances[group.pattern], gradient[here, columns][:, :, None])[:, :, 0]
            if filled is not None:
                values = z[here, columns] + mean[columns]
                if noise is not None:  # K_mm = L L', so L'^-1 e has covariance K_mm^-1
                    values += np.matmul(noise[there, columns][:, None, :], inverses[group.pattern])[:, 0]
                filled[there, columns] = values * scale[columns] + center[columns]
            if deviation is not None:
                variances = np.diagonal(covariances, axis1=1, axis2=2)
                deviation[there, columns] = np.sqrt(variances)[group.pattern] * scale[columns]
            if log_determinant is not None:
                log_determinant[index[group.rows]] = log_determinants[group.pattern]
        if distance is not None:
            distance[index] = np.einsum("ij,ij->i", z @ precision, z)
