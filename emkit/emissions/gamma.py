"""The gamma law: positive numbers, a mean and a shape for each component and column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from .._blocks import Rows
from .._charts import Positive
from .._model import Charts, Emission
from ._digamma import shape_from_gap, stirling
from ._independent import centred, refuse, split, unit_mean

Array = NDArray[Any]

_EMPTY = 1e-10
# A gap between logarithm of the mean and mean of the logarithms smaller than this is rounding.
_LEAST_GAP = 1e-13


class Gammas(NamedTuple):
    """Parameters of ``k`` components; what others call the scale is ``means / shapes``."""

    means: Array  # (k, d)
    shapes: Array  # (k, d)


class Sums(NamedTuple):
    """Expected sufficient statistics."""

    loglik: Any  # 0, but for the log prior
    counts: Any  # (k, d) how often each column was observed
    totals: Any  # (k, d)
    logs: Any  # (k, d) of the logarithms


@dataclass(frozen=True)
class Gamma(Emission):
    """Positive numbers with a gamma law, independent from column to column given the component.

    The fitted attributes are ``shapes_`` and ``scales_``, (k, d) both; the mean is their product. The M-step has the
    mean in closed form, and the shape by Newton's method.

    Parameters
    ----------
    reg : float, default=1e-6
        A log-density of ``-reg * shape`` for each shape, part of the objective. It keeps a component that holds equal
        numbers from an infinite density, and fades as rows are added.

    References
    ----------
    Minka, T. (2002). *Estimating a Gamma distribution*. Microsoft Research.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import Gamma
    >>> state = np.repeat([0, 1, 0, 1], 100)
    >>> X = np.random.default_rng(0).gamma([2.0, 30.0], [1.0, 0.5], (400, 2))[np.arange(400), state, None]
    >>> EMHiddenMarkov(2, emission=Gamma(), random_state=0).fit(X).shapes_.round(0)
    array([[ 2.],
           [30.]])
    """

    reg: float = 1e-6
    streams = True

    @property
    def charts(self) -> Charts:
        """Square roots."""
        return {"means": Positive(), "shapes": Positive()}

    def read(self, X: Any) -> Array:
        """Floats, NaN where missing; name the first cell that cannot be an observation."""
        x = np.asarray(X, dtype=np.float64)
        return refuse(x, (x <= 0.0) | np.isinf(x), "a gamma law is of positive, finite numbers")

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Find the mean of each column: its unit."""
        return Rows(X, weight, np.zeros(X.shape[1]), unit_mean(X, weight))

    def frame(self, params: Gammas, X: Array) -> Rows:
        """Rows to predict, in units of the components' mean."""
        return Rows(X, None, np.zeros(X.shape[1]), (params.means / len(params.means)).sum(axis=0))

    def log_prob(self, params: Gammas, rows: Rows) -> Array:
        """Log-density (n, k) of the observed cells of every row."""
        means, shapes = params
        z, logs, observed = _with_logs(rows)
        out = np.ascontiguousarray(logs @ shapes.T)
        out -= z @ (shapes / means).T
        constants = stirling(shapes) + shapes * (1.0 - np.log(means)) - np.log(rows.scale)
        out += constants.sum(axis=1) if observed is None else observed @ constants.T
        out -= logs.sum(axis=1)[:, None]
        return out

    def summarize(self, params: Gammas | None, rows: Rows, resp: Array) -> Sums:
        """Weighted counts, totals and totals of logarithms of the observed cells."""
        z, logs, observed = _with_logs(rows)
        counts = np.repeat(resp.sum(axis=0)[:, None], z.shape[1], axis=1) if observed is None else resp.T @ observed
        return Sums(0.0, counts, resp.T @ z, resp.T @ logs)

    def maximize(self, stats: Sums, params: Gammas | None) -> Gammas:
        """Weighted means; the shapes that explain how far the logarithms lie below those of the means."""
        seen = stats.counts > _EMPTY
        counts = np.where(seen, stats.counts, 1.0)
        means = np.where(seen, stats.totals, 1.0) / counts
        gap = np.log(means) - np.where(seen, stats.logs, -1.0) / counts
        found = Gammas(means, shape_from_gap(np.maximum(gap, _LEAST_GAP)))
        if params is None or seen.all():
            return found
        return Gammas(*(np.where(seen, new, old) for new, old in zip(found, params, strict=True)))

    def q_value(self, candidate: Gammas, stats: Sums, params: Gammas) -> float:
        """Gamma log-density."""
        means, shapes = candidate
        constants = stirling(shapes) + shapes * (1.0 - np.log(means))
        return float((shapes * stats.logs - shapes / means * stats.totals + stats.counts * constants).sum())

    def prior(self, params: Gammas) -> Sums:
        """Logarithms that are a little smaller."""
        return Sums(-self.reg * float(params.shapes.sum()), 0.0, 0.0, -self.reg)

    def degenerate(self, params: Gammas, stats: Sums) -> str | None:
        """Name a component that holds equal numbers: its shape measures the prior, not the data."""
        collapsed = np.argwhere(2.0 * self.reg * params.shapes > 0.5 * stats.counts)
        if not len(collapsed):
            return None
        k, column = (int(i) for i in collapsed[0])
        return (
            f"component {k} has collapsed onto {stats.counts[k, column]:.4g} numbers of column {column} that hardly "
            "differ: its likelihood measures reg, not the data; use fewer components or a larger reg"
        )

    def standardize(self, params: Gammas, rows: Rows) -> Gammas:
        """From the user's units."""
        return params._replace(means=params.means / rows.scale)

    def restore(self, params: Gammas, rows: Rows) -> Gammas:
        """To the user's units."""
        return params._replace(means=params.means * rows.scale)

    def order(self, params: Gammas) -> Array:
        """By their means, the first column first."""
        return np.lexsort(params.means.T[::-1])

    def features(self, rows: Rows) -> Array:
        """Logarithms."""
        return centred(np.log(rows.X / rows.scale), rows.weight)

    def sample(self, params: Gammas, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        drawn = rng.gamma(params.shapes[labels], (params.means / params.shapes)[labels])
        return np.maximum(drawn, np.finfo(np.float64).tiny)  # a small shape draws zeros by underflow

    def mean(self, params: Gammas) -> Array:
        """Means (k, d)."""
        return params.means

    def cdf(self, params: Gammas, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        shapes, means = params.shapes[:, column], params.means[:, column]
        return np.asarray(gammainc(shapes, np.maximum(x, 0.0)[:, None] * (shapes / means)))

    def publish(self, params: Gammas) -> dict[str, Array]:
        """Shapes and scales."""
        return {"shapes_": params.shapes, "scales_": params.means / params.shapes}

    def recall(self, attributes: Mapping[str, Array], like: Gammas) -> Gammas:
        """Parameters from fitted attributes."""
        shapes, scales = (np.asarray(attributes[name], dtype=np.float64) for name in ("shapes_", "scales_"))
        return Gammas(shapes * scales, shapes)


def _with_logs(rows: Rows) -> tuple[Array, Array, Array | None]:
    """Cells and their logarithms, both 0 where missing, and which are observed."""
    z, observed = split(rows.X / rows.scale)
    return z, np.log(z, out=np.zeros_like(z), where=z > 0.0), observed
