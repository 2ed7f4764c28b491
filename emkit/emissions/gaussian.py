"""The multivariate normal law, whatever the shape of its covariances (``shapes`` has the four).

Statistics of component ``k``, summed over rows with responsibilities ``r`` (times weights), about the current mean
``m``::

    counts = sum r        firsts = sum r (z - m)        seconds = sum r (z - m)(z - m)'

and the M-step, with ``delta = firsts / counts`` and the prior's ``B``::

    mean = m + delta        covariance = (seconds + B) / counts - delta delta'

The prior is one imaginary row's worth of scatter, ``B = reg_covar I`` in units of the data's own variance: an
(improper) inverse Wishart density ``exp(-tr(B covariance^-1) / 2)`` per covariance. It bounds the objective, and
vanishes as rows are added.

Where cells are missing, ``z`` holds their expectation given the observed cells of the row, and ``seconds`` their
conditional covariance in addition; rows without holes do not take notice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from .. import kernels
from .._arrays import blank, is_elsewhere, send
from .._blocks import Rows, has_holes, moments
from .._model import Emission, Passes, Rounding, Succession, add
from .._patterns import units
from ..exceptions import DataWarning, warn
from ._holes import find_holes

Array = NDArray[Any]

# A constant whose rounding is more than this share of a unit has no density.
_BLUR = 1e-4
# A component of less weight has no rows: it keeps its mean and covariance.
_EMPTY = 1e-10


class Gaussians(NamedTuple):
    """Means and covariances of ``k`` components in a shape's own form."""

    means: Array  # (k, d)
    spread: Array  # full: Cholesky factors (k, d, d); tied: one factor (d, d); diag: variances (k, d); spherical: (k,)


class Sums(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    counts: Any  # (k,)
    firsts: Any  # (k, d)
    seconds: Any  # as ``spread``, symmetric; tied: the scatter of all rows about 0


@dataclass(frozen=True)
class Gaussian(Emission):
    """What the four shapes have in common.

    Parameters
    ----------
    reg_covar : float, default=1e-6
        Scatter of one imaginary row per component, relative to the variance of each column.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import SHAPES
    >>> X = np.random.default_rng(0).normal(np.repeat([0.0, 5.0, 0.0], 50))[:, None]
    >>> law = SHAPES["diag"](reg_covar=1e-3)
    >>> EMHiddenMarkov(2, emission=law, random_state=0).fit(X).covariances_.shape
    (2, 1)
    """

    reg_covar: float = 1e-6
    streams = True

    # The shape
    # ----------------------------------------------------------------------------------------------------------

    kernel: ClassVar[str]  # the end of the name of its kernels
    has_correlations: ClassVar[bool]

    @abstractmethod
    def prior(self, params: Gaussians) -> Sums:
        """Scatter of the imaginary rows, the same for every component, and the log prior."""

    @abstractmethod
    def covariances(self, params: Gaussians) -> Array:
        """Covariances in scikit-learn's form for this shape."""

    @abstractmethod
    def from_covariances(self, means: Array, covariances: Array) -> Gaussians:
        """Inverse of ``covariances``."""

    @abstractmethod
    def full(self, params: Gaussians) -> Array:
        """Covariances as (k, d, d) matrices."""

    @abstractmethod
    def variances(self, params: Gaussians) -> Array:
        """Variance (k, d) of each column."""

    @abstractmethod
    def log_determinants(self, params: Gaussians) -> Array:
        """Logarithms (k,) of the determinants of the covariances."""

    @abstractmethod
    def rescale(self, params: Gaussians, center: Array, scale: Array) -> Gaussians:
        """Parameters of ``center + scale * z``, given those of ``z``."""

    @abstractmethod
    def precisions(self, covariances: Array) -> tuple[Array, Array]:
        """Precisions and scikit-learn's ``precisions_cholesky``, both in scikit-learn's form for this shape."""

    @abstractmethod
    def from_precisions(self, means: Array, precisions: Array) -> Gaussians:
        """Parameters with these precisions."""

    @abstractmethod
    def fault(self, precisions: Array) -> str | None:
        """Say where the first entry stands that is not a precision, and its value; None if there is none."""

    @abstractmethod
    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """Shape of the covariances."""

    @abstractmethod
    def noise(self, params: Gaussians, labels: Array, rng: np.random.Generator) -> Array:
        """Draw deviations from the means of the components ``labels``."""

    def n_parameters(self, params: Gaussians) -> int:
        """Means and covariances."""
        return params.means.size + self.n_covariance_parameters(*params.means.shape)

    @abstractmethod
    def n_covariance_parameters(self, k: int, d: int) -> int:
        """Free parameters of the covariances."""

    # What follows is the same for all
    # -----------------------------------------------------------------------------------

    def units(self, deviations: Array) -> Array:
        """Scale of the coordinates, given the columns' standard deviations."""
        return deviations

    def least_rows(self, d: int) -> float:
        """How many rows a component needs for its covariance to be worth having."""
        return 5.0

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Find the centre and scale of the data; warn of columns that say nothing."""
        holes = not is_elsewhere(X) and has_holes(X)
        if weight is not None:
            weight = send(weight, X, X.dtype if is_elsewhere(X) else None)
        if holes:
            mean, deviations = units(X, weight)
            varies, covariance = deviations > 0.0, None
        else:
            mean, spread, covariance = moments(X, weight, with_correlations=self.has_correlations)
            varies = spread > 0.0
            variances = np.diagonal(covariance) if self.has_correlations else covariance
            deviations = np.where(varies, spread * np.sqrt(variances), 0.0)
        extreme = np.flatnonzero(varies & ~((deviations > 1e-152) & (deviations < 1e152)))
        if len(extreme):
            raise ValueError(
                f"column {extreme[0]} of X has a standard deviation of {deviations[extreme[0]]:.3g}, whose square is "
                "no ordinary float64: rescale the column"
            )
        if not varies.all():
            others = np.exp(np.log(deviations[varies]).mean()) if varies.any() else 1.0
            deviations[~varies] = others
            blurred = np.flatnonzero(~varies & (np.finfo(np.float64).eps * np.abs(mean) > _BLUR * others))
            if len(blurred):
                raise ValueError(
                    f"column {blurred[0]} of X is constant at {mean[blurred[0]]:.3g}, so large that float64 has no "
                    "neighbours of it in the units of the other columns; drop it"
                )
            warn(
                f"constant columns: {listed(np.flatnonzero(~varies))}; they distinguish no components, but their "
                "parameters count in bic and aic; drop them",
                DataWarning,
            )
        if covariance is not None:
            self._warn_of_collinear(covariance, varies)
        return Rows(X, weight, mean, self.units(deviations))

    def _warn_of_collinear(self, covariance: Array, varies: Array) -> None:
        """Shapes without correlations do not mind."""

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows, those with holes sorted by which cells are missing."""
        part = rows.cut(cut)
        return part._replace(patterns=find_holes(part))

    def frame(self, params: Gaussians, X: Array) -> Rows:
        """Rows to predict, in units that suit all components."""
        center, _, _, unit = self._extent(params)
        return Rows(X, None, center, self.units(unit))

    def _extent(self, params: Gaussians) -> tuple[Array, Array, Array, Array]:
        """Mean (d,) of components of equal weight, how far each is away, their variances, and the largest of these."""
        center = (params.means / len(params.means)).sum(axis=0)
        away = params.means - center
        variances = self.variances(params)
        return center, away, variances, np.maximum(np.abs(away).max(axis=0), np.sqrt(variances.max(axis=0)))

    def _overall(self, params: Gaussians) -> tuple[Array, Array]:
        """Mean and standard deviations (d,) of components of equal weight."""
        center, away, variances, unit = self._extent(params)
        # The largest term is taken out, so that squares of large and small units neither overflow nor vanish.
        return center, unit * np.sqrt(((away / unit) ** 2 + variances / unit / unit).mean(axis=0))

    def blank(self, k: int, d: int) -> Gaussians:
        """Standard normal components, to sum about and to fall back on."""
        return Gaussians(np.zeros((k, d)), self._unit(k, d))

    def start(self, rows: Rows, resp: Array) -> Gaussians:
        """Parameters that responsibilities and the prior imply."""
        blank = self.blank(resp.shape[1], rows.X.shape[1])
        return self.maximize(add(self.summarize(blank, rows, resp), self.prior(blank)), blank)

    def take(self, params: Gaussians, order: Array) -> Gaussians:
        """Components in another order."""
        return Gaussians(params.means[order], self._one(params.spread, order))

    def expect(self, log_weights: Array, params: Gaussians, rows: Rows) -> tuple[float, Array, Sums]:
        """Fused E-step of a mixture: log-densities, responsibilities and sums, without an (n, k) array."""
        if find_holes(rows):
            return super().expect(log_weights, params, rows)
        # expect_full, expect_tied, expect_diag or expect_spherical
        fused = getattr(kernels.at(rows.X), f"expect_{self.kernel}")
        loglik, counts, *sums = fused(*rows[:4], log_weights, *params)
        return loglik - float(counts.sum()) * rows.log_unit, counts, Sums(0.0, counts, *self._close(rows, sums))

    def expect_chain(self, params: Gaussians, rows: Rows, succession: Succession) -> tuple[Passes, Sums]:
        """Fused E-step of a chain, without an (n, k) array."""
        lengths, weight, startprob, transmat, n_threads = succession
        logliks = np.empty(len(lengths))
        # expect_chain_full, expect_chain_tied, expect_chain_diag or expect_chain_spherical
        fused = None if self._is_odd(rows) else getattr(kernels, f"expect_chain_{self.kernel}")
        found = fused and fused(
            rows.X, rows.center, rows.scale, *params, lengths, weight, startprob, transmat, logliks, n_threads
        )
        if not found:
            return super().expect_chain(params, rows, succession)
        starts, transitions, *sums = found
        return Passes(logliks - rows.log_unit * lengths, starts, transitions), Sums(0.0, *sums)

    def decode(self, params: Gaussians, rows: Rows, succession: Succession, path: Array, scores: Array) -> None:
        """Most probable path, without an (n, k) array."""
        if self._is_odd(rows):
            super().decode(params, rows, succession, path, scores)
            return
        lengths, _, startprob, transmat, n_threads = succession
        # viterbi_full, viterbi_tied, viterbi_diag or viterbi_spherical
        fused = getattr(kernels, f"viterbi_{self.kernel}")
        fused(rows.X, rows.center, rows.scale, *params, lengths, startprob, transmat, path, scores, n_threads)
        scores -= rows.log_unit * lengths

    def _is_odd(self, rows: Rows) -> bool:
        """Whether rows are not what fused kernels of chains read: they have holes, or are on another device."""
        return is_elsewhere(rows.X) or bool(find_holes(rows))

    def _close(self, rows: Rows, sums: list[Array]) -> list[Array]:
        """Add what the fused step leaves out because it does not depend on the parameters."""
        return sums

    def infer(self, log_weights: Array, params: Gaussians, rows: Rows, *out: Array | None) -> None:
        """Fill log-densities (n,), responsibilities (n, k) and labels (n,) of a mixture, each unless None."""
        if find_holes(rows):
            super().infer(log_weights, params, rows, *out)
            return
        # infer_full, infer_tied, infer_diag or infer_spherical
        fused = getattr(kernels.at(rows.X), f"infer_{self.kernel}")
        fused(rows.X, rows.center, rows.scale, log_weights, *params, *out)
        log_density = out[0]
        if log_density is not None:
            log_density -= rows.log_unit

    def log_prob(self, params: Gaussians, rows: Rows) -> Array:
        """Log-density (n, k) of every row under every component."""
        holes = find_holes(rows)
        if not holes:
            return self._log_prob(params, rows, rows.X)
        out = np.zeros((len(rows.X), len(params.means)))
        out[holes.complete] = self._log_prob(params, rows, rows.X[holes.complete])
        out[holes.order] = holes.log_prob(params.means, self.full(params), rows)
        return out

    def distances(self, params: Gaussians, rows: Rows) -> tuple[Array, Array, Array]:
        """Squared Mahalanobis distances, halves of log-determinants, both (n, k), and numbers (n,) of observed cells.

        The determinants are in the user's units.
        """
        n, d = rows.X.shape
        holes = find_holes(rows)
        half = 0.5 * self.log_determinants(params) + rows.log_unit
        log_prob = self._log_prob(params, rows, rows.X[holes.complete] if holes else rows.X)
        distance = np.maximum(-2.0 * (log_prob + half) - d * np.log(2.0 * np.pi), 0.0)
        if not holes:
            return distance, np.broadcast_to(half, distance.shape), np.full(n, d)
        distances, halves, n_seen = np.zeros((n, len(half))), np.zeros((n, len(half))), np.zeros(n, np.int64)
        distances[holes.complete], halves[holes.complete], n_seen[holes.complete] = distance, half, d
        distances[holes.order], log_determinant = holes.distances(params.means, self.full(params), rows)
        n_seen[holes.order], log_unit = holes.constants(rows)
        halves[holes.order] = 0.5 * log_determinant + log_unit[:, None]
        return distances, halves, n_seen

    @abstractmethod
    def inflate(self, params: Gaussians, factor: Array) -> Gaussians:
        """Multiply the covariances, each by its factor (k,); tied: by one."""

    def _log_prob(self, params: Gaussians, rows: Rows, X: Array) -> Array:
        out: Array = blank((X.shape[0], len(params.means)), np.float64, X)
        # log_prob_full, log_prob_tied, log_prob_diag or log_prob_spherical
        getattr(kernels.at(X), f"log_prob_{self.kernel}")(X, rows.center, rows.scale, *params, out)
        out -= rows.log_unit
        return out

    def _one(self, spread: Array, index: Any) -> Array:
        """Spread of some components."""
        return np.asarray(spread[index])

    @abstractmethod
    def _unit(self, k: int, d: int) -> Array: ...

    def summarize(self, params: Gaussians | None, rows: Rows, resp: Array) -> Sums:
        """Sums for given responsibilities (n, k), weights included."""
        return self.pulled(params or self.blank(resp.shape[1], rows.X.shape[1]), rows, resp, resp)

    def pulled(self, params: Gaussians, rows: Rows, resp: Array, pull: Array) -> Sums:
        """Sums in which rows count ``pull`` times, but the conditional covariances of their holes ``resp`` times."""
        holes = find_holes(rows)
        X, complete = (rows.X[holes.complete], pull[holes.complete]) if holes else (rows.X, pull)
        if not is_elsewhere(X):
            complete = np.ascontiguousarray(complete)
        # summarize_full, summarize_tied, summarize_diag or summarize_spherical
        summed = getattr(kernels.at(X), f"summarize_{self.kernel}")
        sums = Sums(0.0, *summed(X, rows.center, rows.scale, params.means, complete))
        if not holes:
            return sums
        counts, firsts, seconds = holes.summarize(params.means, self.full(params), resp, pull)
        return add(sums, Sums(0.0, counts, firsts, self._fold(seconds, firsts, counts, params)))

    @abstractmethod
    def _fold(self, seconds: Array, firsts: Array, counts: Array, params: Gaussians) -> Array:
        """Second moments (k, d, d) about the means, as far as this shape needs them."""

    def maximize(self, stats: Sums, params: Gaussians | None) -> Gaussians:
        """Weighted means and covariances; a component without rows keeps those it has."""
        params = params or self.blank(*stats.firsts.shape)
        if stats.counts.min() > _EMPTY:
            delta = stats.firsts / stats.counts[:, None]
            means = params.means + delta
            return Gaussians(means, self._spread(stats, means, stats.counts, delta))
        occupied = stats.counts > _EMPTY
        counts = np.where(occupied, stats.counts, 1.0)
        delta = np.where(occupied[:, None], stats.firsts, 0.0) / counts[:, None]
        spread = self._spread(stats, params.means + delta, counts, delta)
        if spread.shape[:1] == occupied.shape:
            spread[~occupied] = params.spread[~occupied]
        return Gaussians(params.means + delta, spread)

    @abstractmethod
    def _spread(self, stats: Sums, means: Array, counts: Array, delta: Array) -> Array: ...

    def q_value(self, candidate: Gaussians, stats: Sums, params: Gaussians) -> float:
        """Normal log-density."""
        return self.explained(stats.counts, candidate, stats, params)

    def explained(self, counts: Array, candidate: Gaussians, stats: Sums, params: Gaussians) -> float:
        """Normal log-density of sums about the means of ``params``, in which ``counts`` rows pulled otherwise."""
        away = candidate.means - params.means
        volume = float(counts @ self.log_determinants(candidate))
        return -0.5 * (volume + self._squares(candidate, stats, params, away))

    def recentre(self, stats: Sums, params: Gaussians, new: Gaussians) -> Sums:
        """The same sums about other means than those they were taken about."""
        away = new.means - params.means
        firsts = stats.firsts - stats.counts[:, None] * away
        return stats._replace(firsts=firsts, seconds=self._moved(stats, away))

    @abstractmethod
    def _moved(self, stats: Sums, away: Array) -> Array:
        """Second moments about means that lie so far from those of the sums."""

    @abstractmethod
    def _squares(self, candidate: Gaussians, stats: Sums, params: Gaussians, away: Array) -> float:
        """Sum of the squared Mahalanobis distances."""

    def standardize(self, params: Gaussians, rows: Rows) -> Gaussians:
        """From the user's units."""
        return self.rescale(params, -rows.center / rows.scale, 1.0 / rows.scale)

    def restore(self, params: Gaussians, rows: Rows) -> Gaussians:
        """To the user's units."""
        return self.rescale(params, rows.center, rows.scale)

    def rounding(self, rows: Rows) -> Rounding:
        """Errors of single rows add up like a random walk where rows are multiplied in float32, hardly in float64."""
        size = rows.X.shape[1] + abs(rows.log_unit)
        if str(rows.X.dtype).endswith("float64"):
            return Rounding(1e-12 * size * rows.total, 1e-12)
        return Rounding(1e-6 * size * np.sqrt(rows.total), 1e-6)

    def features(self, rows: Rows) -> Array:
        """Standardised columns, 0 where missing."""
        z = (rows.X - rows.center) / rows.scale
        return np.where(np.isnan(z), 0.0, z)

    def profile(self, params: Gaussians) -> Array:
        """Means and covariances in units of all components together."""
        center, deviations = self._overall(params)
        unit = self.units(deviations)
        inside = self.rescale(params, -center / unit, 1.0 / unit)
        return np.hstack([inside.means, self._own(inside)])

    def _own(self, params: Gaussians) -> Array:
        """Covariances (k, m) in which components may differ."""
        return self.covariances(params).reshape(len(params.means), -1)

    def order(self, params: Gaussians) -> Array:
        """By their means, the first column first."""
        return np.lexsort(params.means.T[::-1])

    def degenerate(self, params: Gaussians, stats: Sums) -> str | None:
        """Name a collapsed component."""
        shares = stats.counts / stats.counts.sum()
        centred = params.means - shares @ params.means
        return self.collapsed(params, stats, self._total(params, shares, centred))

    @abstractmethod
    def _total(self, params: Gaussians, shares: Array, centred: Array) -> Array:
        """Covariance (d, d) of all the data, or where there are no correlations their variances (d,)."""

    def collapsed(self, params: Gaussians, stats: Sums, total: Array) -> str | None:
        """Name the first component that has shrunk onto too few rows or onto ties.

        ``total`` is that of all the data, see ``_total``. A component is suspect when, in some direction, its variance
        is below a thousandth of the data's; it is condemned if it also holds less than half of an equal share of the
        rows, or no more scatter than the prior put there.
        """
        counts = stats.counts
        scarce = np.flatnonzero(counts < self.least_rows(len(total)))
        if len(scarce):
            k = scarce[0]
            return (
                f"component {k} holds {counts[k]:.4g} rows where its covariance needs "
                f"{self.least_rows(len(total)):.0f}: use fewer components or a simpler covariance_type"
            )
        floor = 2.0 * self.reg_covar + 1e-12 * counts
        for k, (ratio, variance) in enumerate(zip(*self._thinness(params, total), strict=True)):
            if ratio < 1e-3 and (counts[k] < counts.sum() / (2 * len(counts)) or variance * counts[k] <= floor[k]):
                return (
                    f"component {k} has collapsed onto {counts[k]:.4g} rows that hardly differ: its likelihood "
                    "measures reg_covar, not the data; use fewer components, a simpler covariance_type or a larger "
                    "reg_covar"
                )
        return None

    # Prediction, in the user's units
    # ------------------------------------------------------------------------------------------------

    def sample(self, params: Gaussians, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the component that each label names."""
        return np.asarray(params.means[labels] + self.noise(params, labels, rng))

    def mean(self, params: Gaussians) -> Array:
        """Means (k, d)."""
        return params.means

    def cdf(self, params: Gaussians, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        deviations = np.sqrt(self.variances(params)[:, column])
        return np.asarray(ndtr((x[:, None] - params.means[:, column]) / deviations))

    def fill(self, params: Gaussians, rows: Rows, resp: Array) -> Array:
        """Conditional means of the missing cells under every component, averaged."""
        out = super().fill(params, rows, resp)
        holes = find_holes(rows)
        if holes:
            inside = self.standardize(params, rows)
            out[holes.order] = holes.fill(inside.means, self.full(inside), rows, resp)
        return out

    def publish(self, params: Gaussians) -> dict[str, Array]:
        """Means and covariances in scikit-learn's form."""
        return {"means_": params.means, "covariances_": self.covariances(params)}

    def recall(self, attributes: Mapping[str, Array], like: Gaussians) -> Gaussians:
        """Parameters from means and covariances."""
        return self.from_covariances(attributes["means_"], attributes["covariances_"])

    @abstractmethod
    def _thinness(self, params: Gaussians, total: Array) -> tuple[Array, Array]:
        """Per component the smallest variance relative to the data's, and the smallest variance itself."""


def listed(indices: Array) -> str:
    """Numbers in a row."""
    return ", ".join(str(i) for i in indices)
