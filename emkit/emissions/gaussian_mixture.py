"""A Gaussian mixture for each component: states whose rows have several centres, or no simple shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows
from .._charts import Simplex
from .._model import Charts, Emission, Rounding
from .._starts import greedy_seeds, partition, soften
from ..exceptions import InvalidParameterError
from ._holes import find_holes
from .gaussian import SHAPES, Gaussian, Gaussians

Array = NDArray[Any]

_EMPTY = 1e-10
# Seeds are looked for among so many rows, those that count most.
_SEED_ROWS = 4_096


class Mixtures(NamedTuple):
    """Parameters of ``k`` mixtures of ``m`` Gaussians, one mixture after the other."""

    weights: Array  # (k, m), each row on the simplex
    normal: Gaussians  # of k * m components


class Sums(NamedTuple):
    """Expected sufficient statistics."""

    loglik: Any  # 0, but for the log prior
    counts: Any  # (k, m)
    normal: Any  # of k * m components


@dataclass(frozen=True)
class GaussianMixture(Emission):
    """A mixture of Gaussians for each component.

    The fitted attributes are, as in hmmlearn, ``weights_`` (k, m) and ``means_`` (k, m, d), and ``covariances_`` (k, m,
    ...) in scikit-learn's form for the shape; one (d, d) matrix for all when tied.

    Parameters
    ----------
    n_mix : int, default=2
        Gaussians of each mixture.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        Shape of the covariances.
    reg_covar : float, default=1e-6
        Scatter of one imaginary row per Gaussian, relative to the variance of each column.

    References
    ----------
    Juang, B.-H. (1985). Maximum-likelihood estimation for mixture multivariate stochastic observations of Markov
    chains. *AT&T Technical Journal* 64, 1235-1249.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import GaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> state = np.repeat([0, 1, 0], 200)
    >>> X = (rng.choice([-3.0, 3.0], 600) * (state == 0) + 10.0 * state + rng.normal(size=600))[:, None]
    >>> EMHiddenMarkov(2, emission=GaussianMixture(2), random_state=0).fit(X).means_.shape
    (2, 2, 1)
    """

    n_mix: int = 2
    covariance_type: str = "full"
    reg_covar: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse an unknown shape, and a mixture of nothing."""
        if self.covariance_type not in SHAPES:
            raise InvalidParameterError(
                f"covariance_type must be one of {', '.join(map(repr, SHAPES))}. Got {self.covariance_type!r} instead."
            )
        if not (self.n_mix == int(self.n_mix) and self.n_mix > 0):
            raise InvalidParameterError(f"n_mix must be a positive int. Got {self.n_mix!r} instead.")

    @property
    def _normal(self) -> Gaussian:
        return SHAPES[self.covariance_type](self.reg_covar)

    @property
    def charts(self) -> Charts:
        """Weights on simplices; the Gaussians' own."""
        return {"weights": Simplex(), "normal": self._normal.charts}

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Find the centre and scale of the data."""
        return self._normal.prepare(X, weight)

    def frame(self, params: Mixtures, X: Array) -> Rows:
        """Rows to predict, in units of all Gaussians together."""
        return self._normal.frame(params.normal, X)

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows."""
        return self._normal.block(rows, cut)

    def log_prob(self, params: Mixtures, rows: Rows) -> Array:
        """Log-density (n, k) of the observed cells of every row."""
        return np.asarray(np.logaddexp.reduce(self._joint(params, rows), axis=2))

    def _joint(self, params: Mixtures, rows: Rows) -> Array:
        """Log-density (n, k, m) of every row and Gaussian."""
        with np.errstate(divide="ignore"):
            log_weights = np.log(params.weights)
        each = self._normal.log_prob(params.normal, rows).reshape(len(rows.X), *log_weights.shape)
        each += log_weights
        return each

    def summarize(self, params: Mixtures | None, rows: Rows, resp: Array) -> Sums:
        """Sums for given responsibilities (n, k), weights included, shared out among the Gaussians."""
        if params is None:
            return self._summed(None, rows, self._seeded(rows, resp))
        if find_holes(rows):  # a row without any observed cell says nothing
            resp = np.where(np.asarray(np.isnan(rows.X).all(axis=1))[:, None], 0.0, resp)
        return self._summed(params.normal, rows, self._shared(params, rows, resp))

    def _shared(self, params: Mixtures, rows: Rows, resp: Array) -> Array:
        """Responsibilities (n, k * m) of the Gaussians."""
        joint = self._joint(params, rows)
        share = np.exp(joint - joint.max(axis=2, keepdims=True))
        share *= (resp / share.sum(axis=2))[:, :, None]
        return np.asarray(share.reshape(len(resp), -1))

    def _seeded(self, rows: Rows, resp: Array) -> Array:
        """Responsibilities (n, k * m) of the Gaussians around seeds far apart, mixture by mixture."""
        points, parts = self._normal.features(rows), []
        for weight in resp.T:
            most = np.argsort(-weight, kind="stable")[:_SEED_ROWS]
            # In an order given by their values, rows are drawn alike whether one is repeated or weighted.
            most = most[np.lexsort(points[most].T[::-1])]
            seeds = greedy_seeds(points[most], weight[most], self.n_mix, np.random.default_rng(0))
            parts.append(soften(partition(points, points[most][seeds]), weight, len(seeds), self.n_mix))
        return np.hstack(parts)

    def _summed(self, normal: Gaussians | None, rows: Rows, each: Array) -> Sums:
        return Sums(0.0, each.sum(axis=0).reshape(-1, self.n_mix), self._normal.summarize(normal, rows, each))

    def maximize(self, stats: Sums, params: Mixtures | None) -> Mixtures:
        """Shares of the Gaussians, and their own M-step."""
        normal = self._normal.maximize(stats.normal, None if params is None else params.normal)
        return Mixtures(self._shares(stats.counts, params), normal)

    def _shares(self, counts: Array, params: Mixtures | None) -> Array:
        total = counts.sum(axis=1, keepdims=True)
        kept = np.full(counts.shape, 1.0 / self.n_mix) if params is None else params.weights
        return np.where(total > _EMPTY, counts / np.where(total > _EMPTY, total, 1.0), kept)

    def start(self, rows: Rows, resp: Array) -> Mixtures:
        """Gaussians around seeds far apart."""
        each = self._seeded(rows, resp)
        shares = self._shares(each.sum(axis=0).reshape(-1, self.n_mix), None)
        return Mixtures(shares, self._normal.start(rows, each))

    def prior(self, params: Mixtures) -> Sums:
        """The Gaussians'."""
        normal = self._normal.prior(params.normal)
        return Sums(normal.loglik, 0.0, normal._replace(loglik=0.0))

    def rounding(self, rows: Rows) -> Rounding:
        """The Gaussians'."""
        return self._normal.rounding(rows)

    def standardize(self, params: Mixtures, rows: Rows) -> Mixtures:
        """From the user's units."""
        return params._replace(normal=self._normal.standardize(params.normal, rows))

    def restore(self, params: Mixtures, rows: Rows) -> Mixtures:
        """To the user's units."""
        return params._replace(normal=self._normal.restore(params.normal, rows))

    def take(self, params: Mixtures, order: Array) -> Mixtures:
        """Mixtures in another order."""
        each = (np.asarray(order)[:, None] * self.n_mix + np.arange(self.n_mix)).ravel()
        return Mixtures(params.weights[order], self._normal.take(params.normal, each))

    def order(self, params: Mixtures) -> Array:
        """By their means, the first column first."""
        return np.lexsort(self.mean(params).T[::-1])

    def profile(self, params: Mixtures) -> Array:
        """Weights and the Gaussians' profiles."""
        normal = self._normal.profile(params.normal).reshape(len(params.weights), -1)
        return np.hstack([params.weights, normal])

    def degenerate(self, params: Mixtures, stats: Sums) -> str | None:
        """Name a Gaussian that has collapsed."""
        fault = self._normal.degenerate(params.normal, stats.normal)
        return None if fault is None else f"of the Gaussians, {self.n_mix} for each state, {fault}"

    def n_parameters(self, params: Mixtures) -> int:
        """Weights, less one for each sum, and the Gaussians'."""
        return params.weights.size - len(params.weights) + self._normal.n_parameters(params.normal)

    def features(self, rows: Rows) -> Array:
        """Standardised columns."""
        return self._normal.features(rows)

    # Prediction
    # ---------------------------------------------------------------------------------------------------------

    def sample(self, params: Mixtures, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from the mixture that each label names."""
        upper = params.weights.cumsum(axis=1)[labels]
        part = (rng.random(len(labels))[:, None] * upper[:, -1:] >= upper).sum(axis=1)
        return self._normal.sample(params.normal, labels * self.n_mix + part, rng)

    def mean(self, params: Mixtures) -> Array:
        """Means (k, d) of the mixtures."""
        means = params.normal.means.reshape(*params.weights.shape, -1)
        return np.asarray(np.einsum("km,kmd->kd", params.weights, means))

    def cdf(self, params: Mixtures, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        each = self._normal.cdf(params.normal, column, x).reshape(len(x), *params.weights.shape)
        return np.asarray((each * params.weights).sum(axis=2))

    def fill(self, params: Mixtures, rows: Rows, resp: Array) -> Array:
        """Missing cells as the Gaussians fill them, each as far as it explains the row."""
        return self._normal.fill(params.normal, rows, self._shared(self.standardize(params, rows), rows, resp))

    def publish(self, params: Mixtures) -> dict[str, Array]:
        """Weights, means and covariances, mixture by mixture."""
        covariances = self._normal.covariances(params.normal)
        if self.covariance_type != "tied":
            covariances = covariances.reshape(*params.weights.shape, *covariances.shape[1:])
        means = params.normal.means.reshape(*params.weights.shape, -1)
        return {"weights_": params.weights, "means_": means, "covariances_": covariances}

    def recall(self, attributes: Mapping[str, Array], like: Mixtures) -> Mixtures:
        """Parameters from fitted attributes."""
        weights, means, covariances = (np.asarray(attributes[f"{n}_"]) for n in ("weights", "means", "covariances"))
        if self.covariance_type != "tied":
            covariances = covariances.reshape(-1, *covariances.shape[2:])
        normal = self._normal.from_covariances(means.reshape(-1, means.shape[-1]), covariances)
        return Mixtures(weights, normal)
