"""Rows of a Gaussian with holes, sorted by which cells are missing: what rows that miss the same cells share.

References
----------
Ghahramani, Z. & Jordan, M. (1994). Supervised learning from incomplete data via an EM approach. *NIPS* 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from .._arrays import is_elsewhere
from .._blocks import Rows, release
from .._patterns import group

Array = NDArray[Any]


class Holes(NamedTuple):
    """Which rows miss which cells; true if any does."""

    complete: Array  # numbers of the rows that miss nothing
    order: Array  # (r,) int64: rows of which something is missing and something observed, sorted by pattern
    starts: Array  # (S + 1,) int64: where in ``order`` each pattern begins
    missing: Array  # (S, d) bool
    z: Array  # (r, d) standardised rows, 0 in the holes
    found: bool = True

    def __bool__(self) -> bool:
        """Whether any cell is missing."""
        return self.found

    def distances(self, means: Array, covariances: Array, rows: Rows) -> tuple[Array, Array]:
        """Squared Mahalanobis distances and log-determinants of the observed cells, (r, k) each."""
        n, k = len(rows.X), len(means)
        distance, log_determinant = np.zeros((k, n)), np.zeros((k, n))
        for j, (mean, precision, volume) in enumerate(_inverted(means, covariances)):
            where = (rows.X, self.order, self.starts, self.missing, rows.center, rows.scale)
            kernels.infer_missing(*where, mean, precision, None, None, None, distance[j], log_determinant[j])
            log_determinant[j] += volume
        return distance.T[self.order], log_determinant.T[self.order]

    def constants(self, rows: Rows) -> tuple[Array, Array]:
        """How many cells of each row are observed (r,), and the logarithm of the volume of their units (r,)."""
        lengths = np.diff(self.starts)
        seen = ~self.missing
        return np.repeat(seen.sum(axis=1), lengths), np.repeat(seen @ np.log(rows.scale), lengths)

    def log_prob(self, means: Array, covariances: Array, rows: Rows) -> Array:
        """Log-densities (r, k) of the observed cells."""
        distance, log_determinant = self.distances(means, covariances, rows)
        n_seen, log_unit = self.constants(rows)
        constant = 0.5 * np.log(2.0 * np.pi) * n_seen + log_unit
        return np.asarray(-0.5 * (distance + log_determinant) - constant[:, None])

    def summarize(self, means: Array, covariances: Array, resp: Array, pull: Array) -> tuple[Array, Array, Array]:
        """Counts (k,), first (k, d) and second moments (k, d, d) about the means, of rows completed.

        Rows count ``pull`` (n, k) times, the conditional covariances of their holes ``resp`` (n, k) times.
        """
        moves = np.ones(len(self.order), bool)
        sums = []
        for j, (mean, precision, _) in enumerate(_inverted(means, covariances)):
            weight, count = pull[self.order, j], resp[self.order, j]
            counts = np.add.reduceat(count, self.starts[:-1]) if len(count) else np.empty(0)
            shared = (self.starts, self.missing, counts, mean, precision)
            _, first, second = kernels.expect_missing(self.z, weight, moves, *shared, None)
            sums.append((weight.sum(), first, second))
        counts, firsts, seconds = (np.array(total) for total in zip(*sums, strict=True))
        return counts, firsts, seconds

    def fill(self, means: Array, covariances: Array, rows: Rows, resp: Array) -> Array:
        """Rows (r, d) of ``order`` in the user's units, completed under each component and averaged by ``resp``."""
        X = rows.X[self.order].astype(np.float64)
        each, out = np.arange(len(X)), np.zeros_like(X)
        for j, (mean, precision, _) in enumerate(_inverted(means, covariances)):
            filled = X.copy()
            where = (X, each, self.starts, self.missing, rows.center, rows.scale)
            kernels.infer_missing(*where, mean, precision, None, filled, None, None, None)
            out += resp[self.order, j, None] * filled
        return np.asarray(np.where(np.isnan(X), out, X))


def _inverted(means: Array, covariances: Array) -> Iterator[tuple[Array, Array, float]]:
    """Mean, precision and log-determinant of the covariance of each component."""
    for mean, covariance in zip(means, covariances, strict=True):
        factor = np.linalg.cholesky(covariance)
        inverse = np.linalg.inv(factor)
        yield mean, inverse.T @ inverse, 2.0 * float(np.log(np.diagonal(factor)).sum())


_NOTHING = np.empty(0, np.int64)
_NO_HOLES = Holes(_NOTHING, _NOTHING, np.zeros(1, np.int64), np.empty((0, 0), bool), np.empty((0, 0)), False)


def find_holes(rows: Rows) -> Holes:
    """Sort the rows that have holes, unless it was done when they were cut."""
    if rows.patterns is not None:
        found: Holes = rows.patterns
        return found
    if is_elsewhere(rows.X) or not rows.X.size or not np.isnan(rows.X.min()):
        release(rows.X)
        return _NO_HOLES
    order, starts, missing = group(rows.X)
    complete = _NOTHING
    if not missing[0].any():
        complete, order, starts, missing = order[: starts[1]], order[starts[1] :], starts[1:] - starts[1], missing[1:]
    if len(missing) and missing[-1].all():
        order, starts, missing = order[: starts[-2]], starts[:-1], missing[:-1]
    z = np.empty((len(order), rows.X.shape[1]))
    kernels.standardize_missing(rows.X, order, rows.center, rows.scale, z)
    return Holes(np.sort(complete), order, starts, missing, z)
