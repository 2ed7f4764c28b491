"""The exponential law: waiting times, one mean for each component and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows
from .._cells import known, over_known, refuse_unseen
from ._by_mean import ByMean, Means, Sums

Array = NDArray[Any]


@dataclass(frozen=True)
class Exponential(ByMean):
    """Waiting times: ``p(x) = exp(-x / mean) / mean`` for ``x >= 0``, columns independent given the component.

    The fitted means are ``means_`` (k, d), in the units of the data; rates are their reciprocals.

    Parameters
    ----------
    reg : float, default=1e-6
        Waiting time that the prior adds to each component, in units of each column's mean: a log-density of
        ``-reg / mean``, part of the objective. It keeps a component that sees nothing but zeros from an infinite
        density, and fades as rows are added.

    References
    ----------
    Zucchini, W., MacDonald, I. & Langrock, R. (2016). *Hidden Markov Models for Time Series*, 2nd ed., chapter 8.
    Chapman & Hall.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.emissions import Exponential
    >>> law = Exponential()
    >>> rows = law.prepare(law.read([[2.0], [4.0], [np.nan]]), None)
    >>> params = law.maximize(law.summarize(None, rows, np.ones((3, 1))), None)
    >>> law.restore(params, rows).means
    array([[3.]])
    >>> law.log_prob(params, rows).round(4)
    array([[-1.7653],
           [-2.4319],
           [ 0.    ]])
    """

    reg: float = 1e-6

    attribute = "means_"
    allowed = "an exponential law waits from 0 on: remove or shift negative values, or use emission='gaussian'"

    def _wrong(self, X: Array) -> Array:
        return np.asarray(X < 0.0)

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Find the mean of each column: its unit."""
        refuse_unseen(X)
        return Rows(X, weight, np.zeros(X.shape[1]), unit_mean(X, weight))

    def frame(self, params: Means, X: Array) -> Rows:
        """Rows to predict, in units of the mean of the means."""
        return Rows(X, None, np.zeros(X.shape[1]), (params.means / len(params.means)).sum(axis=0))

    def prior(self, params: Means) -> Sums:
        """``reg`` to wait in addition."""
        return Sums(-self.reg * float((1.0 / params.means).sum()), 0.0, self.reg)

    def log_prob(self, params: Means, rows: Rows) -> Array:
        """Log-density (n, k) of every row under every component."""
        z, seen = known(rows.X / rows.scale)
        out = z @ (-1.0 / params.means).T
        out -= over_known(seen, np.log(params.means * rows.scale))
        return out

    def sample(self, params: Means, labels: Array, rng: np.random.Generator) -> Array:
        """Draw one row from the component that each label names."""
        return rng.exponential(params.means[labels])

    def cdf(self, params: Means, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column under every component."""
        return -np.expm1(-np.maximum(x, 0.0)[:, None] / params.means[:, column])


def unit_mean(X: Array, weight: Array | None) -> Array:
    """Mean of the observed cells of each column, 1 where it is 0; largest first, so that nothing overflows."""
    largest = np.fmax.reduce(X, axis=0)
    largest = np.where(largest > 0.0, largest, 1.0)
    z, seen = known(X / largest)
    w = np.ones(len(z)) if weight is None else weight
    mean = (w @ z) / np.maximum(w.sum() if seen is None else w @ seen, 1e-300)
    return np.where(mean > 0.0, largest * mean, largest)
