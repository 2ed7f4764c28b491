"""The Poisson law: counts, one rate for each component and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, pdtr

from .._blocks import Rows
from .._cells import known, over_known
from ._by_mean import ByMean, Means, impossible, safe_log

Array = NDArray[Any]


@dataclass(frozen=True)
class Poisson(ByMean):
    """Counts: ``p(x) = rate^x exp(-rate) / x!``, columns independent given the component.

    The fitted rates are ``lambdas_`` (k, d), as in hmmlearn. A component that has seen nothing but zeros has the rate
    0, and takes any other count for impossible.

    References
    ----------
    Zucchini, W., MacDonald, I. & Langrock, R. (2016). *Hidden Markov Models for Time Series*, 2nd ed., section 4.2.
    Chapman & Hall.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.emissions import Poisson
    >>> law = Poisson()
    >>> rows = law.prepare(law.read([[2], [0], [np.nan]]), None)
    >>> params = law.maximize(law.summarize(None, rows, np.ones((3, 1))), None)
    >>> params.means
    array([[1.]])
    >>> law.log_prob(params, rows).round(4)
    array([[-1.6931],
           [-1.    ],
           [ 0.    ]])
    """

    attribute = "lambdas_"
    allowed = "a Poisson law counts: use whole numbers from 0 on, NaN where missing, or another emission"

    def _wrong(self, X: Array) -> Array:
        return np.asarray((X < 0.0) | (X % 1.0 != 0.0)) & ~np.isnan(X)

    def log_prob(self, params: Means, rows: Rows) -> Array:
        """Log-probability (n, k) of every row under every component."""
        x, seen = known(rows.X)
        out = x @ safe_log(params.means).T
        out -= over_known(seen, params.means)
        out -= gammaln(x + 1.0).sum(axis=1)[:, None]
        return impossible(out)

    def sample(self, params: Means, labels: Array, rng: np.random.Generator) -> Array:
        """Draw one row from the component that each label names."""
        return rng.poisson(params.means[labels]).astype(np.float64)

    def cdf(self, params: Means, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column under every component."""
        return np.where(x[:, None] < 0.0, 0.0, pdtr(np.maximum(np.floor(x), 0.0)[:, None], params.means[:, column]))
