"""Picture of hidden states: a series shaded by its state path, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._sequences import Sequences, arrange
from .._sources import is_source
from ..markov import EMHiddenMarkov
from ._drawing import check_shown, colours, column_number, feature_names, legend_beside, panels

Array = NDArray[Any]

# So many sequences are drawn unless some are chosen.
_MOST_SEQUENCES = 4
# Dots of more rows than this would hide the line.
_FEW_ROWS = 300
# How much of the colour of a state is in a shade.
_SHADE = 0.45
# Names of more states than this need a second column.
_MOST_NAMES = 8


class StatePathDisplay:
    """A column of each sequence over time, shaded by the state of each row; beneath, the probabilities of the states.

    Parameters
    ----------
    series : ndarray of shape (n_samples, n_features)
        Rows of all sequences, one sequence after the other; NaN where a cell is missing.
    states : ndarray of int, of shape (n_samples,)
        State of each row.
    proba : ndarray of shape (n_samples, n_states)
        Smoothed probabilities of the states.
    lengths : ndarray of int, of shape (n_sequences,)
        Number of rows of each sequence.
    feature_names : list of str
        Names of the columns.
    sequence_names : list of str, optional
        Names of the sequences; by default their numbers.
    categories : sequence, optional
        If the rows are numbers of symbols, the symbols.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The series, of each sequence drawn.
    shades_ : list of dict of int to matplotlib PolyCollection
        For each sequence drawn, the stretches of each state.
    stacks_ : list of list of matplotlib PolyCollection
        For each sequence drawn, the probability of each state on top of those before it, if they were drawn.
    ax_, axes_, figure_ : matplotlib Axes, ndarray of them, Figure
        Where it was drawn, from top to bottom.

    Examples
    --------
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.datasets import load_earthquakes
    >>> from emkit.display import StatePathDisplay
    >>> X = load_earthquakes().data
    >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(X)
    >>> display = StatePathDisplay.from_estimator(chain, X, probabilities=True)
    >>> display.axes_.shape, len(display.shades_[0][1].get_paths())
    ((2, 1), 4)
    """

    def __init__(
        self,
        series: Array,
        states: Array,
        proba: Array,
        lengths: Array,
        feature_names: list[str],
        sequence_names: list[str] | None = None,
        categories: Sequence[Any] | None = None,
    ) -> None:
        self.series = series
        self.states = states
        self.proba = proba
        self.lengths = lengths
        self.feature_names = feature_names
        self.sequence_names = sequence_names
        self.categories = categories

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        groups: Any = None,
        lengths: Any = None,
        feature: int | str = 0,
        sequences: Sequence[int] | None = None,
        probabilities: bool = False,
        ax: Any = None,
    ) -> Self:
        """Draw what a fitted chain says of sequences.

        Parameters
        ----------
        estimator : EMHiddenMarkov
            Fitted.
        X : array-like of shape (n_samples, n_features), or list of such arrays
            Rows in the order of time; NaN where a cell is missing.
        groups, lengths : array-like, optional
            As in ``fit``.
        feature : int or str, default=0
            Number or name of the column to draw.
        sequences : sequence of int, optional
            Numbers of the sequences to draw; by default the first four.
        probabilities : bool, default=False
            Whether to draw the probabilities of the states beneath.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        StatePathDisplay

        Raises
        ------
        ValueError
            If X is not in memory, or a column or sequence is not known.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov
        >>> from emkit.display import StatePathDisplay
        >>> X = [[word] for word in "the cat sat the dog sat the cat ran".split()]
        >>> chain = EMHiddenMarkov(3, emission="categorical", random_state=0).fit(X)
        >>> display = StatePathDisplay.from_estimator(chain, X)
        >>> [label.get_text() for label in display.ax_.get_yticklabels()]
        ['cat', 'dog', 'ran', 'sat', 'the']
        """
        check_shown("StatePathDisplay", estimator, EMHiddenMarkov, "an EMHiddenMarkov")
        rows = arrange(X, groups, lengths)
        if is_source(rows.X):
            raise ValueError("X is read in blocks: give the sequences to draw as arrays")
        where = {"groups": groups, "lengths": lengths}
        states = _in_order(estimator.predict(X, **where), rows)
        proba = _in_order(estimator.predict_proba(X, **where), rows)
        law = estimator.emission_
        series = np.asarray(law.read(rows.X), dtype=np.float64)
        names = feature_names(estimator, series.shape[1])
        categories = None if law.numeric else law.categories
        display = cls(series, states, proba, rows.lengths, names, [str(name) for name in rows.names], categories)
        return display.plot(ax=ax, feature=feature, sequences=sequences, probabilities=probabilities)

    def plot(
        self,
        ax: Any = None,
        *,
        feature: int | str = 0,
        sequences: Sequence[int] | None = None,
        probabilities: bool = False,
    ) -> Self:
        """Draw a panel for each sequence, or two with probabilities.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; it is divided if there are several panels.
        feature : int or str, default=0
            Number or name of the column to draw.
        sequences : sequence of int, optional
            Numbers of the sequences to draw; by default the first four.
        probabilities : bool, default=False
            Whether to draw the probabilities of the states beneath.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a column or sequence is not known.

        Examples
        --------
        >>> import numpy as np
        >>> from emkit.display import StatePathDisplay
        >>> series, states = np.array([[1.0], [1.2], [5.0], [5.1], [0.9]]), np.array([0, 0, 1, 1, 0])
        >>> display = StatePathDisplay(series, states, np.eye(2)[states], np.array([5]), ["level"]).plot()
        >>> [len(display.shades_[0][state].get_paths()) for state in (0, 1)]
        [2, 1]
        """
        column, chosen = column_number(feature, self.feature_names), self._sequences(sequences)
        n, each = len(chosen), 2 if probabilities else 1
        heights = [3.0, 1.0][:each] * n
        self.axes_ = panels(
            ax,
            n * each,
            1,
            size=(9.0, max(3.2, 0.3 + 0.55 * n * sum(heights[:each]))),
            share={"sharex": True},
            height_ratios=heights,
        )
        self.ax_, self.figure_ = self.axes_[0, 0], self.axes_[0, 0].figure
        self.lines_: list[Any] = []
        self.shades_: list[dict[int, Any]] = []
        self.stacks_: list[list[Any]] = []
        ends = np.cumsum(self.lengths)
        for place, number in enumerate(chosen):
            rows = slice(int(ends[number] - self.lengths[number]), int(ends[number]))
            ax = self.axes_[each * place, 0]
            self._plot_series(ax, rows, column)
            if len(self.lengths) > 1:
                name = number if self.sequence_names is None else self.sequence_names[number]
                ax.set_title(f"sequence {name}", loc="left", fontsize=10.0)
            if probabilities:
                self._plot_proba(self.axes_[each * place + 1, 0], rows)
        if sequences is None and len(chosen) < len(self.lengths):
            self.ax_.set_title(f"{len(self.lengths) - len(chosen)} more not shown", loc="right", fontsize=10.0)
        self.ax_.set_xlim(-0.5, self.lengths[chosen].max() - 0.5)
        self.axes_[-1, 0].set_xlabel("row")
        k = self.proba.shape[1]
        handles = _patches(colours(k), 1.0 if probabilities else _SHADE)
        legend_beside(self.ax_, handles=handles, ncols=1 + (k - 1) // _MOST_NAMES)
        return self

    def _sequences(self, sequences: Sequence[int] | None) -> list[int]:
        n = len(self.lengths)
        if sequences is None:
            return list(range(min(n, _MOST_SEQUENCES)))
        for number in sequences:
            if not 0 <= number < n:
                raise ValueError(f"sequences names {number}, but there are {n}, numbered from 0")
        if not len(sequences):
            raise ValueError("sequences is empty: name at least one")
        return [int(number) for number in sequences]

    def _plot_series(self, ax: Any, rows: slice, column: int) -> None:
        """Line on shades, each stretch reaching half a row beyond its rows."""
        states, values = self.states[rows], self.series[rows, column]
        begins = np.flatnonzero(np.append(True, states[1:] != states[:-1]))
        widths = np.diff(np.append(begins, len(states)))
        shades = {}
        for state, colour in enumerate(colours(self.proba.shape[1])):
            here = states[begins] == state
            stretches = list(zip(begins[here] - 0.5, widths[here], strict=True))
            if stretches:
                shades[state] = ax.broken_barh(
                    stretches, (0.0, 1.0), transform=ax.get_xaxis_transform(), color=colour, alpha=_SHADE, linewidth=0.0
                )
        self.shades_.append(shades)
        between = "-" if self.categories is None else ""  # nothing lies between two symbols
        size = 4.0 if self.categories is not None else 2.5 if len(values) <= _FEW_ROWS else 0.8
        self.lines_ += ax.plot(values, color="black", linestyle=between, linewidth=0.8, marker="o", markersize=size)
        ax.set_ylabel(self.feature_names[column])
        if self.categories is not None:
            ax.set_yticks(np.arange(len(self.categories)), [str(symbol) for symbol in self.categories])

    def _plot_proba(self, ax: Any, rows: slice) -> None:
        """Probabilities of the states, one on top of the other."""
        proba = self.proba[rows]
        edges = np.arange(len(proba) + 1) - 0.5
        heights = np.vstack([proba, proba[-1]]).T
        self.stacks_.append(ax.stackplot(edges, heights, colors=colours(len(heights)), step="post", linewidth=0.0))
        ax.set_ylim(0.0, 1.0)
        ax.set_yticks([0.0, 1.0])
        ax.set_ylabel("prob.")


def _in_order(values: Any, rows: Sequences) -> Array:
    """Values for each row, one sequence after the other."""
    if rows.is_list:
        return np.concatenate(values)
    return np.asarray(values if rows.order is None else values[rows.order])


def _patches(palette: list[Any], alpha: float) -> list[Any]:
    """Entries of a legend."""
    from matplotlib.patches import Patch

    return [Patch(color=colour, alpha=alpha, label=f"state {state}") for state, colour in enumerate(palette)]
