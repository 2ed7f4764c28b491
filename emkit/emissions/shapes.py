"""Four shapes of the covariances of a normal law: full, tied, diag, spherical."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .._blocks import Rows, scatter
from .._charts import Cholesky, Positive, Real
from .._model import Charts, Degenerate
from ..exceptions import DataWarning, InvalidParameterError, warn
from .gaussian import Gaussian, Gaussians, Sums, listed

Array = NDArray[Any]

# Matrices up to this size are inverted faster all at once than one by one by their triangles.
_SMALL = 16
_REMEDY = "remove outliers or collinear columns, or set a larger reg_covar (of a chain: that of the law, its emission)"


def _factor(covariances: Array) -> Array:
    """Cholesky factors; the component that has none is named."""
    try:
        return np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        for k, covariance in enumerate(covariances.reshape(-1, *covariances.shape[-2:])):
            try:
                np.linalg.cholesky(covariance)
            except np.linalg.LinAlgError:
                name = f"the covariance of component {k}" if covariances.ndim == 3 else "the shared covariance"
                raise Degenerate(f"{name} is singular; {_REMEDY}") from None
        raise


def _positive(variances: Array) -> Array:
    if not variances.min() > 0.0:
        k = int(np.argmin(variances.reshape(len(variances), -1).min(axis=1)))
        raise Degenerate(f"component {k} has a variance of 0; {_REMEDY}")
    return variances


def _upper_inverse(factors: Array) -> Array:
    """``U`` with ``U U' = (C C')^-1``, upper triangular as in scikit-learn."""
    inverse = np.linalg.inv(factors)
    return np.swapaxes(np.tril(inverse), -1, -2)


class _Correlated(Gaussian):
    """Full and tied: covariances with correlations, kept as Cholesky factors."""

    has_correlations = True

    @property
    def charts(self) -> Charts:
        """Means as they are, covariances through their factors."""
        return {"means": Real(), "spread": Cholesky()}

    def _warn_of_collinear(self, covariance: Array, varies: Array) -> None:
        deviations = np.sqrt(np.diagonal(covariance)[varies])
        if len(deviations) < 2:
            return
        correlation = covariance[np.ix_(varies, varies)] / np.outer(deviations, deviations)
        values, vectors = np.linalg.eigh(correlation)
        null = vectors[:, values < 1e-12 * len(deviations)]
        if null.shape[1]:
            involved = np.flatnonzero(varies)[np.abs(null).max(axis=1) > 1e-3]
            warn(
                f"columns {listed(involved)} are collinear (rank {len(deviations) - null.shape[1]} of "
                f"{len(deviations)}): covariances are singular but for reg_covar; drop columns, or use "
                "covariance_type='diag'",
                DataWarning,
            )

    def covariances(self, params: Gaussians) -> Array:
        """``C C'``."""
        return params.spread @ np.swapaxes(params.spread, -1, -2)

    def variances(self, params: Gaussians) -> Array:
        """Squares of the rows of the factors."""
        return np.broadcast_to(np.square(params.spread).sum(axis=-1), params.means.shape)

    def log_determinants(self, params: Gaussians) -> Array:
        """Through the diagonals of the factors."""
        diagonals = np.diagonal(params.spread, axis1=-2, axis2=-1)
        return np.broadcast_to(2.0 * np.log(np.abs(diagonals)).sum(axis=-1), len(params.means))

    def _total(self, params: Gaussians, shares: Array, centred: Array) -> Array:
        covariances = self.covariances(params)
        within = np.tensordot(shares, covariances, 1) if covariances.ndim == 3 else covariances
        return np.asarray(within + (shares * centred.T) @ centred)

    def from_covariances(self, means: Array, covariances: Array) -> Gaussians:
        """Factor."""
        return Gaussians(means, _factor(covariances))

    def from_precisions(self, means: Array, precisions: Array) -> Gaussians:
        """Invert, then factor."""
        return self.from_covariances(means, np.linalg.inv(precisions))

    def fault(self, precisions: Array) -> str | None:
        """Not symmetric, or an eigenvalue that is not positive."""
        for index in np.ndindex(precisions.shape[:-2]):
            matrix = precisions[index]
            where = f"[{index[0]}]" if index else ""
            if not np.allclose(matrix, matrix.T):
                return f"{where} is not symmetric"
            smallest = np.linalg.eigvalsh(matrix)[0]
            if not smallest > 0.0:
                return f"{where} has the eigenvalue {smallest:.4g}"
        return None

    def rescale(self, params: Gaussians, center: Array, scale: Array) -> Gaussians:
        """Scale the rows of the factors."""
        return Gaussians(params.means * scale + center, params.spread * scale[:, None])

    def inflate(self, params: Gaussians, factor: Array) -> Gaussians:
        """Through the factors."""
        return params._replace(spread=params.spread * np.sqrt(factor)[..., None, None])

    def precisions(self, covariances: Array) -> tuple[Array, Array]:
        """Through the factors."""
        upper = _upper_inverse(_factor(covariances))
        return upper @ np.swapaxes(upper, -1, -2), upper

    def _log_prior(self, params: Gaussians) -> float:
        factors = params.spread.reshape(-1, *params.spread.shape[-2:])
        if factors.shape[-1] <= _SMALL:
            return -0.5 * self.reg_covar * float(np.square(np.linalg.inv(factors)).sum())
        inverses = (lapack.dtrtri(factor.T)[0] for factor in factors)  # upper triangles, in LAPACK's own order
        return -0.5 * self.reg_covar * sum(float(np.vdot(inverse, inverse)) for inverse in inverses)


class Full(_Correlated):
    """Each component has its own covariance matrix."""

    kernel = "full"

    def prior(self, params: Gaussians) -> Sums:
        """``B`` for every component."""
        return Sums(self._log_prior(params), 0.0, 0.0, self.reg_covar * np.eye(params.means.shape[1]))

    def _fold(self, seconds: Array, firsts: Array, counts: Array, params: Gaussians) -> Array:
        return seconds

    def full(self, params: Gaussians) -> Array:
        """The covariances themselves."""
        return self.covariances(params)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """(k, d, d)."""
        return k, d, d

    def _unit(self, k: int, d: int) -> Array:
        return np.repeat(np.eye(d)[None], k, axis=0)

    def noise(self, params: Gaussians, labels: Array, rng: np.random.Generator) -> Array:
        """Correlate white noise, component by component."""
        white = rng.standard_normal((len(labels), params.means.shape[1]))
        for k, factor in enumerate(params.spread):
            white[labels == k] = white[labels == k] @ factor.T
        return white

    def n_covariance_parameters(self, k: int, d: int) -> int:
        """``k`` triangles."""
        return k * d * (d + 1) // 2

    def least_rows(self, d: int) -> float:
        """Twice what a regular matrix takes."""
        return 2.0 * (d + 1)

    def _spread(self, stats: Sums, means: Array, counts: Array, delta: Array) -> Array:
        return _factor(stats.seconds / counts[:, None, None] - delta[:, :, None] * delta[:, None, :])

    def _moved(self, stats: Sums, away: Array) -> Array:
        cross = stats.firsts[:, :, None] * away[:, None, :]
        outer = stats.counts[:, None, None] * away[:, :, None] * away[:, None, :]
        return np.asarray(stats.seconds - cross - np.swapaxes(cross, 1, 2) + outer)

    def _squares(self, candidate: Gaussians, stats: Sums, params: Gaussians, away: Array) -> float:
        scatter = self._moved(stats, away)
        return float(np.trace(np.linalg.solve(self.covariances(candidate), scatter), axis1=1, axis2=2).sum())

    def _thinness(self, params: Gaussians, total: Array) -> tuple[Array, Array]:
        relative = np.linalg.solve(_factor(total), params.spread)
        smallest = np.linalg.svd(relative, compute_uv=False)[:, -1]
        return smallest**2, np.linalg.svd(params.spread, compute_uv=False)[:, -1] ** 2


class Tied(_Correlated):
    """One covariance matrix for all components.

    ``sum_k S_k = T - sum_k N_k m_k m_k'`` with the scatter ``T`` of all rows, which no iteration changes: it is summed
    once.
    """

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows, with their scatter."""
        part = super().block(rows, cut)
        return part if part.patterns else part._replace(scatter=scatter(part))

    def _close(self, rows: Rows, sums: list[Array]) -> list[Array]:
        return [*sums, scatter(rows) if rows.scatter is None else rows.scatter]

    kernel = "tied"

    def prior(self, params: Gaussians) -> Sums:
        """``B`` once."""
        return Sums(self._log_prior(params), 0.0, 0.0, self.reg_covar * np.eye(params.means.shape[1]))

    def _fold(self, seconds: Array, firsts: Array, counts: Array, params: Gaussians) -> Array:
        cross = params.means.T @ firsts
        return np.asarray(seconds.sum(axis=0) + cross + cross.T + (counts * params.means.T) @ params.means)

    def _one(self, spread: Array, index: Any) -> Array:
        return spread

    def _own(self, params: Gaussians) -> Array:
        return np.empty((len(params.means), 0))

    def full(self, params: Gaussians) -> Array:
        """The same matrix for every component."""
        return np.repeat(self.covariances(params)[None], len(params.means), axis=0)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """(d, d)."""
        return d, d

    def _unit(self, k: int, d: int) -> Array:
        return np.eye(d)

    def noise(self, params: Gaussians, labels: Array, rng: np.random.Generator) -> Array:
        """Correlate white noise."""
        return rng.standard_normal((len(labels), params.means.shape[1])) @ params.spread.T

    def n_covariance_parameters(self, k: int, d: int) -> int:
        """One triangle."""
        return d * (d + 1) // 2

    def collapsed(self, params: Gaussians, stats: Sums, total: Array) -> str | None:
        """It cannot shrink onto one component's rows; all together can be too few for a regular matrix."""
        (k, d), n_rows = params.means.shape, stats.counts.sum()
        if n_rows <= d + k:
            return (
                f"the components hold {n_rows:.4g} rows where their common covariance needs {d + k + 1}: use fewer "
                "components or a simpler covariance_type"
            )
        return None

    def _spread(self, stats: Sums, means: Array, counts: Array, delta: Array) -> Array:
        between = (stats.counts[:, None] * means).T @ means
        return _factor((stats.seconds - between) / stats.counts.sum())

    def _moved(self, stats: Sums, away: Array) -> Array:
        return np.asarray(stats.seconds)  # about 0

    def _squares(self, candidate: Gaussians, stats: Sums, params: Gaussians, away: Array) -> float:
        cross = (stats.firsts + stats.counts[:, None] * params.means).T @ candidate.means
        between = (stats.counts * candidate.means.T) @ candidate.means
        scatter = stats.seconds - cross - cross.T + between
        return float(np.trace(np.linalg.solve(self.covariances(candidate), scatter)))

    def _thinness(self, params: Gaussians, total: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class _Uncorrelated(Gaussian):
    """Diag and spherical: variances only."""

    has_correlations = False

    @property
    def charts(self) -> Charts:
        """Means as they are, variances through their square roots."""
        return {"means": Real(), "spread": Positive()}

    def covariances(self, params: Gaussians) -> Array:
        """The variances."""
        return params.spread

    def variances(self, params: Gaussians) -> Array:
        """Themselves, or the same in every column."""
        return np.broadcast_to(params.spread.reshape(len(params.spread), -1), params.means.shape)

    def log_determinants(self, params: Gaussians) -> Array:
        """Sums over the columns."""
        return np.asarray(np.log(self.variances(params)).sum(axis=1))

    def _total(self, params: Gaussians, shares: Array, centred: Array) -> Array:
        return np.asarray(shares @ self.variances(params) + shares @ centred**2)

    def from_covariances(self, means: Array, covariances: Array) -> Gaussians:
        """The variances."""
        return Gaussians(means, _positive(covariances))

    def from_precisions(self, means: Array, precisions: Array) -> Gaussians:
        """Reciprocals."""
        return self.from_covariances(means, 1.0 / precisions)

    def fault(self, precisions: Array) -> str | None:
        """Not positive."""
        wrong = np.argwhere(~(precisions > 0.0))
        return f"{wrong[0].tolist()} is {precisions[tuple(wrong[0])]}" if len(wrong) else None

    def _unit(self, k: int, d: int) -> Array:
        return np.ones(self.shape(k, d))

    def inflate(self, params: Gaussians, factor: Array) -> Gaussians:
        """The variances."""
        return params._replace(spread=(params.spread.T * factor).T)

    def precisions(self, covariances: Array) -> tuple[Array, Array]:
        """Reciprocals."""
        return 1.0 / covariances, 1.0 / np.sqrt(covariances)


class Diagonal(_Uncorrelated):
    """Each component has its own variance in every column."""

    kernel = "diag"

    def prior(self, params: Gaussians) -> Sums:
        """``B`` for every component."""
        log_prior = -0.5 * self.reg_covar * float((1.0 / params.spread).sum())
        return Sums(log_prior, 0.0, 0.0, self.reg_covar)

    def _fold(self, seconds: Array, firsts: Array, counts: Array, params: Gaussians) -> Array:
        return np.diagonal(seconds, axis1=1, axis2=2).copy()

    def full(self, params: Gaussians) -> Array:
        """Diagonal matrices."""
        return params.spread[:, :, None] * np.eye(params.means.shape[1])

    def rescale(self, params: Gaussians, center: Array, scale: Array) -> Gaussians:
        """Scale the variances."""
        return Gaussians(params.means * scale + center, params.spread * scale**2)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """(k, d)."""
        return k, d

    def noise(self, params: Gaussians, labels: Array, rng: np.random.Generator) -> Array:
        """Scale white noise."""
        return np.sqrt(params.spread[labels]) * rng.standard_normal((len(labels), params.means.shape[1]))

    def n_covariance_parameters(self, k: int, d: int) -> int:
        """A variance for each component and column."""
        return k * d

    def _spread(self, stats: Sums, means: Array, counts: Array, delta: Array) -> Array:
        return _positive(stats.seconds / counts[:, None] - delta * delta)

    def _moved(self, stats: Sums, away: Array) -> Array:
        return np.asarray(stats.seconds - 2.0 * stats.firsts * away + stats.counts[:, None] * away**2)

    def _squares(self, candidate: Gaussians, stats: Sums, params: Gaussians, away: Array) -> float:
        return float((self._moved(stats, away) / candidate.spread).sum())

    def _thinness(self, params: Gaussians, total: Array) -> tuple[Array, Array]:
        return (params.spread / total).min(axis=1), params.spread.min(axis=1)


class Spherical(_Uncorrelated):
    """Each component has one variance, the same in every column; so the columns share one unit."""

    def units(self, deviations: Array) -> Array:
        """Root mean square."""
        largest = deviations.max()
        return np.full_like(deviations, largest * np.sqrt(np.square(deviations / largest).mean()))

    kernel = "spherical"

    def prior(self, params: Gaussians) -> Sums:
        """The trace of ``B`` for every component."""
        d = params.means.shape[1]
        log_prior = -0.5 * self.reg_covar * d * float((1.0 / params.spread).sum())
        return Sums(log_prior, 0.0, 0.0, self.reg_covar * d)

    def _fold(self, seconds: Array, firsts: Array, counts: Array, params: Gaussians) -> Array:
        return np.asarray(np.trace(seconds, axis1=1, axis2=2))

    def full(self, params: Gaussians) -> Array:
        """Multiples of the identity."""
        return params.spread[:, None, None] * np.eye(params.means.shape[1])

    def rescale(self, params: Gaussians, center: Array, scale: Array) -> Gaussians:
        """Scale the variances by the common unit."""
        return Gaussians(params.means * scale + center, params.spread * scale[0] ** 2)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """(k,)."""
        return (k,)

    def noise(self, params: Gaussians, labels: Array, rng: np.random.Generator) -> Array:
        """Scale white noise."""
        return np.sqrt(params.spread[labels, None]) * rng.standard_normal((len(labels), params.means.shape[1]))

    def n_covariance_parameters(self, k: int, d: int) -> int:
        """A variance for each component."""
        return k

    def _spread(self, stats: Sums, means: Array, counts: Array, delta: Array) -> Array:
        return _positive((stats.seconds / counts - np.square(delta).sum(axis=1)) / means.shape[1])

    def _moved(self, stats: Sums, away: Array) -> Array:
        return np.asarray(stats.seconds + (away * (stats.counts[:, None] * away - 2.0 * stats.firsts)).sum(axis=1))

    def _squares(self, candidate: Gaussians, stats: Sums, params: Gaussians, away: Array) -> float:
        return float((self._moved(stats, away) / candidate.spread).sum())

    def _thinness(self, params: Gaussians, total: Array) -> tuple[Array, Array]:
        return params.spread / total.mean(), params.spread


SHAPES: dict[str, type[Gaussian]] = {"full": Full, "tied": Tied, "diag": Diagonal, "spherical": Spherical}


def shaped(covariance_type: str, reg_covar: float) -> Gaussian:
    """Give the normal law with covariances of the shape of this name."""
    if covariance_type not in SHAPES:
        raise InvalidParameterError(
            f"covariance_type must be one of {', '.join(map(repr, SHAPES))}. Got {covariance_type!r} instead."
        )
    return SHAPES[covariance_type](reg_covar)
