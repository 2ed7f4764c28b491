"""The gamma law: positive numbers, skewed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln, polygamma, psi

from .._blocks import Rows
from .._charts import Positive
from .._model import Charts, Emission
from ._independent import refuse, split

Array = NDArray[Any]

_EMPTY = 1e-10
# Shapes are kept between these: the larger stands for a column that hardly varies.
_LEAST, _MOST = 1e-3, 1e8
_NEWTON = 30


class Gammas(NamedTuple):
    """Parameters of ``k`` components."""

    shapes: Array  # (k, d)
    scales: Array  # (k, d); the mean is their product


class Sums(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    counts: Any  # (k, d)
    totals: Any  # (k, d)
    logs: Any  # (k, d)


@dataclass(frozen=True)
class Gamma(Emission):
    """Positive numbers with a gamma law, independent from column to column given the component.

    References
    ----------
    Minka, T. (2002). *Estimating a gamma distribution*. Microsoft Research: the shape by Newton's method.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> X = np.random.default_rng(0).gamma(np.repeat([2.0, 20.0], 200))[:, None]
    >>> EMHiddenMarkov(2, emission="gamma", random_state=0).fit(X).shapes_.shape
    (2, 1)
    """

    @property
    def charts(self) -> Charts:
        """Square roots."""
        return {"shapes": Positive(), "scales": Positive()}

    def read(self, X: Any) -> Array:
        """Floats, NaN where missing; name the first cell that cannot be an observation."""
        x = np.asarray(X, dtype=np.float64)
        return refuse(x, (x <= 0.0) | np.isinf(x), "a gamma law is of positive, finite numbers")

    def log_prob(self, params: Gammas, rows: Rows) -> Array:
        """Log-density (n, k) of the observed cells of every row."""
        x, observed = split(rows.X, 1.0)
        shapes, scales = np.clip(params.shapes, _LEAST, _MOST), np.maximum(params.scales, 1e-300)
        constant = gammaln(shapes) + shapes * np.log(scales)
        density = np.log(x) @ (shapes - 1.0).T
        if observed is None:
            return np.ascontiguousarray(density - x @ (1.0 / scales).T - constant.sum(axis=1))
        return np.ascontiguousarray(density - (x * observed) @ (1.0 / scales).T - observed @ constant.T)

    def summarize(self, params: Gammas | None, rows: Rows, resp: Array) -> Sums:
        """Weighted counts, totals and totals of logarithms of the observed cells."""
        x, observed = split(rows.X, 1.0)
        logs = resp.T @ np.log(x)
        if observed is None:
            return Sums(0.0, np.repeat(resp.sum(axis=0)[:, None], x.shape[1], axis=1), resp.T @ x, logs)
        return Sums(0.0, resp.T @ observed, resp.T @ (x * observed), logs)

    def maximize(self, stats: Sums, params: Gammas | None) -> Gammas:
        """Solve ``log a - psi(a) = log(mean) - mean(log)`` for the shapes; the scales follow from the means."""
        seen = stats.counts > _EMPTY
        counts = np.where(seen, stats.counts, 1.0)
        mean = np.where(seen, stats.totals / counts, 1.0)
        gap = np.maximum(np.log(mean) - np.where(seen, stats.logs / counts, -1.0), 0.5 / _MOST)
        shapes = (3.0 - gap + np.sqrt((gap - 3.0) ** 2 + 24.0 * gap)) / (12.0 * gap)
        for _ in range(_NEWTON):  # in 1 / a, where the equation is nearly straight
            slope = shapes**2 * (1.0 / shapes - polygamma(1, shapes))
            inverse = 1.0 / shapes + (np.log(shapes) - psi(shapes) - gap) / slope
            shapes = np.clip(1.0 / np.clip(inverse, 1.0 / _MOST, 1.0 / _LEAST), _LEAST, _MOST)
        if not seen.all() and params is not None:
            return Gammas(np.where(seen, shapes, params.shapes), np.where(seen, mean / shapes, params.scales))
        return Gammas(shapes, mean / shapes)

    def order(self, params: Gammas) -> Array:
        """By their means, the first column first."""
        return np.lexsort(self.mean(params).T[::-1])

    def sample(self, params: Gammas, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        return rng.gamma(params.shapes[labels], params.scales[labels])

    def mean(self, params: Gammas) -> Array:
        """Means (k, d)."""
        return params.shapes * params.scales

    def cdf(self, params: Gammas, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        return np.asarray(gammainc(params.shapes[:, column], np.maximum(x, 0.0)[:, None] / params.scales[:, column]))
