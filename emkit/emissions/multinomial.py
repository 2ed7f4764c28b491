"""The multinomial law: rows of counts that share out a number of trials, one table of probabilities per component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, xlogy

from .._blocks import Rows
from .._charts import Simplex
from .._model import Charts, Emission
from ..exceptions import InvalidParameterError
from ._independent import LARGEST, centred, refuse, split

Array = NDArray[Any]

_EMPTY = 1e-10
# What a probability of 0 makes impossible would never be possible again.
_LEAST = 1e-12


class Tables(NamedTuple):
    """Parameters of ``k`` components."""

    emissionprob: Array  # (k, d), each row on the simplex


class Sums(NamedTuple):
    """Expected sufficient statistics."""

    loglik: Any
    totals: Any  # (k, d)


@dataclass(frozen=True)
class Multinomial(Emission):
    """Counts of ``d`` outcomes in each row's trials; the number of trials of a row is given, not modelled.

    The fitted probabilities are ``emissionprob_`` (k, d), as in hmmlearn. A row without any observed cell says
    nothing. A row that misses some cells needs ``n_trials``: what its other cells leave is then shared out among them.

    Parameters
    ----------
    n_trials : int, optional
        Trials of every row. None: the sum of the row.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.emissions import Multinomial
    >>> law = Multinomial(n_trials=10)
    >>> rows = law.prepare(law.read([[6, 3, 1], [4, np.nan, np.nan]]), None)
    >>> params = law.maximize(law.summarize(None, rows, np.array([[1.0], [0.0]])), None)
    >>> params.emissionprob.round(2)
    array([[0.6, 0.3, 0.1]])
    >>> np.exp(law.log_prob(params, rows)[:, 0]).round(4)  # the second row: 4 of 10
    array([0.1058, 0.1115])
    """

    n_trials: int | None = None
    streams = True

    def __post_init__(self) -> None:
        """Refuse what is no number of trials."""
        if self.n_trials is not None and not (self.n_trials == int(self.n_trials) and self.n_trials > 0):
            raise InvalidParameterError(f"n_trials must be a positive int or None. Got {self.n_trials!r} instead.")

    @property
    def charts(self) -> Charts:
        """Points of a simplex."""
        return {"emissionprob": Simplex()}

    def read(self, X: Any) -> Array:
        """Floats, NaN where missing; name the first cell, or row, that cannot be an observation."""
        x = np.asarray(X, dtype=np.float64)
        holes = np.isnan(x)
        wrong = ((x < 0.0) | (x != np.floor(x)) | (x > LARGEST)) & ~holes
        refuse(x, wrong, "a count is a whole number from 0 to 2**53")
        total = np.where(holes, 0.0, x).sum(axis=1)
        some, all_ = holes.any(axis=1), holes.all(axis=1)
        if self.n_trials is None:
            wrong = np.flatnonzero(some & ~all_)
            if len(wrong):
                raise ValueError(
                    f"X misses some counts of row {wrong[0]}, so how many trials it had is not known; give n_trials, "
                    "or make the whole row missing"
                )
            return x
        wrong = np.flatnonzero(~all_ & ((total > self.n_trials) | ~some & (total != self.n_trials)))
        if len(wrong):
            raise ValueError(
                f"X has {total[wrong[0]]:g} trials at row {wrong[0]}, not n_trials={self.n_trials}; n_trials=None "
                "takes each row's own sum"
            )
        return x

    def log_prob(self, params: Tables, rows: Rows) -> Array:
        """Log-probability (n, k) of the observed counts of every row."""
        probs = np.maximum(params.emissionprob, _LEAST)
        x, observed = split(rows.X)
        out = np.ascontiguousarray(x @ np.log(probs).T)
        total = x.sum(axis=1)
        constant = -gammaln(x + 1.0).sum(axis=1)
        if observed is not None and self.n_trials is not None:
            left = self._left(x, observed)
            out += left[:, None] * np.log(_unseen(probs, observed))
            constant -= gammaln(left + 1.0)
            total = total + left
        out += (constant + gammaln(total + 1.0))[:, None]
        return out

    def _left(self, x: Array, observed: Array) -> Array:
        """Trials (n,) whose outcomes are missing; none in a row without any observed cell, which says nothing."""
        assert self.n_trials is not None
        some, any_ = (observed == 0.0).any(axis=1), observed.any(axis=1)
        return np.where(some & any_, self.n_trials - x.sum(axis=1), 0.0)

    def summarize(self, params: Tables | None, rows: Rows, resp: Array) -> Sums:
        """Weighted totals, those of missing cells as expected."""
        x, observed = split(rows.X)
        totals = resp.T @ x
        if observed is not None and self.n_trials is not None:
            d = x.shape[1]
            probs = np.full((resp.shape[1], d), 1.0 / d) if params is None else np.maximum(params[0], _LEAST)
            share = resp * self._left(x, observed)[:, None] / _unseen(probs, observed)
            totals += (share.T @ (1.0 - observed)) * probs
        return Sums(0.0, totals)

    def maximize(self, stats: Sums, params: Tables | None) -> Tables:
        """Shares of the outcomes."""
        total = stats.totals.sum(axis=1, keepdims=True)
        kept = np.full(stats.totals.shape, 1.0 / stats.totals.shape[1]) if params is None else params.emissionprob
        shares = np.where(total > _EMPTY, stats.totals / np.where(total > _EMPTY, total, 1.0), kept)
        shares = np.maximum(shares, _LEAST)
        return Tables(shares / shares.sum(axis=1, keepdims=True))

    def q_value(self, candidate: Tables, stats: Sums, params: Tables) -> float:
        """Log-probability of the outcomes."""
        return float(xlogy(stats.totals, candidate.emissionprob).sum())

    def n_parameters(self, params: Tables) -> int:
        """Probabilities, less one for each sum."""
        return params.emissionprob.size - len(params.emissionprob)

    def order(self, params: Tables) -> Array:
        """By the probabilities, those that favour the first outcomes first."""
        return np.lexsort(-params.emissionprob.T[::-1])

    def features(self, rows: Rows) -> Array:
        """Square roots of each row's shares, which vary about as much whatever the probabilities."""
        total = np.nansum(rows.X, axis=1, keepdims=True)
        return centred(np.sqrt(rows.X / np.maximum(total, 1.0)), rows.weight)

    def sample(self, params: Tables, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        if self.n_trials is None:
            raise ValueError("n_trials=None takes the trials of each row from the data; give n_trials to sample")
        return rng.multinomial(self.n_trials, params.emissionprob[labels]).astype(np.float64)

    def mean(self, params: Tables) -> Array:
        """Expected counts (k, d); expected shares when ``n_trials`` is None."""
        return params.emissionprob * (1 if self.n_trials is None else self.n_trials)

    def cdf(self, params: Tables, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column: binomial."""
        if self.n_trials is None:
            raise NotImplementedError("n_trials=None takes the trials of each row from the data; give n_trials")
        counts = np.clip(np.floor(x), 0.0, self.n_trials)[:, None]
        below = bdtr(counts, self.n_trials, params.emissionprob[:, column])
        return np.where(x[:, None] < 0.0, 0.0, below)

    def fill(self, params: Tables, rows: Rows, resp: Array) -> Array:
        """Missing counts as expected."""
        out = super().fill(params, rows, resp)
        x, observed = split(rows.X)
        if observed is not None and self.n_trials is not None:
            probs = np.maximum(params.emissionprob, _LEAST)
            shared = (resp / _unseen(probs, observed)) @ probs * self._left(x, observed)[:, None]
            some = observed.any(axis=1, keepdims=True) & (observed == 0.0)
            out = np.where(some, shared, out)
        return out


def _unseen(probs: Array, observed: Array) -> Array:
    """Probability (n, k) of the outcomes that each row misses; 1 if it misses none."""
    missing = 1.0 - observed
    return np.where(missing.any(axis=1, keepdims=True), missing @ probs.T, 1.0)
