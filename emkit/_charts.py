"""Free coordinates of constrained parameters: what an accelerator may move in without leaving the feasible set.

Square-root and Cholesky coordinates are used because in them the boundary (a weight of zero, a singular covariance) is
a finite point; in logarithms it lies at minus infinity, and extrapolation towards it never ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

Array = NDArray[Any]

# Square roots, or sines, below this belong to a value on the boundary.
_LEAST = 1e-3


class Chart(ABC):
    """Coordinates of one array of parameters."""

    @abstractmethod
    def pack(self, values: Array) -> Array:
        """Free coordinates, flat, of valid values."""

    @abstractmethod
    def unpack(self, free: Array, like: Array) -> Array:
        """Valid values, shaped as ``like``, of any free coordinates."""

    def size(self, like: Array) -> int:
        """How many free coordinates an array shaped as ``like`` has."""
        return int(like.size)

    def on_boundary(self, free: Array) -> Array:
        """Which coordinates stand where values cannot go on: their derivative says nothing there."""
        return np.zeros(len(free), bool)

    def redundant(self, free: Array, like: Array) -> Array:
        """Directions (m, size), as rows, in which the coordinates move but the values do not."""
        return np.empty((0, len(free)))


class Real(Chart):
    """Numbers without constraint."""

    def pack(self, values: Array) -> Array:
        """Return the numbers themselves."""
        return values.ravel()

    def unpack(self, free: Array, like: Array) -> Array:
        """Return the numbers themselves."""
        return free.reshape(like.shape)


class Implied(Chart):
    """Values that follow from other parameters: nothing is free."""

    def pack(self, values: Array) -> Array:
        """Nothing."""
        return np.empty(0)

    def unpack(self, free: Array, like: Array) -> Array:
        """Return the values at hand; the model brings them up to date."""
        return like

    def size(self, like: Array) -> int:
        """None."""
        return 0


class Positive(Chart):
    """Variances and rates: the square root, with either sign."""

    def pack(self, values: Array) -> Array:
        """Square roots."""
        return np.sqrt(values).ravel()

    def unpack(self, free: Array, like: Array) -> Array:
        """Squares."""
        return np.square(free).reshape(like.shape)

    def on_boundary(self, free: Array) -> Array:
        """At 0."""
        return np.asarray(np.abs(free) < _LEAST * min(1.0, float(np.abs(free).max(initial=0.0))))


class Share(Chart):
    """Probabilities of one of two outcomes: an angle, ``p = sin(a)^2``."""

    def pack(self, values: Array) -> Array:
        """Angles."""
        return np.arcsin(np.sqrt(values)).ravel()

    def unpack(self, free: Array, like: Array) -> Array:
        """Squared sines."""
        return np.square(np.sin(free)).reshape(like.shape)

    def on_boundary(self, free: Array) -> Array:
        """At 0 or 1."""
        return np.abs(np.sin(2.0 * free)) < _LEAST


class Bounded(Chart):
    """Numbers of an interval: the angle whose squared sine is the way from one end to the other."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def pack(self, values: Array) -> Array:
        """Angles."""
        return np.arcsin(np.sqrt((values - self.low) / (self.high - self.low))).ravel()

    def unpack(self, free: Array, like: Array) -> Array:
        """Points of the interval."""
        return (self.low + (self.high - self.low) * np.square(np.sin(free))).reshape(like.shape)

    def on_boundary(self, free: Array) -> Array:
        """At an end."""
        return np.abs(np.sin(2.0 * free)) < _LEAST


class Simplex(Chart):
    """Probabilities along the last axis: a point of the sphere, ``p = s^2 / sum(s^2)``."""

    def pack(self, values: Array) -> Array:
        """Square roots."""
        return np.sqrt(values).ravel()

    def unpack(self, free: Array, like: Array) -> Array:
        """Squares, normalised; the origin, which is no direction at all, becomes the centre of the simplex."""
        squares = np.square(free).reshape(like.shape)
        total = squares.sum(axis=-1, keepdims=True)
        return np.where(total > 0.0, squares / np.where(total > 0.0, total, 1.0), 1.0 / like.shape[-1])

    def on_boundary(self, free: Array) -> Array:
        """At 0."""
        return np.abs(free) < _LEAST

    def redundant(self, free: Array, like: Array) -> Array:
        """The length of each vector."""
        vectors = free.reshape(-1, like.shape[-1])
        return np.asarray((np.eye(len(vectors))[:, :, None] * vectors).reshape(len(vectors), -1))


@cache
def _triangle(d: int) -> tuple[Array, Array]:
    """Rows and columns of a lower triangle."""
    return np.tril_indices(d)


class Cholesky(Chart):
    """Lower Cholesky factors (..., d, d): their lower triangles, a negative diagonal meaning the column's opposite."""

    def pack(self, values: Array) -> Array:
        """Lower triangles."""
        return values[..., *_triangle(values.shape[-1])].ravel()

    def unpack(self, free: Array, like: Array) -> Array:
        """Factors with a non-negative diagonal."""
        factor = np.zeros(like.shape)
        factor[..., *_triangle(like.shape[-1])] = free.reshape(*like.shape[:-2], -1)
        sign = np.where(np.diagonal(factor, axis1=-2, axis2=-1) < 0.0, -1.0, 1.0)
        return factor * sign[..., None, :]

    def size(self, like: Array) -> int:
        """Entries of the triangles."""
        d = like.shape[-1]
        return int(like.size // (d * d) * (d * (d + 1) // 2))


def pack(params: Any, charts: Mapping[str, Any]) -> Array:
    """Free coordinates of (nested) parameters, as one vector."""
    return np.concatenate(list(_packed(params, charts)))


def _packed(params: Any, charts: Mapping[str, Any]) -> Iterator[Array]:
    for name, value in zip(params._fields, params, strict=True):
        chart = charts[name]
        if hasattr(chart, "pack"):  # a Chart; to ask for its class takes longer than to pack a few numbers
            yield chart.pack(value)
        else:
            yield from _packed(value, chart)


def unpack(free: Array, charts: Mapping[str, Any], like: Any) -> Any:
    """Parameters, shaped as ``like``, of any vector of free coordinates."""
    return _unpack(free, charts, like)[0]


def _unpack(free: Array, charts: Mapping[str, Any], like: Any) -> tuple[Any, Array]:
    values = []
    for name, template in zip(like._fields, like, strict=True):
        chart = charts[name]
        if isinstance(chart, Chart):
            size = chart.size(template)
            values.append(chart.unpack(free[:size], template))
            free = free[size:]
        else:
            value, free = _unpack(free, chart, template)
            values.append(value)
    return like._make(values), free


def on_boundary(params: Any, charts: Mapping[str, Any]) -> Array:
    """Which free coordinates of (nested) parameters are on the boundary, as one vector."""
    pieces = []
    for name, value in zip(params._fields, params, strict=True):
        chart = charts[name]
        pieces.append(chart.on_boundary(chart.pack(value)) if isinstance(chart, Chart) else on_boundary(value, chart))
    return np.concatenate(pieces)


def redundant(params: Any, charts: Mapping[str, Any]) -> Array:
    """Directions (m, size), as rows, in which all coordinates move but the (nested) parameters do not."""
    pieces = []
    for name, value in zip(params._fields, params, strict=True):
        chart = charts[name]
        pieces.append(
            chart.redundant(chart.pack(value), value) if isinstance(chart, Chart) else redundant(value, chart)
        )
    return np.asarray(block_diag(*pieces))
