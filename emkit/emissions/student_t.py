"""The multivariate Student-t law: a Gaussian whose rows each have a precision of their own, which is not seen.

Given its hidden factor ``u``, gamma distributed with shape and rate ``dof / 2``, a row is normal with covariance
``scatter / u``. E-step, with ``p`` observed cells at the squared Mahalanobis distance ``D``::

    E[u] = (dof + p) / (dof + D)        E[log u] = digamma((dof + p) / 2) - log((dof + D) / 2)

M-step: location and scatter as for a Gaussian whose rows pull with ``r E[u]``, their scatter divided by ``sum r``; and
``log(dof / 2) - digamma(dof / 2) = -1 - sum r (E[log u] - E[u]) / sum r``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, stdtr

from .._blocks import Rows
from .._charts import Bounded
from .._model import Charts, Emission, Rounding
from ._digamma import shape_from_gap
from .gaussian import Gaussian, Gaussians
from .shapes import shaped

Array = NDArray[Any]

# Where degrees of freedom are looked for: beyond them the law is a normal one, or has no quantiles to speak of.
_LEAST, _MOST = 0.1, 1000.0
_START = 10.0
_EMPTY = 1e-10


class Students(NamedTuple):
    """Parameters of ``k`` components."""

    normal: Gaussians  # locations and scatter matrices, in the form of the shape
    dofs: Array  # (k,)


class Sums(NamedTuple):
    """Expected sufficient statistics."""

    loglik: Any  # 0, but for the log prior
    counts: Any  # (k,) of rows of which anything was observed
    normal: Any  # the Gaussian's, of rows that pull
    heights: Any  # (k,) of E[log u] - E[u]


@dataclass(frozen=True)
class StudentT(Emission):
    """Gaussian with heavy tails, whose outliers pull less; degrees of freedom are estimated for each component.

    The fitted attributes are ``means_`` (k, d), the locations, ``scales_``, matrices in scikit-learn's form of
    covariances, and ``dofs_`` (k,). The covariance, where ``dofs_ > 2``, is ``dofs_ / (dofs_ - 2)`` times the scale.
    Missing cells are marginalised: the observed ones have a Student-t law with the same degrees of freedom.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        Shape of the scatter matrices.
    reg_covar : float, default=1e-6
        Scatter of one imaginary row per component, relative to the variance of each column.

    References
    ----------
    Liu, C. & Rubin, D. (1995). ML estimation of the t distribution using EM and its extensions, ECM and ECME.
    *Statistica Sinica* 5, 19-39. Peel, D. & McLachlan, G. (2000). Robust mixture modelling using the t distribution.
    *Statistics and Computing* 10, 339-348.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import StudentT
    >>> noise = np.random.default_rng(0).standard_t(3, (600, 1))
    >>> X = noise + np.repeat([0.0, 20.0, 0.0], 200)[:, None]
    >>> model = EMHiddenMarkov(2, emission=StudentT(), random_state=0).fit(X)
    >>> model.means_.round(0) + 0.0
    array([[ 0.],
           [20.]])
    >>> bool((model.dofs_ < 6).all())
    True
    """

    covariance_type: str = "full"
    reg_covar: float = 1e-6
    streams = True

    def __post_init__(self) -> None:
        """Refuse an unknown shape."""
        shaped(self.covariance_type, self.reg_covar)

    @property
    def _normal(self) -> Gaussian:
        return shaped(self.covariance_type, self.reg_covar)

    @property
    def charts(self) -> Charts:
        """Those of the Gaussian; degrees of freedom between their bounds."""
        return {"normal": self._normal.charts, "dofs": Bounded(_LEAST, _MOST)}

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Find the centre and scale of the data."""
        return self._normal.prepare(X, weight)

    def frame(self, params: Students, X: Array) -> Rows:
        """Rows to predict, in units of all components together."""
        return self._normal.frame(params.normal, X)

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows."""
        return self._normal.block(rows, cut)

    def log_prob(self, params: Students, rows: Rows) -> Array:
        """Log-density (n, k) of the observed cells of every row."""
        dof = params.dofs
        distance, half_log_determinant, p = self._normal.distances(params.normal, rows)
        cells = np.arange(rows.X.shape[1] + 1)[:, None]  # so many may be observed
        constant = gammaln(0.5 * (dof + cells)) - gammaln(0.5 * dof) - 0.5 * cells * np.log(np.pi * dof)
        out = constant[p] - half_log_determinant
        out -= 0.5 * (dof + p[:, None]) * np.log1p(distance / dof)
        return np.ascontiguousarray(out)

    def summarize(self, params: Students | None, rows: Rows, resp: Array) -> Sums:
        """Sums for given responsibilities (n, k), weights included."""
        if params is None:
            blank = self._normal.blank(resp.shape[1], rows.X.shape[1])
            params = Students(blank, np.full(resp.shape[1], _START))
        dof = params.dofs
        distance, _, p = self._normal.distances(params.normal, rows)
        resp = np.where(p[:, None] > 0, resp, 0.0)  # a row without any observed cell says nothing
        pull = (dof + p[:, None]) / (dof + distance)
        cells = np.arange(rows.X.shape[1] + 1)[:, None]
        heights = digamma(0.5 * (dof + cells))[p] - np.log(0.5 * (dof + distance)) - pull
        normal = self._normal.pulled(params.normal, rows, resp, resp * pull)
        return Sums(0.0, resp.sum(axis=0), normal, (resp * heights).sum(axis=0))

    def maximize(self, stats: Sums, params: Students | None) -> Students:
        """Weighted moments, rows in the middle pulling more; degrees of freedom from how much the pulls differ."""
        counts, pulls = stats.counts, stats.normal.counts
        if params is None:
            params = Students(self._normal.blank(*stats.normal.firsts.shape), np.full(len(counts), _START))
        seen = counts > _EMPTY
        some = np.where(seen, counts, 1.0)
        share = pulls.sum() / counts.sum() if self.covariance_type == "tied" else np.where(seen, pulls, 1.0) / some
        normal = self._normal.inflate(self._normal.maximize(stats.normal, params.normal), share)
        gap = np.where(seen, -1.0 - stats.heights / some, 1.0)
        dof = np.clip(2.0 * shape_from_gap(np.maximum(gap, 0.5 / _MOST)), _LEAST, _MOST)
        return Students(normal, np.where(seen, dof, params.dofs))

    def start(self, rows: Rows, resp: Array) -> Students:
        """The Gaussian's, with moderate tails."""
        return Students(self._normal.start(rows, resp), np.full(resp.shape[1], _START))

    def q_value(self, candidate: Students, stats: Sums, params: Students) -> float:
        """Normal log-density of the rows given their hidden factors, and gamma log-density of these."""
        half = 0.5 * candidate.dofs
        normal = self._normal.explained(stats.counts, candidate.normal, stats.normal, params.normal)
        return normal + float((stats.counts * (half * np.log(half) - gammaln(half)) + half * stats.heights).sum())

    def recentre(self, stats: Sums, params: Students, new: Students) -> Sums:
        """The Gaussian's sums about other locations."""
        return stats._replace(normal=self._normal.recentre(stats.normal, params.normal, new.normal))

    def prior(self, params: Students) -> Sums:
        """The Gaussian's."""
        normal = self._normal.prior(params.normal)
        return Sums(normal.loglik, 0.0, normal._replace(loglik=0.0), 0.0)

    def rounding(self, rows: Rows) -> Rounding:
        """The Gaussian's."""
        return self._normal.rounding(rows)

    def standardize(self, params: Students, rows: Rows) -> Students:
        """From the user's units."""
        return params._replace(normal=self._normal.standardize(params.normal, rows))

    def restore(self, params: Students, rows: Rows) -> Students:
        """To the user's units."""
        return params._replace(normal=self._normal.restore(params.normal, rows))

    def take(self, params: Students, order: Array) -> Students:
        """Components in another order."""
        return Students(self._normal.take(params.normal, order), params.dofs[order])

    def order(self, params: Students) -> Array:
        """By their locations, the first column first."""
        return self._normal.order(params.normal)

    def profile(self, params: Students) -> Array:
        """The Gaussian's, and the reciprocals of the degrees of freedom."""
        return np.column_stack([self._normal.profile(params.normal), 1.0 / params.dofs])

    def degenerate(self, params: Students, stats: Sums) -> str | None:
        """Name a component whose scatter has collapsed."""
        return self._normal.degenerate(params.normal, stats.normal._replace(counts=stats.counts))

    def n_parameters(self, params: Students) -> int:
        """The Gaussian's, and the degrees of freedom."""
        return self._normal.n_parameters(params.normal) + len(params.dofs)

    def features(self, rows: Rows) -> Array:
        """Standardised columns."""
        return self._normal.features(rows)

    # Prediction
    # ---------------------------------------------------------------------------------------------------------

    def sample(self, params: Students, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        dof = params.dofs[labels, None]
        noise = self._normal.noise(params.normal, labels, rng)
        return np.asarray(params.normal.means[labels] + noise / np.sqrt(rng.chisquare(dof) / dof))

    def mean(self, params: Students) -> Array:
        """Locations (k, d): the means, or where there are none, the medians."""
        return params.normal.means

    def cdf(self, params: Students, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        deviations = np.sqrt(self._normal.variances(params.normal)[:, column])
        return np.asarray(stdtr(params.dofs, (x[:, None] - params.normal.means[:, column]) / deviations))

    def fill(self, params: Students, rows: Rows, resp: Array) -> Array:
        """Missing cells as a Gaussian would fill them: the conditional location is the same."""
        return self._normal.fill(params.normal, rows, resp)

    def publish(self, params: Students) -> dict[str, Array]:
        """Locations, scatter matrices and degrees of freedom."""
        scatters = self._normal.covariances(params.normal)
        return {"means_": params.normal.means, "scales_": scatters, "dofs_": params.dofs}

    def recall(self, attributes: Mapping[str, Array], like: Students) -> Students:
        """Parameters from fitted attributes."""
        normal = self._normal.from_covariances(np.asarray(attributes["means_"]), attributes["scales_"])
        return Students(normal, np.asarray(attributes["dofs_"], dtype=np.float64))
