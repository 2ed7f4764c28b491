"""Rows with holes, sorted by which cells are missing: all that is done once, before the first E-step.

Rows that miss the same cells form a *pattern*. They share every matrix of the E-step, and where they are many their
mean and scatter are all that the likelihood sees of them, so the cost of a pass does not grow with their number.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import kernels
from ._blocks import fold, join_ranges, join_sums
from ._sources import Source

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


def observed(X: Array, weight: Array | None) -> tuple[Array, int]:
    """How many cells of each column, and how many rows, are observed; those of weight zero are absent."""
    seen = ~np.isnan(X if weight is None else X[weight > 0.0])
    return np.count_nonzero(seen, axis=0), int(np.count_nonzero(seen.any(axis=1)))


class Units(NamedTuple):
    """Coordinates ``z = (x - center) / scale`` in which every column has mean 0 and variance 1."""

    center: Array  # (p,)
    scale: Array  # (p,) observed standard deviations, divisor n - 1; 0 for a column that does not vary


def units(X: Any, weight: Array | None) -> Units:
    """Observed means and deviations; the second pass is in units of the range, so that nothing overflows or cancels."""
    low, high = observed_range(X)
    empty = ~(low <= high)
    low[empty] = high[empty] = 0.0
    middle, spread = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    spread[spread <= 4.0 * np.finfo(np.float64).eps * np.abs(middle)] = 0.0
    unit = np.where(spread > 0.0, spread, 1.0)
    seen, first, second = fold(X, weight, partial(_moments, middle, unit), join_sums)
    count = np.where(empty, 1.0, seen)
    mean = first / count
    # An unbiased divisor for any data of two rows or more; something positive for weights that add up to less.
    variance = np.maximum(second - count * mean**2, 0.0) / np.maximum(count - 1.0, 0.5 * count)
    variance[spread == 0.0] = 0.0
    return Units(middle + unit * mean, unit * np.sqrt(variance))


def observed_range(X: Any) -> tuple[Array, Array]:
    """Smallest and largest observed value of each column; inf, -inf if it has none."""
    low, high = fold(X, None, _range, join_ranges)
    return low, high


def _range(X: Array, weight: None) -> tuple[Array, Array]:
    return kernels.range_missing(X)


def _moments(middle: Array, unit: Array, X: Array, weight: Array | None) -> tuple[Array, Array, Array]:
    return kernels.moments_missing(X, weight, middle, unit)


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
    sums: Array | None = None  # (p + 1, p + 1) of products of the rows, each with its ``moves`` behind it, if known

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
            sums=None,
        )

    @property
    def total(self) -> float:
        """Sum of the weights of the rows of which anything was observed."""
        return float(self.counts.sum())

    def products(self) -> Array:
        """(p, p) sums of products of the observed cells."""
        heavy = np.flatnonzero(self.weight != 1.0)
        moments = self.rows.T @ self.rows
        if len(heavy):
            moments += (self.rows[heavy] * (self.weight[heavy] - 1.0)[:, None]).T @ self.rows[heavy]
        return np.asarray(moments)

    def summed(self) -> Incomplete:
        """Give the same, with the sums known: for E-steps that are to look at the holes alone."""
        p = self.rows.shape[1]
        count, sums = self.weight * self.moves, np.empty((p + 1, p + 1))
        sums[:p, :p], sums[p, p] = self.products(), count.sum()
        sums[p, :p] = sums[:p, p] = count @ self.rows
        return self._replace(sums=sums)

    def seen_together(self) -> Array:
        """(p, p) how often each pair of columns was observed in one row."""
        observed = ~self.missing * np.sqrt(self.counts).astype(np.float32)[:, None]  # precise enough for a start
        return np.asarray(observed.T @ observed, dtype=np.float64)


def incomplete(X: Any, weight: Array | None, like: Incomplete | None = None) -> Incomplete:
    """Standardise, sort and summarise rows; those that say nothing (weight zero, or no cell observed) are left out.

    In coordinates of their own, or in those of others.
    """
    if isinstance(X, Source):
        return _gather(X, weight)
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


def _gather(X: Source, weight: Array | None) -> Incomplete:
    """Summarise a source: what is kept grows with the number of patterns, not with that of rows."""
    values, scale = units(X, weight)
    none, columns = np.empty(0), np.flatnonzero(scale > 0.0)
    p = len(columns)
    missing, starts = np.empty((0, p), bool), np.zeros(1, np.int64)
    like = Incomplete(
        np.empty((0, p)), none, none > 0.0, starts, missing, none, none, none, values[columns], scale[columns], columns,
        values, None,
    )  # fmt: skip
    return _merge(X.fold(partial(_place, like), _join, weight))


def _place(like: Incomplete, X: Array, weight: Array | None) -> list[Incomplete]:
    return [incomplete(X, weight, like)._replace(patterns=None)]


def _join(one: list[Incomplete], other: list[Incomplete]) -> list[Incomplete]:
    """Put parts behind each other; the last are merged when they are of like size, so that each is seldom copied."""
    parts = one + other
    while len(parts) > 1 and len(parts[-2].rows) <= 2 * len(parts[-1].rows):
        parts[-2:] = [_merge(parts[-2:])]
    return parts


def _merge(parts: list[Incomplete]) -> Incomplete:
    """Bring rows of the same pattern together, and summarise them anew."""
    if len(parts) == 1:
        return parts[0]
    rows, weight, moves, _, missing, counts, sizes, constants = map(
        np.concatenate, zip(*(part[:8] for part in parts), strict=True)
    )
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    order, starts, distinct = group(np.where(missing, np.nan, 0.0))
    if not len(order):
        return parts[0]
    begins = (np.cumsum(lengths) - lengths)[order]
    lengths = lengths[order]
    ends = np.cumsum(lengths)
    moved = np.repeat(begins - (ends - lengths), lengths) + np.arange(ends[-1])
    return _summarise(
        parts[0]._replace(
            rows=rows[moved],
            weight=weight[moved],
            moves=moves[moved],
            starts=np.concatenate([[0], ends[starts[1:] - 1]]),
            missing=distinct,
            counts=np.add.reduceat(counts[order], starts[:-1]),
            sizes=sizes[order][starts[:-1]],
            constants=np.add.reduceat(constants[order], starts[:-1]),
        )
    )


def _summarise(data: Incomplete) -> Incomplete:
    """Replace the rows of every large pattern by its mean and a root of its scatter about it."""
    lengths = np.diff(data.starts)
    large = np.flatnonzero(lengths > _WORTH_SUMMING * (data.rows.shape[1] - data.sizes + 1))
    if not len(large):
        return data
    lengths = lengths.copy()
    rows: list[Array] = []
    weight: list[Array] = []
    moves: list[Array] = []
    done = 0
    for s in large:
        begin, end = int(data.starts[s]), int(data.starts[s + 1])
        seen = ~data.missing[s]
        z, w, moved = data.rows[begin:end, seen], data.weight[begin:end], data.moves[begin:end]
        mean = (w * moved) @ z / data.counts[s]
        root = _root((z - moved[:, None] * mean) * np.sqrt(w)[:, None])
        stand_in = np.zeros((len(root) + 1, data.rows.shape[1]))
        stand_in[0, seen], stand_in[1:, seen] = mean, root
        rows += [data.rows[done:begin], stand_in]
        weight += [data.weight[done:begin], data.counts[s : s + 1], np.ones(len(root))]
        moves += [data.moves[done:begin], np.ones(1, bool), np.zeros(len(root), bool)]
        lengths[s], done = len(stand_in), end
    rows.append(data.rows[done:])
    weight.append(data.weight[done:])
    moves.append(data.moves[done:])
    return data._replace(
        rows=np.concatenate(rows),
        weight=np.concatenate(weight),
        moves=np.concatenate(moves),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def _root(z: Array) -> Array:
    """Upper triangular ``R`` with ``R'R = z'z``; the fast way if it is safe."""
    try:
        return np.asarray(np.linalg.cholesky(z.T @ z).T)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.qr(z, mode="r"))


def monotone_order(data: Incomplete) -> Array | None:
    """Columns from the most to the least often seen, if whenever one is missing so are all that follow; else None."""
    if len(data.missing) > data.missing.shape[1]:  # so many cannot be nested
        return None
    order = np.argsort(data.missing.sum(axis=0), kind="stable")
    nested = np.diff(data.missing[:, order].astype(np.int8), axis=1) >= 0
    return order if nested.all() else None
