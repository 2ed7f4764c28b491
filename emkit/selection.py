"""Choosing between fits of the same rows: how many components, which shape, by an information criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed

from ._executors import count_workers
from ._mixin import EMMixin
from ._validation import NOTHING, Interval, check_parameter
from .exceptions import InvalidParameterError, warn

_CRITERIA = ("aic", "bic", "icl")

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]]


@dataclass(frozen=True)
class Selection:
    """What `emkit.select` found, under the names of scikit-learn's searches.

    Attributes
    ----------
    best_estimator_ : estimator
        The fitted candidate with the lowest criterion.
    best_params_ : dict
        Its parameters, of those in the grid.
    best_index_ : int
        Its row in ``results_``; the first, if several are equal.
    results_ : list of dict
        A row for each candidate in the order of the grid, ready for ``pandas.DataFrame``: its parameters;
        ``criterion`` (lower is better; infinite for one that cannot win), ``log_likelihood`` in nats, ``n_parameters``;
        ``status``, that of the fit or "failed", and the ``reason`` if it is "degenerate" or "failed"; ``seconds``.
    criterion : str
        What was compared.
    """

    best_estimator_: Any = field(repr=False)
    best_params_: dict[str, Any]
    best_index_: int
    results_: list[dict[str, Any]] = field(repr=False)
    criterion: str


def select(
    estimator: Any,
    X: Any,
    param_grid: Grid,
    *,
    criterion: str = "bic",
    n_jobs: int | None = None,
    **fit_params: Any,
) -> Selection:
    """Fit every candidate to all rows and choose the one with the lowest information criterion.

    A criterion pays for the likelihood with the number of parameters, so no rows are held out and one fit of each
    candidate is enough. With ``L`` the log-likelihood, ``p`` the number of free parameters and ``n`` of rows::

        aic = -2 L + 2 p        bic = -2 L + p log n        icl = bic - 2 sum log (largest responsibility of the row)

    "bic" finds the number of components of a density, "icl" fewer: of clusters that are apart; "aic" more, for
    prediction. None sees how strong a prior is, since all strengths have as many parameters: compare these, as anything
    else, by the log-density of rows that were held out, ``GridSearchCV(estimator, param_grid)``, whose default is the
    estimators' ``score``; ``cv=LeaveOneOut()`` leaves out one at a time.

    Each candidate is fitted from starts of its own, never from where another ended: what is chosen depends neither on
    the order of the grid nor on the number of workers.

    Parameters
    ----------
    estimator : estimator or Pipeline
        An estimator of emkit's, or a pipeline that ends in one. It is cloned, not fitted.
    X : array-like of shape (n_samples, n_features)
        The rows, or whatever ``estimator.fit`` takes.
    param_grid : dict of str to sequence, or sequence of such dicts
        Values to try for each parameter, in all combinations, as in ``GridSearchCV``. Of a pipeline only its last step
        may vary: likelihoods of different numbers cannot be compared.
    criterion : {"bic", "aic", "icl"}, default="bic"
        What to compare. "icl" is of mixtures only.
    n_jobs : int, optional
        Candidates that are fitted side by side, in threads. None: all cores, one inside a joblib worker. A candidate
        with ``n_jobs=None`` then uses one core; alone, all.
    **fit_params : dict
        Passed on to ``fit`` and to the criterion: ``sample_weight``, ``groups``, ``lengths``.

    Returns
    -------
    Selection
        ``best_estimator_``, fitted; ``best_params_``; and ``results_``, a table of all.

    Raises
    ------
    ValueError
        For an unknown criterion or parameter; or if no candidate has a regular fit: the message says why each has not.

    Warns
    -----
    ConvergenceWarning
        If some candidates failed. Their warnings, and those of candidates that did not converge, come through too.

    References
    ----------
    Akaike, H. (1974). A new look at the statistical model identification. *IEEE Transactions on Automatic Control* 19,
    716-723. Schwarz, G. (1978). Estimating the dimension of a model. *Annals of Statistics* 6, 461-464. Biernacki, C.,
    Celeux, G. & Govaert, G. (2000). Assessing a mixture model for clustering with the integrated completed likelihood.
    *IEEE PAMI* 22, 719-725.

    Examples
    --------
    >>> from emkit import EMGaussianMixture, select
    >>> from emkit.datasets import load_faithful
    >>> grid = {"n_components": [1, 2, 3, 4], "covariance_type": ["full", "tied"]}
    >>> found = select(EMGaussianMixture(random_state=0), load_faithful().data, grid)
    >>> found.best_params_
    {'covariance_type': 'tied', 'n_components': 3}
    >>> round(min(row["criterion"] for row in found.results_), 1)
    2314.3
    >>> found.best_estimator_.predict([[2.0, 50.0], [4.5, 80.0]])
    array([0, 2])
    """
    check_parameter("select", "n_jobs", n_jobs, (NOTHING, Interval(int, 1), Interval(int, -np.inf, -1)))
    candidates = list(ParameterGrid(param_grid))
    head, final, prefix = _apart(estimator)
    _check(estimator, final, prefix, candidates, criterion)
    for asked in ("fit", criterion):
        try:
            signature(getattr(final, asked)).bind(X, **fit_params)
        except TypeError as error:
            raise ValueError(f"select hands fit_params to {asked} of {type(final).__name__}: {error}") from error
    if head is not None and len(head):
        X = head.fit_transform(X)
    n_workers = min(count_workers(n_jobs), len(candidates))
    done = Parallel(n_jobs=n_workers, prefer="threads")(
        delayed(_try)(
            clone(final), {name.removeprefix(prefix): v for name, v in params.items()}, X, criterion, fit_params
        )
        for params in candidates
    )
    results = [params | row for params, (_, row) in zip(candidates, done, strict=True)]
    failed = [row for row in results if row["status"] == "failed"]
    best = int(np.argmin([row["criterion"] for row in results]))
    if np.isinf(results[best]["criterion"]):
        reasons = dict.fromkeys(f"{row['status']}: {row['reason']}" for row in results)
        raise ValueError(f"no candidate has a regular fit ({'; '.join(reasons)})")
    if failed:
        warn(
            f"{len(failed)} of {len(results)} candidates failed and were passed over; results_ says why "
            f"({failed[0]['reason']})",
            ConvergenceWarning,
        )
    winner = done[best][0]
    if head is not None:
        winner = Pipeline([*head.steps, (estimator.steps[-1][0], winner)], verbose=estimator.verbose)
    return Selection(winner, candidates[best], best, results, criterion)


def _apart(estimator: Any) -> tuple[Pipeline | None, Any, str]:
    """Split a pipeline into copies of its first steps, its last, and what names of the last's parameters begin with."""
    if not isinstance(estimator, Pipeline):
        return None, estimator, ""
    name, final = estimator.steps[-1]
    return clone(estimator)[:-1], final, f"{name}__"


def _check(estimator: Any, final: Any, prefix: str, candidates: list[dict[str, Any]], criterion: str) -> None:
    """Refuse what no candidate could be fitted or compared by."""
    if not isinstance(final, EMMixin):
        raise InvalidParameterError(
            f"select compares estimators of emkit, but {type(final).__module__}.{type(final).__name__} is none; for "
            "others use GridSearchCV(estimator, param_grid)"
        )
    able = [name for name in _CRITERIA if hasattr(final, name)]
    if criterion not in able:
        which = f"of {type(final).__name__} must be one of {', '.join(map(repr, able))}"
        if criterion == "loo":
            which += "; for the log-density of rows left out use GridSearchCV(estimator, param_grid, cv=LeaveOneOut())"
        raise InvalidParameterError(f"The criterion {which}. Got {criterion!r} instead.")
    if not candidates:
        raise ValueError("param_grid is empty: give at least one candidate, such as {'n_components': [1, 2, 3]}")
    known = estimator.get_params()
    for name in dict.fromkeys(name for params in candidates for name in params):
        if name not in known:
            raise ValueError(
                f"param_grid names {name!r}, which is not a parameter of {type(estimator).__name__}; its parameters "
                f"are {', '.join(sorted(known))}"
            )
        if not name.startswith(prefix):
            raise ValueError(
                f"param_grid varies {name!r}, which changes the numbers that the last step sees: likelihoods of "
                f"different numbers cannot be compared; vary parameters that begin with {prefix!r}"
            )


def _try(
    estimator: Any, params: dict[str, Any], X: Any, criterion: str, fit_params: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Fit one candidate; tell how it went."""
    began = perf_counter()
    reason = ""
    try:
        estimator.set_params(**params).fit(X, **fit_params)
        value = getattr(estimator, criterion)(X, **fit_params)
        told = (value, estimator.log_likelihood_, estimator._fitted_model().n_parameters(estimator._recall()))
        status = estimator.status_
    except Exception as error:  # whatever a law or a parameter leads to; the others go on
        told, status, reason = (np.inf, -np.inf, 0), "failed", f"{type(error).__name__}: {error}"
    if status == "degenerate":
        reason = next((fate["reason"] for fate in estimator.restarts_ if fate["status"] == status), "")
    columns = ("criterion", "log_likelihood", "n_parameters", "status", "reason", "seconds")
    return estimator, dict(zip(columns, (*told, status, reason, perf_counter() - began), strict=True))
