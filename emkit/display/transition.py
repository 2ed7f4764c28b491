"""Picture of a Markov chain: the probabilities of its transitions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..markov import EMHiddenMarkov
from ._drawing import check_shown, panels

Array = NDArray[Any]

# The largest and the smallest letters, in points.
_LARGEST, _SMALLEST = 11.0, 6.0


class TransitionDisplay:
    """Probabilities of the next state (column), given the state (row).

    Parameters
    ----------
    transmat : ndarray of shape (n_states, n_states)
        Transition probabilities.
    state_names : list of str, optional
        What the states are called; by default their numbers.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The matrix.
    texts_ : ndarray of matplotlib Text, of shape (n_states, n_states), or None
        The numbers, if they were written.
    ax_, figure_ : matplotlib Axes, Figure
        Where it was drawn.

    Examples
    --------
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.datasets import load_earthquakes
    >>> from emkit.display import TransitionDisplay
    >>> chain = EMHiddenMarkov(3, emission="poisson", random_state=0).fit(load_earthquakes().data)
    >>> display = TransitionDisplay.from_estimator(chain, state_names=["calm", "middling", "restless"])
    >>> [text.get_text() for text in display.texts_[0]]
    ['.94', '.03', '.03']
    """

    def __init__(self, transmat: Array, state_names: list[str] | None = None) -> None:
        self.transmat = transmat
        self.state_names = state_names

    @classmethod
    def from_estimator(cls, estimator: Any, *, state_names: list[str] | None = None, ax: Any = None) -> Self:
        """Draw the transitions of a fitted chain.

        Parameters
        ----------
        estimator : EMHiddenMarkov
            Fitted.
        state_names : list of str, optional
            What the states are called; by default their numbers.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        TransitionDisplay

        Raises
        ------
        ValueError
            If there are not as many names as states.

        Examples
        --------
        >>> from emkit import EMHiddenMarkov
        >>> from emkit.datasets import load_earthquakes
        >>> from emkit.display import TransitionDisplay
        >>> chain = EMHiddenMarkov(2, emission="poisson", random_state=0).fit(load_earthquakes().data)
        >>> TransitionDisplay.from_estimator(chain).ax_.get_ylabel()
        'state'
        """
        check_shown("TransitionDisplay", estimator, EMHiddenMarkov, "an EMHiddenMarkov")
        return cls(estimator.transmat_, state_names).plot(ax=ax)

    def plot(self, ax: Any = None, *, include_values: bool | None = None) -> Self:
        """Draw the matrix as a map, the darker the more probable.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        include_values : bool, optional
            Whether to write the numbers; by default if there is room. "<.01" and ">.99" are short of 0
            and 1.

        Returns
        -------
        self

        Examples
        --------
        >>> import numpy as np
        >>> from emkit.display import TransitionDisplay
        >>> display = TransitionDisplay(np.array([[0.999, 0.001], [0.0, 1.0]])).plot()
        >>> [text.get_text() for text in display.texts_.ravel()]
        ['>.99', '<.01', '0', '1']
        """
        k = len(self.transmat)
        names = [str(state) for state in range(k)] if self.state_names is None else self.state_names
        if len(names) != k:
            raise ValueError(f"state_names has {len(names)} names, but there are {k} states")
        self.ax_ = ax = panels(ax)[0, 0]
        self.figure_ = ax.figure
        self.image_ = ax.imshow(self.transmat, cmap="Blues", vmin=0.0, vmax=1.0)
        # As high as the matrix, whatever shape ax has.
        self.figure_.colorbar(self.image_, ax=ax, label="probability", fraction=0.046, pad=0.04)
        cell = ax.get_window_extent().width * 72.0 / self.figure_.dpi / k
        size = min(_LARGEST, 0.3 * cell)
        self.texts_ = None
        if size >= _SMALLEST if include_values is None else include_values:
            self.texts_ = np.empty((k, k), dtype=object)
            for (i, j), p in np.ndenumerate(self.transmat):
                colour = "white" if p > 0.65 else "black"
                self.texts_[i, j] = ax.text(j, i, _short(p), ha="center", va="center", color=colour, fontsize=size)
        if self.texts_ is not None or self.state_names is not None:
            is_long = max(map(len, names)) * _LARGEST > 2.0 * cell
            ax.set_xticks(np.arange(k), names, rotation=90 if is_long else 0)
            ax.set_yticks(np.arange(k), names)
        ax.set_xlabel("next state")
        ax.set_ylabel("state")
        return self


def _short(p: float) -> str:
    """Two decimals, which are not rounded to what is certain."""
    if p in (0.0, 1.0):
        return f"{p:.0f}"
    return "<.01" if p < 0.01 else ">.99" if p > 0.99 else f"{p:.2f}"[1:]
