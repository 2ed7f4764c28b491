"""What a fitted normal with holes can tell beyond a filled table: intervals, draws, tests, standard errors."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.utils.validation import check_is_fitted

from ._mixin import EMMixin
from ._patterns import Incomplete, group
from ._search import FitFailedError
from ._uncertainty import posterior_draws, slowest_rate
from ._validation import Instance, Interval, Options, Rules, Vector, check_weight, generator
from .normal import MissingNormal, Normal, varying

Array = NDArray[Any]

# Resamples without a regular fit are drawn again this often before the fit is given up.
_REDRAWS = 100


class Conditional(NamedTuple):
    """What is known of each cell, given the observed cells of its row."""

    mean: Array  # (n, p) the observed value, or the conditional mean of a missing one
    std: Array  # (n, p) its standard deviation; 0 where the value was observed


class McarTest(NamedTuple):
    """Little's test that cells are missing completely at random."""

    statistic: float
    df: int
    pvalue: float


class IncompleteAnalysis(EMMixin):
    """Methods of an estimator of a multivariate normal from rows with holes."""

    mean_: Array
    covariance_: Array
    worst_missing_information_: float
    indicator_features_: Array
    _kept: Array
    _used: MissingNormal

    _fitted_rules: ClassVar[Rules] = {
        **EMMixin._fitted_rules,
        **dict.fromkeys(("_kept", "_fitted_kept", "indicator_features_"), (Vector("i"),)),
        "missing_patterns_": (Instance((tuple,), "a tuple"),),
        "worst_missing_information_": (Interval(float, 0.0),),
        "prior_": (Options((None, "ridge", "inverse_wishart")),),
    }

    @abstractmethod
    def _complete(self, X: Array, rng: np.random.Generator | None, params: Normal) -> Array:
        """Conditional means, or draws, in place of the holes; inside the bounds."""

    def _score_a_draw(self) -> None:
        """Fill a row without any observed cell, and bring it back from its indicators."""
        width, kept, told = self.n_features_in_, self._kept, self.indicator_features_
        for name, columns, end in (("_kept", kept, width), ("indicator_features_", told, len(kept))):
            if not np.array_equal(columns, np.unique(columns)) or ((columns < 0) | (columns >= end)).any():
                raise ValueError(f"{name} is {columns.tolist()}; it must hold increasing numbers from 0 to {end - 1}")
        X = self._check_rows(np.full((1, width), np.nan), reset=False)
        if not np.isfinite(self._complete(X, None, self._recall())).all():
            raise ValueError("a missing cell is filled with what is not finite")
        self._infer(np.full((1, width), np.nan), "log_density")

    def conditional(self, X: Any) -> Conditional:
        """Conditional mean and standard deviation of every cell, given the observed cells of its row.

        ``mean - 1.96 std`` to ``mean + 1.96 std`` covers a missing value with probability 95 %, as far as rows are
        normal and the estimates certain. Bounds are not applied.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        Conditional
            ``mean`` and ``std``, ndarrays of shape (n_samples, n_features kept).

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> X = load_airquality().data
        >>> mean, std = EMImputer().fit(X).conditional(X)
        >>> print(f"ozone on the tenth day: {mean[9, 0]:.0f} +- {std[9, 0]:.0f}")
        ozone on the tenth day: 34 +- 20
        """
        check_is_fitted(self)
        return self._conditional(self._check_rows(X, reset=False))

    def _conditional(self, X: Array) -> Conditional:
        params = self._recall()
        columns = np.flatnonzero(varying(params))
        filled, deviation = self._fill(X, params, "filled", "deviation")
        mean, std = np.where(np.isnan(X), params.mean, X), np.zeros(X.shape)
        mean[:, columns], std[:, columns] = filled, deviation
        return Conditional(mean, std)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draw complete rows from the fitted normal.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator, SeedSequence, optional
            Its own seed, not the estimator's: without one every call differs.

        Returns
        -------
        ndarray of shape (n_samples, n_features kept)

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_cholesterol
        >>> imputer = EMImputer().fit(load_cholesterol().data)
        >>> imputer.sample(1000, random_state=0).mean(axis=0).round(), imputer.mean_.round()
        (array([252., 230., 223.]), array([254., 231., 222.]))
        """
        check_is_fitted(self)
        if not Interval(int, 1).allows(n_samples):
            raise ValueError(f"n_samples must be an int of at least 1. Got {n_samples!r} instead.")
        noise = generator(random_state).standard_normal((n_samples, len(self.mean_)))
        return np.asarray(self.mean_ + noise @ self._recall().cholesky.T)

    def multiple_impute(
        self,
        X: Any,
        n_imputations: int = 20,
        *,
        method: str = "posterior",
        sample_weight: Any = None,
        random_state: Any = None,
    ) -> Array:
        """Impute several times, each time with other parameters that the data allow as well.

        Analyse each data set as if it were complete and combine the results with ``emkit.pool``: the intervals then
        include what the missing cells cost. X needs every column of that analysis, its outcome too. The estimator is
        left as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the imputer was fitted to.
        n_imputations : int, default=20
        method : {"posterior", "bootstrap"}, default="posterior"
            Draw the parameters by data augmentation, as many steps apart as the fraction of missing information asks
            for; or refit, warm started, to resampled rows.
        sample_weight : array-like of shape (n_samples,), optional
            The weights of the fit; the posterior asks for whole numbers.
        random_state : int, RandomState, Generator, SeedSequence, optional
            Its own seed: without one every call differs.

        Returns
        -------
        ndarray of shape (n_imputations, n_samples, n_features kept)

        Raises
        ------
        ValueError
            For rows or weights that are not those of the fit, or a method that is not known.

        References
        ----------
        Honaker, J. & King, G. (2010). What to do about missing values in time-series cross-section data. *American
        Journal of Political Science* 54, 561-581 (bootstrap); Schafer (1997), section 5.4 (posterior).

        Examples
        --------
        >>> from emkit import EMImputer, pool
        >>> from emkit.datasets import load_cholesterol
        >>> X = load_cholesterol().data
        >>> draws = EMImputer().fit(X).multiple_impute(X, 20, random_state=0)
        >>> draws.shape
        (20, 28, 3)
        >>> pooled = pool(draws.mean(axis=1), draws.var(axis=1, ddof=1) / len(X), len(X) - 1)
        >>> pooled.missing_information.round(1)
        array([0. , 0. , 0.1])
        """
        check_is_fitted(self)
        if not Interval(int, 1).allows(n_imputations):
            raise ValueError(f"n_imputations must be an int of at least 1. Got {n_imputations!r} instead.")
        if method not in ("posterior", "bootstrap"):
            raise ValueError(f"method must be 'posterior' or 'bootstrap'. Got {method!r} instead.")
        X = self._check_rows(X, reset=False)
        weight = check_weight(sample_weight, len(X))
        if method == "posterior" and weight is not None and (weight != np.round(weight)).any():
            raise ValueError("the posterior needs whole numbers as sample_weight; use method='bootstrap'")
        self._refuse_other_rows(X, weight)
        rng = generator(random_state)
        params, model = self._recall(), self._used
        if method == "posterior":
            rows = X if weight is None else np.repeat(X, weight.astype(np.intp), axis=0)
            rate = min(max(self.worst_missing_information_, 0.05), 0.99)
            draws = posterior_draws(model, rows, params, rng, max(3, int(np.ceil(np.log(0.02) / np.log(rate)))))
        else:
            if weight is None:
                weight = np.ones(len(X))
            draws = (self._resampled(model, X, weight, params, rng) for _ in range(n_imputations))
        return np.array([self._complete(X, rng, draw) for draw, _ in zip(draws, range(n_imputations), strict=False)])

    def _refuse_other_rows(self, X: Array, weight: Array | None) -> None:
        """Refuse rows whose log-likelihood is not that of the fit; that of a stream is of no rows in particular."""
        if "_stream" in vars(self):
            return
        (log_density,) = self._fill(X, self._recall(), "log_density")
        found = float(log_density.sum() if weight is None else log_density @ weight)
        if not abs(found - self.log_likelihood_) <= 1e-6 * (abs(found) + len(X)):
            raise ValueError(
                f"the log-likelihood of X is {found:.10g}, but that of the fit was {self.log_likelihood_:.10g}: give "
                "the rows of the fit, with its sample_weight"
            )

    def _resampled(
        self, model: MissingNormal, X: Array, weight: Array, params: Normal, rng: np.random.Generator
    ) -> Normal:
        """Parameters fitted to rows drawn with replacement; drawn again where these have no regular fit."""
        for _ in range(_REDRAWS):
            drawn = rng.multinomial(round(weight.sum()), weight / weight.sum()).astype(np.float64)
            data = model.prepare(X, drawn)
            if len(data.columns) < np.count_nonzero(varying(params)):
                continue
            try:
                best = self._search(model.calibrate(data), data, model.standardize(params, data)).best
            except FitFailedError:
                continue
            if best.status != "degenerate":
                return model.restore(best.params, data)
        raise ValueError(
            f"none of {_REDRAWS} resamples of the {len(X)} rows has a regular covariance; use method='posterior', "
            "or fit with prior='ridge'"
        )

    def _at_optimum(self, X: Any, sample_weight: Any = None) -> tuple[MissingNormal, Incomplete, Normal]:
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        model = self._used
        data = model.prepare(X, check_weight(sample_weight, len(X)))
        return model.calibrate(data), data, model.standardize(self._recall(), data)

    def missing_information(self, X: Any, sample_weight: Any = None) -> float:
        """Largest fraction of missing information of any function of the parameters, between 0 and 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the imputer was fitted to.
        sample_weight : array-like of shape (n_samples,), optional
            The weights of the fit.

        Returns
        -------
        float

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> X = load_airquality().data
        >>> round(EMImputer().fit(X).missing_information(X), 2)
        0.36
        """
        model, data, params = self._at_optimum(X, sample_weight)
        return slowest_rate(model, model.split(data), params)

    def little_mcar_test(self, X: Any, sample_weight: Any = None) -> McarTest:
        """Little's test of the hypothesis that cells are missing completely at random.

        A small p-value says that the means differ between the patterns of missing cells by more than chance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows of the fit.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts.

        Returns
        -------
        McarTest
            ``statistic``, ``df`` and ``pvalue``. Without two patterns there is nothing to test: 0, 0 and 1.

        References
        ----------
        Little, R. (1988). A test of missing completely at random for multivariate data with missing values. *JASA* 83,
        1198-1202.

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> X = load_airquality().data
        >>> statistic, df, pvalue = EMImputer().fit(X).little_mcar_test(X)
        >>> print(f"{statistic:.1f} with {df} degrees of freedom: p = {pvalue:.3f}")
        35.1 with 14 degrees of freedom: p = 0.001
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        weight = check_weight(sample_weight, len(X))
        weight = np.ones(len(X)) if weight is None else weight
        X, weight = X[weight > 0.0], weight[weight > 0.0]
        params = self._recall()
        columns = np.flatnonzero(varying(params))
        x = X[:, columns]
        patterns = group(x)
        means = np.full(patterns.missing.shape, np.nan)
        counts = np.zeros(len(means))
        for s, missing in enumerate(patterns.missing):
            rows = patterns.order[patterns.starts[s] : patterns.starts[s + 1]]
            counts[s] = weight[rows].sum()
            means[s, ~missing] = weight[rows] @ x[np.ix_(rows, ~missing)] / counts[s]
        whole = np.full((len(means), X.shape[1]), np.nan)
        whole[:, columns] = means
        statistic = float(counts @ self._fill(whole, params, "distance")[0])
        df = int((~patterns.missing).sum()) - len(columns)
        return McarTest(statistic, df, float(chi2.sf(statistic, df))) if df > 0 else McarTest(0.0, 0, 1.0)
