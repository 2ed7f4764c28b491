"""Accelerators of the EM map: vectors in, vector out. They know no statistics, no model and no data.

An accelerator is told every accepted point ``x`` with its image ``gx`` under the EM map, and what the last few of them
say about the map, and answers with the point to try next. The engine evaluates that point (one pass over the data) and
either accepts it, or rejects it, says so, and goes on from the last image: whatever an accelerator proposes, the
objective never falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import brentq

Array = NDArray[Any]

# Directions shorter than this share of the longest are rounding.
_THIN = 1e-8


class Secants:
    """What the last few accepted points tell of the EM map: changes ``dx`` of the point, ``df`` of its step ``gx - x``.

    Near an optimum ``df = (J - I) dx``, with ``J`` the Jacobian of the map.
    """

    def __init__(self, memory: int = 5) -> None:
        self._memory = memory
        self._dx: list[Array] = []
        self._df: list[Array] = []
        self._last: tuple[Array, Array] | None = None
        self._projected: tuple[Array, Array] | None = None  # as soon as somebody asks
        self._eigenvalues: Array | None = None

    def __len__(self) -> int:
        return len(self._dx)

    def observe(self, x: Array, f: Array) -> None:
        """Take in an accepted point and its step; the oldest of a full memory is forgotten."""
        if self._last is not None:
            dx = x - self._last[0]
            if dx @ dx > 0.0:
                if len(self._dx) == min(self._memory, len(x)):
                    del self._dx[0], self._df[0]
                self._dx.append(dx)
                self._df.append(f - self._last[1])
                self._projected = self._eigenvalues = None
        self._last = (x, f)

    def forget(self) -> None:
        """Begin afresh; the last point stays."""
        self._dx.clear()
        self._df.clear()
        self._projected = self._eigenvalues = None

    def project(self) -> tuple[Array, Array]:
        """Orthonormal basis (p, m) of the changes of the point, and ``J - I`` as seen inside it (m, m)."""
        if self._projected is None:
            self._projected = self._project()
        return self._projected

    def _project(self) -> tuple[Array, Array]:
        changes = np.array(self._dx).T
        basis, lengths, turned = _svd(changes)
        keep = lengths > _THIN * lengths[0]
        basis = np.ascontiguousarray(basis[:, keep])  # as it will lie in memory when a checkpoint is read
        basis[~changes.any(axis=1)] = 0.0  # but for rounding: what never moves, a probability of 0, stays
        return basis, basis.T @ np.array(self._df).T @ (turned[keep].T / lengths[keep])

    def eigenvalues(self) -> Array:
        """Eigenvalues (m,) of ``J - I`` inside that basis."""
        if self._eigenvalues is None:
            real, imaginary, _, _, info = lapack.dgeev(self.project()[1], compute_vl=0, compute_vr=0)
            if info:
                raise np.linalg.LinAlgError("eigenvalues of the secants did not converge")
            self._eigenvalues = real + 1j * imaginary
        return self._eigenvalues

    def rate(self) -> float:
        """Largest Ritz value of ``J``: how much of its slowest direction an EM step leaves. NaN: too early to say."""
        if not self._dx:
            return float("nan")
        return 1.0 + float(self.eigenvalues().real.max())

    def least_squares(self, f: Array, damping: float = 1.0) -> Array:
        """Change of the image that would cancel the step ``f`` if the map were linear, as far as the secants reach.

        With ``damping`` below 1 the coefficients are shortened to that share of their squared length (ridge
        regression).
        """
        dx, df = np.array(self._dx).T, np.array(self._df).T
        left, lengths, right = _svd(df)
        keep = lengths > _THIN * lengths[0]
        if not keep.any():
            return np.zeros_like(f)
        lengths, right = lengths[keep], right[keep]
        target = left[:, keep].T @ f
        ridge = 0.0
        if damping < 1.0 and target.any():
            squared = damping * float(np.sum((target / lengths) ** 2))

            def excess(ridge: float) -> float:
                return float(np.sum((target * lengths / (lengths**2 + ridge)) ** 2)) - squared

            ceiling = float(lengths[0]) ** 2
            while excess(ceiling) > 0.0:
                ceiling *= 4.0
            ridge = float(brentq(excess, 0.0, ceiling, rtol=1e-3))
        return np.asarray(-(dx + df) @ (right.T @ (target * lengths / (lengths**2 + ridge))))


def _svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Thin singular value decomposition; for matrices of few columns NumPy's takes twice as long."""
    left, lengths, right, info = lapack.dgesdd(matrix, full_matrices=0)
    if info:
        raise np.linalg.LinAlgError("singular values of the secants did not converge")
    return left, lengths, right


class Accelerator(Protocol):
    """State of one climb; a fresh one for every start."""

    def observe(self, x: Array, gx: Array) -> None:
        """Hear that ``x``, whose image is ``gx``, was accepted: the last proposal if there was one, else an image."""

    def propose(self, x: Array, gx: Array, seen: Secants) -> Array | None:
        """Return the point to try after ``x``, whose image is ``gx``; None for the image itself, a plain EM step.

        ``seen`` are the secants of the points so far, this one included. Not asked where a plain step is due.
        """

    def reject(self) -> None:
        """Hear that the last proposal lowered the objective; the next point is the last image."""


class Plain:
    """No acceleration: every step is the EM map."""

    def observe(self, x: Array, gx: Array) -> None:
        """Do nothing."""

    def propose(self, x: Array, gx: Array, seen: Secants) -> Array | None:
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
        self._steps: list[tuple[Array, Array]] = []  # plain ones of this cycle: from where, and the step
        self._longest = 4.0
        self._at_bound = False
        self._proposed = False

    def observe(self, x: Array, gx: Array) -> None:
        """Collect plain steps; that from an accepted proposal opens the next cycle."""
        if not self._proposed:
            self._steps = [*self._steps[-1:], (x, gx - x)]
        elif self._at_bound:
            self._longest *= 4.0
        self._proposed = False

    def propose(self, x: Array, gx: Array, seen: Secants) -> Array | None:
        """Extrapolate two plain steps, then start again from the proposal's image."""
        if len(self._steps) < 2:
            return None
        (origin, first), (_, residual) = self._steps
        self._steps = []
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
        self._steps = []
        self._longest = max(2.0, self._longest / 4.0)


class Anderson:
    """Damped Anderson acceleration with restarts.

    The memory is cleared when full. Coefficients are damped at first, less after every accepted step and more after a
    rejected one.

    References
    ----------
    Henderson, N. & Varadhan, R. (2019). Damped Anderson acceleration with restarts and monotonicity control for
    accelerating EM and EM-like algorithms. *Journal of Computational and Graphical Statistics* 28, 834-846.
    """

    def __init__(self, memory: int = 5) -> None:
        self._memory = memory
        self._secants = Secants(memory)
        self._successes = 0
        self._proposed = False

    def observe(self, x: Array, gx: Array) -> None:
        """Remember the change since the last point."""
        if len(self._secants) >= min(self._memory, len(x)):
            self._secants.forget()
        self._secants.observe(x, gx - x)
        self._successes += self._proposed
        self._proposed = False

    def propose(self, x: Array, gx: Array, seen: Secants) -> Array | None:
        """Cancel the step as far as the secants reach, damped."""
        if not len(self._secants):
            return None
        self._proposed = True
        damping = 1.0 / (1.0 + 1.2 ** (25 - min(self._successes, 125)))
        return gx + self._secants.least_squares(gx - x, damping)

    def reject(self) -> None:
        """Damp more."""
        self._proposed = False
        self._successes = max(0, self._successes - self._memory)


class Momentum:
    """Nesterov's momentum, begun afresh whenever the objective falls.

    References
    ----------
    O'Donoghue, B. & Candes, E. (2015). Adaptive restart for accelerated gradient schemes. *Foundations of Computational
    Mathematics* 15, 715-732.
    """

    def __init__(self) -> None:
        self._time = 1.0
        self._images: list[Array] = []  # the last two

    def observe(self, x: Array, gx: Array) -> None:
        """Remember the image."""
        self._images = [*self._images[-1:], gx]

    def propose(self, x: Array, gx: Array, seen: Secants) -> Array | None:
        """Go on in the direction from the last image to this one."""
        if len(self._images) < 2:
            return None
        previous, self._time = self._time, 0.5 + np.sqrt(0.25 + self._time**2)
        return None if previous == 1.0 else gx + (previous - 1.0) / self._time * (gx - self._images[0])

    def reject(self) -> None:
        """Lose all speed."""
        self._time, self._images = 1.0, []


class Ritz:
    """Newton's step where the secants have seen the map, each of its directions lengthened within a bound.

    Inside the span of the secants the Jacobian of the map is known. Each of its eigendirections, in which an EM step
    leaves the share ``rho``, is lengthened by ``1 / |1 - rho|``: Newton's step where ``rho < 1``, and away from the
    saddle, not into it, where ``rho > 1``. The bound grows on success and shrinks on rejection. When it binds nowhere,
    the least-squares step of the same secants, which is the better solver close to the optimum, is taken instead,
    unless it has just failed. Outside the span the step is EM's own.

    The absolute value is that of saddle-free Newton (Dauphin et al. 2014), the least-squares step Anderson's (1965).
    """

    _REST = 5  # so many turns without least squares after it failed

    def __init__(self) -> None:
        self._bound = 4.0
        self._bounded = False
        self._rest = 0
        self._proposed: str | None = None

    def observe(self, x: Array, gx: Array) -> None:
        """Widen the bound if it held the last step back."""
        if self._proposed == "lengthened" and self._bounded:
            self._bound *= 2.0
        self._proposed = None

    def propose(self, x: Array, gx: Array, seen: Secants) -> Array | None:
        """Lengthen the step in every direction that is known."""
        f = gx - x
        if not len(seen):
            return None
        self._bounded = bool((np.abs(seen.eigenvalues()) * self._bound < 1.0).any())
        self._rest -= 1
        if not self._bounded and self._rest < 0:
            self._proposed = "least squares"
            return gx + seen.least_squares(f)
        basis, slope = seen.project()
        values, vectors = np.linalg.eig(slope)
        lengthening = 1.0 / np.maximum(np.abs(values), 1e-300)
        inside = basis.T @ f
        try:
            parts = np.linalg.solve(vectors, inside.astype(complex))
        except np.linalg.LinAlgError:  # a defective slope has no eigendirections
            return None
        self._proposed = "lengthened"
        longer = (vectors @ (np.clip(lengthening, 1.0, self._bound) * parts)).real
        return np.asarray(gx + basis @ (longer - inside))

    def reject(self) -> None:
        """Shorten the bound, or do without least squares for a while."""
        if self._proposed == "least squares":
            self._rest = self._REST
        else:
            self._bound = max(2.0, self._bound / 2.0)
        self._proposed = None


ACCELERATORS: dict[str | None, Callable[[], Accelerator]] = {
    None: Plain,
    "auto": Ritz,
    "squarem": Squarem,
    "anderson": Anderson,
    "momentum": Momentum,
}
