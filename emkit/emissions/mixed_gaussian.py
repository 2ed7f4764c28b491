"""A Gaussian mixture in every state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from .._blocks import Rows, by_values
from .._charts import Simplex
from .._model import Charts, Emission, Rounding, add
from .._starts import greedy_seeds, partition, soften
from ..exceptions import InvalidParameterError
from ._holes import find_holes
from .gaussian import Gaussian, Gaussians
from .gaussian import Sums as NormalSums
from .shapes import shaped

Array = NDArray[Any]

_EMPTY, _LEAST = 1e-10, 1e-12


class Nested(NamedTuple):
    """Parameters of ``k`` components of ``m`` parts each."""

    weights: Array  # (k, m), each row on the simplex
    parts: Gaussians  # of k m components, those of one state together


class Sums(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    parts: NormalSums


@dataclass(frozen=True)
class MixedGaussian(Emission):
    """Rows of a state come from one of several normal parts.

    Parameters
    ----------
    n_parts : int, default=2
        Parts of every state.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        "tied" is one matrix for all parts of all states.
    reg_covar : float, default=1e-6
        As in `emkit.EMGaussianMixture`.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import MixedGaussian
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([0.0, 20.0], 200)[:, None] + rng.choice([-3.0, 3.0], (400, 1)) + rng.normal(size=(400, 1))
    >>> EMHiddenMarkov(2, emission=MixedGaussian(2), random_state=0).fit(X).means_.shape
    (2, 2, 1)
    """

    n_parts: int = 2
    covariance_type: str = "full"
    reg_covar: float = 1e-6
    streams = True

    def __post_init__(self) -> None:
        """Refuse an unknown shape, and a mixture of nothing."""
        shaped(self.covariance_type, self.reg_covar)
        if not (self.n_parts == int(self.n_parts) and self.n_parts > 0):
            raise InvalidParameterError(f"n_parts must be a positive int. Got {self.n_parts!r} instead.")

    @property
    def _law(self) -> Gaussian:
        return shaped(self.covariance_type, self.reg_covar)

    @property
    def charts(self) -> Charts:
        """Weights on simplices; those of the parts."""
        return {"weights": Simplex(), "parts": self._law.charts}

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Units of the data."""
        rows: Rows = self._law.prepare(X, weight)
        return rows

    def frame(self, params: Nested, X: Array) -> Rows:
        """Units that suit the parameters."""
        return self._law.frame(params.parts, X)

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows."""
        return self._law.block(rows, cut)

    def _log_joint(self, params: Nested, rows: Rows) -> Array:
        """Log-density (n, k, m) of every row together with every part."""
        with np.errstate(divide="ignore"):
            joint = self._law.log_prob(params.parts, rows) + np.log(params.weights).ravel()
        return np.asarray(joint.reshape(len(joint), *params.weights.shape))

    def log_prob(self, params: Nested, rows: Rows) -> Array:
        """Log-density (n, k) of every row in every state."""
        return np.asarray(np.logaddexp.reduce(self._log_joint(params, rows), axis=2))

    def summarize(self, params: Nested | None, rows: Rows, resp: Array) -> Sums:
        """Share each row of a state among its parts."""
        if params is None:
            inside = self._cut(rows, resp)
            return Sums(0.0, self._law.summarize(None, rows, inside))
        if find_holes(rows):  # a row without any observed cell says nothing
            resp = np.where(np.asarray(np.isnan(rows.X).all(axis=1))[:, None], 0.0, resp)
        joint = self._log_joint(params, rows)
        joint -= joint.max(axis=2, keepdims=True)
        np.exp(joint, out=joint)
        joint *= (resp / joint.sum(axis=2))[:, :, None]
        return Sums(0.0, self._law.summarize(params.parts, rows, joint.reshape(len(joint), -1)))

    def _cut(self, rows: Rows, resp: Array) -> Array:
        """Responsibilities (n, k m) of parts around seeds within every state."""
        points = self.features(rows)
        order = by_values(points)  # whatever the order of the rows
        inside = []
        for weight in resp.T:
            of_state = weight[order] if weight.any() else np.ones(len(order))  # a state that begins empty
            seeds = greedy_seeds(points[order], of_state, self.n_parts, np.random.default_rng(0))
            inside.append(soften(partition(points, points[order][seeds]), weight, len(seeds), self.n_parts))
        return np.hstack(inside)

    def start(self, rows: Rows, resp: Array) -> Nested:
        """Parts around seeds."""
        blank = self._law.blank(resp.shape[1] * self.n_parts, rows.X.shape[1])
        stats = self.summarize(None, rows, resp)
        return self.maximize(stats._replace(parts=add(stats.parts, self._law.prior(blank))), None)

    def maximize(self, stats: Sums, params: Nested | None) -> Nested:
        """Shares of the parts, and the M-step of each."""
        counts = np.asarray(stats.parts.counts).reshape(-1, self.n_parts)
        total = counts.sum(axis=1, keepdims=True)
        weights = np.maximum(counts / np.maximum(total, _EMPTY), _LEAST)
        if params is not None:
            weights = np.where(total > _EMPTY, weights, params.weights)
        parts = self._law.maximize(stats.parts, None if params is None else params.parts)
        return Nested(weights / weights.sum(axis=1, keepdims=True), parts)

    def q_value(self, candidate: Nested, stats: Sums, params: Nested) -> float:
        """Of the parts drawn, and of the rows given these."""
        drawn = float(xlogy(stats.parts.counts, candidate.weights.ravel()).sum())
        return drawn + self._law.q_value(candidate.parts, stats.parts, params.parts)

    def recentre(self, stats: Sums, params: Nested, new: Nested) -> Sums:
        """The same sums about other means."""
        return stats._replace(parts=self._law.recentre(stats.parts, params.parts, new.parts))

    def prior(self, params: Nested) -> Sums:
        """That of the parts."""
        parts = self._law.prior(params.parts)
        return Sums(parts.loglik, parts)

    def rounding(self, rows: Rows) -> Rounding:
        """That of the parts."""
        return self._law.rounding(rows)

    def standardize(self, params: Nested, rows: Rows) -> Nested:
        """From the user's units."""
        return params._replace(parts=self._law.standardize(params.parts, rows))

    def restore(self, params: Nested, rows: Rows) -> Nested:
        """To the user's units."""
        return params._replace(parts=self._law.restore(params.parts, rows))

    def take(self, params: Nested, order: Array) -> Nested:
        """States in another order."""
        parts = (np.asarray(order)[:, None] * self.n_parts + np.arange(self.n_parts)).ravel()
        return Nested(params.weights[order], self._law.take(params.parts, parts))

    def order(self, params: Nested) -> Array:
        """By their means, the first column first."""
        return np.lexsort(self.mean(params).T[::-1])

    def profile(self, params: Nested) -> Array:
        """Weights, and the parts' own."""
        return np.hstack([params.weights, self._law.profile(params.parts).reshape(len(params.weights), -1)])

    def features(self, rows: Rows) -> Array:
        """Those of the parts."""
        return self._law.features(rows)

    def degenerate(self, params: Nested, stats: Sums) -> str | None:
        """Name a collapsed part, which the law of all parts calls a component."""
        reason = self._law.degenerate(params.parts, stats.parts)
        return reason and re.sub(r"component (\d+)", self._name, reason.replace("components", "parts"))

    def _name(self, component: re.Match[str]) -> str:
        number, part = divmod(int(component[1]), self.n_parts)
        return f"part {part} of component {number}"

    def n_parameters(self, params: Nested) -> int:
        """Those of the parts, and the weights."""
        return self._law.n_parameters(params.parts) + int(params.weights.size - len(params.weights))

    def sample(self, params: Nested, labels: Array, rng: np.random.Generator) -> Array:
        """Draw a part for every label, then a row."""
        cumulative = params.weights.cumsum(axis=1)[labels]
        part = (rng.random(len(labels))[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
        return self._law.sample(params.parts, labels * self.n_parts + part, rng)

    def mean(self, params: Nested) -> Array:
        """Means (k, d) of the states."""
        return np.asarray(np.einsum("km,kmd->kd", params.weights, self._by_state(params, params.parts.means)))

    def cdf(self, params: Nested, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        each = self._law.cdf(params.parts, column, x).reshape(len(x), *params.weights.shape)
        return np.asarray((each * params.weights).sum(axis=2))

    def fill(self, params: Nested, rows: Rows, resp: Array) -> Array:
        """Conditional means of the missing cells under every part, averaged."""
        joint = self._log_joint(self.standardize(params, rows), rows)
        share = np.exp(joint - np.logaddexp.reduce(joint, axis=2)[:, :, None]) * resp[:, :, None]
        return self._law.fill(params.parts, rows, share.reshape(len(share), -1))

    @staticmethod
    def _by_state(params: Nested, values: Array) -> Array:
        return values.reshape(*params.weights.shape, *values.shape[1:])

    def publish(self, params: Nested) -> dict[str, Array]:
        """Weights, means and covariances by state and part."""
        covariances = self._law.covariances(params.parts)
        if self.covariance_type != "tied":
            covariances = self._by_state(params, covariances)
        return {
            "weights_": params.weights,
            "means_": self._by_state(params, params.parts.means),
            "covariances_": covariances,
        }

    def recall(self, attributes: Mapping[str, Array], like: Nested) -> Nested:
        """Parameters from fitted attributes."""
        means, covariances = attributes["means_"], attributes["covariances_"]
        if self.covariance_type != "tied":
            covariances = covariances.reshape(-1, *covariances.shape[2:])
        parts = self._law.from_covariances(means.reshape(-1, means.shape[2]), covariances)
        return Nested(np.asarray(attributes["weights_"]), parts)
