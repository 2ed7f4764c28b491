"""Picture of a choice between fits: the criterion of each candidate."""

from __future__ import annotations

from itertools import cycle
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._drawing import colours, legend_beside, panels

Array = NDArray[Any]

# Columns of the results that are no parameters.
_TOLD = ("criterion", "log_likelihood", "n_parameters", "status", "reason", "seconds")
_MARKERS = "osD^vP*X"
# A difference that is decisive; smaller ones are drawn on a linear scale.
_DECISIVE = 10.0


class SelectionDisplay:
    """Criterion of each candidate by its number of components, a line for each combination of the other parameters.

    Lower is better, so what is drawn is how far each is above the lowest: linear up to 10, where a difference of BIC is
    very strong evidence, logarithmic beyond. Candidates that cannot win, because they failed or are degenerate, are
    crosses at the upper edge.

    Parameters
    ----------
    results : list of dict
        ``results_`` of what `emkit.select` returns.
    criterion : str, default="criterion"
        What it is called.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The lines, under the values of their parameters.
    best_ : matplotlib Line2D
        The mark of the lowest.
    ax_, figure_ : matplotlib Axes, Figure
        Where it was drawn.

    References
    ----------
    Kass, R. & Raftery, A. (1995). Bayes factors. *JASA* 90, 773-795, section 3.2.

    Examples
    --------
    >>> from emkit import EMGaussianMixture, select
    >>> from emkit.datasets import load_faithful
    >>> from emkit.display import SelectionDisplay
    >>> grid = {"n_components": [1, 2, 3, 4], "covariance_type": ["full", "tied"]}
    >>> found = select(EMGaussianMixture(random_state=0), load_faithful().data, grid)
    >>> display = SelectionDisplay.from_selection(found)
    >>> list(display.lines_)
    ['full', 'tied']
    """

    def __init__(self, results: list[dict[str, Any]], criterion: str = "criterion") -> None:
        self.results = results
        self.criterion = criterion

    @classmethod
    def from_selection(cls, selection: Any, *, x: str | None = None, ax: Any = None) -> Self:
        """Draw what `emkit.select` found.

        Parameters
        ----------
        selection : Selection
            What it returned.
        x : str, optional
            Parameter along the axis; by default the number of components or states, or else the first that is a number.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        SelectionDisplay

        Examples
        --------
        >>> from emkit import EMHiddenMarkov, select
        >>> from emkit.datasets import load_earthquakes
        >>> from emkit.display import SelectionDisplay
        >>> chain = EMHiddenMarkov(emission="poisson", random_state=0)
        >>> found = select(chain, load_earthquakes().data, {"n_states": [1, 2, 3]}, criterion="aic")
        >>> display = SelectionDisplay.from_selection(found)
        >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
        ('n_states', 'AIC above the lowest, 679.1')
        """
        return cls(selection.results_, selection.criterion).plot(ax=ax, x=x)

    def plot(self, ax: Any = None, *, x: str | None = None, relative: bool = True) -> Self:
        """Draw the lines and mark the lowest point.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        x : str, optional
            Parameter along the axis; by default the number of components or states, or else the first that is a number.
        relative : bool, default=True
            Whether to draw how far each is above the lowest; else the criterion itself, on a linear scale.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``x`` is not a parameter of the candidates whose values are numbers, or no criterion is finite.

        Examples
        --------
        >>> from emkit.display import SelectionDisplay
        >>> results = [{"n_components": k, "criterion": c} for k, c in [(1, 130.0), (2, 0.0), (3, 99.0)]]
        >>> display = SelectionDisplay(results, "bic").plot()
        >>> int(display.best_.get_xdata()[0]), float(display.best_.get_ydata()[0])
        (2, 0.0)
        """
        if not self.results:
            raise ValueError("results is empty: there is nothing to draw")
        x = self._along(x)
        values = np.array([row["criterion"] for row in self.results], dtype=np.float64)
        if not np.isfinite(values).any():
            raise ValueError("no candidate has a finite criterion: there is nothing to draw")
        best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        lowest = values[best]
        values = np.where(np.isfinite(values), values - lowest if relative else values, np.nan)
        lines: dict[str, list[int]] = {}
        for number, row in enumerate(self.results):
            rest = [str(value) for name, value in row.items() if name != x and name not in _TOLD]
            lines.setdefault(", ".join(rest), []).append(number)
        self.ax_ = ax = panels(ax)[0, 0]
        self.figure_ = ax.figure
        self.lines_ = {}
        for label, rows, colour, marker in zip(
            lines, lines.values(), colours(len(lines)), cycle(_MARKERS), strict=False
        ):
            rows = sorted(rows, key=lambda i: self.results[i][x])
            at = np.array([self.results[i][x] for i in rows])
            (self.lines_[label],) = ax.plot(at, values[rows], marker=marker, color=colour, label=label)
            lost = at[np.isnan(values[rows])]
            ax.plot(lost, np.full(len(lost), 0.97), "x", color=colour, transform=ax.get_xaxis_transform())
        ring = {"marker": "o", "markersize": 14, "markerfacecolor": "none", "markeredgecolor": "black"}
        (self.best_,) = ax.plot([self.results[best][x]], [values[best]], linestyle="", **ring, label="lowest")
        name = self.criterion.upper() if len(self.criterion) == 3 else self.criterion
        ax.set_ylabel(f"{name} above the lowest, {lowest:.1f}" if relative else f"{name} (lower is better)")
        if relative:
            ax.set_yscale("symlog", linthresh=_DECISIVE)
            ax.set_ylim(-0.15 * _DECISIVE, 2.0 * max(_DECISIVE, np.nanmax(values)))
            ax.yaxis.set_major_formatter("{x:g}")
        if all(isinstance(row[x], int | np.integer) for row in self.results):
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel(x.rpartition("__")[2])
        if len(lines) > 1:
            legend_beside(ax)
        return self

    def _along(self, x: str | None) -> str:
        """Parameter of the axis."""
        first = self.results[0]
        numbers = [
            name
            for name in first
            if name not in _TOLD and all(map(_is_number, (row.get(name) for row in self.results)))
        ]
        if x is not None and x not in numbers:
            raise ValueError(f"x={x!r} is not a parameter whose values are numbers; such are {numbers}")
        if not numbers:
            raise ValueError("no parameter of the candidates is a number: there is nothing to draw them along")
        counts = [name for name in numbers if name.endswith(("n_components", "n_states"))]
        return x or (counts or numbers)[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
