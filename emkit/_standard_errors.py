"""Standard errors for every family: how much the estimates could be otherwise, had the data been drawn again.

Everything happens in the free coordinates of the charts, in which EM itself moves, each measured in its own standard
deviation had nothing been missing, and is carried over to the fitted attributes by the delta method. Directions in
which the parameters do not change do not count. A probability of 0 is on the boundary, where no derivative tells how it
could be otherwise: it is held where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy, deepcopy
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.special import ndtri
from sklearn.utils import Bunch

from ._accelerate import ACCELERATORS
from ._blocks import cuts
from ._charts import on_boundary, pack, redundant, unpack
from ._em import climb, total
from ._executors import Run, count_workers, workers
from ._model import Ascent, Data, Degenerate, Model, Params, Stats, add
from ._sequences import Sequences
from ._sources import Blocks
from .exceptions import DataWarning, warn

Array = NDArray[Any]

# An estimate that is so many nats below the maximum (if in one direction, 0.45 standard errors away from it), and so
# many times what the fit allowed, is not the maximum of these rows.
_FAR, _MUCH = 0.1, 10.0
# Resamples without a regular estimate are drawn again this often.
_REDRAWS = 100
# Length of a step away from the estimate, in standard deviations: of plain central differences, and of those of the
# fourth order, which can afford longer ones.
_STEP, _STRIDE = 2e-3, 3e-2


class StandardErrors(Bunch):  # type: ignore[misc]
    """Standard errors of the fitted attributes, under their names, and the attributes themselves.

    Attributes
    ----------
    <name>_ : ndarray
        For each fitted attribute an array of its shape; 0 where the estimate cannot vary or is on the boundary.
    estimates : Bunch
        The fitted attributes.
    asymmetry : float
        How far the numerical information is from symmetric, relative to its size: a check of its accuracy. 0 for the
        bootstrap, which has none.
    """

    def intervals(self, level: float = 0.95) -> Bunch:
        """Confidence intervals, ``estimate -+ z * error``, under the names of the attributes.

        Parameters
        ----------
        level : float, default=0.95
            Coverage wanted, between 0 and 1.

        Returns
        -------
        Bunch
            For each attribute the lower and the upper ends, two arrays.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level={level!r} must lie between 0 and 1")
        z = float(ndtri(0.5 + 0.5 * level))
        return Bunch(
            **{name: (value - z * self[name], value + z * self[name]) for name, value in self.estimates.items()}
        )


class Neighbourhood:
    """The surroundings of an estimate: its free coordinates, and the likelihood of what is near.

    The score at a point is that of the complete data expected there (Fisher's identity): one pass over the data, and no
    derivative of the model. Its central differences are the information: two passes for each coordinate.

    References
    ----------
    Jamshidian, M. & Jennrich, R. (2000). Standard errors for EM estimation. *JRSS B* 62, 257-270.
    """

    def __init__(self, model: Model, blocks: Sequence[Data] | Blocks, params: Params, run: Run[Stats]) -> None:
        self._model, self._blocks, self._run = model, blocks, run
        self._params, self._x = params, pack(params, model.charts)
        self._free = np.flatnonzero(~on_boundary(params, model.charts))
        self._unit = np.ones(len(self._free))
        stats = self._expect(params)
        self._unit = np.array([self._bend(stats, y) for y in np.eye(len(self._free))])
        idle = redundant(params, model.charts)[:, self._free] / self._unit
        self.directions = null_space(idle) if len(idle) else np.eye(len(self._free))

    @property
    def size(self) -> int:
        """How many coordinates are free."""
        return len(self._free)

    @property
    def is_on_boundary(self) -> bool:
        """Whether some coordinate is held."""
        return len(self._free) < len(self._x)

    def at(self, y: Array) -> Params:
        """Parameters at a distance from the estimate, in standard deviations."""
        x = self._x.copy()
        x[self._free] += self._unit * y
        return unpack(x, self._model.charts, self._params)

    def _expect(self, params: Params) -> Stats:
        stats = total(self._run(lambda block: self._model.expect(params, block), self._blocks))
        return add(stats, self._model.prior(params))

    def _bend(self, stats: Stats, y: Array) -> float:
        """Distance along a coordinate that lowers the expected complete-data log-likelihood by a half."""

        def q(h: float) -> float:
            return self._model.q_value(self.at(h * y), stats, self._params)

        h = 1e-5
        while True:
            bent = 2.0 * q(0.0) - q(h) - q(-h)
            if not bent > 1e-2:  # the step is short enough
                return float(h / np.sqrt(bent)) if bent > 0.0 else 1e-2
            h /= 10.0

    def score(self, y: Array) -> Array:
        """Gradient of the objective, per standard deviation of each free coordinate."""
        params = self.at(y)
        stats = self._expect(params)
        return self.gradient(lambda there: self._model.q_value(there, stats, params), y)

    def gradient(self, function: Callable[[Params], Any], y: Array) -> Array:
        """Derivatives, by central differences of the fourth order: one row for each free coordinate."""
        rows = []
        for step in _STRIDE * np.eye(len(y)):
            near = np.subtract(function(self.at(y + step)), function(self.at(y - step)))
            far = np.subtract(function(self.at(y + 2.0 * step)), function(self.at(y - 2.0 * step)))
            rows.append((8.0 * near - far) / (12.0 * _STRIDE))
        return np.array(rows)

    def information(self) -> tuple[Array, float]:
        """Observed information of the free coordinates, and its relative asymmetry before it was made symmetric."""
        steps = _STEP * np.eye(len(self._free))
        matrix = np.array([(self.score(-step) - self.score(step)) / (2.0 * _STEP) for step in steps])
        return 0.5 * (matrix + matrix.T), float(np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix))

    def covariance(self, information: Array, scores: Array | None = None, remedy: str = "climb on") -> Array:
        """Covariance of the estimate along ``directions``.

        With ``scores``, the summed outer products of those of independent units, the sandwich.
        """
        inside = self.directions.T @ information @ self.directions
        values = np.linalg.eigvalsh(inside)
        if not values[0] > 1e-12 * values[-1]:
            raise ValueError(
                f"the information has the eigenvalue {values[0]:.3g} (the largest is {values[-1]:.3g}): the estimate "
                f"is not a regular maximum for these rows; {remedy}"
            )
        inverse = np.linalg.inv(inside)
        if scores is not None:
            inverse = inverse @ (self.directions.T @ scores @ self.directions) @ inverse
        return np.asarray(inverse)

    def carry_over(self, covariance: Array, attributes: Callable[[Params], Array]) -> Array:
        """Standard errors of attributes: the delta method along the principal axes of the covariance."""
        axes = np.linalg.cholesky(covariance).T @ self.directions.T
        ends = [(attributes(self.at(_STEP * axis)), attributes(self.at(-_STEP * axis))) for axis in axes]
        return np.asarray(reduce(np.hypot, [(ahead - back) / (2.0 * _STEP) for ahead, back in ends]))


def standard_errors(
    estimator: Any, X: Any, weight: Array | None, method: str, n_resamples: int, rng: np.random.Generator
) -> StandardErrors:
    """Standard errors of a fitted estimator, from checked rows or sequences."""
    if estimator.status_ == "degenerate":
        raise ValueError(
            "the fit is degenerate, and its likelihood says nothing of how far the estimates could be otherwise; fit "
            "fewer components, or a simpler model, first"
        )
    model: Model = estimator._used
    with estimator._columns_named():
        data = model.prepare(X, weight)
    model, outside = model.calibrate(data), estimator._recall()

    def attributes(inside: Params) -> Array:
        return _joined(_published(estimator, model.restore(inside, data)))

    params = model.standardize(outside, data)
    if method == "bootstrap":
        if _n_units(X) < 2:
            raise ValueError("one sequence cannot be drawn again; use method='information', or give several sequences")
        whole = _climbed(estimator, model, data, params)
        if whole is not None:
            _check_maximum(estimator, whole.objective - whole.history[0])
        draws = [attributes(draw) for draw in _resampled(estimator, model, X, data, weight, params, n_resamples, rng)]
        return _arranged(estimator, outside, _deviation(np.array(draws)), 0.0)
    blocks = model.split(data)
    with workers(max(1, min(len(blocks), count_workers(estimator.n_jobs)))) as run:
        here = Neighbourhood(model, blocks, params, run)
        information, asymmetry = here.information()
        outer = None
        if method == "sandwich":
            n_units, n_free = _n_units(X), here.directions.shape[1]
            if n_units <= n_free:
                raise ValueError(
                    f"the sandwich needs more independent rows or sequences than parameters: X has {n_units} for "
                    f"{n_free}; use method='information'"
                )
            parts = _units(X, weight, here.size)
            outer = np.sum([_outer_products(here, estimator, model, data, *part) for part in parts], axis=0)
        covariance = here.covariance(information, outer, _remedy(estimator))
        slope = here.directions.T @ here.score(np.zeros(here.size))
    if asymmetry > 1e-3:
        warn(
            f"the information is only symmetric to {asymmetry:.1g}: the standard errors are no more accurate; "
            "method='bootstrap' does without derivatives",
            DataWarning,
        )
    inside = here.directions.T @ information @ here.directions
    _check_maximum(estimator, 0.5 * float(slope @ np.linalg.solve(inside, slope)))
    found = _arranged(estimator, outside, here.carry_over(covariance, attributes), asymmetry)
    if here.is_on_boundary:
        held = [
            f"{name}{index.tolist()}"
            for name, value in found.estimates.items()
            for index in np.argwhere((found[name] == 0.0) & ((value < 1e-6) | (value > 1.0 - 1e-6)))
        ]
        warn(
            f"on the boundary, held there, and given a standard error of 0: {', '.join(held[:8])}"
            f"{f' and {len(held) - 8} more' if len(held) > 8 else ''}"
            if held
            else "on the boundary, and held there: probabilities below 1e-6, whose standard errors say nothing",
            DataWarning,
        )
    return found


def _deviation(draws: Array) -> Array:
    """Standard deviation over draws (m, p), whatever their units: their squares may be beyond float64."""
    away = draws - draws.mean(axis=0)
    size = np.abs(away).max(axis=0)
    return np.asarray(size * np.std(away / np.where(size > 0.0, size, 1.0), axis=0, ddof=1))


def _check_maximum(estimator: Any, gain: float) -> None:
    """Refuse rows of which the estimate is not the maximum: so many nats are left to gain, by a step of Newton's."""
    gap = estimator.gap_ if estimator.converged_ else 0.0
    if gain <= _FAR:
        return
    left = f"the estimate is about {gain:.2g} nats below the maximum for these rows"
    if gain <= _MUCH * max(estimator.tol, gap):
        text = f"{left}: standard errors mean little there; fit with a smaller tol"
        warn(text, DataWarning)
        return
    raise ValueError(f"{left}, and standard errors are those of a maximum: {_remedy(estimator)}")


def _remedy(estimator: Any) -> str:
    """How to come to an estimate that is the maximum of the rows."""
    if "_stream" in vars(estimator):
        return "partial_fit forgets what it learned first, and ends at the maximum of no rows; call fit with them"
    if estimator.status_ == "max_iter":
        return f"the fit stopped after n_iter_={estimator.n_iter_} steps; fit again with a larger max_iter"
    if estimator.status_ == "stopped":
        return "the fit was stopped before its end; fit again"
    return "give the rows of the fit, with its sample_weight; if these are, fit with a smaller tol, or a simpler model"


def _published(estimator: Any, outside: Params) -> dict[str, Array]:
    """Fitted attributes, as far as they are arrays of numbers, of parameters in the user's units."""
    fitted = copy(estimator)
    before = dict(vars(fitted))
    fitted._publish(deepcopy(outside))  # none of its arrays is one of before
    return {
        name: value
        for name, value in vars(fitted).items()
        if value is not before.get(name)
        and isinstance(value, np.ndarray)
        and value.dtype.kind == "f"
        and not name.startswith("categories_")  # symbols may be numbers
    }


def _joined(attributes: dict[str, Array]) -> Array:
    return np.concatenate([value.ravel() for value in attributes.values()])


def _arranged(estimator: Any, outside: Params, errors: Array, asymmetry: float) -> StandardErrors:
    """Errors in the shapes of the attributes."""
    estimates = _published(estimator, outside)
    cuts = np.cumsum([value.size for value in estimates.values()])[:-1]
    pieces = zip(estimates.items(), np.split(errors, cuts), strict=True)
    shaped = {name: piece.reshape(value.shape) for (name, value), piece in pieces}
    return StandardErrors(**shaped, estimates=Bunch(**estimates), asymmetry=asymmetry)


def _n_units(X: Any) -> int:
    return len(X.lengths) if isinstance(X, Sequences) else len(X)


def _units(X: Any, weight: Array | None, size: int) -> Iterator[tuple[Any, Array]]:
    """Independent units with their weights: all sequences, or rows, so many at once that scores fit into a block."""
    if isinstance(X, Sequences):
        given = X.weights(weight)
        yield X, np.ones(len(X.lengths)) if given is None else given
        return
    weight = np.ones(len(X)) if weight is None else weight
    for cut in cuts(len(X), 64 * size):
        yield X[cut], weight[cut]


def _outer_products(here: Neighbourhood, estimator: Any, model: Model, data: Data, X: Any, weight: Array) -> Array:
    """Weighted sum of the outer products of the units' scores."""

    def log_density(inside: Params) -> Array:
        outside = model.restore(inside, data)
        (values,) = estimator._spread(model, model.frame(outside, X), outside, "log_density")
        return np.add.reduceat(values, X.ends - X.lengths) if isinstance(X, Sequences) else values

    scores = here.gradient(log_density, np.zeros(here.size))
    return np.asarray((scores * weight) @ scores.T)


def _resampled(
    estimator: Any,
    model: Model,
    X: Any,
    data: Data,
    weight: Array | None,
    params: Params,
    n_resamples: int,
    rng: np.random.Generator,
) -> Iterator[Params]:
    """Estimates from units drawn with replacement, each climbed to from the estimate, components in its order."""
    if isinstance(X, Sequences):
        weight = X.weights(weight)
    weight = np.ones(_n_units(X)) if weight is None else weight
    for _ in range(n_resamples):
        for _ in range(_REDRAWS):
            drawn = rng.multinomial(round(weight.sum()), weight / weight.sum()).astype(np.float64)
            with estimator._columns_named():
                resample = model.prepare(X, drawn)
            start = model.standardize(model.restore(params, data), resample)
            found = _climbed(estimator, model, resample, start)
            if found is not None:
                yield model.align(model.standardize(model.restore(found.params, resample), data), params)
                break
        else:
            raise ValueError(
                f"none of {_REDRAWS} resamples has a regular estimate; use method='information', or fit fewer "
                "components"
            )


def _climbed(estimator: Any, model: Model, data: Data, start: Params) -> Ascent | None:
    """Climb as the fit did; None if what is reached is not regular."""
    tol, max_iter, accelerate = estimator.tol, estimator.max_iter, ACCELERATORS[estimator.acceleration]
    try:
        found = climb(model, model.split(data), start, tol=tol, max_iter=max_iter, accelerate=accelerate)
    except (Degenerate, np.linalg.LinAlgError):
        return None
    return None if found.status == "degenerate" else found
