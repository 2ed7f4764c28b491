"""EMHiddenMarkov: hidden Markov models as a scikit-learn estimator."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._array_api import get_namespace

from ._arrays import argmax, bring, is_elsewhere
from ._blocks import fold, join_sums
from ._chain_analysis import ChainAnalysis
from ._executors import count_workers
from ._mixin import EMMixin
from ._patterns import observed
from ._sequences import Sequences, arrange, refuse_mistaken
from ._sources import Source, is_dask, is_open, is_source, read
from ._stream import StreamMixin
from ._validation import (
    FLAG,
    NOTHING,
    ArrayLike,
    Instance,
    Interval,
    Options,
    Rules,
    Vector,
    Vectors,
    as_floats,
    check_holes,
    check_rows,
    check_symbols,
)
from .chain import Chain, Given, MarkovChain
from .emissions import LAWS, SHAPES, Categorical, Emission
from .emissions.gaussian import Gaussian

Array = NDArray[Any]


class EMHiddenMarkov(
    ChainAnalysis,
    StreamMixin,
    ClusterMixin,  # type: ignore[misc]
    OneToOneFeatureMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Hidden Markov model, estimated by accelerated EM (Baum-Welch), on one sequence or many.

    Sequences are given in one of three ways: ``groups``, an identifier for each row; ``lengths``, as in hmmlearn; or a
    list of arrays. Without any of them all rows are one sequence. Cross-validation cuts a list as it is, and groups
    with metadata routing on: without it, they split the rows, but the fit of each fold is not told of them. Missing
    cells (NaN) are integrated out; a row that is missing altogether still lets time pass.

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
        Stop when the objective is estimated to have less than this left to gain, in nats. A tenth of it costs
        ``-1.15 / log(rate_)`` more plain EM steps, accelerated a fraction of these.
    max_iter : int, default=500
        Most EM steps of one start.
    n_init : int or "auto", default="auto"
        Number of full starts; the best regular solution is kept. A start that ends with a state that no rows belong to
        is followed by one in which that state has half the rows of another. "auto" races 32 starts on a bounded part of
        the rows, leaves the best optimum found for better ones by swapping states, and climbs on all rows from there.
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
        What ``predict`` says of the training rows: a list of arrays if X was one.
    log_likelihood_ : float
        Of the training data at the returned parameters, in nats.
    objective_ : float
        Log-likelihood plus log prior: what EM climbs.
    history_ : list of float
        Objective at each accepted step.
    lower_bounds_ : list of float
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
        At most so much is left to gain, in nats, as far as the last steps tell.
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

    _fitted_rules: ClassVar[Rules] = {
        **StreamMixin._fitted_rules,
        "emission_": (Instance((Emission,), "an Emission"),),
        "labels_": (NOTHING, Vector("iu"), Vectors("iu")),
        "_is_stationary": (FLAG,),
        "_published": (Instance((tuple,), "a tuple"),),
    }

    # In the dictionary of this class, where scikit-learn looks for what set_output concerns.
    transform = ChainAnalysis.transform

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
        """Missing cells are welcome; rows of normal laws may be on another device."""
        tags, law = super().__sklearn_tags__(), self._law()
        tags.array_api_support = isinstance(law, Gaussian)
        tags.input_tags.allow_nan = True
        tags.input_tags.string = tags.input_tags.categorical = not law.numeric
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
            odd = np.argwhere((mask != 0.0) & (mask != 1.0))
            if len(odd):
                i, j = (int(n) for n in odd[0])
                raise ValueError(f"transmat_mask[{i}, {j}] is {mask[i, j]:g}; an entry is True (allowed) or False")
            mask = mask != 0.0
            closed = np.flatnonzero(~mask.any(axis=1))
            if len(closed):
                raise ValueError(f"transmat_mask allows no way out of state {closed[0]}; allow at least staying in it")
            if transmat is not None and (transmat[~mask] > 0.0).any():
                i, j = (int(n) for n in np.argwhere((transmat > 0.0) & ~mask)[0])
                raise ValueError(f"transmat_init[{i}, {j}] is {transmat[i, j]:g}, but transmat_mask forbids it")
        if self.start == "stationary":
            if startprob is not None:
                raise ValueError("start='stationary' follows from the transitions: leave startprob_init out")
            possible = np.ones((k, k), bool) if mask is None else mask
            self._refuse_classes(possible if transmat is None else possible & (transmat > 0.0), "set start='free'")
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
        array = as_floats(name, value)
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
        wrong = array[~((array >= 1.0) & np.isfinite(array))]
        if wrong.size:
            raise ValueError(
                f"{name} holds {wrong[0]:g}; every entry is finite and at least 1 (no imaginary transition)"
            )
        return array

    def _check_rows(self, X: Sequences, *, reset: bool) -> Sequences:
        if is_source(X.X):
            law = self._law()
            if is_dask(X.X) and isinstance(law, Categorical) and law.categories is None:
                raise ValueError("the symbols of a dask collection are not searched for: give Categorical(categories)")
            source = read(X.X, partial(self._check_next, reset))
            return X.resolve(source, are_blocks=is_open(X.X))
        try:
            return X.hold(self._check_block(X.X, reset=reset))
        except ValueError as error:
            error.args = (X.translate(str(error)),)
            raise

    def _check_block(self, X: Any, *, reset: bool) -> Array:
        learns = reset and not (self.warm_start and hasattr(self, "emission_"))
        law = self._law() if learns else self.emission_
        if is_elsewhere(X) and get_namespace(X)[1]:
            if not isinstance(law, Gaussian):
                raise ValueError(
                    f"X is a {type(X).__module__}.{type(X).__name__}, but sequences of the emission "
                    f"{type(law).__name__} are read from NumPy arrays only, those of normal laws from others: convert X"
                )
            rows = check_rows(self, X, reset=reset, remedy="only NumPy arrays may have missing cells: convert X")
        elif law.numeric:
            rows = check_holes(self, X, np.nan, reset=reset)
        else:
            rows = check_symbols(self, X, reset=reset)
        with self._columns_named():
            if learns:
                law = self.emission_ = law.learn(rows)
            return rows if is_elsewhere(rows) else np.ascontiguousarray(law.read(rows))

    def _fixed(self) -> dict[str, Any]:
        fixed: dict[str, Any] = {"n_states": int(self.startprob_.shape[0])}
        if type(self._law()) is type(self.emission_):
            return fixed
        if self.emission == "gaussian" and isinstance(self.emission_, Gaussian):
            return fixed | {"covariance_type": self.emission_.kernel}
        return fixed | {"emission": self.emission_}

    def _refuse_changes(self, what: str, remedy: str) -> None:
        super()._refuse_changes(what, remedy)
        given, fitted = self._model().mask, self._used.mask
        if not np.array_equal(True if given is None else given, True if fitted is None else fitted):
            raise ValueError(
                f"transmat_mask is not that of the fit that {what} continues; {remedy} to start anew, or give that one"
            )

    def _check_start(self, X: Sequences, weight: Array | None) -> None:
        if len(X) < self.n_states:
            raise ValueError(
                f"n_states={self.n_states}, but X has n_samples={len(X)}; set n_states to {len(X)} or fewer"
            )
        of_sequences = X.weights(weight)
        of_rows = None if of_sequences is None else np.repeat(of_sequences, X.lengths)
        n_observed = np.ones(1) if is_elsewhere(X.X) else fold(X.X, of_rows, observed, join_sums)[0]
        empty = np.flatnonzero(n_observed == 0)
        if len(empty):
            where = "" if weight is None else " in a sequence whose sample_weight is positive"
            raise ValueError(f"column {empty[0]} of X has no observed value{where}; drop it")

    def _publish(self, params: Chain) -> None:
        self._is_stationary = self._used.stationary
        self.startprob_, self.transmat_ = params.startprob, params.transmat
        self._kind = params.law
        published = self.emission_.publish(params.law)
        self._published = tuple(published)
        for name, value in published.items():
            setattr(self, name, value)

    def _recall(self) -> Chain:
        attributes = {name: bring(getattr(self, name)) for name in self._published}
        return Chain(
            np.ascontiguousarray(bring(self.startprob_), dtype=np.float64),
            np.ascontiguousarray(bring(self.transmat_), dtype=np.float64),
            self.emission_.recall(attributes, self._kind),
        )

    def _fitted_model(self) -> MarkovChain:
        start = "stationary" if self._is_stationary else "free"
        return MarkovChain(
            self.emission_,
            int(self.startprob_.shape[0]),
            stationary=start == "stationary",
            n_threads=min(2, count_workers(self.n_jobs)),
        )

    def _seen(self, X: Sequences, sample_weight: Any) -> dict[str, Any]:
        return {"X": X.X, "metadata": {"sample_weight": sample_weight, "lengths": X.lengths}}

    def _check_stream(self) -> None:
        law = self.emission_ if hasattr(self, "status_") else self._law()
        if not law.streams:
            raise ValueError(
                f"emission={law!r} cannot follow a stream: if its sums do not depend on the parameters they were taken "
                "at but through the states, set its class attribute streams=True; otherwise let it also define recentre"
            )

    def _learned_from(self, X: Sequences) -> None:
        self._settle(self._recall(), X)

    def _settle(self, params: Chain, X: Sequences) -> Chain:
        if isinstance(X.X, Source):  # one number for each row would be too many
            self.__dict__.pop("labels_", None)
            return params
        model = self._used
        wanted = "path" if self.algorithm == "viterbi" else "smoothed"
        told = self._spread(model, model.frame(params, X), params, wanted)[0]
        self.labels_ = X.restore(told if wanted == "path" else argmax(told))
        return params

    # Fit --------------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the parameters by expectation-maximisation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), list of such arrays, or source
            Rows in the order of time; NaN where a cell is missing. A list holds one array for each sequence, and so
            does an iterable that can be begun anew; files and dask collections are read in blocks of whole sequences.
            With a normal emission, arrays of other libraries without missing cells stay on their device under
            ``sklearn.config_context(array_api_dispatch=True)``, as do the fitted arrays and what is said of rows.
        y : None
            Ignored; present for the sake of pipelines.
        groups : array-like of shape (n_samples,), optional
            Which sequence each row belongs to. Rows of a sequence that do not lie together in an array are brought
            together, in the order in which they come; what is said of rows, such as ``labels_``, is in the order of X.
        lengths : array-like of int, optional
            Number of rows of each sequence, one after the other.
        sample_weight : array-like of shape (n_samples,), optional
            How often each sequence counts: all rows of a sequence have the same weight. Where X is a list, one for each
            sequence will do.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters, cells, weights or starting values that cannot be used; the message names them.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.lambdas_.round(1)
        array([[15.4],
               [26. ]])
        >>> decade = [year // 10 for year in range(len(X))]  # each by itself
        >>> chain.fit(X, groups=decade).lambdas_.round(1)
        array([[13.3],
               [23.1]])
        """
        refuse_mistaken(X, y)
        X = arrange(X, groups, lengths)
        self._fit(X, X.by_row(sample_weight))
        return self

    def partial_fit(
        self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> Self:
        """Learn from the next sequences of a stream, each seen only once, by stepwise EM.

        The first sequences are fitted as by ``fit``, unless that was called before; give enough of them to tell the
        states apart. From then on the running means per row of the statistics move towards those of the new sequences
        by a share of ``(rows / rows so far)^0.6``, and one M-step follows. ``log_likelihood_`` is that of the new
        sequences before they were learned from. An alphabet is that of the first rows unless
        ``Categorical(categories)`` says otherwise; columns that did not vary in the first rows begin with a variance
        near 0, and a state may stay behind there. ``fit`` begins anew, and is called for where ``n_states`` or the law
        has been changed.

        Every sequence must come whole, in one call: its end is not carried over to the next one. A sequence that is
        cut in pieces is learned from as so many sequences, each with a start of its own; ``start="stationary"`` then
        keeps ``startprob_`` from learning where the cuts were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), list of such arrays, or source
            The next sequences, as in ``fit``; a source is one batch, however many blocks it has.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), optional
            Which sequence each row belongs to; in the next call the same identifier is another sequence.
        lengths : array-like of int, optional
            Number of rows of each sequence, one after the other.
        sample_weight : array-like of shape (n_samples,), optional
            How often each sequence counts: all rows of a sequence have the same weight. Where X is a list, one for each
            sequence will do.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As ``fit``; and for a law of observation that cannot follow a stream (``Emission.streams``).

        References
        ----------
        Cappe, O. (2011). Online EM algorithm for hidden Markov models. *Journal of Computational and Graphical
        Statistics* 20, 728-749, for the setting; the steps are those of Cappe, O. & Moulines, E. (2009). On-line
        expectation-maximization algorithm for latent data models. *JRSS B* 71, 593-613, with sequences for rows.

        Examples
        --------
        >>> import numpy as np
        >>> from emkit import EMHiddenMarkov
        >>> rng = np.random.default_rng(0)
        >>> stream = EMHiddenMarkov(2, random_state=0)
        >>> for _ in range(3):
        ...     state = np.repeat([0, 1, 0], 30)
        ...     batch = [rng.normal(5.0 * state, 1.0)[:, None] for _ in range(10)]
        ...     stream = stream.partial_fit(batch)
        >>> stream.means_.round() + 0.0
        array([[0.],
               [5.]])
        """
        refuse_mistaken(X, y)
        X = arrange(X, groups, lengths)
        self._take_in(X, X.by_row(sample_weight))
        return self

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> Any:
        """Fit, then give the states of the rows, ``labels_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        y : None
            Ignored.
        **kwargs : dict
            Passed on to ``fit``: ``groups``, ``lengths``, ``sample_weight``.

        Returns
        -------
        ndarray of int, of shape (n_samples,)
            A list of arrays if X is one; of a source, what ``predict`` gives.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> EMHiddenMarkov(2, emission="poisson", random_state=0).fit_predict(X)[:8]
        array([0, 0, 0, 0, 0, 1, 1, 1])
        """
        self.fit(X, y, **kwargs)
        kwargs.pop("sample_weight", None)
        return self.labels_ if hasattr(self, "labels_") else self.predict(X, **kwargs)
