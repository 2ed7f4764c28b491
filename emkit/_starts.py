"""Where climbs begin: seeds far apart, and the partition around them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Distances below this share of the data's spread are rounding: the rows are the same point.
_SAME = 1e-20


def whiten(z: Array, weight: Array) -> Array:
    """Coordinates in which the covariance of the rows is the identity; directions without variance are left out."""
    centred = z - weight @ z / weight.sum()
    values, vectors = np.linalg.eigh((centred * weight[:, None]).T @ centred / weight.sum())
    real = values > 1e-10 * values[-1]
    return np.asarray(centred @ (vectors[:, real] / np.sqrt(values[real])) if real.any() else centred)


def squared_distance(points: Array, point: Array) -> Array:
    """From every row of ``points`` to one ``point``."""
    deviation = points - point
    return np.asarray(np.einsum("ij,ij->i", deviation, deviation))


def greedy_seeds(points: Array, weight: Array, k: int, rng: np.random.Generator) -> Array:
    """Indices of up to ``k`` distinct rows, by greedy k-means++: of several candidates the one that helps most.

    Drawn by inverting cumulative weights, so that equal seeds give equal points whether a row is repeated or weighted.

    References
    ----------
    Arthur, D. & Vassilvitskii, S. (2007). k-means++: the advantages of careful seeding. *SODA*.
    """
    n_candidates = 2 + int(np.log(k))
    seeds = [_draw(weight, rng)]
    nearest = squared_distance(points, points[seeds[0]])
    spread = float(weight @ nearest) / float(weight.sum())
    while len(seeds) < k:
        mass = weight * np.where(nearest > _SAME * spread, nearest, 0.0)
        if not mass.any():
            break  # fewer distinct rows than seeds
        candidates = [_draw(mass, rng) for _ in range(n_candidates)]
        closer = [np.minimum(nearest, squared_distance(points, points[c])) for c in candidates]
        left = np.array([weight @ c for c in closer])
        winner = int(np.argmax(left <= left.min() * (1.0 + 1e-9)))  # of those equal but for rounding the first
        seeds.append(candidates[winner])
        nearest = closer[winner]
    return np.array(seeds)


def random_seeds(points: Array, weight: Array, k: int, rng: np.random.Generator) -> Array:
    """Indices of up to ``k`` distinct rows, drawn in proportion to their weights."""
    seeds: list[int] = []
    mass = weight.astype(np.float64)
    while len(seeds) < k and mass.any():
        seeds.append(_draw(mass, rng))
        mass = np.where((points == points[seeds[-1]]).all(axis=1), 0.0, mass)
    return np.array(seeds)


def _draw(mass: Array, rng: np.random.Generator) -> int:
    cumulative = mass.cumsum()
    index = int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
    return index if index < len(mass) else int(np.flatnonzero(mass)[-1])


def partition(points: Array, centres: Array) -> Array:
    """Index of the nearest centre of every row; of those equally near but for rounding the first."""
    distances = np.array([squared_distance(points, centre) for centre in centres])
    return np.asarray(np.argmax(distances <= distances.min(axis=0) * (1.0 + 1e-9), axis=0))


def soften(labels: Array, weight: Array, n_active: int, k: int) -> Array:
    """Responsibilities (n, k) times weights: nine tenths to the row's own part, the rest shared among the parts in use.

    The shared tenth keeps every covariance regular, whatever the size of its part; parts not in use get nothing.
    """
    resp = np.zeros((len(labels), k))
    resp[:, :n_active] = 0.1 / n_active
    resp[np.arange(len(labels)), labels] += 0.9
    return resp * weight[:, None]
