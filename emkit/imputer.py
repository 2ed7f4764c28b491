"""EMImputer: fill the holes of a table with what a multivariate normal, learned from it, expects there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from ._blocks import fold, join_sums
from ._executors import one_blas_thread
from ._incomplete_analysis import IncompleteAnalysis
from ._mixin import EMMixin
from ._model import Model
from ._patterns import Incomplete, Patterns, group, observed, observed_range
from ._search import Search
from ._sources import Source, blockwise, is_source, opened
from ._stream import StreamMixin
from ._uncertainty import slowest_rate
from ._validation import FLAG, NOTHING, ArrayLike, Interval, Number, Options, Rules, as_floats, check_holes, generator
from .exceptions import DataWarning, warn
from .normal import MissingNormal, Normal, deviations, inverse, unidentified, varying

Array = NDArray[Any]

# Draws outside the bounds are repeated this often before they are put on the bound.
_REDRAWS = 100


class MissingPatterns(NamedTuple):
    """Which cells are missing together, the most frequent pattern first."""

    missing: Array  # (n_patterns, p) bool
    counts: Array  # (n_patterns,) sums of weights


class EMImputer(IncompleteAnalysis, StreamMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Impute missing values by maximum likelihood under a multivariate normal, estimated by accelerated EM.

    Every missing cell gets its expectation given all observed cells of its row: the best linear prediction from
    whatever happens to be there, for every pattern of holes. Means, covariances and predictions are exact at
    convergence and need no random numbers; cells may be missing completely at random or at random (depending on what
    was observed).

    Parameters
    ----------
    missing_values : float, default=nan
        A number that stands for a missing cell. NaN, None, ``pandas.NA``, NaT, nulls and masked cells always do. Text
        is refused, even where it spells numbers.
    prior : {"auto", "ridge", None} or array-like of shape (n_features, n_features), default="auto"
        None is maximum likelihood. "ridge" adds the scatter of imaginary rows, uncorrelated, with the variance of each
        column. A matrix is the scatter of an inverse Wishart prior. "auto" is None, or a ridge, announced by a warning,
        if there are at least as many columns as rows, if two columns are never seen in one row, or if the likelihood
        has no maximum.
    prior_strength : float, default=1.0
        Degrees of freedom of the prior, roughly a number of imaginary rows; with "ridge" it also scales their scatter.
    tol : float, default=1e-3
        Stop when the objective is estimated to have less than this left to gain, in nats. A tenth of it costs
        ``-1.15 / log(rate_)`` more plain EM steps, accelerated a fraction of these.
    max_iter : int, default=500
        Most EM steps.
    acceleration : {"auto", "squarem", "anderson", "momentum", None}, default="auto"
        How the EM map is extrapolated; the objective never falls. None is plain EM.
    add_indicator : bool, default=False
        Append a column of 0 and 1 for every column that had missing cells in ``fit``.
    keep_empty_features : bool, default=False
        Keep columns without any observed value in ``fit``, filled with 0, instead of dropping them.
    min_value, max_value : float or array-like of shape (n_features,), default=-inf, inf
        Bounds of imputed values. Means are clipped; draws are repeated until all cells of a row lie inside (after 100
        times they are clipped), so they come from the truncated distribution.
    sample_posterior : bool, default=False
        Impute draws from the conditional distribution instead of its mean: they keep the variances and correlations of
        the data.
    n_jobs : int, optional
        Threads for blocks of rows. None: all cores, one inside a joblib worker. The result does not depend on it.
    random_state : int, RandomState, Generator, SeedSequence, optional
        Seed of the draws of ``sample_posterior``.
    warm_start : bool, default=False
        Begin where the previous fit ended.
    verbose : int, default=0
        1 prints every tenth step, 2 every step.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Means, of the columns that are kept. ``statistics_`` is the same under scikit-learn's name: what a row without
        any observed cell gets.
    covariance_, precision_ : ndarray of shape (n_features, n_features)
        Covariances and their inverse; zeros for a column that does not vary.
    missing_patterns_ : tuple of (missing, counts)
        Which cells are missing together, bool of shape (n_patterns, n_features), and how often, the most frequent
        first. Rows without any observed cell are not counted.
    worst_missing_information_ : float
        Share of the information on the least certain direction of the parameters that the holes have taken; also the
        rate at which plain EM converges. 0 if nothing is missing. What the climb has seen of it, at no cost, and so
        rather too low: of directions in which EM began at the maximum it saw nothing. ``missing_information`` computes
        it, for the price of two passes over the data for each of a few dozen directions.
    prior_ : str or None
        The prior that was used: "ridge", "inverse_wishart" or None.
    indicator_features_ : ndarray of int
        Columns (of the kept ones) that had missing cells in ``fit``.
    log_likelihood_ : float
        Of the observed cells of the training data at the returned parameters, in nats.
    objective_ : float
        Log-likelihood plus log prior: what EM climbs.
    history_ : list of float
        Objective at each accepted step.
    n_iter_ : int
        EM steps.
    converged_ : bool
        Whether ``status_`` is "converged".
    status_ : {"converged", "max_iter", "stalled", "degenerate", "stopped"}
        How the climb ended.
    rate_, gap_ : float
        Share of the distance to the optimum that one EM step leaves; at most so much is left to gain, in nats, as far
        as the last steps tell.
    restarts_ : list of dict
        The record of the one start.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X had names.

    See Also
    --------
    emkit.pool : Combine analyses of several imputations.

    References
    ----------
    Little, R. & Rubin, D. (2019). *Statistical Analysis with Missing Data*, 3rd ed. Wiley.
    Schafer, J. (1997). *Analysis of Incomplete Multivariate Data*. Chapman & Hall.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMImputer
    >>> X = np.array([[1.0, 2.1], [2.0, 3.9], [3.0, 6.2], [4.0, 7.8], [5.0, np.nan]])
    >>> EMImputer().fit_transform(X)[4].round(2)
    array([5.  , 9.85])
    """

    _rules: ClassVar[Rules] = {
        **EMMixin._rules,
        "missing_values": (NOTHING, Number()),
        "prior": (Options((None, "auto", "ridge")), ArrayLike()),
        "prior_strength": (Interval(float, 0.0),),
        "add_indicator": (FLAG,),
        "keep_empty_features": (FLAG,),
        "min_value": (Number(), ArrayLike()),
        "max_value": (Number(), ArrayLike()),
        "sample_posterior": (FLAG,),
    }

    _fitted_rules: ClassVar[Rules] = {**StreamMixin._fitted_rules, **IncompleteAnalysis._fitted_rules}

    def __init__(
        self,
        *,
        missing_values: Any = np.nan,
        prior: Any = "auto",
        prior_strength: float = 1.0,
        tol: float = 1e-3,
        max_iter: int = 500,
        acceleration: str | None = "auto",
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        min_value: Any = -np.inf,
        max_value: Any = np.inf,
        sample_posterior: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.missing_values = missing_values
        self.prior = prior
        self.prior_strength = prior_strength
        self.tol = tol
        self.max_iter = max_iter
        self.acceleration = acceleration
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.min_value = min_value
        self.max_value = max_value
        self.sample_posterior = sample_posterior
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Missing cells are welcome; float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Hooks of EMMixin -------------------------------------------------------------------------------------------------

    def _model(self) -> MissingNormal:
        kind = self.prior
        if not (kind is None or isinstance(kind, str)):
            kind = tuple(map(tuple, np.asarray(kind, dtype=np.float64)[np.ix_(self._kept, self._kept)].tolist()))
        names = tuple(self._named([int(j)]) for j in self._kept)
        return MissingNormal(kind, float(self.prior_strength), names=names)

    def _fitted_model(self) -> MissingNormal:
        return self._used

    def _continues(self, data: Incomplete) -> bool:
        varied = np.flatnonzero(np.diagonal(self.covariance_) > 0.0)
        return np.array_equal(self._kept, self._fitted_kept) and np.array_equal(varied, data.columns)

    def _check_rows(self, X: Any, *, reset: bool) -> Array:
        """Check cells, then leave out the columns that fit left out."""
        X = self._check_block(X, reset=reset)
        if reset:
            self._learn_columns(X)
        return X if len(self._kept) == X.shape[1] else np.asarray(X[:, self._kept])

    def _check_block(self, X: Any, *, reset: bool) -> Array:
        return check_holes(self, X, self.missing_values, reset=reset)

    def _check_source(self, X: Source, *, reset: bool) -> Source:
        if reset:
            self._learn_columns(X)
        return X if len(self._kept) == X.shape[1] else X.keep(self._kept)

    def _learn_columns(self, X: Any) -> None:
        """Find the columns to keep."""
        low, high = observed_range(X)
        seen = low <= high
        if not seen.any():
            raise ValueError("every cell of X is missing: there is nothing to learn from")
        if not (low < high).any():  # only then can there be so few
            n_seen = fold(X, None, observed, join_sums)[1]
            if n_seen < 2:
                raise ValueError(
                    f"n_samples = {len(X)}, of which {n_seen} have an observed cell; at least 2 rows are needed "
                    "for a covariance"
                )
        self._check_range(low, high)
        self._check_matrices(X.shape[1])
        if not seen.all():
            what = "filled with 0" if self.keep_empty_features else "dropped; keep_empty_features=True keeps them"
            self._warn(f"columns without any observed value are {what}: {self._named(np.flatnonzero(~seen))}")
        self._kept = np.arange(len(seen)) if self.keep_empty_features else np.flatnonzero(seen)

    def _check_range(self, low: Array, high: Array) -> None:
        """Squares of values and of their differences must be numbers."""
        flat = np.flatnonzero((high > low) & (high - low < 1e-151))
        if len(flat):
            j = flat[0]
            raise ValueError(
                f"column {self._named([j])} has a range of {high[j] - low[j]:.3g}, whose square underflows; multiply "
                "the column first"
            )
        size = np.maximum(-low, high)
        wrong = np.flatnonzero(size > 1e152)
        if len(wrong):
            j = wrong[0]
            raise ValueError(
                f"column {self._named([j])} has values up to {size[j]:.3g}, whose squares overflow; divide the column "
                "first"
            )

    def _form(self, method: str) -> tuple[tuple[int, ...], Any]:
        return ((len(self.get_feature_names_out()),) if method == "_transform" else ()), np.float64

    def _check_matrices(self, p: int) -> None:
        """Parameters that have an entry for each column."""
        if not (self.prior is None or isinstance(self.prior, str)):
            prior = as_floats("prior", self.prior)
            if prior.shape != (p, p):
                raise ValueError(f"prior has shape {prior.shape}, but X has {p} features: it must be ({p}, {p})")
            if not np.isfinite(prior).all() or not np.allclose(prior, prior.T) or np.linalg.eigvalsh(prior)[0] < 0.0:
                raise ValueError(
                    "prior must be a symmetric matrix without negative eigenvalues: the scatter of imaginary rows"
                )
        low, high = self._bounds(p)
        wrong = np.flatnonzero(~(low < high))
        if len(wrong):
            j = wrong[0]
            raise ValueError(f"min_value={low[j]:g} is not below max_value={high[j]:g} for column {j}; swap them")

    def _bounds(self, p: int) -> tuple[Array, Array]:
        """Lower and upper bound of each of p columns."""
        bounds = []
        for name in ("min_value", "max_value"):
            value = as_floats(name, getattr(self, name))
            if value.shape not in ((), (p,)):
                raise ValueError(
                    f"{name} has shape {value.shape}, but X has {p} features: give one number, or one for each"
                )
            bounds.append(np.broadcast_to(value, (p,)))
        return bounds[0], bounds[1]

    def _check_start(self, X: Array, weight: Array | None) -> None:
        if weight is not None:
            n_cells, n_seen = fold(X, weight, observed, join_sums)
            if n_seen < 2:
                raise ValueError("fewer than 2 rows with an observed cell have a positive sample_weight")
            lost = np.flatnonzero((n_cells == 0) & (fold(X, None, observed, join_sums)[0] > 0))
            if len(lost):
                raise ValueError(
                    f"column {self._named(self._kept[lost[:1]])} was only observed in rows whose sample_weight is 0, "
                    "which count as absent; leave the column out, or give one of these rows a weight"
                )

    def _record(self, found: Search, model: Model) -> None:
        super()._record(found, model)
        assert isinstance(model, MissingNormal)
        self._fitted_kept = self._kept
        kind = model.kind
        self.prior_ = kind if kind is None or isinstance(kind, str) else "inverse_wishart"
        self.worst_missing_information_ = self.rate_

    def _estimate(self, X: Any, sample_weight: Any) -> tuple[Array, Incomplete]:
        X, data = super()._estimate(X, sample_weight)
        counts = np.argsort(-data.counts, kind="stable")
        missing = np.zeros((len(counts), X.shape[1]), bool)
        missing[:, data.columns] = data.missing[counts]
        patterns = data.patterns
        if len(data.columns) < X.shape[1]:
            patterns = None
            n_cells, _ = fold(X, None, observed, join_sums)
            fixed = np.setdiff1d(np.flatnonzero(n_cells), data.columns)
            if len(fixed):
                self._warn(f"columns that do not vary are filled with their value: {self._named(self._kept[fixed])}")
        reason = unidentified(data, self._used.varied) if self.prior is None and self.converged_ else None
        if reason is not None:
            self._warn(
                f"the likelihood has no unique maximum, because {reason}: the estimate depends on where EM began; "
                "prior='ridge' makes it unique"
            )
        self.missing_patterns_ = MissingPatterns(missing, data.counts[counts])
        if isinstance(X, Source):
            n_cells, n_seen = X.fold(observed, join_sums, None)
            self.indicator_features_ = np.flatnonzero(n_cells < len(X))
            self._say_empty(len(X) - n_seen, "")
        else:
            patterns = group(X) if patterns is None else patterns
            self.indicator_features_ = np.flatnonzero(patterns.missing.any(axis=0))
            self._flag(patterns)
        if not data.missing.any():
            self.worst_missing_information_ = 0.0
        elif self.n_iter_ == 1 and self.converged_:
            # The climb began at its end, the closed form: its pace has to be asked for.
            model = self._used.calibrate(data)
            self.worst_missing_information_ = slowest_rate(
                model, model.split(data), model.standardize(self._recall(), data)
            )
        return X, data

    def _publish(self, params: Normal) -> None:
        self.mean_ = params.mean
        self.statistics_ = params.mean
        self.covariance_ = params.cholesky @ params.cholesky.T
        varies = np.flatnonzero(varying(params))
        unit = deviations(params.cholesky)[varies]
        self.precision_ = np.zeros_like(self.covariance_)
        inside = inverse(params.cholesky[np.ix_(varies, varies)] / unit[:, None])
        most = np.finfo(np.float64).max  # of tiny units, where columns nearly determine each other
        with np.errstate(over="ignore"):
            self.precision_[np.ix_(varies, varies)] = np.clip(inside / unit[:, None] / unit, -most, most)

    def _recall(self) -> Normal:
        covariance = np.asarray(self.covariance_)
        varies = np.flatnonzero(np.diagonal(covariance) > 0.0)
        unit = np.sqrt(np.diagonal(covariance)[varies])
        cholesky = np.zeros_like(covariance)
        correlation = covariance[np.ix_(varies, varies)] / unit[:, None] / unit
        cholesky[np.ix_(varies, varies)] = np.linalg.cholesky(correlation) * unit[:, None]
        return Normal(np.asarray(self.mean_), cholesky)

    def _named(self, columns: Iterable[int]) -> str:
        names = getattr(self, "feature_names_in_", None)
        return ", ".join(str(j) if names is None else repr(names[j]) for j in columns)

    def _warn(self, message: str) -> None:
        warn(f"{type(self).__name__}: {message}", DataWarning)

    def _flag(self, patterns: Patterns) -> None:
        empty = patterns.empty_rows()
        if len(empty):
            self._say_empty(len(empty), f" (the first is row {empty[0]})")

    def _say_empty(self, n_rows: int, where: str) -> None:
        if n_rows:
            self._warn(
                f"{n_rows} rows have no observed cell{where}: they are filled with the means and say nothing; drop "
                "them unless rows must stay aligned"
            )

    # Imputing ---------------------------------------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Fill the missing cells of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source
            Columns that were complete in ``fit`` may have holes here.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Floats; observed cells are unchanged. Columns as in ``get_feature_names_out``.

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> X = load_airquality().data
        >>> X[9], EMImputer().fit(X).transform(X)[9].round(1)
        (array([  nan, 194. ,   8.6,  69. ,   5. ,  10. ]), array([ 34.2, 194. ,   8.6,  69. ,   5. ,  10. ]))
        """
        check_is_fitted(self)
        X = opened(X)
        if is_source(X):
            self._check_blockwise()
        return self._transform(X)

    def _check_blockwise(self) -> None:
        """Refuse settings that mean something for all rows together."""
        if self.sample_posterior:
            raise ValueError(
                "sample_posterior=True would draw the same noise for every block of a source; transform block by "
                "block, with another random_state each time"
            )
        wanted = _get_output_config("transform", self)["dense"]
        if wanted != "default":
            raise ValueError(
                f"set_output(transform={wanted!r}) is for arrays; a source is given back in kind: set it to 'default', "
                "or transform block by block"
            )

    @blockwise
    def _transform(self, X: Any) -> Any:
        X = self._check_rows(X, reset=False)
        patterns = group(X)
        self._flag(patterns)
        return self._finish(X, patterns if varying(self._recall()).all() else None)

    def fit_transform(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Any:
        """Fit to X, then fill its missing cells.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to learn from, and to fill.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts in the fit.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> X = load_airquality().data
        >>> EMImputer(min_value=0.0).fit_transform(X)[4].round(1)
        array([  0. , 151.9,  14.3,  56. ,   5. ,   5. ])
        """
        X = opened(X)
        if is_source(X):
            return self.fit(X, sample_weight=sample_weight).transform(X)
        with one_blas_thread(), self._unless_it_fails():
            X, data = self._estimate(X, sample_weight)
            return self._finish(X, data.patterns)

    def _finish(self, X: Array, patterns: Patterns | None = None) -> Array:
        """Fill, append the indicators, give back the type of float that came in."""
        rng = generator(self.random_state) if self.sample_posterior else None
        filled = self._complete(X, rng, self._recall(), patterns)
        if self.add_indicator:
            filled = np.column_stack([filled, np.isnan(X[:, self.indicator_features_])])
        if X.dtype == np.float32:  # what float64 holds may be beyond it
            most = np.finfo(np.float32).max
            np.clip(filled, -most, most, out=filled)
        return filled.astype(X.dtype, copy=False)

    def _complete(
        self, X: Array, rng: np.random.Generator | None, params: Normal, patterns: Patterns | None = None
    ) -> Array:
        """Conditional means, or draws, in place of the holes; inside the bounds."""
        filled = self._cells(X, rng, params, patterns)
        low, high = (bound[self._kept] for bound in self._bounds(self.n_features_in_))
        if np.isinf(low).all() and np.isinf(high).all():
            return filled
        holes = np.isnan(X)
        if rng is not None:
            drawn = holes & varying(params)
            for _ in range(_REDRAWS):
                outside = np.flatnonzero((drawn & ((filled < low) | (filled > high))).any(axis=1))
                if not len(outside):
                    break
                filled[outside] = self._cells(X[outside], rng, params)
        np.copyto(filled, np.clip(filled, low, high), where=holes)
        return filled

    def _cells(
        self, X: Array, rng: np.random.Generator | None, params: Normal, patterns: Patterns | None = None
    ) -> Array:
        columns = np.flatnonzero(varying(params))
        noise = None if rng is None else rng.standard_normal((len(X), len(columns)))
        model = self._fitted_model()
        (filled,) = self._spread(model, model.frame(params, X, patterns)._replace(noise=noise), params, "filled")
        if len(columns) == X.shape[1]:
            return filled
        whole = np.where(np.isnan(X), params.mean, X)
        whole[:, columns] = filled
        return whole

    def inverse_transform(self, X: Any) -> Array:
        """Put the holes back where the indicators say they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            What ``transform`` returned, with ``add_indicator=True``.

        Returns
        -------
        ndarray of shape (n_samples, n_features)

        Examples
        --------
        >>> import numpy as np
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_cholesterol
        >>> X = load_cholesterol().data
        >>> imputer = EMImputer(add_indicator=True)
        >>> np.array_equal(imputer.inverse_transform(imputer.fit_transform(X)), X, equal_nan=True)
        True
        """
        check_is_fitted(self)
        if not self.add_indicator:
            raise ValueError("inverse_transform needs the indicators to know what was imputed; set add_indicator=True")
        X = np.asarray(X)
        p, width = len(self._kept), len(self._kept) + len(self.indicator_features_)
        if X.ndim != 2 or X.shape[1] != width:
            raise ValueError(f"X has shape {X.shape}, but transform returned {width} columns")
        back = np.full((len(X), self.n_features_in_), np.nan)
        values = X[:, :p].astype(np.float64)
        values[:, self.indicator_features_] = np.where(
            X[:, p:].astype(bool), np.nan, values[:, self.indicator_features_]
        )
        back[:, self._kept] = values
        return back

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns that ``transform`` returns.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns of X; by default those seen in ``fit``, or x0, x1, ...

        Returns
        -------
        ndarray of str
            The columns that are kept, then the indicators; an indicator whose name is taken has underscores appended.

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_cholesterol
        >>> X = load_cholesterol(as_frame=True).data
        >>> EMImputer(add_indicator=True).fit(X).get_feature_names_out().tolist()
        ['Y1', 'Y2', 'Y3', 'missingindicator_Y3']
        """
        check_is_fitted(self)
        known = getattr(self, "feature_names_in_", None)
        if input_features is None:
            names = np.array([f"x{j}" for j in range(self.n_features_in_)], dtype=object) if known is None else known
        else:
            names = np.asarray(input_features, dtype=object)
            if known is not None and not np.array_equal(names, known):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(names) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), "
                    f"got {len(names)}"
                )
        out = [str(name) for name in names[self._kept]]
        if self.add_indicator:
            for j in self.indicator_features_:
                indicator = f"missingindicator_{out[j]}"
                while indicator in out:
                    indicator += "_"
                out.append(indicator)
        return np.array(out, dtype=object)
