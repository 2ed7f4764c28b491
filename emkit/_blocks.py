"""From what the user hands in to blocks of rows whose statistics add.

Cuts depend on the data alone, never on how many threads there are; together with a fixed order of summation this makes
every fit bit-identical for every ``n_jobs``. Nothing here copies the data: blocks are views, and the passes below hold
one block.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import kernels
from ._arrays import bring, is_elsewhere, pick
from ._sources import PASS_ROWS, Source

Array = NDArray[Any]


class Rows(NamedTuple):
    """Rows with their weights, and the coordinates ``z = (x - center) / scale`` in which they are modelled."""

    X: Any  # (n, d), the user's array or a view of it, or a source
    weight: Array | None  # (n,); None: every row counts once
    center: Array  # (d,)
    scale: Array  # (d,)
    scatter: Array | None = (
        None  # (d, d), the weighted sum of z z', for laws in which it does not depend on the parameters
    )
    patterns: Any = None  # which rows miss which cells, for laws to which that matters; None: nobody has looked

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.X.shape[0]) if self.weight is None else float(bring(self.weight).sum())

    @property
    def log_unit(self) -> float:
        """Logarithm of the volume of one unit of ``z``: what a log-density loses in the user's units."""
        return _log_volume(self.scale.tobytes())

    def cut(self, rows: slice | Array) -> Rows:
        """Part of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        X = self.X.outline(rows) if isinstance(self.X, Source) and isinstance(rows, slice) else self.X[rows, ...]
        return self._replace(X=X, weight=weight, scatter=None, patterns=None)

    def others(self, X: Any, weight: Array | None) -> Rows:
        """Other rows, in the same coordinates."""
        return self._replace(X=X, weight=weight, scatter=None, patterns=None)


@lru_cache(maxsize=64)
def _log_volume(scale: bytes) -> float:
    return float(np.log(np.frombuffer(scale)).sum())  # every step of a fit asks for the same


def cuts(n_rows: int, work_per_row: int) -> list[slice]:
    """Slices of nearly equal length: enough of them to share out, each with enough work to be worth a call."""
    most = min(16_384, max(1_024, 2**22 // max(1, work_per_row)))
    n_blocks = -(-n_rows // most)
    if n_blocks > 4:
        n_blocks = -(-n_blocks // 8) * 8  # divides evenly among 2, 4 or 8 workers
    edges = [n_rows * i // n_blocks for i in range(n_blocks + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def release(X: Array) -> None:
    """Give the memory of rows of a file back: they are read again when they are wanted.

    So that a pass over a file larger than memory holds the rows of one block.
    """
    base: Any = X
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    # A private copy ("c") may hold changes that are in no file.
    if not isinstance(base, np.memmap) or base.mode not in ("r", "r+") or not X.flags.c_contiguous:
        return
    pages: Any = getattr(base, "_mmap", None)
    if not hasattr(pages, "madvise") or not hasattr(mmap, "MADV_DONTNEED"):  # Windows
        return
    whole = np.frombuffer(pages, np.uint8)
    begin = X.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE  # pages that others share stay
    length = begin + X.nbytes - first
    if length > 0:
        pages.madvise(mmap.MADV_DONTNEED, first, length // mmap.PAGESIZE * mmap.PAGESIZE)


def fold(X: Any, weight: Array | None, look: Callable[..., Any], join: Callable[[Any, Any], Any]) -> Any:
    """Look at all rows with their weights; join what was seen in the parts of a source."""
    return X.fold(look, join, weight) if isinstance(X, Source) else look(X, weight)


def has_holes(X: Any) -> bool:
    """Whether any cell is missing."""
    if isinstance(X, Source):
        return bool(np.isnan(X.low).any())
    for begin in range(0, len(X), PASS_ROWS):
        rows = X[begin : begin + PASS_ROWS]
        if np.isnan(np.sum(rows, dtype=np.float64)):
            return True
        release(rows)
    return False


def pieces(X: Array, weight: Array | None) -> Iterator[tuple[Array, Array | None]]:
    """Float64 copies of consecutive rows, those of weight zero left out, with their weights."""
    for begin in range(0, len(X), PASS_ROWS):
        rows = slice(begin, begin + PASS_ROWS)
        if weight is None:
            yield X[rows].astype(np.float64), None
        else:
            counted = weight[rows] > 0.0
            if counted.any():
                yield X[rows][counted].astype(np.float64), weight[rows][counted]
        release(X[rows])


class Moments(NamedTuple):
    """Weighted mean, and covariance about it (divisor: sum of the weights) of ``(x - mean) / spread``."""

    mean: Array
    spread: Array  # half the range of each column; 0 for a column that does not vary beyond rounding
    covariance: Array  # (d, d), or only the variances (d,)


def moments(X: Any, weight: Array | None, *, with_correlations: bool) -> Moments:
    """Two passes, the second about the middle of the range and in units of it, so that nothing overflows or cancels."""
    if is_elsewhere(X):
        return Moments(*kernels.devices.moments(X, weight, with_correlations))
    known = isinstance(X, Source) and weight is None  # from when it was first read
    low, high = (X.low, X.high) if known else fold(X, weight, _range, join_ranges)
    middle = 0.5 * low + 0.5 * high
    spread = 0.5 * high - 0.5 * low
    spread[spread <= 4.0 * np.finfo(np.float64).eps * np.abs(middle)] = 0.0
    unit = np.where(spread > 0.0, spread, 1.0)
    count, first, second = fold(X, weight, partial(_sums, middle, unit, spread, with_correlations), join_sums)
    first = first / count
    if not with_correlations:
        return Moments(middle + unit * first, spread, np.maximum(second / count - first**2, 0.0))
    covariance = second / count - np.outer(first, first)
    return Moments(middle + unit * first, spread, 0.5 * (covariance + covariance.T))


def _range(X: Array, weight: Array | None) -> tuple[Array, Array]:
    """Smallest and largest number of each column."""
    low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
    for x, _ in pieces(X, weight):
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
    return low, high


def join_ranges(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    """Of both together."""
    return np.minimum(one[0], other[0]), np.maximum(one[1], other[1])


def _sums(
    middle: Array, unit: Array, spread: Array, with_correlations: bool, X: Array, weight: Array | None
) -> tuple[float, Array, Array]:
    """Sum of the weights, of ``z = (x - middle) / unit`` and of ``z z'``, or only of the squares."""
    d = len(unit)
    count, first, second = 0.0, np.zeros(d), np.zeros((d, d) if with_correlations else d)
    for x, w in pieces(X, weight):
        z = (x - middle) / unit
        z[:, spread == 0.0] = 0.0
        weighted = z if w is None else z * w[:, None]
        count += len(z) if w is None else float(w.sum())
        first += weighted.sum(axis=0)
        second += weighted.T @ z if with_correlations else np.einsum("ij,ij->j", weighted, z)
    return count, first, second


def join_sums(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of both together."""
    return tuple(map(add, one, other))


def scatter(rows: Rows) -> Array:
    """Weighted sum of ``z z'``."""
    if is_elsewhere(rows.X):
        return kernels.devices.scatter(*rows[:4])
    total = np.zeros((rows.X.shape[1],) * 2)
    for x, w in pieces(rows.X, rows.weight):
        z = (x - rows.center) / rows.scale
        total += (z if w is None else z * w[:, None]).T @ z
    return total


def by_values(X: Array) -> Array:
    """Order of rows by their values, the first column first; equal rows stay in theirs."""
    order = np.argsort(X[:, 0], kind="stable")
    first = X[order, 0]
    equal = (first[1:] == first[:-1]) | np.isnan(first[:-1])  # missing cells come last
    same = np.concatenate([[False], equal, [False]])
    tied = same[1:] | same[:-1]
    rows = order[tied]  # few, where columns are measured: the others are ordered by one column alone
    order[tied] = rows[np.lexsort(X[rows].T[::-1])]
    return order


def sample(rows: Rows, size: int) -> Rows:
    """At most ``size`` distinct rows with the weight of all, in an order given by their values.

    What is drawn, and in which order, does not change when a row is replaced by two of half the weight or when rows are
    shuffled, so a start computed from it treats weights as repetitions. All rows if they are few; else those whose
    values hash to the smallest numbers; of rows on another device, those of a fixed draw.
    """
    total = rows.total
    if is_elsewhere(rows.X):
        rows = _brought(rows, size)
    x, weight = _all(rows) if len(rows.X) <= size else _smallest_hashes(rows, size)
    order = by_values(x)
    return rows._replace(X=x[order], weight=weight[order] * (total / weight.sum()), scatter=None, patterns=None)


def _brought(rows: Rows, size: int) -> Rows:
    """A few rows of another device, drawn evenly; all if they are few."""
    X, weight = rows.X, None if rows.weight is None else bring(rows.weight).astype(np.float64)
    counted = np.arange(X.shape[0]) if weight is None else np.flatnonzero(weight)
    if len(counted) > size:
        counted = np.sort(np.random.default_rng(0).choice(counted, size, replace=False))
    return rows._replace(X=take(X, counted), weight=None if weight is None else weight[counted])


def take(X: Any, rows: Array) -> Array:
    """A few rows, by their numbers in rising order."""
    if is_elsewhere(X):
        return bring(pick(X, rows)).astype(np.float64)
    return X.take(rows) if isinstance(X, Source) else X[rows]


def held(rows: Rows) -> Rows:
    """The same rows, read into memory."""
    if is_elsewhere(rows.X):
        weight = None if rows.weight is None else bring(rows.weight).astype(np.float64)
        return rows._replace(X=bring(rows.X).astype(np.float64), weight=weight)
    return rows._replace(X=take(rows.X, np.arange(len(rows.X)))) if isinstance(rows.X, Source) else rows


def _all(rows: Rows) -> tuple[Array, Array]:
    x = held(rows).X.astype(np.float64)
    if rows.weight is None:
        return x, np.ones(len(x))
    counted = rows.weight > 0.0
    return x[counted], rows.weight[counted].astype(np.float64)


def _smallest_hashes(rows: Rows, size: int) -> tuple[Array, Array]:
    kept = fold(rows.X, rows.weight, partial(_find_smallest, size), partial(_smallest, size))
    return kept.rows, kept.weight


class _Kept(NamedTuple):
    """Distinct rows in the order of their hashes."""

    key: Array
    rows: Array
    weight: Array


def _find_smallest(size: int, X: Array, weight: Array | None) -> _Kept:
    kept = _Kept(np.empty(0, np.uint64), np.empty((0, X.shape[1])), np.empty(0))
    for x, w in pieces(X, weight):
        key = _hash(x)
        small = slice(None) if len(kept.key) < size else key <= kept.key[-1]
        found = _Kept(key[small], x[small], np.ones(len(x))[small] if w is None else w[small])
        kept = _distinct(size, kept, found)
    return kept


def _smallest(size: int, one: _Kept, other: _Kept) -> _Kept:
    """Of both together."""
    if len(one.key) == size:  # the other's larger ones are not wanted
        near = int(np.searchsorted(other.key, one.key[-1], side="right"))
        other = _Kept(*(field[:near] for field in other))
    return _distinct(size, one, other)


def _distinct(size: int, one: _Kept, other: _Kept) -> _Kept:
    """Copies of a row become its weight."""
    key, rows, weight = map(np.concatenate, zip(one, other, strict=True))
    key, first, index = np.unique(key, return_index=True, return_inverse=True)
    return _Kept(key[:size], rows[first][:size], np.bincount(index, weight)[:size])


def _hash(x: Array) -> Array:
    """Mix the bits of each row into one number (a multiply-shift chain over the columns)."""
    bits = np.ascontiguousarray(x + 0.0).view(np.uint64)  # + 0.0: a negative zero is a zero
    state = np.full(len(bits), 0x9E3779B97F4A7C15, np.uint64)
    for column in bits.T:
        state ^= column
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(29)
    return state
