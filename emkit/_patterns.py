"""Rows with holes, sorted by which cells are missing: all that is done once, before the first E-step.

Rows that miss the same cells form a *pattern*. They share every matrix of the E-step, and where they are many their
mean and scatter are all that the likelihood sees of them, so the cost of a pass does not grow with their number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import kernels

Array = NDArray[Any]

# A pattern is replaced by one row per observed column and one more when it has this many times as many: with fewer,
# factoring its scatter costs more than the rows it saves in all the passes of a fit.
_WORTH_SUMMING = 4


class Patterns(NamedTuple):
    """Which rows miss which cells."""

    order: Array  # (r,) int64: rows sorted by pattern, patterns by how many cells they miss
    starts: Array  # (S + 1,) int64: where in ``order`` each pattern begins
    missing: Array  # (S, p) bool

    def empty_rows(self) -> Array:
        """Rows without any observed cell, in ascending order."""
        if not (len(self.missing) and self.missing[-1].all()):
            return np.empty(0, np.int64)
        return self.order[self.starts[-2] : self.starts[-1]]


def group(X: Array) -> Patterns:
    """Sort rows by pattern. Any number of columns."""
    return Patterns(*kernels.group_missing(X))


class Units(NamedTuple):
    """Coordinates ``z = (x - center) / scale`` in which every column has mean 0 and variance 1."""

    center: Array  # (p,)
    scale: Array  # (p,) observed standard deviations, divisor n - 1; 0 for a column that does not vary


def units(X: Array, weight: Array | None) -> Units:
    """Observed means and deviations; the second pass is in units of the range, so that nothing overflows or cancels."""
    low, high = kernels.range_missing(X)
    empty = ~(low <= high)
    low[empty] = high[empty] = 0.0
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    spread[spread <= 4.0 * np.finfo(np.float64).eps * np.abs(middle)] = 0.0
    unit = np.where(spread > 0.0, spread, 1.0)
    seen, first, second = kernels.moments_missing(X, weight, middle, unit)
    count = np.where(empty, 1.0, seen)
    mean = first / count
    # An unbiased divisor for any data of two rows or more; something positive for weights that add up to less.
    variance = np.maximum(second - count * mean**2, 0.0) / np.maximum(count - 1.0, 0.5 * count)
    variance[spread == 0.0] = 0.0
    return Units(middle + unit * mean, unit * np.sqrt(variance))


class Incomplete(NamedTuple):
    """Standardised rows sorted by pattern, the scatter of a large pattern standing for its rows."""

    rows: Array  # (r, p) float64, 0 in the holes
    weight: Array  # (r,)
    moves: Array  # (r,) bool: whether the mean is to be subtracted from a row
    starts: Array  # (S + 1,) int64
    missing: Array  # (S, p) bool
    counts: Array  # (S,) sum of the weights of the rows of each pattern
    sizes: Array  # (S,) int: how many cells each pattern misses
    constants: Array  # (S,) what the observed cells of each pattern add to -2 loglik whatever the parameters
    center: Array  # (p,)
    scale: Array  # (p,)
    columns: Array  # (p,) which columns of the user's X these are: those that vary
    values: Array  # one per column of X: the value of a column that does not vary, 0 for one never seen
    patterns: Patterns | None  # of all rows; None if some were left out

    def cut(self, patterns: slice) -> Incomplete:
        """Part of the patterns."""
        begin, end = int(self.starts[patterns.start]), int(self.starts[patterns.stop])
        return self._replace(
            rows=self.rows[begin:end],
            weight=self.weight[begin:end],
            moves=self.moves[begin:end],
            starts=self.starts[patterns.start : patterns.stop + 1] - begin,
            missing=self.missing[patterns],
            counts=self.counts[patterns],
            sizes=self.sizes[patterns],
            constants=self.constants[patterns],
            patterns=None,
        )

    @property
    def total(self) -> float:
        """Sum of the weights of the rows of which anything was observed."""
        return float(self.counts.sum())

    def seen_together(self) -> Array:
        """(p, p) how often each pair of columns was observed in one row."""
        observed = (~self.missing).astype(np.float32)  # precise enough for a start
        return np.asarray((observed * self.counts[:, None].astype(np.float32)).T @ observed, dtype=np.float64)


def incomplete(X: Array, weight: Array | None, like: Incomplete | None = None) -> Incomplete:
    """Standardise, sort and summarise rows; those that say nothing (weight zero, or no cell observed) are left out.

    In coordinates of their own, or in those of others.
    """
    weighed = weight
    if weight is not None and not weight.all():
        X, weight = X[weight > 0.0], weight[weight > 0.0]
    if like is None:
        values, scale = units(X, weight)
        columns = np.flatnonzero(scale > 0.0)
        center, scale = values[columns], scale[columns]
    else:
        center, scale, columns, values = like.center, like.scale, like.columns, like.values
    if len(columns) < X.shape[1]:
        X = X[:, columns]
    patterns = group(X)
    order, starts, missing = patterns
    if len(patterns.empty_rows()):
        order, starts, missing = order[: starts[-2]], starts[:-1], missing[:-1]
    z = np.empty((len(order), len(columns)))
    kernels.standardize_missing(X, order, center, scale, z)
    w = np.ones(len(z)) if weight is None else weight[order]
    moves = np.ones(len(z), bool)
    counts = np.add.reduceat(w, starts[:-1]) if len(missing) else np.empty(0)
    sizes = missing.sum(axis=1)
    constants = counts * (~missing @ (np.log(2.0 * np.pi) + 2.0 * np.log(scale)))
    starts = kernels.condense_missing(z, w, moves, starts, missing, counts, _WORTH_SUMMING)
    kept = slice(int(starts[-1]))
    whole = patterns if weighed is weight else None
    return Incomplete(
        z[kept], w[kept], moves[kept], starts, missing, counts, sizes, constants, center, scale, columns, values, whole
    )


def monotone_order(data: Incomplete) -> Array | None:
    """Columns from the most to the least often seen, if whenever one is missing so are all that follow; else None."""
    if len(data.missing) > data.missing.shape[1]:  # so many cannot be nested
        return None
    order = np.argsort(data.missing.sum(axis=0), kind="stable")
    nested = np.diff(data.missing[:, order].astype(np.int8), axis=1) >= 0
    return order if nested.all() else None
