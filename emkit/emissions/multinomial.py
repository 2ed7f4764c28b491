"""The multinomial law: how often each of several things happened, of a number of trials that each row has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from .._blocks import Rows
from .._charts import Simplex
from .._model import Charts, Emission
from ._independent import refuse, split

Array = NDArray[Any]

_EMPTY, _LEAST = 1e-10, 1e-12


class Shares(NamedTuple):
    """Parameters of ``k`` components."""

    emissionprob: Array  # (k, d), each row on the simplex


class Sums(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    totals: Any  # (k, d)


@dataclass(frozen=True)
class Multinomial(Emission):
    """Rows of counts; given its sum, a row is multinomial. A row is either complete or missing as a whole.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> X = np.array([[9, 1], [8, 2], [9, 1], [1, 9], [0, 10], [2, 8], [9, 1], [10, 0]])
    >>> EMHiddenMarkov(2, emission="multinomial", random_state=0).fit(X).emissionprob_.round(1)
    array([[0.9, 0.1],
           [0.1, 0.9]])
    """

    @property
    def charts(self) -> Charts:
        """Points of a simplex."""
        return {"emissionprob": Simplex()}

    def read(self, X: Any) -> Array:
        """Floats, NaN where missing; name the first cell that cannot be an observation."""
        x = np.asarray(X, dtype=np.float64)
        holes = np.isnan(x)
        refuse(x, (x < 0.0) | (x != np.floor(x)) & ~holes | np.isinf(x), "a count is a whole number from 0")
        partly = holes & ~holes.all(axis=1, keepdims=True)
        return refuse(x, partly, "how many trials the row had is then unknown: make the whole row missing")

    def log_prob(self, params: Shares, rows: Rows) -> Array:
        """Log-probability (n, k) of every row, given its sum; 0 where missing."""
        x, _ = split(rows.X)
        density = x @ np.log(np.maximum(params.emissionprob, _LEAST)).T
        density += (gammaln(x.sum(axis=1) + 1.0) - gammaln(x + 1.0).sum(axis=1))[:, None]
        return np.ascontiguousarray(density)

    def summarize(self, params: Shares | None, rows: Rows, resp: Array) -> Sums:
        """Weighted totals."""
        return Sums(0.0, resp.T @ split(rows.X)[0])

    def maximize(self, stats: Sums, params: Shares | None) -> Shares:
        """Shares of the totals."""
        total = stats.totals.sum(axis=1, keepdims=True)
        previous = np.full(stats.totals.shape, 1.0 / stats.totals.shape[1]) if params is None else params.emissionprob
        shares = np.where(total > _EMPTY, stats.totals / np.where(total > _EMPTY, total, 1.0), previous)
        shares = np.maximum(shares, _LEAST)
        return Shares(shares / shares.sum(axis=1, keepdims=True))

    def features(self, rows: Rows) -> Array:
        """Shares of each row."""
        x, _ = split(rows.X)
        return np.asarray(x / np.maximum(x.sum(axis=1, keepdims=True), 1.0))

    def order(self, params: Shares) -> Array:
        """The first column most often first."""
        return np.lexsort(-params.emissionprob.T[::-1])

    def n_parameters(self, params: Shares) -> int:
        """Probabilities, less one for each sum."""
        return int(params.emissionprob.size - len(params.emissionprob))
