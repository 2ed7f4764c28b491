"""Mixtures: rows that each come from one of several components, which one is not known."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.utils.validation import _num_samples, check_is_fitted

from ._arrays import blank, bring, is_elsewhere, send
from ._blocks import Rows, cuts, release, sample
from ._charts import Simplex
from ._mixin import EMMixin
from ._model import Charts, Emission, Model, Rounding, match
from ._moves import swaps
from ._starts import greedy_seeds, partition, random_seeds, soften, whiten
from ._stream import StreamMixin
from ._validation import (
    NOTHING,
    SEED,
    ArrayLike,
    Interval,
    Options,
    Rules,
    check_parameter,
    check_weight,
    generator,
)
from .emissions.gaussian import Gaussian
from .emissions.shapes import SHAPES
from .exceptions import DataWarning, InvalidParameterError

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

    def split(self, data: Rows) -> list[Rows]:
        """Cut between rows."""
        return [self.law.block(data, cut) for cut in self._cuts(data)]

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
        for resp in swaps(out.responsibilities, data.weight, self.law.features(data)):
            yield self._from_responsibilities(resp, data)

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
        return like._replace(X=X, weight=weight, scatter=None, patterns=None)

    def recentre(self, stats: Totals, params: Parts, new: Parts) -> Totals:
        """The same sums about other parameters."""
        assert isinstance(self.law, Gaussian)
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


def _log(weights: Array) -> Array:
    """Logarithms; a weight of 0 switches its component off."""
    if weights.all():
        return np.asarray(np.log(weights))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weights))


def _check_values(given: Given, law: Gaussian) -> None:
    """Starting values must be possible, and must not put two components in the same place."""
    weights, means, precisions = given
    if weights is not None:
        wrong = np.flatnonzero((weights < 0.0) | (weights > 1.0))
        if len(wrong):
            raise ValueError(f"weights_init[{wrong[0]}] is {weights[wrong[0]]}; weights lie between 0 and 1")
        if abs(weights.sum() - 1.0) > 1e-6:
            raise ValueError(f"weights_init sums to {weights.sum()}; divide it by its sum")
    if precisions is not None:
        fault = law.fault(precisions)
        if fault is not None:
            raise ValueError(
                f"precisions_init{fault}; precisions are inverse covariances: symmetric, positive definite"
            )
    if means is not None and len(np.unique(means, axis=0)) < len(means) and (precisions is None or precisions.ndim < 1):
        raise ValueError(
            "means_init gives two components the same mean: they would stay alike for ever; move one of them"
        )


class EMGaussianMixture(StreamMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian mixture, estimated by accelerated EM.

    scikit-learn's ``GaussianMixture``, parameter by parameter and attribute by attribute: replacing the import is
    enough. What differs: the default is two components; ``tol`` bounds what remains to be gained rather than the last
    change, ``reg_covar`` is relative to the data and part of the objective, rows may have weights, starts look at
    whitened data, and a component that collapses is named.

    Parameters
    ----------
    n_components : int, default=2
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A matrix for each component, one for all, variances for each component, or one variance for each component.
    tol : float, default=1e-3
        Stop when the objective is estimated to have less than this left to gain, in nats (of the total, not of the
        mean). A tenth of it costs ``-1.15 / log(rate_)`` more plain EM steps, accelerated a fraction of these.
    reg_covar : float, default=1e-6
        Scatter of one imaginary row per component, relative to the variance of each column: it keeps covariances
        regular and fades as rows are added. Its log-density is part of ``objective_``. 0 is plain maximum likelihood.
    max_iter : int, default=500
        Most EM steps of one start. A fit reads the data once more than it makes steps.
    n_init : int or "auto", default="auto"
        Number of full starts; the best regular solution is kept. "auto" races 32 starts on a sample of the rows,
        leaves the best optimum found for better ones by swapping components, and climbs on all rows from there. A
        warning says if the best optimum was found only once.
    init_params : {"k-means++", "kmeans", "random_from_data", "random"}, default="k-means++"
        Seeds by greedy k-means++ on whitened or standardised columns; the same followed by k-means; or random rows
        ("random" means the same: random responsibilities would start on a saddle).
    weights_init : array-like of shape (n_components,), optional
        Weights to start from.
    means_init : array-like of shape (n_components, n_features), optional
        Means to start from. Components keep the places given here.
    precisions_init : array-like, optional
        Precisions (inverse covariances) to start from, shaped as ``precisions_``.
    acceleration : {"auto", "squarem", "anderson", "momentum", None}, default="auto"
        How the EM map is extrapolated; the objective never falls. None is plain EM.
    n_jobs : int, optional
        Threads for restarts or, with one start, for blocks of rows. None: all cores, one inside a joblib worker. The
        result does not depend on it.
    random_state : int, RandomState, Generator, SeedSequence, optional
        Seed of the starts.
    warm_start : bool, default=False
        Begin the first start where the previous fit ended; with ``n_init="auto"`` it is the only one.
    verbose : int, default=0
        1 prints every tenth step, 2 every step.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Shares of the rows.
    means_ : ndarray of shape (n_components, n_features)
        Means; components are in the order of their means, first column first.
    covariances_, precisions_, precisions_cholesky_ : ndarray
        (n_components, n_features, n_features), (n_features, n_features), (n_components, n_features) or (n_components,)
        by type.
    labels_ : ndarray of shape (n_samples,)
        Most probable component of each training row; no number is left out.
    log_likelihood_ : float
        Of the training data at the returned parameters, in nats.
    objective_ : float
        Log-likelihood plus log prior: what EM climbs.
    history_ : ndarray
        Objective at each accepted step.
    lower_bound_, lower_bounds_ : float, ndarray
        ``objective_`` and ``history_`` per unit of weight.
    n_iter_ : int
        EM steps of the best start.
    converged_ : bool
        Whether ``status_`` is "converged".
    status_ : {"converged", "max_iter", "stalled", "degenerate", "stopped"}
        How the best start ended.
    rate_ : float
        Share of the distance to the optimum that one EM step leaves.
    gap_ : float
        At most so much is left to gain, in nats, as far as the last steps tell.
    restarts_ : list of dict
        Start, status, objective, steps and reason of every start.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X had names.

    References
    ----------
    Dempster, A., Laird, N. & Rubin, D. (1977). Maximum likelihood from incomplete data via the EM algorithm. *JRSS B*
    39. Varadhan, R. & Roland, C. (2008). *Scandinavian Journal of Statistics* 35, 335-353.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMGaussianMixture
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> mixture = EMGaussianMixture(2, covariance_type="tied", random_state=0).fit(X)
    >>> mixture.means_.round(3)
    array([[ 1.,  2.],
           [10.,  2.]])
    >>> mixture.predict([[0.0, 0.0], [12.0, 3.0]])
    array([0, 1])
    """

    _rules: ClassVar[Rules] = {
        **EMMixin._rules,
        "n_components": (Interval(int, 1),),
        "covariance_type": (Options(tuple(SHAPES)),),
        "reg_covar": (Interval(float, 0.0),),
        "init_params": (Options(("k-means++", "kmeans", "random_from_data", "random")),),
        "weights_init": (NOTHING, ArrayLike()),
        "means_init": (NOTHING, ArrayLike()),
        "precisions_init": (NOTHING, ArrayLike()),
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 500,
        n_init: int | Literal["auto"] = "auto",
        init_params: str = "k-means++",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        acceleration: str | None = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.acceleration = acceleration
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Arrays of other libraries stay where they are."""
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    # Hooks of EMMixin
    # ---------------------------------------------------------------------------------------------------

    def _model(self) -> Mixture:
        law = SHAPES[self.covariance_type](float(self.reg_covar))
        return Mixture(law, int(self.n_components), self.init_params, self._given())

    def _given(self) -> Given:
        values: list[Array | None] = []
        for name in ("weights_init", "means_init", "precisions_init"):
            value = getattr(self, name)
            try:
                values.append(None if value is None else np.array(value, dtype=np.float64, order="C"))
            except (TypeError, ValueError) as error:
                raise InvalidParameterError(f"{name} must be an array of numbers: {error}") from error
        return Given(*values)

    def _check_start(self, X: Array, weight: Array | None) -> None:
        (n, d), k, name = X.shape, self.n_components, type(self).__name__
        if n < k:
            raise ValueError(f"n_components={k}, but X has n_samples={n}; set n_components to {n} or fewer")
        if self.warm_start and hasattr(self, "means_"):
            for parameter, fitted in (
                ("n_components", _num_samples(self.means_)),
                ("covariance_type", self._fitted_type),
            ):
                if getattr(self, parameter) != fitted:
                    raise ValueError(
                        f"{parameter}={getattr(self, parameter)!r}, but warm_start=True continues a fit with "
                        f"{fitted!r}; set warm_start=False to start anew, or {parameter}={fitted!r} to continue"
                    )
        given, law = self._given(), SHAPES[self.covariance_type]()
        shapes = ((k,), (k, d), law.shape(k, d))
        for parameter, value, shape in zip(
            ("weights_init", "means_init", "precisions_init"), given, shapes, strict=True
        ):
            if value is not None and value.shape != shape:
                raise ValueError(
                    f"{parameter} has shape {value.shape}, but {name} with n_components={k}, "
                    f"covariance_type={self.covariance_type!r} and {d} features needs {shape}"
                )
            if value is not None and not np.isfinite(value).all():
                where = np.argwhere(~np.isfinite(value))[0].tolist()
                raise ValueError(f"{parameter}{where} is {value[tuple(where)]}; starting values must be finite")
        _check_values(given, law)
        n_parameters = k - 1 + k * d + law.n_covariance_parameters(k, d)
        if n_parameters > n * d:
            warnings.warn(
                f"{n_parameters} parameters for {n} rows of {d} numbers: the fit says more of reg_covar than of the "
                "data; use fewer components or a simpler covariance_type",
                DataWarning,
                stacklevel=3,
            )

    def _settle(self, params: Parts, X: Array) -> Parts:
        """Label the rows; a component that no row prefers goes to the end, so that labels have no gap."""
        model = self._model()
        told = self._spread(model, model.frame(params, X), params, "labels")[0]
        labels = bring(told)
        alone = np.bincount(labels, minlength=len(params.weights)) == 0
        if not alone.any():
            self.labels_ = told
            return params
        order = np.argsort(alone, kind="stable")
        self.labels_ = send(np.argsort(order)[labels], X)
        return model.take(params, order)

    def _learned_from(self, X: Array) -> None:
        self.labels_ = self._infer(X, "labels")[0]

    def _fitted_model(self) -> Mixture:
        return Mixture(SHAPES[self._fitted_type](), _num_samples(self.means_))

    def _publish(self, params: Parts) -> None:
        law = self._used.law
        self._fitted_type = law.kernel
        self.weights_ = params.weights
        self.means_ = params.law.means
        self.covariances_ = law.covariances(params.law)
        self.precisions_, self.precisions_cholesky_ = law.precisions(self.covariances_)

    def _recall(self) -> Parts:
        values = {}
        for name in ("weights_", "means_", "covariances_"):
            values[name] = np.ascontiguousarray(bring(getattr(self, name)), dtype=np.float64)
            if not np.isfinite(values[name]).all():
                raise ValueError(f"{name} contains a value that is not finite: set it anew, or fit again")
        weights, means, covariances = values.values()
        return Parts(weights, SHAPES[self._fitted_type]().from_covariances(means, covariances))

    # What a mixture is asked
    # ----------------------------------------------------------------------------------------------

    @property
    def lower_bound_(self) -> float:
        """``objective_`` per unit of weight."""
        return float(self.lower_bounds_[-1])

    def predict(self, X: Any) -> Array:
        """Most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of int, of shape (n_samples,)
        """
        return self._infer(X, "labels")[0]

    def predict_proba(self, X: Any) -> Array:
        """Probability of each component for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self._infer(X, "responsibilities")[0]

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Array, Array]:
        """Draw rows from the fitted mixture.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator, SeedSequence, optional
            Its own seed, not the estimator's: without one every call differs.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Component by component.
        y : ndarray of int, of shape (n_samples,)
            Component of each row.
        """
        check_is_fitted(self)
        check_parameter(f"{type(self).__name__}.sample", "n_samples", n_samples, (Interval(int, 1),))
        check_parameter(f"{type(self).__name__}.sample", "random_state", random_state, SEED)
        rng = generator(random_state)
        params = self._recall()
        counts = rng.multinomial(n_samples, params.weights / params.weights.sum())
        labels = np.repeat(np.arange(len(counts)), counts)
        return SHAPES[self._fitted_type]().sample(params.law, labels, rng), labels

    def icl(self, X: Any, sample_weight: Any = None) -> float:
        """Integrated complete-data likelihood criterion on X: BIC plus a price for rows that lie between components.

        Lower is better; infinite for a degenerate fit.

        References
        ----------
        Biernacki, C., Celeux, G. & Govaert, G. (2000). *IEEE PAMI* 22, 719-725; with the most probable component of
        each row taken for its own, as in R mclust (which reports the negative).
        """
        doubt = -np.log(bring(self.predict_proba(X)).max(axis=1))
        weight = check_weight(sample_weight, len(doubt))
        return self.bic(X, sample_weight) + 2.0 * float(doubt.sum() if weight is None else weight @ doubt)
