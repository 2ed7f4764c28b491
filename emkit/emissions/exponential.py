"""The exponential law: waiting times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._charts import Positive
from .._model import Charts
from ._independent import Independent, Sums

Array = NDArray[Any]


class Scales(NamedTuple):
    """Parameters of ``k`` components."""

    scales: Array  # (k, d) mean waiting times


@dataclass(frozen=True)
class Exponential(Independent):
    """Positive numbers with an exponential law, independent from column to column given the component.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> X = np.random.default_rng(0).exponential(np.repeat([1.0, 50.0], 100))[:, None]
    >>> EMHiddenMarkov(2, emission="exponential", random_state=0).fit(X).scales_.shape
    (2, 1)
    """

    parameters: ClassVar[type] = Scales
    least: ClassVar[float] = 1e-300

    @property
    def charts(self) -> Charts:
        """Square roots of the scales."""
        return {"scales": Positive()}

    def _log_density(self, means: Array, x: Array, observed: Array | None) -> Array:
        sizes = np.log(means)
        constant = sizes.sum(axis=1) if observed is None else observed @ sizes.T
        return np.ascontiguousarray(-(x @ (1.0 / means).T) - constant)

    def q_value(self, candidate: Scales, stats: Sums, params: Scales) -> float:
        """Exponential log-density."""
        return -float((stats.totals / candidate.scales + stats.counts * np.log(candidate.scales)).sum())

    def _fault(self, X: Array) -> tuple[Array, str]:
        return (X <= 0.0) | np.isinf(X), "a waiting time is positive and finite"

    def sample(self, params: Scales, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        return rng.exponential(params.scales[labels])

    def cdf(self, params: Scales, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        return -np.expm1(-np.maximum(x, 0.0)[:, None] / params.scales[:, column])
