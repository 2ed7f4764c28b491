"""The Bernoulli law: yes or no, one probability for each component and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows
from .._cells import centred, known
from .._charts import Bounded
from .._model import Charts
from ._by_mean import ByMean, Means, impossible, safe_log

Array = NDArray[Any]


@dataclass(frozen=True)
class Bernoulli(ByMean):
    """Columns of 0 and 1, independent given the component: ``p(1) = probability``.

    The fitted probabilities of a 1 are ``probabilities_`` (k, d). Those that reach 0 or 1 are exact: the other answer
    is impossible.

    References
    ----------
    McLachlan, G. & Peel, D. (2000). *Finite Mixture Models*, section 5.5 (latent classes). Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.emissions import Bernoulli
    >>> law = Bernoulli()
    >>> rows = law.prepare(law.read([[True, 0], [True, 1], [np.nan, 1], [0, 1]]), None)
    >>> params = law.maximize(law.summarize(None, rows, np.ones((4, 1))), None)
    >>> params.means.round(4)
    array([[0.6667, 0.75  ]])
    >>> np.exp(law.log_prob(params, rows)[:, 0]).round(4)
    array([0.1667, 0.5   , 0.75  , 0.25  ])
    """

    attribute = "probabilities_"
    otherwise = 0.5
    allowed = "a Bernoulli law knows 0 and 1, and NaN where missing: use emission='categorical' for other symbols"

    @property
    def charts(self) -> Charts:
        """Probabilities through an angle."""
        return {"means": Bounded(0.0, 1.0)}

    def _wrong(self, X: Array) -> Array:
        return np.asarray((X != 0.0) & (X != 1.0)) & ~np.isnan(X)

    def log_prob(self, params: Means, rows: Rows) -> Array:
        """Log-probability (n, k) of every row under every component."""
        ones, seen = known(rows.X)
        zeros = (1.0 if seen is None else seen) - ones
        return impossible(ones @ safe_log(params.means).T + zeros @ safe_log(1.0 - params.means).T)

    def features(self, rows: Rows) -> Array:
        """The answers themselves."""
        return centred(rows.X, rows.weight)

    def sample(self, params: Means, labels: Array, rng: np.random.Generator) -> Array:
        """Draw one row from the component that each label names."""
        return (rng.random((len(labels), params.means.shape[1])) < params.means[labels]).astype(np.float64)

    def cdf(self, params: Means, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column under every component."""
        below = np.where(x[:, None] < 0.0, 0.0, 1.0 - params.means[:, column])
        return np.where(x[:, None] < 1.0, below, 1.0)
