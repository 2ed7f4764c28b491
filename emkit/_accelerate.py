"""Accelerators of the EM map: vectors in, vector out. They know no statistics, no model and no data.

An accelerator is told every accepted point ``x`` with its image ``gx`` under the EM map, and answers with the point to
try next. The engine evaluates that point (one pass over the data) and either accepts it, or rejects it, says so, and
goes on from the last image: whatever an accelerator proposes, the objective never falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Accelerator(Protocol):
    """State of one climb; a fresh one for every start."""

    def propose(self, x: Array, gx: Array) -> Array | None:
        """Return the point to try after ``x``, whose image is ``gx``; None for the image itself, a plain EM step."""

    def reject(self) -> None:
        """Hear that the last proposal lowered the objective; the next point is the last image."""


class Plain:
    """No acceleration: every step is the EM map."""

    def propose(self, x: Array, gx: Array) -> Array | None:
        """Return None: the image itself."""
        return None

    def reject(self) -> None:
        """Do nothing: an image is never rejected."""


class Squarem:
    """Squared extrapolation, third step length.

    From ``x``, ``r = G(x) - x`` and ``v = G(G(x)) - G(x) - r`` it tries ``x - 2 a r + a^2 v`` with ``a = -|r| / |v|``,
    then takes one plain step from there. The length ``|a|`` is bounded, more tightly after a rejection, less after
    success.

    References
    ----------
    Varadhan, R. & Roland, C. (2008). Simple and globally convergent methods for accelerating the convergence of any EM
    algorithm. *Scandinavian Journal of Statistics* 35, 335-353.
    """

    def __init__(self) -> None:
        self._origin: Array | None = None
        self._first = np.empty(0)
        self._longest = 4.0
        self._at_bound = False
        self._proposed = False

    def propose(self, x: Array, gx: Array) -> Array | None:
        """Collect two plain steps, then extrapolate, then start again from the proposal's image."""
        if self._proposed:  # the proposal was accepted: its plain step opens the next cycle
            if self._at_bound:
                self._longest *= 4.0
            self._proposed = False
            return None
        residual = gx - x
        if self._origin is None:
            self._origin, self._first = x, residual
            return None
        origin, first, self._origin = self._origin, self._first, None
        change = residual - first
        curvature = float(np.linalg.norm(change))
        length = float(np.linalg.norm(first)) / curvature if curvature > 0.0 else 1.0
        if not length > 1.0:  # extrapolating less than the two plain steps already made
            return None
        self._at_bound = length >= self._longest
        length = min(length, self._longest)
        self._proposed = True
        return origin + 2.0 * length * first + length * length * change

    def reject(self) -> None:
        """Shorten the steps and start a new cycle."""
        self._proposed = False
        self._origin = None
        self._longest = max(2.0, self._longest / 4.0)


ACCELERATORS: dict[str | None, Callable[[], Accelerator]] = {None: Plain, "squarem": Squarem}
