"""The model of mixtures: rows that each come from one of several components, which one is not known."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.cluster import KMeans

from ._arrays import blank, is_elsewhere
from ._blocks import Rows, cuts, release, sample
from ._charts import Simplex
from ._model import Charts, Emission, Model, Rounding, match
from ._moves import swaps
from ._sources import Blocks, Source
from ._starts import greedy_seeds, partition, random_seeds, soften, whiten
from .emissions.gaussian import Gaussian

Array = NDArray[Any]

# Starts look at no more rows than this, or than this many for each component.
_START_ROWS = 16_384
_START_ROWS_EACH = 64


class Parts(NamedTuple):
    """Parameters of a mixture."""

    weights: Array  # (k,), on the simplex
    law: Any


class Totals(NamedTuple):
    """Statistics of a mixture."""

    loglik: Any
    counts: Any  # (k,)
    law: Any


class Posterior(NamedTuple):
    """What a mixture can say of each row; None where it was not asked."""

    log_density: Array | None = None  # (n,)
    responsibilities: Array | None = None  # (n, k)
    labels: Array | None = None  # (n,)


class Given(NamedTuple):
    """Starting values in the user's units, each or None."""

    weights: Array | None = None
    means: Array | None = None
    precisions: Array | None = None

    def any(self) -> bool:
        """Whether anything was given."""
        return any(value is not None for value in self)


NOTHING_GIVEN = Given()


@dataclass(frozen=True)
class Mixture(Model):
    """A mixture of ``k`` components with one law of observation.

    E-step: responsibilities ``r_ik`` proportional to ``w_k p(x_i | k)``. M-step: ``w_k`` is the share of the rows, and
    the law maximises its own part.

    References
    ----------
    McLachlan, G. & Peel, D. (2000). *Finite Mixture Models*. Wiley.
    """

    law: Emission
    k: int
    init: str = "k-means++"
    given: Given = NOTHING_GIVEN

    @property
    def charts(self) -> Charts:
        """Weights on the simplex; the law's own."""
        return {"weights": Simplex(), "law": self.law.charts}

    def prepare(self, X: Array, sample_weight: Array | None = None) -> Rows:
        """Find the units of the data."""
        rows: Rows = self.law.prepare(X, sample_weight)
        return rows

    def frame(self, params: Parts, X: Array) -> Rows:
        """Rows to predict, in units that suit the parameters."""
        rows: Rows = self.law.frame(params.law, X)
        return rows

    def outputs(self, data: Rows, wanted: Collection[str]) -> Posterior:
        """Empty arrays for what is wanted."""
        n = data.X.shape[0]
        shapes = {"log_density": (n,), "responsibilities": (n, self.k), "labels": (n,)}
        kinds = {w: np.int64 if w == "labels" else np.float64 for w in wanted}
        return Posterior(**{w: blank(shapes[w], kind, data.X) for w, kind in kinds.items()})

    def portions(self, data: Rows, out: Posterior) -> list[tuple[Rows, Posterior]]:
        """Cut between rows."""
        return [
            (data.cut(cut), Posterior(*(None if array is None else array[cut, ...] for array in out)))
            for cut in self._cuts(data)
        ]

    def infer(self, params: Parts, data: Rows, out: Posterior) -> None:
        """Fill what is wanted."""
        self.law.infer(_log(params.weights), params.law, data, *out)
        release(data.X)

    def _cuts(self, data: Rows) -> list[slice]:
        if is_elsewhere(data.X):  # its kernels cut for themselves
            return [slice(None)]
        return cuts(data.X.shape[0], data.X.shape[1] * self.k)

    def split(self, data: Rows) -> list[Rows] | Blocks:
        """Cut between rows."""
        if isinstance(data.X, Source):
            cuts = data.X.cuts(self._cuts(data))
            return data.X.blocks(cuts, [data.cut(cut) for cut in cuts], self._hold)
        return [self.law.block(data, cut) for cut in self._cuts(data)]

    def _hold(self, outline: Rows, X: Array) -> Rows:
        """Block of a source, now that its rows are there."""
        block: Rows = self.law.block(outline._replace(X=X), slice(None))
        return block

    def sketch(self, data: Rows) -> Rows:
        """Rows to start from."""
        return sample(data, max(_START_ROWS, _START_ROWS_EACH * self.k))

    def start(self, data: Rows, rng: np.random.Generator) -> Parts:
        """Partition the rows around seeds, then take one M-step."""
        z, weight = self.law.features(data), data.weight
        assert weight is not None  # a sketch is weighted
        if self.given.means is not None:
            points, centres = z, (self.given.means - data.center) / data.scale
        else:
            # No recipe is always right: whitening finds clusters that lie along one correlated direction and drowns
            # them in many columns of noise; seeds far apart find separated clusters and are caught by outliers.
            recipe = rng.integers(3)
            points = whiten(z, weight) if recipe == 0 else z
            draw = (
                random_seeds
                if self.init.startswith("random") or (recipe == 2 and self.init == "k-means++")
                else greedy_seeds
            )
            centres = points[draw(points, weight, self.k, rng)]
            if self.init == "kmeans":
                centres = (
                    KMeans(len(centres), init=centres, n_init=1).fit(points, sample_weight=weight).cluster_centers_
                )
        resp = soften(partition(points, centres), weight, len(centres), self.k)
        return self._impose(self._from_responsibilities(resp, data), data)

    def moves(self, params: Parts, data: Rows) -> Iterator[Parts]:
        """Swap components."""
        out = self.outputs(data, ("log_density", "responsibilities"))
        self.infer(params, data, out)
        assert data.weight is not None  # a sketch is weighted
        assert out.responsibilities is not None
        features = self.law.features(data)
        yield from swaps(
            out.responsibilities, data.weight, features, lambda resp: self._from_responsibilities(resp, data)
        )

    def _from_responsibilities(self, resp: Array, data: Rows) -> Parts:
        """One M-step, whatever the parameters were."""
        counts = resp.sum(axis=0)
        return Parts(counts / counts.sum(), self.law.start(data, resp))

    def _impose(self, params: Parts, data: Rows) -> Parts:
        """Replace what the user gave; iteration 0 uses exactly that."""
        if not self.given.any():
            return params
        outside = self.restore(params, data)
        weights, law = outside
        means = law.means if self.given.means is None else self.given.means
        if self.given.precisions is None:
            law = law._replace(means=means)
        else:
            assert isinstance(self.law, Gaussian)  # no other law has starting values
            law = self.law.from_precisions(means, self.given.precisions)
        return self.standardize(Parts(weights if self.given.weights is None else self.given.weights, law), data)

    def expect(self, params: Parts, data: Rows) -> Totals:
        """E-step, together with the law's sums."""
        totals = Totals(*self.law.expect(_log(params.weights), params.law, data))
        release(data.X)
        return totals

    def maximize(self, stats: Totals, params: Parts) -> Parts:
        """Shares of the rows, and the law's own M-step."""
        return Parts(stats.counts / stats.counts.sum(), self.law.maximize(stats.law, params.law))

    def prior(self, params: Parts) -> Totals:
        """The law's prior; weights have none."""
        law = self.law.prior(params.law)
        return Totals(0.0 if law is None else law[0], 0.0, law)

    def place(self, X: Array, weight: Array | None, like: Rows) -> Rows:
        """Rows in the coordinates of others."""
        return like.others(X, weight)

    def recentre(self, stats: Totals, params: Parts, new: Parts) -> Totals:
        """The same sums about other parameters."""
        return stats._replace(law=self.law.recentre(stats.law, params.law, new.law))

    def q_value(self, candidate: Parts, stats: Totals, params: Parts) -> float:
        """Of the components drawn, and of the rows given these."""
        drawn = float(xlogy(stats.counts, candidate.weights).sum())
        return drawn + self.law.q_value(candidate.law, stats.law, params.law)

    def standardize(self, params: Parts, data: Rows) -> Parts:
        """From the user's units."""
        return params._replace(law=self.law.standardize(params.law, data))

    def restore(self, params: Parts, data: Rows) -> Parts:
        """To the user's units."""
        return params._replace(law=self.law.restore(params.law, data))

    def take(self, params: Parts, order: Array) -> Parts:
        """Components in another order."""
        return Parts(params.weights[order], self.law.take(params.law, order))

    def canonical(self, params: Parts) -> Parts:
        """Put components in the law's order, unless starting values gave them places."""
        return params if self.given.any() else self.take(params, self.law.order(params.law))

    def align(self, params: Parts, like: Parts) -> Parts:
        """By the profiles of their laws."""
        return self.take(params, match(self.law.profile(params.law), self.law.profile(like.law)))

    def degenerate(self, params: Parts, stats: Totals) -> str | None:
        """Name an empty, duplicate or collapsed component."""
        empty = np.flatnonzero(stats.counts <= 1e-6)
        if len(empty):
            return f"component {empty[0]} is empty: fewer than {self.k} components describe the data"
        profile = self.law.profile(params.law)
        for k in range(1, self.k):
            same = (np.abs(profile[:k] - profile[k]) <= 1e-6).all(axis=1)
            if same.any():
                return (
                    f"components {int(np.argmax(same))} and {k} are identical: a saddle of the likelihood if their "
                    "starting values were, otherwise one component too many"
                )
        return self.law.degenerate(params.law, stats.law)

    def rounding(self, data: Rows) -> Rounding:
        """The law's."""
        return self.law.rounding(data)

    def n_parameters(self, params: Parts) -> int:
        """Free parameters: weights, and the law's."""
        return self.k - 1 + self.law.n_parameters(params.law)


def count_labels(model: Mixture, params: Parts, X: Array, weight: None) -> Array:
    """How many rows prefer each component; parameters in the user's units."""
    frame = model.frame(params, X)
    out = model.outputs(frame, ("labels",))
    model.infer(model.standardize(params, frame), frame, out)
    assert out.labels is not None
    return np.bincount(out.labels, minlength=model.k)


def _log(weights: Array) -> Array:
    """Logarithms; a weight of 0 switches its component off."""
    if weights.all():
        return np.asarray(np.log(weights))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weights))
