"""EMGaussianMixture: clusters and densities by a mixture of normals."""

from __future__ import annotations

from functools import partial
from operator import add
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import _num_samples, check_is_fitted

from ._arrays import bring, send
from ._mixin import EMMixin
from ._sources import PASS_ROWS, Source, blockwise, gathered
from ._stream import StreamMixin
from ._validation import (
    NOTHING,
    SEED,
    ArrayLike,
    Interval,
    Options,
    Rules,
    as_floats,
    check_parameter,
    check_weight,
    generator,
)
from .emissions.gaussian import Gaussian
from .emissions.shapes import SHAPES
from .exceptions import DataWarning, warn
from .finite_mixture import Given, Mixture, Parts, count_labels

Array = NDArray[Any]


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
    if means is None:
        return
    if each := precisions is not None and law.kernel != "tied":
        means = np.column_stack([means, np.reshape(precisions, (len(means), -1))])
    if len(np.unique(means, axis=0)) < len(means):
        raise ValueError(
            f"means_init gives two components the same mean{', precisions_init the same precision' * each}: they would "
            "stay alike for ever; move one of them"
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
    history_ : list of float
        Objective at each accepted step.
    lower_bound_, lower_bounds_ : float, list of float
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

    _placed = "weights_"
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

    _fitted_rules: ClassVar[Rules] = {**StreamMixin._fitted_rules, "_fitted_type": (Options(tuple(SHAPES)),)}

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
            values.append(None if value is None else as_floats(name, value))
        return Given(*values)

    def _fixed(self) -> dict[str, Any]:
        return {"n_components": _num_samples(self.means_), "covariance_type": self._fitted_type}

    def _check_start(self, X: Array, weight: Array | None) -> None:
        (n, d), k, name = X.shape, self.n_components, type(self).__name__
        if n < k:
            raise ValueError(f"n_components={k}, but X has n_samples={n}; set n_components to {n} or fewer")
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
            warn(
                f"{n_parameters} parameters for {n} rows of {d} numbers: the fit says more of reg_covar than of the "
                "data; use fewer components or a simpler covariance_type",
                DataWarning,
            )

    def _settle(self, params: Parts, X: Array) -> Parts:
        """Label the rows; a component that no row prefers goes to the end, so that labels have no gap."""
        model = self._model()
        if isinstance(X, Source):  # one number for each row would be too many
            self.__dict__.pop("labels_", None)
            count = partial(count_labels, model, params)
            alone = count(X.take(np.arange(min(len(X), PASS_ROWS))), None) == 0
            if alone.any():  # in the first rows
                alone = X.fold(count, add, None) == 0
            return model.take(params, np.argsort(alone, kind="stable")) if alone.any() else params
        told = self._spread(model, model.frame(params, X), params, "labels")[0]
        labels = bring(told)
        alone = np.bincount(labels, minlength=len(params.weights)) == 0
        if not alone.any():
            self.labels_ = told
            return params
        order = np.argsort(alone, kind="stable")
        self.labels_ = send(np.argsort(order)[labels], X)
        return model.take(params, order)

    def _learned_from(self, X: Any) -> None:
        if isinstance(X, Source):
            self.__dict__.pop("labels_", None)
        else:
            self.labels_ = self._fill(X, self._recall(), "labels")[0]

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

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> Any:
        """Fit, then give the component of each row, ``labels_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source
        y : None
            Ignored.
        **kwargs : dict
            Passed on to ``fit``: ``sample_weight``.

        Returns
        -------
        ndarray of int, of shape (n_samples,)
            Of a source, what ``predict`` gives.
        """
        self.fit(X, y, **kwargs)
        return self.labels_ if hasattr(self, "labels_") else self.predict(X)

    @blockwise
    def predict(self, X: Any) -> Any:
        """Most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source

        Returns
        -------
        ndarray of int, of shape (n_samples,)

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> mixture.predict([[2.0, 55.0], [4.5, 80.0]])
        array([0, 1])
        """
        return self._infer(X, "labels")[0]

    @blockwise
    def predict_proba(self, X: Any) -> Any:
        """Probability of each component for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source

        Returns
        -------
        ndarray of shape (n_samples, n_components)

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> mixture.predict_proba([[2.0, 55.0], [3.1, 70.0]]).round(2)
        array([[1.  , 0.  ],
               [0.01, 0.99]])
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

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> rows, component = mixture.sample(5, random_state=0)
        >>> rows.shape, component
        ((5, 2), array([0, 0, 0, 0, 1]))
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

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts.

        Returns
        -------
        float

        References
        ----------
        Biernacki, C., Celeux, G. & Govaert, G. (2000). *IEEE PAMI* 22, 719-725; with the most probable component of
        each row taken for its own, as in R mclust (which reports the negative).

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> round(mixture.icl(X) - mixture.bic(X), 2)
        0.51
        """
        doubt = -np.log(gathered(self.predict_proba(X), lambda proba: bring(proba).max(axis=1)))
        weight = check_weight(sample_weight, len(doubt))
        return self.bic(X, sample_weight) + 2.0 * float(doubt.sum() if weight is None else weight @ doubt)
