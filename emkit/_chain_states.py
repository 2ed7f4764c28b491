"""What a fitted hidden Markov model can tell of the states of sequences: probabilities and paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from ._arrays import argmax, bring
from ._mixin import EMMixin
from ._paths import best_paths, draw_paths
from ._sequences import Sequences, arrange, lone, sequencewise
from ._validation import SEED, Interval, check_parameter, generator
from .chain import Chain, Runs
from .emissions import Emission

Array = NDArray[Any]


class ChainStates(EMMixin):
    """Methods of an estimator of a hidden Markov model that name states."""

    algorithm: str
    _placed = "startprob_"
    startprob_: Array
    transmat_: Array
    emission_: Emission

    @sequencewise
    def predict(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """State of each row: by ``algorithm``, the most probable path or the most probable state.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), list of such arrays, or source
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of int, of shape (n_samples,)
            A list of arrays if X is one.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.predict(X)[:12]
        array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
        """
        if self.algorithm == "map":
            X = arrange(X, groups, lengths)
            return X.restore(argmax(self._infer(X, "smoothed")[0]))
        return self.decode(X, groups=groups, lengths=lengths)[1]

    @sequencewise
    def predict_proba(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Smoothed probabilities of the states: given all rows of the sequence, past and future.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), list of such arrays, or source
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_states)
            A list of arrays if X is one.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.predict_proba(X)[3:6].round(2)
        array([[1.  , 0.  ],
               [0.91, 0.09],
               [0.05, 0.95]])
        """
        X = arrange(X, groups, lengths)
        return X.restore(self._infer(X, "smoothed")[0])

    @sequencewise
    def filter_proba(self, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        """Filtered probabilities of the states: given the rows up to each, as known at the time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), list of such arrays, or source
        groups, lengths : array-like, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_states)
            A list of arrays if X is one.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> chain.filter_proba(X)[3:6].round(2)
        array([[1.  , 0.  ],
               [0.99, 0.01],
               [0.37, 0.63]])
        """
        X = arrange(X, groups, lengths)
        return X.restore(self._infer(X, "filtered")[0])

    def filter(self, x: Any, state: Any = None) -> Array:
        """Take one more observation of a stream.

        Parameters
        ----------
        x : array-like of shape (n_features,) or (1, n_features)
            The next row; a pandas Series is read by its names.
        state : array-like of shape (n_states,), optional
            What the last call returned; None at the beginning of a sequence.

        Returns
        -------
        ndarray of shape (n_states,)
            Probabilities of the states given all rows so far: the ``state`` of the next call.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> now = chain.filter([12])
        >>> now.round(2)
        array([1., 0.])
        >>> chain.filter([30], now).round(2)
        array([0.07, 0.93])
        """
        check_is_fitted(self)
        rows = self._check_rows(arrange(_one_row(x), None, None), reset=False)
        params = self._recall()
        ahead = params.startprob
        if state is not None:
            before = bring(state).astype(np.float64)
            if before.shape != ahead.shape:
                raise ValueError(f"state has shape {before.shape}; give what filter returned, {ahead.shape}")
            if not (before >= 0.0).all() or abs(before.sum() - 1.0) > 1e-6:
                raise ValueError(
                    f"state holds {before.min():g} and sums to {before.sum():g}; give what filter returned"
                )
            ahead = before @ params.transmat
        with np.errstate(divide="ignore"):
            joint = np.log(ahead) + self._log_prob(rows, params)[0]
        if joint.max() == -np.inf:
            raise ValueError("the row is impossible: no state that can follow explains it")
        return np.asarray(softmax(joint))

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
            A list of arrays if X is one.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> log_prob, path = chain.decode(X)
        >>> round(log_prob, 2), path[:8]
        (-346.62, array([0, 0, 0, 0, 0, 1, 1, 1]))
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

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> log_prob, paths = chain.k_best_paths(X, 2)
        >>> log_prob.round(2)
        array([-346.62, -346.96])
        >>> int((paths[0] != paths[1]).sum())  # years in which they differ
        1
        """
        check_parameter("k_best_paths", "n_paths", n_paths, (Interval(int, 1),))
        log_prob, params = self._one(X, "k_best_paths")
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

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, datasets
        >>> X = datasets.load_earthquakes().data
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
        >>> paths = chain.sample_paths(X, 100, random_state=0)
        >>> paths.sum(axis=1).mean().round()  # years in state 1
        np.float64(40.0)
        >>> chain.predict_proba(X)[:, 1].sum().round()
        np.float64(40.0)
        """
        check_parameter("sample_paths", "n_paths", n_paths, (Interval(int, 1),))
        check_parameter("sample_paths", "random_state", random_state, SEED)
        filtered = self._filtered(X, "sample_paths")
        return draw_paths(filtered, self._recall().transmat, int(n_paths), generator(random_state))

    def _filtered(self, X: Any, method: str) -> Array:
        """Filtered probabilities of the rows of one sequence, of which a method is asked."""
        sequence = lone(X, method)
        self._check_place(sequence.X, method)
        return bring(self._infer(sequence, "filtered")[0])

    def _one(self, X: Any, method: str) -> tuple[Array, Chain]:
        """Log-densities of the rows of one sequence, of which a method is asked."""
        check_is_fitted(self)
        params = self._recall()
        return self._log_prob(self._check_rows(lone(X, method), reset=False).here(), params), params

    def _log_prob(self, rows: Sequences, params: Chain) -> Array:
        model = self._fitted_model()
        data: Runs = model.frame(params, rows)
        return self.emission_.log_prob(model.standardize(params, data).law, data.rows)


def _one_row(x: Any) -> Any:
    """Table of one row; names stay."""
    if hasattr(x, "to_frame") and hasattr(x, "index"):  # a pandas Series
        return x.to_frame().T
    table = x if hasattr(x, "columns") or np.ma.isMaskedArray(x) else bring(x)
    if len(table.shape) == 1:
        table = table[None]
    if len(table.shape) != 2 or table.shape[0] != 1:
        raise ValueError(f"filter takes one row at a time, but x has shape {tuple(table.shape)}: give [x_1, x_2, ...]")
    return table
