"""Picture of a search: how the winner climbed, and where all starts ended."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._mixin import EMMixin
from ._drawing import GREY, PALETTE, check_shown, panels

Array = NDArray[Any]

# How the fates of starts are drawn, the most wanted first.
_MARKS = {
    "converged": (PALETTE[0], "o"),
    "stopped": (PALETTE[4], "s"),
    "stalled": (PALETTE[2], "P"),
    "max_iter": (PALETTE[3], "D"),
    "outrun": (GREY, "v"),
    "duplicate": (PALETTE[1], "^"),
    "degenerate": (PALETTE[5], "X"),
    "failed": ("black", "x"),
}
# Differences of an objective below this, in nats, tell nothing.
_LEAST = 1e-6
# Share of the height that is left free above the highest gap.
_HEADROOM = 0.2


class ConvergenceDisplay:
    """How far below the best objective the winner was at each step, and where each start ended.

    Gaps are in nats, on a scale that is logarithmic but for its lowest part, which is linear so that 0 is on it. On the
    right the starts are ranked by what they reached: those at the same height have found the same optimum, or an equal
    one. A start without an objective, because it failed or was the same as another from the beginning, is drawn at the
    upper edge; one with a higher objective that did not win, because it is degenerate or within ``tol``, at 0.

    Parameters
    ----------
    history : ndarray of shape (n_steps,)
        Objective of the winner at each accepted step, in nats.
    restarts : list of dict
        ``start``, ``status``, ``objective``, ``n_iter`` and ``reason`` of each start.
    gap : float, optional
        At most so much is left to gain above the last objective, in nats; drawn as a line.

    Attributes
    ----------
    climb_ : matplotlib Line2D
        The winner's gaps.
    starts_ : dict of str to matplotlib Line2D
        The starts of each status, at their ranks; empty if there was only one start.
    ax_, axes_, figure_ : matplotlib Axes, ndarray of them, Figure
        Where it was drawn: the climb, and to the right of it the starts.

    Notes
    -----
    With ``n_init="auto"`` starts race on at most 16,384 rows (of a mixture; 64 for each component, if that is more).
    Of larger data their objectives are estimates, scaled to all rows, which may lie above the winner's.

    Examples
    --------
    >>> from emkit import EMGaussianMixture
    >>> from emkit.datasets import load_faithful
    >>> from emkit.display import ConvergenceDisplay
    >>> mixture = EMGaussianMixture(3, n_init=5, random_state=0).fit(load_faithful().data)
    >>> display = ConvergenceDisplay.from_estimator(mixture)
    >>> print(f"{display.gaps.max():.2f} nats between the best and the worst of five")
    0.43 nats between the best and the worst of five
    """

    def __init__(self, history: Array, restarts: list[dict[str, Any]], gap: float | None = None) -> None:
        self.history = history
        self.restarts = restarts
        self.gap = gap

    @property
    def gaps(self) -> Array:
        """How far each start ended below the last objective of the winner, in nats."""
        return np.asarray(self.history[-1] - np.array([start["objective"] for start in self.restarts]))

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw how a fitted estimator got there.

        Parameters
        ----------
        estimator : estimator
            Any of emkit's, fitted.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        ConvergenceDisplay

        Examples
        --------
        >>> from emkit import EMImputer
        >>> from emkit.datasets import load_airquality
        >>> from emkit.display import ConvergenceDisplay
        >>> imputer = EMImputer().fit(load_airquality().data)
        >>> ConvergenceDisplay.from_estimator(imputer).ax_.get_title()
        'Start 0: converged'
        """
        check_shown("ConvergenceDisplay", estimator, EMMixin, "an estimator of emkit")
        return cls(np.asarray(estimator.history_), estimator.restarts_, estimator.gap_).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the winner's climb, and the starts if there were several.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; it is divided if there were several starts.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there was no climb, as after ``partial_fit``.

        Examples
        --------
        >>> import numpy as np
        >>> from emkit.display import ConvergenceDisplay
        >>> restarts = [{"start": 0, "status": "converged", "objective": -100.0, "n_iter": 3, "reason": ""}]
        >>> display = ConvergenceDisplay(np.array([-110.0, -101.0, -100.1, -100.0]), restarts).plot()
        >>> display.climb_.get_ydata().round(1)
        array([10. ,  1. ,  0.1,  0. ])
        """
        n = len(self.restarts)
        if not n:
            raise ValueError("restarts is empty: only fit climbs from a start, partial_fit takes one step; call fit")
        self.axes_ = panels(
            ax,
            1,
            1 if n == 1 else 2,
            size=(6.4 if n == 1 else 9.6, 4.8),
            share={"sharey": True},
        )
        self.ax_, self.figure_ = self.axes_[0, 0], self.axes_[0, 0].figure
        climb = self.history[-1] - self.history
        seen = np.concatenate([climb, self.gaps, [self.gap or 0.0]])
        seen = np.log10(seen[(seen > _LEAST) & np.isfinite(seen)])
        low = np.floor(min(seen, default=0.0))
        high = max(seen, default=1.0)
        self.ax_.set_yscale("symlog", linthresh=10.0**low)
        self.ax_.set_ylim(0.0, 10.0 ** (high + _HEADROOM * (high - low + 1.0)))
        (self.climb_,) = self.ax_.plot(climb, marker=".", color=PALETTE[0], clip_on=False)
        if self.gap is not None and np.isfinite(self.gap):
            self.ax_.axhline(self.gap, color="black", linestyle=":", label=f"gap_: {self.gap:.1e} left")
            self.ax_.legend(loc="upper right")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.set_xlabel("accepted step")
        self.ax_.set_ylabel("below the best objective (nats)")
        winner = self.restarts[int(np.argmin(np.abs(self.gaps)))]
        self.ax_.set_title(f"Start {winner['start']}: {winner['status']}")
        self.starts_: dict[str, Any] = {}
        if n > 1:
            self._plot_starts(self.axes_[0, 1])
        return self

    def _plot_starts(self, ax: Any) -> None:
        """Rank the starts, a mark for each status."""
        order = np.argsort(self.gaps, kind="stable")
        status = np.array([self.restarts[i]["status"] for i in order])
        gaps = np.maximum(self.gaps[order], 0.0)
        for name, (colour, marker) in _MARKS.items():
            here = np.flatnonzero(status == name)
            if len(here):
                (self.starts_[name],) = ax.plot(
                    here + 1,
                    gaps[here],
                    linestyle="",
                    marker=marker,
                    color=colour,
                    label=f"{name} ({len(here)})",
                    clip_on=False,
                )
        nowhere = np.flatnonzero(np.isinf(gaps))
        for i in nowhere:
            colour, marker = _MARKS[status[i]]
            ax.plot(i + 1, 0.96, transform=ax.get_xaxis_transform(), marker=marker, color=colour)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("starts, the best first")
        ax.set_title(f"Where {len(self.restarts)} starts ended")
        ax.legend(loc="lower right")
