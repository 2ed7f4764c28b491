"""The equation of every M-step for a gamma shape: ``log a - digamma(a) = s``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, polygamma

Array = NDArray[Any]

# From here on differences of logarithms and digammas are sums of powers: nothing cancels.
_LARGE = 1e3
_STEPS = 6


def shape_from_gap(gap: Array) -> Array:
    """Solve ``log a - digamma(a) = gap > 0`` by Newton's method for ``1 / a``, which is nearly linear in ``gap``.

    References
    ----------
    Minka, T. (2002). *Estimating a Gamma distribution*. Microsoft Research.
    """
    shape = (3.0 - gap + np.sqrt((gap - 3.0) ** 2 + 24.0 * gap)) / (12.0 * gap)
    for _ in range(_STEPS):
        shape = 1.0 / (1.0 / shape + (_gap(shape) - gap) / (shape**2 * _slope(shape)))
    return np.asarray(shape)


def _gap(a: Array) -> Array:
    small = np.minimum(a, _LARGE)
    series = (0.5 + (1.0 / 12.0 - 1.0 / (120.0 * a * a)) / a) / a
    return np.where(a < _LARGE, np.log(small) - digamma(small), series)


def _slope(a: Array) -> Array:
    small = np.minimum(a, _LARGE)
    series = -(0.5 + (1.0 / 6.0 - 1.0 / (30.0 * a * a)) / a) / a**2
    return np.asarray(np.where(a < _LARGE, 1.0 / small - polygamma(1, small), series))


def stirling(a: Array) -> Array:
    """``a log a - a - log Gamma(a)``."""
    small = np.minimum(a, _LARGE)
    series = 0.5 * np.log(a / (2.0 * np.pi)) - (1.0 / 12.0 - 1.0 / (360.0 * a * a)) / a
    return np.where(a < _LARGE, small * np.log(small) - small - gammaln(small), series)
