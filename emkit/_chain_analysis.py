"""What a fitted hidden Markov model can tell beside states: forecasts, likelihoods, standard errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ._arrays import bring, send
from ._chain_states import ChainStates
from ._paths import quantiles, walk
from ._sequences import arrange, sequencewise
from ._sources import gathered, is_source
from ._standard_errors import StandardErrors
from ._validation import SEED, Interval, check_parameter, check_weight, generator
from .chain import LEAST, Runs, stationary
from .emissions import Emission

Array = NDArray[Any]


class ChainAnalysis(ChainStates):
    """Methods of an estimator of a hidden Markov model."""

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
            A list of arrays if X is one.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> X = X.astype(float)
        >>> X[50] = float("nan")
        >>> chain.transform(X)[49:52].ravel().round(1)
        array([36. , 23.5, 21. ])
        """
        X = arrange(X, groups, lengths)
        self._check_place(X.X, "transform")
        checked = self._check_rows(X, reset=False)
        params, rows = self._recall(), checked.here()
        data: Runs = self._fitted_model().frame(params, rows)
        filled = self.emission_.fill(params.law, data.rows, self._fill(rows, params, "smoothed")[0])
        return X.restore(send(filled, checked.X))

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

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> ahead = chain.forecast(X, 3)
        >>> ahead.mean.ravel().round(1)
        array([16.2, 16.8, 17.3])
        >>> ahead.quantiles[:, 0, 0]
        array([ 9., 16., 25.])
        """
        check_parameter("forecast", "horizon", horizon, (Interval(int, 1),))
        levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
        if not ((levels > 0.0) & (levels < 1.0)).all():
            raise ValueError(f"quantiles must lie between 0 and 1. Got {quantiles!r} instead.")
        state, params = self._filtered(X, "forecast")[-1], self._recall()
        ahead = np.empty((int(horizon), len(state)))
        for step in range(int(horizon)):
            ahead[step] = state = state @ params.transmat
        law, params = self.emission_, params.law
        told = Bunch(state_proba=ahead)
        with suppress(NotImplementedError):  # the law has none
            told.mean = ahead @ law.mean(params)
        with suppress(NotImplementedError):
            told.quantiles = np.stack(
                [_quantiles(law, params, column, ahead, levels) for column in range(self.n_features_in_)], axis=-1
            )
        return told

    @sequencewise
    def score_samples(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Log-density of each row given the rows of its sequence before it.

        Their sum is the log-likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), list of such arrays, or source
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Natural logarithms, in nats. A list of arrays if X is one.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.score_samples(X)[:3].round(2)
        array([-2.41, -2.38, -4.22])
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

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> round(chain.score(X), 2)
        -3.2
        """
        log_density, weight = self._weighed(X, groups, lengths, sample_weight)
        return float(np.average(log_density, weights=weight))

    def aic(  # type: ignore[override]
        self, X: Any, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> float:
        """Akaike's information criterion on X: lower is better; zeros that are known are no parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.
        sample_weight : array-like of shape (n_samples,), optional
            How often each sequence counts.

        Returns
        -------
        float

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> three = EMHiddenMarkov(3, emission="poisson", random_state=0).fit(X)
        >>> round(chain.aic(X), 1), round(three.aic(X), 1)
        (693.8, 679.1)
        """
        return self._information(lambda rows: 2.0, *self._weighed(X, groups, lengths, sample_weight))

    def bic(  # type: ignore[override]
        self, X: Any, *, groups: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> float:
        """Schwarz's information criterion on X: lower is better. Infinite for a degenerate fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or list of such arrays
        groups, lengths : array-like, optional
            As in ``fit``.
        sample_weight : array-like of shape (n_samples,), optional
            How often each sequence counts.

        Returns
        -------
        float

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> three = EMHiddenMarkov(3, emission="poisson", random_state=0).fit(X)
        >>> round(chain.bic(X), 1), round(three.bic(X), 1)
        (707.1, 708.5)
        """
        return self._information(np.log, *self._weighed(X, groups, lengths, sample_weight))

    def _weighed(self, X: Any, groups: Any, lengths: Any, sample_weight: Any) -> tuple[Array, Array | None]:
        X = arrange(X, groups, lengths)
        if is_source(X.X):
            log_density = gathered(self.score_samples(X.X, groups=groups, lengths=lengths))
            return log_density, check_weight(sample_weight, len(log_density))
        log_density = bring(self._infer(X, "log_density")[0])
        weight = X.weights(check_weight(X.by_row(sample_weight), len(log_density)))
        if weight is None:
            return log_density, None
        weight = np.repeat(weight, X.lengths)
        return log_density[weight > 0.0], weight[weight > 0.0]  # what is absent may be impossible

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
        sample_weight : array-like of shape (n_samples,), optional
            The weights of the fit.
        n_resamples : int, default=200
            How often the bootstrap draws.
        random_state : int, RandomState, Generator, SeedSequence, optional
            Its own seed, not the estimator's.

        Returns
        -------
        StandardErrors
            An array for each attribute under its name, such as ``transmat_``; and ``intervals(level)``.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", start="stationary", random_state=0).fit(X)
        >>> errors = chain.standard_errors(X)
        >>> errors.lambdas_.ravel().round(2)
        array([0.7 , 1.36])
        >>> low, high = errors.intervals(0.95)["lambdas_"]
        >>> low.ravel().round(1), high.ravel().round(1)
        (array([14.1, 23.5]), array([16.8, 28.8]))
        """
        X = arrange(X, groups, lengths).here()
        return self._errors(X, method, X.by_row(sample_weight), n_resamples, random_state)

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

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> X, states = chain.sample(5, random_state=0)
        >>> X.ravel(), states
        (array([17., 20., 22., 15., 15.]), array([0, 0, 0, 0, 0]))
        """
        check_is_fitted(self)
        check_parameter("sample", "n_samples", n_samples, (Interval(int, 1),))
        check_parameter("sample", "random_state", random_state, SEED)
        rng = generator(random_state)
        params = self._recall()
        states = walk(params.startprob, params.transmat, int(n_samples), rng)
        return self.emission_.sample(params.law, states, rng), states

    def _score_a_draw(self) -> None:
        unseen = np.full((1, self.n_features_in_), np.nan)  # not every law can be drawn from
        self._infer(arrange(unseen, None, None), "log_density")

    def stationary_distribution(self) -> Array:
        """Share of the time spent in each state in the long run.

        Returns
        -------
        ndarray of shape (n_states,)

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.stationary_distribution().round(2)
        array([0.62, 0.38])
        """
        check_is_fitted(self)
        transmat = self._recall().transmat
        self._refuse_classes(transmat > 0.0, "where the chain ends depends on where it begins")
        return stationary(transmat)

    @staticmethod
    def _refuse_classes(possible: Array, remedy: str) -> None:
        """Refuse transitions with more than one stationary distribution: several sets of states that are never left."""
        _, number = connected_components(possible, connection="strong")
        closed = [members for i in np.unique(number) if not possible[members := number == i][:, ~members].any()]
        if len(closed) > 1:
            first, second = sorted(np.flatnonzero(members).tolist() for members in closed)[:2]
            raise ValueError(
                f"the states {first} and {second} are never left for others, so there is more than one stationary "
                f"distribution; {remedy}"
            )

    def expected_dwell_times(self) -> Array:
        """Mean number of rows spent in each state before it is left.

        Returns
        -------
        ndarray of shape (n_states,)
            Infinite for a state that is never left, or with a probability that is as low as an estimate can be.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.expected_dwell_times().round(1)  # years
        array([14. ,  8.4])
        """
        check_is_fitted(self)
        transmat = self._recall().transmat
        leaving = 1.0 - np.diagonal(transmat)
        leaving[leaving <= 2.0 * LEAST * len(transmat)] = 0.0
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / leaving)

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
