"""The Poisson law: counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, pdtr, xlogy

from .._charts import Positive
from .._model import Charts
from ._independent import LARGEST, Independent, Sums

Array = NDArray[Any]


class Rates(NamedTuple):
    """Parameters of ``k`` components."""

    lambdas: Array  # (k, d) means of the counts


@dataclass(frozen=True)
class Poisson(Independent):
    """Counts 0, 1, 2, ..., independent from column to column given the component.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import Poisson
    >>> X = np.array([[0], [1], [0], [1], [9], [11], [10], [1], [0], [0]])
    >>> EMHiddenMarkov(2, emission=Poisson(), random_state=0).fit(X).lambdas_.round(1)
    array([[ 0.4],
           [10. ]])
    """

    parameters: ClassVar[type] = Rates
    # A count that a rate of 0 makes impossible would never be possible again.
    least: ClassVar[float] = 1e-12

    @property
    def charts(self) -> Charts:
        """Square roots of the rates."""
        return {"lambdas": Positive()}

    def _log_density(self, means: Array, x: Array, observed: Array | None) -> Array:
        exposure = means.sum(axis=1) if observed is None else observed @ means.T
        density = x @ np.log(means).T
        density -= exposure
        density -= gammaln(x + 1.0).sum(axis=1)[:, None]  # log 0! = 0 for a missing cell
        return np.ascontiguousarray(density)

    def q_value(self, candidate: Rates, stats: Sums, params: Rates) -> float:
        """Poisson log-probability."""
        return float((xlogy(stats.totals, candidate.lambdas) - stats.counts * candidate.lambdas).sum())

    def _fault(self, X: Array) -> tuple[Array, str]:
        wrong = (X < 0.0) | (X != np.floor(X)) & ~np.isnan(X) | (X > LARGEST)
        return wrong, "a count is a whole number from 0 to 2**53"

    def sample(self, params: Rates, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        return rng.poisson(params.lambdas[labels]).astype(np.float64)

    def cdf(self, params: Rates, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        counts = np.floor(x)[:, None]
        return np.where(counts < 0.0, 0.0, pdtr(np.maximum(counts, 0.0), params.lambdas[:, column]))
