"""Laws under which the columns are independent given the component, each with one parameter: its mean.

For an exponential family the mean of the observed cells, weighted by responsibilities, is the maximum-likelihood
estimate; so all these laws have the same statistics and the same M-step.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows, fold, join_sums
from .._model import Emission

Array = NDArray[Any]

# Beyond this float64 cannot tell a count from the next.
LARGEST = 2.0**53

# A component seen less often in a column keeps the mean it has there.
_EMPTY = 1e-10


class Sums(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    counts: Any  # (k, d) how often each column was observed
    totals: Any  # (k, d)


class Independent(Emission):
    """What laws of independent columns share."""

    parameters: ClassVar[type]  # NamedTuple with the one field (k, d) of means

    # The smallest and the largest mean that is estimated: EM never leaves a mean at which something is impossible.
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = np.inf
    streams = True

    @abstractmethod
    def _log_density(self, means: Array, x: Array, observed: Array | None) -> Array:
        """Log-density (n, k) of cells ``x``, 0 where missing; ``observed`` (n, d) is None if none is."""

    @abstractmethod
    def _fault(self, X: Array) -> tuple[Array, str]:
        """Which cells (n, d) cannot be observations, and what they should be."""

    def read(self, X: Any) -> Array:
        """Floats, NaN where missing; name the first cell that cannot be an observation."""
        x = np.asarray(X, dtype=np.float64)
        return refuse(x, *self._fault(x))

    def log_prob(self, params: Any, rows: Rows) -> Array:
        """Log-density (n, k) of the observed cells of every row."""
        x, observed = split(rows.X)
        return self._log_density(np.clip(params[0], self.least, self.most), x, observed)

    def summarize(self, params: Any, rows: Rows, resp: Array) -> Sums:
        """Weighted counts and totals of the observed cells."""
        x, observed = split(rows.X)
        totals = resp.T @ x
        if observed is None:
            return Sums(0.0, np.repeat(resp.sum(axis=0)[:, None], x.shape[1], axis=1), totals)
        return Sums(0.0, resp.T @ observed, totals)

    def maximize(self, stats: Sums, params: Any) -> Any:
        """Weighted means."""
        seen = stats.counts > _EMPTY
        means = np.clip(stats.totals / np.where(seen, stats.counts, 1.0), self.least, self.most)
        if not seen.all():
            pooled = np.clip(
                stats.totals.sum(axis=0) / np.maximum(stats.counts.sum(axis=0), _EMPTY), self.least, self.most
            )
            means = np.where(seen, means, pooled if params is None else params[0])
        return self.parameters(means)

    def order(self, params: Any) -> Array:
        """By their means, the first column first."""
        return np.lexsort(params[0].T[::-1])

    def features(self, rows: Rows) -> Array:
        """Square roots, which vary about as much whatever the mean."""
        return centred(np.sqrt(rows.X / rows.scale), rows.weight)

    def mean(self, params: Any) -> Array:
        """Means (k, d)."""
        return np.asarray(params[0])


def split(X: Array, instead: float = 0.0) -> tuple[Array, Array | None]:
    """Cells, ``instead`` where missing, and which are observed (as numbers); None if all are."""
    holes = np.isnan(X)
    if not holes.any():
        return X, None
    return np.where(holes, instead, X), (~holes).astype(np.float64)


def refuse(x: Array, wrong: Array, remedy: str) -> Array:
    """Give ``x`` (n, d) back unless some cell is ``wrong``."""
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"X is {x[row, column]:g} at row {row}, column {column}; {remedy}")
    return x


def centred(values: Array, weight: Array | None) -> Array:
    """Deviations from the mean of each column, 0 where missing."""
    x, observed = split(values)
    w = np.ones(len(x)) if weight is None else weight
    count = w.sum() if observed is None else np.maximum(w @ observed, _EMPTY)
    deviations = x - (w @ x) / count
    return deviations if observed is None else deviations * observed


def unit_mean(X: Any, weight: Array | None) -> Array:
    """Mean of the observed cells of each column, all positive; the largest is taken out, lest the sum overflow."""
    largest = fold(X, None, _largest, np.fmax)
    largest = np.where(np.isfinite(largest), largest, 1.0)
    count, total = fold(X, weight, partial(_observed_sums, largest), join_sums)
    mean = total / np.maximum(count, _EMPTY)
    return np.asarray(largest * np.where(mean > 0.0, mean, 1.0))


def _largest(X: Array, weight: None) -> Array:
    return np.asarray(np.fmax.reduce(X, axis=0, initial=-np.inf))


def _observed_sums(unit: Array, X: Array, weight: Array | None) -> tuple[Array, Array]:
    """Weights (d,) of the observed cells of each column, and their weighted sums in units of ``unit``."""
    x, observed = split(X / unit)
    w = np.ones(len(x)) if weight is None else weight
    return (np.full(x.shape[1], w.sum()) if observed is None else w @ observed), w @ x
