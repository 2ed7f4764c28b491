"""The multivariate normal seen through holes: the model behind imputation.

Hidden are the missing cells. With ``o`` the observed and ``m`` the missing columns of a row, and ``K`` the inverse of
the covariance, the E-step expects ``E[x_m] = mean_m - K_mm^-1 K_mo (x_o - mean_o)`` with covariance ``C = K_mm^-1``.
The sums, about the current mean, of the completed deviations ``z`` and of ``z z' + C`` are sufficient; ``delta = first
/ rows`` and::

    mean = mean + delta        covariance = (second - rows delta delta' + D) / (rows + df + p + 1)

with the prior's ``D`` and ``df`` (neither, nor ``p + 1``, without one).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from . import kernels
from ._charts import Cholesky, Real
from ._model import Charts, Degenerate, Model, Rounding
from ._patterns import Incomplete, Patterns, group, incomplete, monotone_order
from .exceptions import DataWarning, warn

Array = NDArray[Any]

# Share of a column's variance that the others leave unexplained, below which float64 cannot tell it from 0.
_SINGULAR = 1e-11
# Rows of one portion of a prediction, and numbers of work of one block of a fit.
_PORTION_ROWS = 4_096
_BLOCK_WORK = 3 * 2**19
# Up to this share of cells missing, it is cheaper to add what they say than to add up whole rows anew.
_FEW = 0.3


class Normal(NamedTuple):
    """Mean and covariance of a multivariate normal; a column that does not vary has a row of zeros in the factor."""

    mean: Array  # (p,)
    cholesky: Array  # (p, p) lower


class Completed(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    rows: Any  # sum of the weights
    divisor: Any  # of the scatter: the same, and what the prior adds
    first: Array  # (p,) of the deviations from the current mean
    second: Array  # (p, p)


class Cells(NamedTuple):
    """What the model can say of rows; None where it was not asked. Zeros where nothing is missing."""

    filled: Array | None = None  # (n, p) conditional means, or draws, in place of the holes
    deviation: Array | None = None  # (n, p) their standard deviations
    distance: Array | None = None  # (n,) squared Mahalanobis distance of the observed cells
    log_density: Array | None = None  # (n,) of the observed cells


class Frame(NamedTuple):
    """Rows to predict, sorted by pattern."""

    X: Array  # (n, p), only columns that vary
    patterns: Patterns
    center: Array
    scale: Array
    columns: Array
    noise: Array | None = None  # (n, p) standard normal: draws are wanted instead of means


@dataclass(frozen=True)
class MissingNormal(Model):
    """A multivariate normal with missing cells, any pattern of them, missing at random.

    ``kind`` of prior: None, "ridge", "auto" (a ridge if one is needed) or the scale matrix of an inverse Wishart, a
    tuple of rows in the user's units. ``strength`` is ``df``. The ridge is norm2's, ``D = df diag(s^2)`` with the
    observed variances.

    References
    ----------
    Little, R. & Rubin, D. (2019). *Statistical Analysis with Missing Data*, 3rd ed., section 11.2. Wiley.
    Schafer, J. (1997). *Analysis of Incomplete Multivariate Data*, chapter 5. Chapman & Hall.
    """

    kind: str | tuple[tuple[float, ...], ...] | None = None
    strength: float = 1.0
    # The prior in the coordinates of some data, set by ``calibrate``: its scatter, and the logarithm of the volume of
    # one unit.
    scatter: tuple[tuple[float, ...], ...] | None = None
    log_unit: float = 0.0
    # Whether "auto" was asked for and no reason for a prior has been found yet.
    willing: bool = False
    # What messages call the columns of the data, by default their numbers; and those that vary, set by ``calibrate``.
    names: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()

    @property
    def charts(self) -> Charts:
        """Means as they are, the covariance through its factor."""
        return {"mean": Real(), "cholesky": Cholesky()}

    def prepare(self, X: Array, sample_weight: Array | None = None) -> Incomplete:
        """Sort by pattern, standardise, sum what can be summed."""
        return incomplete(X, sample_weight)

    def calibrate(self, data: Incomplete) -> MissingNormal:
        """The prior in the coordinates of the data; "auto" becomes a ridge where the likelihood has no maximum."""
        p = len(data.scale)
        named = replace(self, varied=tuple(self.names[j] if self.names else str(j) for j in data.columns))
        if self.kind == "auto":
            willing = replace(named, kind=None, willing=True)
            reason = unidentified(data, named.varied)
            return willing if reason is None else willing.rescue(data, reason) or willing
        if self.kind is None:
            return named
        if self.kind == "ridge":
            scatter = self.strength * np.eye(p)
        else:
            whole = np.array(self.kind)
            scatter = whole[np.ix_(data.columns, data.columns)] / data.scale[:, None] / data.scale
        return replace(named, scatter=tuple(map(tuple, scatter.tolist())), log_unit=float(np.log(data.scale).sum()))

    def rescue(self, data: Incomplete, reason: str) -> MissingNormal | None:
        """A ridge, announced, if the prior was left to us."""
        if not self.willing:
            return None
        warn(
            f"prior='ridge' with prior_strength={self.strength:g} is used, because {reason}; choose prior_strength by "
            "cross-validation, or set prior=None to insist on maximum likelihood",
            DataWarning,
        )
        return replace(self, kind="ridge", willing=False).calibrate(data)

    def split(self, data: Incomplete) -> list[Incomplete]:
        """Cut between patterns, into parts of like work, each worth far more than inverting the covariance.

        Where few cells are missing, sums over the others are taken once.
        """
        p = len(data.scale)
        sizes, rows = data.sizes, np.diff(data.starts)
        few = float(rows @ sizes) < _FEW * p * len(data.rows)
        work = np.cumsum(rows * p * (3 * sizes if few else (p + 2 * sizes) / 2) + sizes**3 + 30.0 * sizes)
        n_blocks = min(8, int(work[-1] / max(_BLOCK_WORK, 4 * p**3))) if len(work) else 1
        n_blocks = 2 ** (n_blocks.bit_length() - 1)  # so that two threads have as much to do
        parts = [data]
        if n_blocks > 1:
            inner = np.searchsorted(work, work[-1] * np.arange(1, n_blocks) / n_blocks)
            edges = np.unique(np.concatenate([[0], inner, [len(sizes)]]))
            parts = [data.cut(slice(int(a), int(b))) for a, b in pairwise(edges)]
        return [part.summed() for part in parts] if few else parts

    def start(self, data: Incomplete, rng: np.random.Generator) -> Normal:
        """The maximum itself if patterns are monotone and there is no prior, else moments of pairs that were seen."""
        order = monotone_order(data) if self.kind is None else None
        if order is not None and len(order):
            return _monotone(data, order, self.varied)
        return _pairwise(data)

    def expect(self, params: Normal, data: Incomplete) -> Completed:
        """Complete the rows of every pattern, and the log-likelihood from the same sums."""
        precision = inverse(params.cholesky)
        log_determinant = 2.0 * float(np.log(np.diagonal(params.cholesky)).sum())
        inner, first, second = kernels.expect_missing(*data[:6], params.mean, precision, data.sums)
        rows = data.total
        # sum z'Kz of the completed rows; the conditional covariances add tr(K_mm C) = m each, which is taken out again.
        squares = float((precision * second).sum()) - float(data.counts @ data.sizes)
        loglik = -0.5 * (float(data.constants.sum()) + rows * log_determinant + inner + squares)
        return Completed(loglik, rows, rows, first, second)

    def prior(self, params: Normal) -> Completed:
        """Scatter of imaginary rows: ``-(df + p + 1)/2 log|Sigma| - tr(Sigma^-1 D)/2``."""
        p = len(params.mean)
        if self.scatter is None:
            return Completed(0.0, 0.0, 0.0, np.zeros(p), np.zeros((p, p)))
        scatter, count = np.array(self.scatter).reshape(p, p), self.strength + p + 1.0
        log_determinant = 2.0 * (float(np.log(np.diagonal(params.cholesky)).sum()) + self.log_unit)
        squares = float((inverse(params.cholesky) * scatter).sum())
        return Completed(-0.5 * (count * log_determinant + squares), 0.0, count, np.zeros(p), scatter)

    def maximize(self, stats: Completed, params: Normal) -> Normal:
        """Moments of the completed rows."""
        delta = stats.first / stats.rows
        return Normal(params.mean + delta, factor((stats.second - stats.rows * np.outer(delta, delta)) / stats.divisor))

    def place(self, X: Array, weight: Array | None, like: Incomplete) -> Incomplete:
        """Rows in the coordinates of others."""
        return incomplete(X, weight, like)

    def recentre(self, stats: Completed, params: Normal, new: Normal) -> Completed:
        """The same sums about another mean."""
        away = new.mean - params.mean
        return stats._replace(first=stats.first - stats.rows * away, second=_about(stats, away))

    def q_value(self, candidate: Normal, stats: Completed, params: Normal) -> float:
        """Normal log-density of the completed rows."""
        away = candidate.mean - params.mean
        scatter = _about(stats, away)
        log_determinant = 2.0 * float(np.log(np.diagonal(candidate.cholesky)).sum())
        squares = float((inverse(candidate.cholesky) * scatter).sum())
        return -0.5 * (float(stats.divisor) * log_determinant + squares)

    def rounding(self, data: Incomplete) -> Rounding:
        """Numbers are of order one; what the units add to the log-likelihood is rounded too."""
        return Rounding(5e-10 + 2e-13 * (data.total * len(data.scale) + float(np.abs(data.constants).sum())), 1e-12)

    def condition(self, params: Normal) -> float:
        """Columns that nearly determine each other: the log-likelihood is off by some ``eps rows tr(Sigma^-1)``."""
        return 1.0 + 0.01 * float(np.square(_inverse_root(params.cholesky)).sum()) / max(1, len(params.mean))

    def promise(self, image: Normal, stats: Completed, params: Normal) -> float:
        """``n/4 |L^-1 (Sigma' - Sigma) L^-T|^2 + n/2 |L^-1 (mean' - mean)|^2``, with ``Sigma = L L'``."""
        p, rows = len(params.mean), float(stats.rows)
        weight = rows if self.scatter is None else rows + self.strength + p + 1.0
        root = _inverse_root(params.cholesky)
        moved = root @ (image.mean - params.mean)
        wider = root @ image.cholesky
        turned = wider @ wider.T - np.eye(p)
        return 0.25 * weight * float(np.square(turned).sum()) + 0.5 * rows * float(moved @ moved)

    def degenerate(self, params: Normal, stats: Completed) -> str | None:
        """Name the columns of a covariance that is all but singular."""
        thin = thinnest(params.cholesky, self.varied)
        return None if thin is None else f"the covariance of {thin} is singular"

    def n_parameters(self, params: Normal) -> int:
        """Means and covariances of the columns that vary."""
        p = int(np.count_nonzero(varying(params)))
        return p + p * (p + 1) // 2

    def standardize(self, params: Normal, data: Any) -> Normal:
        """From the user's units."""
        inside = params.cholesky[np.ix_(data.columns, data.columns)] / data.scale[:, None]
        return Normal((params.mean[data.columns] - data.center) / data.scale, inside)

    def restore(self, params: Normal, data: Any) -> Normal:
        """To the user's units; columns that do not vary return."""
        mean, cholesky = data.values.copy(), np.zeros((len(data.values),) * 2)
        mean[data.columns] = params.mean * data.scale + data.center
        cholesky[np.ix_(data.columns, data.columns)] = params.cholesky * data.scale[:, None]
        return Normal(mean, cholesky)

    # Prediction -------------------------------------------------------------------------------------------------------

    def frame(self, params: Normal, X: Array, patterns: Patterns | None = None) -> Frame:
        """Sort rows by pattern, unless that has been done, in units that suit the parameters."""
        varies = varying(params)
        columns = np.flatnonzero(varies)
        if not varies.all():
            X = X[:, columns]
        scale = deviations(params.cholesky)[columns]
        return Frame(X, _short(group(X) if patterns is None else patterns), params.mean[columns], scale, columns)

    def outputs(self, data: Frame, wanted: Collection[str]) -> Cells:
        """Arrays for what is wanted; ``filled`` begins as a copy of the rows."""
        n, p = data.X.shape
        shapes = {"deviation": (n, p), "distance": (n,), "log_density": (n,)}
        made = {name: np.zeros(shapes[name]) for name in wanted if name != "filled"}
        return Cells(data.X.astype(np.float64, order="C") if "filled" in wanted else None, **made)

    def portions(self, data: Frame, out: Cells) -> list[tuple[Frame, Cells]]:
        """Cut between patterns; every part writes the rows of its own patterns."""
        order, starts, missing = data.patterns
        of_rows = out.distance is not None or out.log_density is not None
        parts, begin = (
            [],
            0 if of_rows else int(np.count_nonzero(~missing.any(axis=1))),
        )  # nothing to fill in complete rows
        while begin < len(missing):
            end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + _PORTION_ROWS, side="right")) - 1)
            rows = slice(int(starts[begin]), int(starts[end]))
            patterns = Patterns(order[rows], starts[begin : end + 1] - rows.start, missing[begin:end])
            parts.append((data._replace(patterns=patterns), out))
            begin = end
        return parts

    def infer(self, params: Normal, data: Frame, out: Cells) -> None:
        """Fill what is wanted."""
        distance = out.distance
        if distance is None and out.log_density is not None:
            distance = np.zeros(len(data.X))
        kernels.infer_missing(
            data.X,
            *data.patterns,
            data.center,
            data.scale,
            params.mean,
            inverse(params.cholesky),
            data.noise,
            out.filled,
            out.deviation,
            distance,
            out.log_density,
        )
        if out.log_density is not None and distance is not None:
            order, starts, missing = data.patterns
            observed = ~missing
            cells = observed.sum(axis=1) * np.log(2.0 * np.pi) + 2.0 * (observed @ np.log(data.scale))
            whole = 2.0 * np.log(np.diagonal(params.cholesky)).sum()
            # log_density arrives as log|K_mm|
            inside = out.log_density[order] + distance[order]
            out.log_density[order] = -0.5 * (np.repeat(cells + whole, np.diff(starts)) + inside)


def _about(stats: Completed, away: Array) -> Array:
    """Second moments about a mean that lies so far from that of the sums."""
    cross = np.outer(stats.first, away)
    return np.asarray(stats.second - cross - cross.T + stats.rows * np.outer(away, away))


def unidentified(data: Incomplete, names: Sequence[str]) -> str | None:
    """Say why the likelihood has no unique maximum, if that can be seen from the holes alone."""
    p = len(data.scale)
    if p >= data.total:
        return f"{p} columns cannot be told apart by {data.total:g} rows"
    if not len(data.missing) or not data.missing[0].any():
        return None
    apart = np.argwhere(np.triu(data.seen_together() == 0.0))
    if len(apart):
        a, b = apart[0]
        return f"columns {names[a]} and {names[b]} are never seen in the same row"
    return None


def _short(patterns: Patterns) -> Patterns:
    """The same rows, a pattern of very many being cut into several."""
    order, starts, missing = patterns
    lengths = np.diff(starts)
    if len(lengths) == 0 or lengths.max() <= _PORTION_ROWS:
        return patterns
    pieces = -(-lengths // _PORTION_ROWS)
    cuts = [starts[s] + lengths[s] * np.arange(k) // k for s, k in enumerate(pieces)]
    return Patterns(order, np.append(np.concatenate(cuts), starts[-1]), np.repeat(missing, pieces, axis=0))


def inverse(cholesky: Array) -> Array:
    """``(L L')^-1``."""
    if not len(cholesky):
        return np.empty((0, 0))
    lower, info = lapack.dpotri(cholesky, lower=1)
    if info:
        raise Degenerate("the covariance is singular")
    # The upper triangle is that of the factor: zeros.
    whole = lower + lower.T
    np.einsum("ii->i", whole)[...] *= 0.5
    return np.ascontiguousarray(whole)


def _inverse_root(cholesky: Array) -> Array:
    """``L^-1``."""
    return np.asarray(lapack.dtrtri(cholesky, lower=1)[0]) if len(cholesky) else cholesky


def factor(covariance: Array) -> Array:
    """Lower Cholesky factor; columns that the others explain beyond rounding are an error that names one."""
    try:
        cholesky = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise Degenerate("the covariance is singular; drop collinear columns, or set prior='ridge'") from None
    left = np.square(np.diagonal(cholesky))
    if not (left > _SINGULAR * np.diagonal(covariance)).all():
        raise Degenerate("the covariance is singular; drop collinear columns, or set prior='ridge'")
    return np.asarray(cholesky)


def deviations(cholesky: Array) -> Array:
    """Standard deviations; the largest entry is taken out, so that no square overflows or vanishes."""
    largest = np.abs(cholesky).max(axis=1, initial=0.0)
    unit = np.where(largest > 0.0, largest, 1.0)
    return np.asarray(unit * np.sqrt(np.square(cholesky / unit[:, None]).sum(axis=1)))


def varying(params: Normal) -> Array:
    """Which columns have a variance."""
    return np.asarray(np.diagonal(params.cholesky) > 0.0)


def thinnest(cholesky: Array, names: Sequence[str], limit: float = 1e-9) -> str | None:
    """Names of the columns along which the correlation matrix is singular; None for a regular one."""
    if not len(cholesky):
        return None
    root = cholesky / deviations(cholesky)[:, None]
    if np.trace(inverse(root)) < 1.0 / limit:  # a bound on the largest eigenvalue of the inverse
        return None
    values, vectors = np.linalg.eigh(root @ root.T)
    if values[0] > limit:
        return None
    weight = np.abs(vectors[:, 0])
    involved = np.flatnonzero(weight > 1e-3)
    named = np.sort(involved[np.argsort(-weight[involved], kind="stable")][:5])
    rest = f" and {len(involved) - len(named)} others" if len(involved) > len(named) else ""
    return f"columns {', '.join(names[j] for j in named)}{rest}"


def _pairwise(data: Incomplete) -> Normal:
    """Correlations of the rows that have both columns, pulled towards none until they are a correlation matrix."""
    p = len(data.scale)
    together = data.seen_together()
    moments = data.products()
    moments /= np.maximum(together, np.finfo(np.float64).tiny)
    np.fill_diagonal(moments, np.where(np.diagonal(together) > 1.0, np.diagonal(moments), 1.0))
    kept = 0.98
    while True:
        try:
            return Normal(np.zeros(p), np.linalg.cholesky(np.where(np.eye(p, dtype=bool), moments, kept * moments)))
        except np.linalg.LinAlgError:
            kept = 0.8 * kept if kept > 1e-3 else 0.0


def _monotone(data: Incomplete, order: Array, names: Sequence[str]) -> Normal:
    """Maximum likelihood in one pass: regress each column on those seen more often, over the rows that have it.

    References
    ----------
    Anderson, T. W. (1957). Maximum likelihood estimates for a multivariate normal distribution when some observations
    are missing. *JASA* 52, 200-203.
    """
    p = len(order)
    mean, covariance = np.zeros(p), np.zeros((p, p))
    pattern = np.repeat(np.arange(len(data.counts)), np.diff(data.starts))
    for j, column in enumerate(order):
        seen = ~data.missing[pattern, column]
        count = float(data.counts[~data.missing[:, column]].sum())
        z, w, moves = data.rows[seen][:, order[: j + 1]], data.weight[seen], data.moves[seen]
        middle = (w * moves) @ z / count
        z = z - moves[:, None] * middle
        root: Array = np.asarray(np.linalg.qr(z * np.sqrt(w)[:, None], mode="r"))
        if len(root) <= j or not abs(root[j, j]) > np.sqrt(_SINGULAR) * np.linalg.norm(root[:, j]):
            raise Degenerate(f"column {names[column]} is a combination of others; drop it, or set prior='ridge'")
        slope = np.linalg.solve(root[:j, :j], root[:j, j])
        mean[j] = middle[j] + slope @ (mean[:j] - middle[:j])
        covariance[j, :j] = covariance[:j, j] = covariance[:j, :j] @ slope
        covariance[j, j] = root[j, j] ** 2 / count + slope @ covariance[:j, :j] @ slope
    back = np.argsort(order)
    return Normal(mean[back], factor(covariance[np.ix_(back, back)]))
