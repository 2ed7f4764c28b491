"""Pictures of missing data: which cells are missing together, and how well observed cells are predicted."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from .._validation import Interval, generator
from ..imputer import EMImputer
from ._drawing import check_shown, colours, panels

Array = NDArray[Any]


def _names(estimator: Any) -> list[str]:
    return [str(name) for name in estimator.get_feature_names_out()[: len(estimator.mean_)]]


class MissingPatternDisplay:
    """Patterns of missing cells, the most frequent first.

    Parameters
    ----------
    missing : ndarray of bool, of shape (n_patterns, n_features)
        Which cells each pattern misses.
    counts : ndarray of shape (n_patterns,)
        How many rows have it.
    feature_names : list of str
        Names of the columns.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
        Where it was drawn.

    Examples
    --------
    >>> from emkit import EMImputer
    >>> from emkit.datasets import load_airquality
    >>> from emkit.display import MissingPatternDisplay
    >>> imputer = EMImputer().fit(load_airquality().data)
    >>> display = MissingPatternDisplay.from_estimator(imputer)
    >>> [int(count) for count in display.counts]
    [111, 35, 5, 2]
    """

    def __init__(self, missing: Array, counts: Array, feature_names: list[str]) -> None:
        self.missing = missing
        self.counts = counts
        self.feature_names = feature_names

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, max_patterns: int = 20) -> Self:
        """Draw the patterns a fitted imputer saw.

        Parameters
        ----------
        estimator : EMImputer
            Fitted.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        max_patterns : int, default=20
            Most patterns to show.

        Returns
        -------
        MissingPatternDisplay

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> from emkit.display import MissingPatternDisplay
        >>> display = MissingPatternDisplay.from_estimator(EMImputer().fit(load_airquality().data))
        >>> display.ax_.get_title()
        'Missing cells'
        """
        check_shown("MissingPatternDisplay", estimator, EMImputer, "an EMImputer")
        missing, counts = estimator.missing_patterns_
        return cls(missing, counts, _names(estimator)).plot(ax=ax, max_patterns=max_patterns)

    def plot(self, ax: Any = None, *, max_patterns: int = 20) -> Self:
        """Draw a row for each pattern, dark where a cell is missing, with its count; and each share.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        max_patterns : int, default=20

        Returns
        -------
        self

        Examples
        --------
        >>> import numpy as np
        >>> from emkit.display import MissingPatternDisplay
        >>> missing, counts = np.array([[True, False], [False, True]]), np.array([30, 10])
        >>> display = MissingPatternDisplay(missing, counts, ["height", "age"])
        >>> display.plot(max_patterns=1).ax_.get_title()
        'Missing cells: 1 rarer patterns (25.0% of the rows) not shown'
        """
        ax = panels(ax)[0, 0]
        shown = self.missing[:max_patterns]
        p, total = len(self.feature_names), self.counts.sum()
        ax.pcolormesh(shown.astype(float), cmap="Blues", vmin=0.0, vmax=1.2, edgecolors="white", linewidth=1.0)
        share = self.counts @ self.missing / total
        labels = [f"{name}\n{100 * s:.3g} %" for name, s in zip(self.feature_names, share, strict=True)]
        ax.set_xticks(np.arange(p) + 0.5, labels, rotation=90 if p > 8 else 0)
        ax.set_yticks(np.arange(len(shown)) + 0.5, [f"{count:g}" for count in self.counts[:max_patterns]])
        ax.invert_yaxis()
        ax.set_xlabel("share of the rows in which the column is missing")
        ax.set_ylabel("rows")
        rest = len(self.missing) - len(shown)
        title = "Missing cells"
        if rest:
            title += f": {rest} rarer patterns ({self.counts[max_patterns:].sum() / total:.1%} of the rows) not shown"
        ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class OverimputationDisplay:
    """Observed cells against what the imputer would have put there.

    Each observed cell is held out in turn and predicted from the other observed cells of its row, with the fitted
    parameters. Where the normal model suits the data, points follow the diagonal and intervals cover as often as they
    claim.

    Parameters
    ----------
    observed, predicted, deviation : ndarray of shape (n_cells,)
        Observed values, their predictions, and standard deviations of these.
    column : ndarray of int, of shape (n_cells,)
        Column of each cell.
    feature_names : list of str
        Names of the columns.
    confidence : float, default=0.95
        Of the intervals.

    Attributes
    ----------
    coverage : ndarray of shape (n_features,)
        Share of the cells of each column inside their interval; NaN for a column without cells.
    ax_, figure_ : matplotlib Axes, Figure
        Where it was drawn.

    References
    ----------
    Blackwell, M., Honaker, J. & King, G. (2017). A unified approach to measurement error and missing data.
    *Sociological Methods & Research* 46, 303-341.

    Examples
    --------
    >>> from emkit import EMImputer
    >>> from emkit.datasets import load_airquality
    >>> from emkit.display import OverimputationDisplay
    >>> X = load_airquality().data
    >>> display = OverimputationDisplay.from_estimator(EMImputer().fit(X), X, columns=[0, 3])
    >>> display.coverage[[0, 3]].round(2)
    array([0.94, 0.95])
    """

    def __init__(
        self,
        observed: Array,
        predicted: Array,
        deviation: Array,
        column: Array,
        feature_names: list[str],
        confidence: float = 0.95,
    ) -> None:
        self.observed = observed
        self.predicted = predicted
        self.deviation = deviation
        self.column = column
        self.feature_names = feature_names
        self.confidence = confidence
        p = len(feature_names)
        inside = np.abs(observed - predicted) <= norm.ppf(0.5 + 0.5 * confidence) * deviation
        count = np.bincount(column, minlength=p)
        self.coverage = np.where(count, np.bincount(column, inside, minlength=p) / np.maximum(count, 1), np.nan)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        columns: Any = None,
        confidence: float = 0.95,
        max_rows: int = 1000,
        random_state: Any = 0,
        ax: Any = None,
    ) -> Self:
        """Hold out every observed cell of some columns, predict and draw.

        Parameters
        ----------
        estimator : EMImputer
            Fitted.
        X : array-like of shape (n_samples, n_features)
            Rows with observed cells.
        columns : list of int, optional
            Columns (of the kept ones) to hold out; by default those that had missing cells in ``fit``, or all if none
            had.
        confidence : float, default=0.95
            Of the intervals.
        max_rows : int, default=1000
            Most rows to use; a random choice if there are more.
        random_state : int, RandomState, Generator, SeedSequence, default=0
            Seed of that choice.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        OverimputationDisplay

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> from emkit.display import OverimputationDisplay
        >>> X = load_airquality().data
        >>> display = OverimputationDisplay.from_estimator(EMImputer().fit(X), X, columns=[1], confidence=0.9)
        >>> print(f"{display.coverage[1]:.0%} of the values of solar radiation inside their intervals")
        95% of the values of solar radiation inside their intervals
        """
        check_shown("OverimputationDisplay", estimator, EMImputer, "an EMImputer")
        if not (Interval(float, 0.0, 1.0, open_low=True).allows(confidence) and confidence < 1.0):
            raise ValueError(f"confidence must lie between 0 and 1. Got {confidence!r} instead.")
        X = estimator._check_rows(X, reset=False)
        if len(X) > max_rows:
            X = X[np.sort(generator(random_state).choice(len(X), max_rows, replace=False))]
        if columns is None:
            columns = estimator.indicator_features_ if len(estimator.indicator_features_) else np.arange(X.shape[1])
        cells = []
        for j in columns:
            rows = np.flatnonzero(~np.isnan(X[:, j]))
            held_out = X[rows].astype(np.float64)
            held_out[:, j] = np.nan
            mean, std = estimator._conditional(held_out)
            cells.append((X[rows, j], mean[:, j], std[:, j], np.full(len(rows), j)))
        observed, predicted, deviation, column = (np.concatenate(part) for part in zip(*cells, strict=True))
        return cls(observed, predicted, deviation, column, _names(estimator), confidence).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw observed values against predictions with their intervals, in units of each column's spread.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        self

        Examples
        --------
        >>> import numpy as np
        >>> from emkit.display import OverimputationDisplay
        >>> observed, predicted = np.array([1.0, 2.0, 3.0]), np.array([1.1, 1.8, 3.2])
        >>> display = OverimputationDisplay(observed, predicted, np.full(3, 0.2), np.zeros(3, int), ["height"])
        >>> display.plot().ax_.get_xlabel()
        'observed (standard deviations from the mean)'
        """
        ax = panels(ax)[0, 0]
        half = norm.ppf(0.5 + 0.5 * self.confidence)
        low, high = np.inf, -np.inf
        columns = np.unique(self.column)
        for j, colour in zip(columns, colours(len(columns)), strict=True):
            here = self.column == j
            middle, unit = self.observed[here].mean(), self.observed[here].std() or 1.0
            x, y = (self.observed[here] - middle) / unit, (self.predicted[here] - middle) / unit
            label = f"{self.feature_names[j]}: {self.coverage[j]:.0%} inside"
            ax.errorbar(
                x,
                y,
                half * self.deviation[here] / unit,
                fmt="o",
                color=colour,
                markersize=3,
                elinewidth=0.5,
                alpha=0.6,
                label=label,
            )
            low, high = min(low, x.min()), max(high, x.max())
        ax.plot([low, high], [low, high], color="black", linewidth=1.0)
        ax.set_xlabel("observed (standard deviations from the mean)")
        ax.set_ylabel(f"predicted from the rest of the row, {self.confidence:.0%} interval")
        ax.set_title("Each observed cell, held out")
        ax.legend(loc="best")
        self.ax_, self.figure_ = ax, ax.figure
        return self
