"""Student's t law: a multivariate normal with heavy tails, so that an outlier does not drag a component along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, psi, stdtr

from .. import kernels
from .._blocks import Rows
from .._charts import Positive
from .._model import Charts, Emission, Rounding, add
from .._patterns import group
from .gaussian import Full, Gaussians
from .gaussian import Sums as NormalSums

Array = NDArray[Any]

_EMPTY = 1e-10
# Degrees of freedom are kept between these; from 200 on the law is normal for all practical purposes.
_LEAST, _MOST = 0.5, 200.0
_FIRST = 10.0


class Students(NamedTuple):
    """Parameters of ``k`` components."""

    normal: Gaussians  # location (k, d) and Cholesky factor of the scale (k, d, d)
    dofs: Array  # (k,)


class Sums(NamedTuple):
    """Expected sufficient statistics, with the latent precision ``u`` of each row; the first field is a log density."""

    loglik: Any
    counts: Any  # (k,) sum r
    normal: NormalSums  # with r u in place of r
    tails: Any  # (k,) sum r E[log u - u]


@dataclass(frozen=True)
class StudentT(Emission):
    """Multivariate t law with a full scale matrix and estimated degrees of freedom for each component.

    Given a latent precision ``u``, gamma distributed, a row is normal with covariance ``scale / u``; EM treats ``u`` as
    missing too, so outliers get little weight. Missing cells are integrated out.

    References
    ----------
    Peel, D. & McLachlan, G. (2000). Robust mixture modelling using the t distribution. *Statistics and Computing* 10.
    Liu, C. & Rubin, D. (1995). ML estimation of the t distribution using EM and its extensions. *Statistica Sinica* 5.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> X = np.random.default_rng(0).standard_t(3, 300)[:, None] + np.repeat([5.0, 25.0], 150)[:, None]
    >>> EMHiddenMarkov(2, emission="student-t", random_state=0).fit(X).means_.round()
    array([[ 5.],
           [25.]])
    """

    reg_covar: float = 1e-6

    @property
    def _full(self) -> Full:
        return Full(self.reg_covar)

    def _blank(self, k: int, d: int) -> Students:
        return Students(self._full.blank(k, d), np.full(k, _FIRST))

    @property
    def charts(self) -> Charts:
        """Those of the normal, and square roots."""
        return {"normal": self._full.charts, "dofs": Positive()}

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Units of the data."""
        return self.block(self._full.prepare(X, weight), slice(None))

    def frame(self, params: Students, X: Array) -> Rows:
        """Units that suit the parameters."""
        return self.block(self._full.frame(params.normal, X), slice(None))

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows, sorted by which cells are missing, complete or not."""
        part = rows.cut(cut)
        return part._replace(patterns=group(np.isnan(part.X)))

    def prior(self, params: Students) -> Sums:
        """That of the normal."""
        normal = self._full.prior(params.normal)
        return Sums(normal.loglik, 0.0, normal, 0.0)

    def _distances(self, params: Students, rows: Rows, k: int) -> tuple[Array, Array]:
        """Squared distances of the observed cells, and the logarithm of the determinant of their scale matrix."""
        order, starts, missing = rows.patterns
        distance, log_determinant = np.zeros(len(rows.X)), np.zeros(len(rows.X))
        factor = params.normal.spread[k]
        normal = (rows.center, rows.scale, params.normal.means[k], np.linalg.inv(factor @ factor.T))
        kernels.infer_missing(rows.X, order, starts, missing, *normal, None, None, None, distance, log_determinant)
        log_determinant += 2.0 * np.log(np.abs(np.diagonal(factor))).sum()
        return distance, log_determinant

    def log_prob(self, params: Students, rows: Rows) -> Array:
        """Log-density (n, k) of the observed cells of every row."""
        out = np.empty((len(rows.X), len(params.dofs)))
        n_cells, log_unit = self._cells(rows)
        for k, dof in enumerate(np.clip(params.dofs, _LEAST, _MOST)):
            distance, log_determinant = self._distances(params, rows, k)
            half = 0.5 * (dof + n_cells)
            out[:, k] = gammaln(half) - gammaln(0.5 * dof) - 0.5 * n_cells * np.log(dof * np.pi) - log_unit
            out[:, k] -= 0.5 * log_determinant + half * np.log1p(distance / dof)
        return out

    def _cells(self, rows: Rows) -> tuple[Array, Array]:
        """How many cells of each row are observed, and the logarithm of the volume of their units."""
        order, starts, missing = rows.patterns
        n_cells, log_unit = np.empty(len(rows.X)), np.empty(len(rows.X))
        n_cells[order] = np.repeat((~missing).sum(axis=1), np.diff(starts))
        log_unit[order] = np.repeat(~missing @ np.log(rows.scale), np.diff(starts))
        return n_cells, log_unit

    def summarize(self, params: Students | None, rows: Rows, resp: Array) -> Sums:
        """Complete the rows under every component, each weighted by its expected precision."""
        k, d = resp.shape[1], rows.X.shape[1]
        known = params is not None
        params = params or self._blank(k, d)
        order, starts, missing = rows.patterns
        z = np.empty((len(order), d))
        kernels.standardize_missing(rows.X, order, rows.center, rows.scale, z)
        moves, n_cells = np.ones(len(z), bool), self._cells(rows)[0]
        masses, tails, firsts, seconds = np.zeros(k), np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
        for j, dof in enumerate(np.clip(params.dofs, _LEAST, _MOST)):
            distance = self._distances(params, rows, j)[0] if known else n_cells
            precision = (dof + n_cells) / (dof + distance)
            tails[j] = resp[:, j] @ (psi(0.5 * (dof + n_cells)) - np.log(0.5 * (dof + distance)) - precision)
            weight = np.ascontiguousarray((resp[:, j] * precision)[order])
            counts = np.add.reduceat(np.ascontiguousarray(resp[order, j]), starts[:-1])
            factor = params.normal.spread[j]
            normal = (params.normal.means[j], np.linalg.inv(factor @ factor.T))
            _, firsts[j], seconds[j] = kernels.expect_missing(z, weight, moves, starts, missing, counts, *normal)
            masses[j] = weight.sum()
        return Sums(0.0, resp.sum(axis=0), NormalSums(0.0, masses, firsts, seconds), tails)

    def maximize(self, stats: Sums, params: Students | None) -> Students:
        """Weighted means and scatter; the degrees of freedom solve one equation for each component."""
        k = len(stats.counts)
        before = (
            Students(self._full.blank(*stats.normal.firsts.shape), np.full(k, _FIRST)) if params is None else params
        )
        means, spread, dofs = before.normal.means.copy(), before.normal.spread.copy(), before.dofs.copy()
        for j in np.flatnonzero(stats.counts > _EMPTY):
            delta = stats.normal.firsts[j] / stats.normal.counts[j]
            scatter = stats.normal.seconds[j] - stats.normal.counts[j] * np.outer(delta, delta)
            one = Gaussians(before.normal.means[j : j + 1], before.normal.spread[j : j + 1])
            shifted = NormalSums(0.0, stats.counts[j : j + 1], np.zeros((1, len(delta))), scatter[None])
            means[j] += delta
            spread[j] = self._full.maximize(shifted, one).spread[0]
            dofs[j] = _degrees(stats.tails[j] / stats.counts[j])
        return Students(Gaussians(means, spread), dofs)

    def start(self, rows: Rows, resp: Array) -> Students:
        """Moments, and tails neither heavy nor light."""
        blank = self._blank(resp.shape[1], rows.X.shape[1])
        return self.maximize(add(self.summarize(None, rows, resp), self.prior(blank)), blank)._replace(dofs=blank.dofs)

    def rounding(self, rows: Rows) -> Rounding:
        """That of the normal, and of the digamma functions."""
        objective, step = self._full.rounding(rows)
        return Rounding(10.0 * objective, step)

    def standardize(self, params: Students, rows: Rows) -> Students:
        """From the user's units."""
        return params._replace(normal=self._full.standardize(params.normal, rows))

    def restore(self, params: Students, rows: Rows) -> Students:
        """To the user's units."""
        return params._replace(normal=self._full.restore(params.normal, rows))

    def take(self, params: Students, order: Array) -> Students:
        """Components in another order."""
        return Students(self._full.take(params.normal, order), params.dofs[order])

    def order(self, params: Students) -> Array:
        """By their means, the first column first."""
        return self._full.order(params.normal)

    def degenerate(self, params: Students, stats: Sums) -> str | None:
        """Name a collapsed component."""
        return self._full.degenerate(params.normal, stats.normal._replace(counts=stats.counts))

    def n_parameters(self, params: Students) -> int:
        """Those of the normal, and the degrees of freedom."""
        return self._full.n_parameters(params.normal) + len(params.dofs)

    def sample(self, params: Students, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        precision = rng.chisquare(params.dofs[labels]) / params.dofs[labels]
        noise = self._full.noise(params.normal, labels, rng)
        return np.asarray(params.normal.means[labels] + noise / np.sqrt(precision)[:, None])

    def mean(self, params: Students) -> Array:
        """Locations (k, d): the means where these exist."""
        return params.normal.means

    def cdf(self, params: Students, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        scale = np.sqrt(self._full.full(params.normal)[:, column, column])
        return np.asarray(stdtr(params.dofs, (x[:, None] - params.normal.means[:, column]) / scale))

    def fill(self, params: Students, rows: Rows, resp: Array) -> Array:
        """Conditional means, which are those of the normal."""
        return self._full.fill(params.normal, rows, resp)

    def publish(self, params: Students) -> dict[str, Array]:
        """Locations, scale matrices, degrees of freedom."""
        return {"means_": params.normal.means, "scales_": self._full.full(params.normal), "dofs_": params.dofs}

    def recall(self, attributes: Mapping[str, Array], like: Students) -> Students:
        """Parameters from fitted attributes."""
        normal = self._full.from_covariances(attributes["means_"], attributes["scales_"])
        return Students(normal, np.asarray(attributes["dofs_"]))


def _degrees(tail: float) -> float:
    """Solve ``log(v / 2) - psi(v / 2) + 1 + E[log u - u] = 0``."""

    def slope(dof: float) -> float:
        return float(np.log(0.5 * dof) - psi(0.5 * dof)) + 1.0 + tail

    if slope(_MOST) >= 0.0:
        return _MOST
    return _LEAST if slope(_LEAST) <= 0.0 else float(brentq(slope, _LEAST, _MOST, xtol=1e-12, rtol=1e-12))
