"""Laws whose columns are independent and have one parameter each, the mean: Poisson, Bernoulli, exponential.

Statistics of component ``k`` and column ``j``, summed over the rows in which the cell is observed, and the M-step::

    seen = sum r        total = sum r x        mean = total / seen

References
----------
Dempster, A., Laird, N. & Rubin, D. (1977). Maximum likelihood from incomplete data via the EM algorithm. *JRSS B* 39,
1-38; section 4, on exponential families.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows
from .._cells import centred, known, numbers, refuse, resp_of_known
from .._charts import Positive
from .._model import Charts, Emission

Array = NDArray[Any]

# A component in which a column was observed less often has not seen it.
UNSEEN = 1e-10
# How far a start keeps from the boundary.
_START_SHARE = 0.01
# Stands for the logarithm of 0 in products: finite, so that nothing of what is impossible is nothing.
_NEVER = -1e300


class Means(NamedTuple):
    """One mean for each component and column."""

    means: Array  # (k, d)


class Sums(NamedTuple):
    """Expected sufficient statistics."""

    loglik: Any  # 0, but for the log prior
    seen: Any  # (k, d)
    total: Any  # (k, d)


def safe_log(values: Array) -> Array:
    """Logarithms, that of 0 large enough to be recognised."""
    return np.log(values, out=np.full(values.shape, _NEVER), where=values > 0.0)


def impossible(log_prob: Array) -> Array:
    """What contains the logarithm of 0 becomes minus infinity."""
    log_prob[log_prob < 0.5 * _NEVER] = -np.inf
    return log_prob


def ratio(total: Array, seen: Array, kept: Array | None, otherwise: float) -> Array:
    """``total / seen`` (k, ...), where nothing was seen what was kept, else the ratio for all components together."""
    enough = seen > UNSEEN
    if enough.all():
        return np.asarray(total / seen)
    if kept is None:
        everywhere = seen.sum(axis=0)
        pooled = total.sum(axis=0) / np.where(everywhere > UNSEEN, everywhere, 1.0)
        kept = np.broadcast_to(np.where(everywhere > UNSEEN, pooled, otherwise), total.shape)
    return np.where(enough, total / np.where(enough, seen, 1.0), kept)


class ByMean(Emission):
    """What these laws have in common."""

    attribute: ClassVar[str]  # name of the fitted means
    otherwise: ClassVar[float] = 1.0  # mean of a column of which nothing is known
    allowed: ClassVar[str]  # what a cell may be

    @abstractmethod
    def _wrong(self, X: Array) -> Array:
        """Which cells cannot be observations; never those that are missing."""

    def read(self, X: Any) -> Array:
        """Numbers the law allows."""
        cells = numbers(X).astype(np.float64, copy=False)
        refuse(cells, self._wrong(cells), self.allowed)
        return cells

    @property
    def charts(self) -> Charts:
        """Means through their square roots."""
        return {"means": Positive()}

    def summarize(self, params: Means | None, rows: Rows, resp: Array) -> Sums:
        """Sums for given responsibilities (n, k), weights included."""
        z, seen = known(rows.X)
        return Sums(0.0, resp_of_known(seen, resp, z.shape[1]), resp.T @ z / rows.scale)

    def start(self, rows: Rows, resp: Array) -> Means:
        """Weighted means, away from where something that may yet be seen is impossible."""
        means = super().start(rows, resp).means
        return Means(means + _START_SHARE * (self.otherwise - means))

    def maximize(self, stats: Sums, params: Means | None) -> Means:
        """Weighted means; a component that has not seen a column keeps what it has."""
        return Means(ratio(stats.total, stats.seen, None if params is None else params.means, self.otherwise))

    def standardize(self, params: Means, rows: Rows) -> Means:
        """From the user's units."""
        return Means(params.means / rows.scale)

    def restore(self, params: Means, rows: Rows) -> Means:
        """To the user's units."""
        return Means(params.means * rows.scale)

    def order(self, params: Means) -> Array:
        """By the means, the first column first."""
        return np.lexsort(params.means.T[::-1])

    def features(self, rows: Rows) -> Array:
        """Square roots, which vary about as much whatever the mean."""
        return centred(np.sqrt(rows.X / rows.scale), rows.weight)

    def mean(self, params: Means) -> Array:
        """The parameters themselves."""
        return params.means

    def publish(self, params: Means) -> dict[str, Array]:
        """The means, under the name the law has for them."""
        return {self.attribute: params.means}

    def recall(self, attributes: Mapping[str, Array]) -> Means:
        """From the fitted means."""
        return Means(np.array(attributes[self.attribute], dtype=np.float64))
