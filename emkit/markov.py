"""EMHiddenMarkov: hidden Markov models as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted, validate_data

from ._executors import count_workers
from ._mixin import EMMixin
from ._paths import best_paths, draw_paths, quantiles, walk
from ._sequences import Sequences, arrange
from ._standard_errors import StandardErrors
from ._validation import (
    NOTHING,
    SEED,
    ArrayLike,
    Instance,
    Interval,
    Options,
    Rules,
    check_holes,
    check_parameter,
    check_weight,
    generator,
)
from .chain import Chain, Given, MarkovChain, Runs, stationary
from .emissions import LAWS, SHAPES, Emission
from .exceptions import InvalidParameterError

Array = NDArray[Any]


class EMHiddenMarkov(EMMixin, ClusterMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Hidden Markov model, estimated by accelerated EM (Baum-Welch), on one sequence or many.

    Sequences are given in one of three ways: ``groups``, an identifier for each row, which cross-validation can cut
    and metadata routing carries; ``lengths``, as in hmmlearn; or a list of arrays. Without any of them all rows are one
    sequence. Missing cells (NaN) are integrated out; a row that is missing altogether still lets time pass.

    Parameters
    ----------
    n_states : int, default=2
        Number of hidden states.
    emission : {"gaussian", "categorical", "bernoulli", "multinomial", "poisson", "exponential", "gamma", "student-t", \
            "gaussian-mixture"} or Emission, default="gaussian"
        Law of the rows of each state; see `emkit.emissions`.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        Shape of the covariances of ``emission="gaussian"``.
    startprob_prior, transmat_prior : float or array-like, default=1.0
        Parameters of Dirichlet priors, at least 1; ``prior - 1`` is a number of imaginary starts and transitions.
    startprob_init, transmat_init : array-like of shape (n_states,) and (n_states, n_states), optional
        Probabilities to start from. Zeros stay zeros, and states keep their places.
    transmat_mask : array-like of bool, of shape (n_states, n_states), optional
        Which transitions are possible. The cost of a pass grows with their number.
    start : {"free", "stationary"}, default="free"
        Whether the first state has probabilities of its own, or the stationary distribution of the chain.
    tol : float, default=1e-3
        Stop when the objective is estimated to have less than this left to gain, in nats.
    max_iter : int, default=500
        Most EM steps of one start.
    n_init : int or "auto", default="auto"
        Number of full starts; the best regular solution is kept. "auto" races 32 starts on a bounded part of the rows,
        climbs the best three, then leaves the best optimum for better ones by swapping states.
    init_params : {"k-means++", "random_from_data", "random"}, default="k-means++"
        Seeds of the states: far apart, or random rows. Some starts cut the sequences by time instead.
    acceleration : {"auto", "squarem", "anderson", "momentum", None}, default="auto"
        How the EM map is extrapolated; the objective never falls. None is plain EM.
    algorithm : {"viterbi", "map"}, default="viterbi"
        What ``predict`` returns: the most probable path, or the most probable state of each row.
    n_jobs : int, optional
        Threads for restarts, for blocks of sequences, or for both directions of one. None: all cores, one inside a
        joblib worker. The result does not depend on it.
    random_state : int, RandomState, Generator, SeedSequence, optional
        Seed of the starts.
    warm_start : bool, default=False
        Begin the first start where the previous fit ended; with ``n_init="auto"`` it is the only one.
    verbose : int, default=0
        1 prints every tenth step, 2 every step.

    Attributes
    ----------
    startprob_ : ndarray of shape (n_states,)
        Probabilities of the first state.
    transmat_ : ndarray of shape (n_states, n_states)
        Probabilities of the next state (column), given the state (row).
    emission_ : Emission
        The law, with what it learned from the rows, such as an alphabet.
    means_, covariances_, lambdas_, emissionprob_, probs_, scales_, ... : ndarray
        Parameters of the law; states are in the order of their means. ``covars_`` is ``covariances_``.
    labels_ : ndarray of int, of shape (n_samples,)
        What ``predict`` says of the training rows.
    log_likelihood_ : float
        Of the training data at the returned parameters, in nats.
    objective_ : float
        Log-likelihood plus log prior: what EM climbs.
    history_ : ndarray
        Objective at each accepted step.
    lower_bounds_ : ndarray
        ``history_`` per row.
    n_iter_ : int
        EM steps of the best start.
    converged_ : bool
        Whether ``status_`` is "converged".
    status_ : {"converged", "max_iter", "stalled", "degenerate", "stopped"}
        How the best start ended.
    rate_ : float
        Share of the distance to the optimum that one EM step leaves.
    gap_ : float
        Estimated rise of the objective still to come, in nats.
    restarts_ : list of dict
        Start, status, objective, steps and reason of every start.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X had names.

    References
    ----------
    Baum, L., Petrie, T., Soules, G. & Weiss, N. (1970). A maximization technique occurring in the statistical analysis
    of probabilistic functions of Markov chains. *Annals of Mathematical Statistics* 41. Zucchini, W., MacDonald, I. &
    Langrock, R. (2016). *Hidden Markov Models for Time Series*. Chapman & Hall.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> X = np.concatenate([np.zeros(20), np.full(20, 5.0), np.zeros(20)])[:, None]
    >>> X += 0.1 * np.random.default_rng(0).standard_normal(X.shape)
    >>> model = EMHiddenMarkov(2, random_state=0).fit(X)
    >>> model.means_.round(1)
    array([[0.],
           [5.]])
    >>> model.predict(X)[[0, 30, 59]]
    array([0, 1, 0])
    """

    emission_: Emission

    _rules: ClassVar[Rules] = {
        **EMMixin._rules,
        "n_states": (Interval(int, 1),),
        "emission": (Options(tuple(LAWS)), Instance((Emission,), "an Emission")),
        "covariance_type": (Options(tuple(SHAPES)),),
        "startprob_prior": (Interval(float, 1.0), ArrayLike()),
        "transmat_prior": (Interval(float, 1.0), ArrayLike()),
        "startprob_init": (NOTHING, ArrayLike()),
        "transmat_init": (NOTHING, ArrayLike()),
        "transmat_mask": (NOTHING, ArrayLike()),
        "start": (Options(("free", "stationary")),),
        "init_params": (Options(("k-means++", "random_from_data", "random")),),
        "algorithm": (Options(("viterbi", "map")),),
    }

    def __init__(
        self,
        n_states: int = 2,
        *,
        emission: str | Emission = "gaussian",
        covariance_type: str = "full",
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        startprob_init: Any = None,
        transmat_init: Any = None,
        transmat_mask: Any = None,
        start: str = "free",
        tol: float = 1e-3,
        max_iter: int = 500,
        n_init: int | Literal["auto"] = "auto",
        init_params: str = "k-means++",
        acceleration: str | None = "auto",
        algorithm: str = "viterbi",
        n_jobs: int | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_states = n_states
        self.emission = emission
        self.covariance_type = covariance_type
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.startprob_init = startprob_init
        self.transmat_init = transmat_init
        self.transmat_mask = transmat_mask
        self.start = start
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.acceleration = acceleration
        self.algorithm = algorithm
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Missing cells are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = not self._law().numeric
        tags.input_tags.categorical = not self._law().numeric
        return tags

    # Hooks of EMMixin -------------------------------------------------------------------------------------------------

    def _law(self) -> Emission:
        """Law that the constructor parameters describe."""
        if isinstance(self.emission, Emission):
            return self.emission
        return (SHAPES[self.covariance_type] if self.emission == "gaussian" else LAWS[self.emission])()

    def _model(self) -> MarkovChain:
        k = int(self.n_states)
        startprob = self._probabilities("startprob_init", (k,))
        transmat = self._probabilities("transmat_init", (k, k))
        mask = self._array("transmat_mask", (k, k))
        if mask is not None:
            mask = mask != 0.0
            closed = np.flatnonzero(~mask.any(axis=1))
            if len(closed):
                raise ValueError(f"transmat_mask allows no way out of state {closed[0]}; allow at least staying in it")
            if transmat is not None and (transmat[~mask] > 0.0).any():
                i, j = (int(n) for n in np.argwhere((transmat > 0.0) & ~mask)[0])
                raise ValueError(f"transmat_init[{i}, {j}] is {transmat[i, j]:g}, but transmat_mask forbids it")
        return MarkovChain(
            self.emission_,
            k,
            start_prior=self._prior("startprob_prior", (k,)),
            trans_prior=self._prior("transmat_prior", (k, k)),
            mask=mask,
            stationary=self.start == "stationary",
            init=self.init_params,
            given=Given(startprob, transmat),
            n_threads=min(2, count_workers(self.n_jobs)),
        )

    def _array(self, name: str, shape: tuple[int, ...]) -> Array | None:
        value = getattr(self, name)
        if value is None:
            return None
        try:
            array = np.array(value, dtype=np.float64, order="C")
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"{name} must be an array of numbers: {error}") from error
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}; with n_states={self.n_states} it must be {shape}")
        return array

    def _probabilities(self, name: str, shape: tuple[int, ...]) -> Array | None:
        array = self._array(name, shape)
        if array is not None:
            wrong = np.argwhere(~((array >= 0.0) & (array <= 1.0)))
            if len(wrong):
                place = tuple(int(i) for i in wrong[0])
                raise ValueError(f"{name}{list(place)} is {array[place]}; probabilities lie between 0 and 1")
            sums = array.sum(axis=-1)
            if np.abs(sums - 1.0).max() > 1e-6:
                row = "" if array.ndim == 1 else f" of row {int(np.argmax(np.abs(sums - 1.0)))}"
                raise ValueError(f"the sum{row} of {name} is {np.ravel(sums)[np.argmax(np.abs(sums - 1.0))]:g}, not 1")
        return array

    def _prior(self, name: str, shape: tuple[int, ...]) -> Any:
        value = getattr(self, name)
        if np.ndim(value) == 0:
            return float(value)
        array = self._array(name, shape)
        assert array is not None
        if not (array >= 1.0).all():
            raise ValueError(f"{name} holds {array.min():g}; every entry is at least 1 (no imaginary transition)")
        return array

    def _check_rows(self, X: Sequences, *, reset: bool) -> Sequences:
        learns = reset and not (self.warm_start and hasattr(self, "emission_"))
        law = self._law() if learns else self.emission_
        try:
            if law.numeric:
                rows = check_holes(self, X.X, np.nan, reset=reset)
            else:
                rows = validate_data(self, X.X, reset=reset, dtype=None, ensure_all_finite=False)
            if learns:
                law = self.emission_ = law.learn(rows)
            return X.hold(np.ascontiguousarray(law.read(rows)))
        except ValueError as error:
            raise type(error)(X.translate(str(error))) from error

    def _check_start(self, X: Sequences, weight: Array | None) -> None:
        if len(X) < self.n_states:
            raise ValueError(
                f"n_states={self.n_states}, but X has n_samples={len(X)}; set n_states to {len(X)} or fewer"
            )
        holes = np.isnan(X.X)
        empty = np.flatnonzero(holes.all(axis=0)) if holes.any() else holes[:0]
        if len(empty):
            raise ValueError(f"column {empty[0]} of X has no observed value; drop it")
        if self.warm_start and hasattr(self, "startprob_") and len(self.startprob_) != self.n_states:
            raise ValueError(
                f"n_states={self.n_states}, but warm_start=True continues a fit with {len(self.startprob_)}; set "
                "warm_start=False to start anew"
            )

    def _publish(self, params: Chain) -> None:
        self._is_stationary = self.start == "stationary"
        self.startprob_, self.transmat_ = params.startprob, params.transmat
        self._kind = params.law
        published = self.emission_.publish(params.law)
        self._published = tuple(published)
        for name, value in published.items():
            setattr(self, name, value)

    def _recall(self) -> Chain:
        attributes = {name: getattr(self, name) for name in self._published}
        return Chain(
            np.ascontiguousarray(self.startprob_, dtype=np.float64),
            np.ascontiguousarray(self.transmat_, dtype=np.float64),
            self.emission_.recall(attributes, self._kind),
        )

    def _fitted_model(self) -> MarkovChain:
        start = "stationary" if self._is_stationary else "free"
        return MarkovChain(
            self.emission_,
            len(self.startprob_),
            stationary=start == "stationary",
            n_threads=min(2, count_workers(self.n_jobs)),
        )

    def _seen(self, X: Sequences, sample_weight: Any) -> dict[str, Any]:
        return {"X": X.X, "metadata": {"sample_weight": sample_weight, "lengths": X.lengths}}

    def _settle(self, params: Chain, X: Sequences) -> Chain:
        model = self._model()
        wanted = "path" if self.algorithm == "viterbi" else "smoothed"
        told = self._spread(model, model.frame(params, X), params, wanted)[0]
        self.labels_ = X.restore(told if wanted == "path" else told.argmax(axis=1))
        return params

    # Fit --------------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the parameters by expectation-maximisation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
            Rows in the order of time; NaN where a cell is missing. A list holds one array for each sequence.
        y : None
            Ignored; present for the sake of pipelines.
        groups : array-like of shape (n_samples,), optional
            Which sequence each row belongs to.
        lengths : array-like of int, optional
            Number of rows of each sequence, one after the other.
        sample_weight : array-like of shape (n_samples,), optional
            How often each sequence counts: all rows of a sequence have the same weight.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters, cells, weights or starting values that cannot be used; the message names them.
        """
        self._fit(arrange(X, groups, lengths), sample_weight)
        return self

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> Any:
        """Fit, then give ``labels_``."""
        return self.fit(X, y, **kwargs).labels_

    # States -----------------------------------------------------------------------------------------------------------

    def predict(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """State of each row: by ``algorithm``, the most probable path or the most probable state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of int, of shape (n_samples,)
            A list of arrays if X is one.
        """
        if self.algorithm == "map":
            X = arrange(X, groups, lengths)
            return X.restore(self._infer(X, "smoothed")[0].argmax(axis=1))
        return self.decode(X, groups=groups, lengths=lengths)[1]

    def predict_proba(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Smoothed probabilities of the states: given all rows of the sequence, past and future.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_states)
        """
        X = arrange(X, groups, lengths)
        return X.restore(self._infer(X, "smoothed")[0])

    def filter_proba(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Filtered probabilities of the states: given the rows up to each, as known at the time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_states)
        """
        X = arrange(X, groups, lengths)
        return X.restore(self._infer(X, "filtered")[0])

    def filter(self, x: Any, state: Any = None) -> Array:
        """Take one more observation of a stream.

        Parameters
        ----------
        x : array-like of shape (n_features,)
            The next row.
        state : array-like of shape (n_states,), optional
            What the last call returned; None at the beginning of a sequence.

        Returns
        -------
        ndarray of shape (n_states,)
            Probabilities of the states given all rows so far: the ``state`` of the next call.
        """
        check_is_fitted(self)
        rows = self._check_rows(arrange(np.asarray(x)[None], None, None), reset=False)
        params = self._recall()
        ahead = params.startprob if state is None else np.asarray(state, dtype=np.float64) @ params.transmat
        if ahead.shape != params.startprob.shape:
            raise ValueError(f"state has shape {np.shape(state)}; give what filter returned, {params.startprob.shape}")
        log_prob = self._log_prob(rows, params)[0]
        joint = ahead * np.exp(log_prob - log_prob.max()) if np.isfinite(log_prob.max()) else 0.0 * ahead
        if not joint.any():
            raise ValueError("the row is impossible: no state that can follow explains it")
        return np.asarray(joint / joint.sum())

    def decode(self, X: Any, *, groups: Any = None, lengths: Any = None) -> tuple[float, Any]:
        """Most probable path of the states (Viterbi).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        log_prob : float
            Log-probability of the rows together with the paths, summed over sequences.
        path : ndarray of int, of shape (n_samples,)
        """
        X = arrange(X, groups, lengths)
        path, score = self._infer(X, "path", "score")
        return float(score.sum()), X.restore(path)

    def k_best_paths(self, X: Any, n_paths: int = 5) -> tuple[Array, Array]:
        """Give the most probable paths through one sequence.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            One sequence.
        n_paths : int, default=5

        Returns
        -------
        log_prob : ndarray of shape (n_paths,)
            Log-probabilities of the rows together with each path, falling; fewer if fewer paths are possible.
        paths : ndarray of int, of shape (n_paths, n_samples)
        """
        check_parameter("k_best_paths", "n_paths", n_paths, (Interval(int, 1),))
        log_prob, params = self._one(X)
        return best_paths(log_prob, params.startprob, params.transmat, int(n_paths))

    def sample_paths(self, X: Any, n_paths: int = 1, random_state: Any = None) -> Array:
        """Draw paths through one sequence from their posterior distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            One sequence.
        n_paths : int, default=1
        random_state : int, RandomState, Generator, SeedSequence, optional

        Returns
        -------
        ndarray of int, of shape (n_paths, n_samples)
        """
        check_parameter("sample_paths", "n_paths", n_paths, (Interval(int, 1),))
        check_parameter("sample_paths", "random_state", random_state, SEED)
        filtered = self.filter_proba(X)
        return draw_paths(filtered, self.transmat_, int(n_paths), generator(random_state))

    def _one(self, X: Any) -> tuple[Array, Chain]:
        """Log-densities of the rows of one sequence."""
        check_is_fitted(self)
        params = self._recall()
        return self._log_prob(self._check_rows(arrange(X, None, None), reset=False), params), params

    def _log_prob(self, rows: Sequences, params: Chain) -> Array:
        model = self._fitted_model()
        data: Runs = model.frame(params, rows)
        return self.emission_.log_prob(model.standardize(params, data).law, data.rows)

    # Rows -------------------------------------------------------------------------------------------------------------

    def transform(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Fill missing cells with their expectation, given all rows of the sequence.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = arrange(X, groups, lengths)
        rows = self._check_rows(X, reset=False)
        params = self._recall()
        data: Runs = self._fitted_model().frame(params, rows)
        return X.restore(self.emission_.fill(params.law, data.rows, self._fill(rows, params, "smoothed")[0]))

    def forecast(self, X: Any, horizon: int = 1, *, quantiles: Any = (0.05, 0.5, 0.95)) -> Bunch:
        """What is ahead after the last row of one sequence.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            One sequence.
        horizon : int, default=1
            How many rows ahead.
        quantiles : array-like, default=(0.05, 0.5, 0.95)
            Between 0 and 1.

        Returns
        -------
        Bunch
            ``state_proba`` (horizon, n_states); and, where the law has them, ``mean`` (horizon, n_features) and
            ``quantiles`` (n_quantiles, horizon, n_features) of the rows.
        """
        check_parameter("forecast", "horizon", horizon, (Interval(int, 1),))
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
        if not ((levels > 0.0) & (levels < 1.0)).all():
            raise ValueError(f"quantiles must lie between 0 and 1. Got {quantiles!r} instead.")
        state = self.filter_proba(X)[-1]
        ahead = np.empty((int(horizon), len(state)))
        for step in range(int(horizon)):
            ahead[step] = state = state @ self.transmat_
        law, params = self.emission_, self._recall().law
        told = Bunch(state_proba=ahead)
        with suppress(NotImplementedError):  # the law has none
            told.mean = ahead @ law.mean(params)
        with suppress(NotImplementedError):
            told.quantiles = np.stack(
                [_quantiles(law, params, column, ahead, levels) for column in range(self.n_features_in_)], axis=-1
            )
        return told

    def score_samples(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Log-density of each row given the rows of its sequence before it.

        Their sum is the log-likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Natural logarithms, in nats.
        """
        X = arrange(X, groups, lengths)
        return X.restore(self._infer(X, "log_density")[0])

    def score(  # type: ignore[override]
        self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> float:
        """Mean log-density of the rows, each given those before it: larger is better, so grid search can use it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        y : None
            Ignored.
        groups, lengths : array-like, optional
            As in ``fit``.
        sample_weight : array-like of shape (n_samples,), optional
            How often each sequence counts.

        Returns
        -------
        float
            In nats per row; times the number of rows it is the log-likelihood.
        """
        log_density, weight = self._weighed(X, groups, lengths, sample_weight)
        return float(np.average(log_density, weights=weight))

    def aic(  # type: ignore[override]
        self, X: Any, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> float:
        """Akaike's information criterion on X: lower is better; zeros that are known are no parameters."""
        return self._information(lambda rows: 2.0, *self._weighed(X, groups, lengths, sample_weight))

    def bic(  # type: ignore[override]
        self, X: Any, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> float:
        """Schwarz's information criterion on X: lower is better. Infinite for a degenerate fit."""
        return self._information(np.log, *self._weighed(X, groups, lengths, sample_weight))

    def _weighed(self, X: Any, groups: Any, lengths: Any, sample_weight: Any) -> tuple[Array, Array | None]:
        X = arrange(X, groups, lengths)
        log_density = self._infer(X, "log_density")[0]
        weight = X.weights(check_weight(sample_weight, len(log_density)))
        return log_density, None if weight is None else np.repeat(weight, X.lengths)

    def standard_errors(
        self,
        X: Any,
        *,
        groups: Any = None,
        lengths: Any = None,
        method: Literal["information", "sandwich", "bootstrap"] = "information",
        sample_weight: Any = None,
        n_resamples: int = 200,
        random_state: Any = None,
    ) -> StandardErrors:
        """Standard errors of the fitted attributes, as of every estimator of emkit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
            The rows of the fit.
        groups, lengths : array-like, optional
            As in ``fit``.
        method : {"information", "sandwich", "bootstrap"}, default="information"
            For the latter two the independent unit is the sequence: they need many.
        sample_weight, n_resamples, random_state
            As in `EMGaussianMixture.standard_errors`.

        Returns
        -------
        StandardErrors
            An array for each attribute under its name, such as ``transmat_``; and ``intervals(level)``.
        """
        return self._errors(arrange(X, groups, lengths), method, sample_weight, n_resamples, random_state)

    # The chain --------------------------------------------------------------------------------------------------------

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Array, Array]:
        """Draw one sequence from the fitted model.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator, SeedSequence, optional
            Its own seed, not the estimator's: without one every call differs.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        states : ndarray of int, of shape (n_samples,)
        """
        check_is_fitted(self)
        check_parameter("sample", "n_samples", n_samples, (Interval(int, 1),))
        check_parameter("sample", "random_state", random_state, SEED)
        rng = generator(random_state)
        params = self._recall()
        states = walk(params.startprob, params.transmat, int(n_samples), rng)
        return self.emission_.sample(params.law, states, rng), states

    def stationary_distribution(self) -> Array:
        """Share of the time spent in each state in the long run, of shape (n_states,)."""
        check_is_fitted(self)
        return stationary(self.transmat_)

    def expected_dwell_times(self) -> Array:
        """Mean number of rows spent in each state before it is left, of shape (n_states,); inf if it never is."""
        check_is_fitted(self)
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / (1.0 - np.diagonal(self.transmat_)))

    @property
    def covars_(self) -> Array:
        """``covariances_``, under hmmlearn's name."""
        if not hasattr(self, "covariances_"):
            raise AttributeError("covars_ exists after fit with emission='gaussian'")
        covariances: Array = self.covariances_
        return covariances


def _quantiles(law: Emission, params: Any, column: int, weights: Array, levels: Array) -> Array:
    cdf: Callable[[Array], Array] = lambda x: law.cdf(params, column, x)  # noqa: E731
    return quantiles(cdf, weights, levels)
