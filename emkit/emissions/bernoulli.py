"""The Bernoulli law: what is or is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

from .._charts import Share
from .._model import Charts
from ._independent import Independent, Sums

Array = NDArray[Any]


class Shares(NamedTuple):
    """Parameters of ``k`` components."""

    probs: Array  # (k, d) probabilities of a 1


@dataclass(frozen=True)
class Bernoulli(Independent):
    """Columns of 0 and 1, independent given the component.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> X = np.array([[0], [0], [0], [0], [1], [1], [1], [1], [0], [0], [0], [0]])
    >>> EMHiddenMarkov(2, emission="bernoulli", random_state=0).fit(X).probs_.round(2)
    array([[0.],
           [1.]])
    """

    parameters: ClassVar[type] = Shares
    least: ClassVar[float] = 1e-12
    most: ClassVar[float] = 1.0 - 1e-12

    @property
    def charts(self) -> Charts:
        """Angles."""
        return {"probs": Share()}

    def _log_density(self, means: Array, x: Array, observed: Array | None) -> Array:
        zeros = np.log1p(-means)
        none = zeros.sum(axis=1) if observed is None else observed @ zeros.T
        return np.ascontiguousarray(x @ (np.log(means) - zeros).T + none)

    def q_value(self, candidate: Shares, stats: Sums, params: Shares) -> float:
        """Bernoulli log-probability."""
        probs, zeros = candidate.probs, stats.counts - stats.totals
        return float((xlogy(stats.totals, probs) + xlog1py(zeros, -probs)).sum())

    def _fault(self, X: Array) -> tuple[Array, str]:
        return (X != 0.0) & (X != 1.0) & ~np.isnan(X), "every cell must be 0 or 1"

    def sample(self, params: Shares, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        probs = params.probs[labels]
        return (rng.random(probs.shape) < probs).astype(np.float64)

    def cdf(self, params: Shares, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        steps = np.where(x < 1.0, 1.0, 0.0)[:, None]
        return np.where(x[:, None] < 0.0, 0.0, 1.0 - steps * params.probs[:, column])
