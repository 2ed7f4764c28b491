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


def squared_distances(columns: Array, centres: Array) -> Array:
    """From every point, given by ``columns`` (d, n), to every centre (k, d), as (k, n)."""
    total = np.zeros((len(centres), columns.shape[1]))
    for column, centre in zip(columns, centres.T, strict=True):
        deviation = column - centre[:, None]
        deviation *= deviation
        total += deviation
    return total


def greedy_seeds(points: Array, weight: Array, k: int, rng: np.random.Generator) -> Array:
    """Indices of up to ``k`` distinct rows, by greedy k-means++: of several candidates the one that helps most.

    Drawn by inverting cumulative weights, so that equal seeds give equal points whether a row is repeated or weighted.

    References
    ----------
    Arthur, D. & Vassilvitskii, S. (2007). k-means++: the advantages of careful seeding. *SODA*.
    """
    n_candidates = 2 + int(np.log(k))
    columns = np.ascontiguousarray(points.T)
    seeds = [int(_draw(weight, rng, 1)[0])]
    nearest = squared_distances(columns, points[seeds])[0]
    spread = float(weight @ nearest) / float(weight.sum())
    while len(seeds) < k:
        mass = weight * np.where(nearest > _SAME * spread, nearest, 0.0)
        if not mass.any():
            break  # fewer distinct rows than seeds
        candidates = _draw(mass, rng, n_candidates)
        closer = np.minimum(nearest, squared_distances(columns, points[candidates]))
        left = closer @ weight
        winner = int(np.argmax(left <= left.min() * (1.0 + 1e-9)))  # of those equal but for rounding the first
        seeds.append(int(candidates[winner]))
        nearest = closer[winner]
    return np.array(seeds)


def random_seeds(points: Array, weight: Array, k: int, rng: np.random.Generator) -> Array:
    """Indices of up to ``k`` distinct rows, drawn in proportion to their weights."""
    seeds: list[int] = []
    mass = weight.astype(np.float64)
    while len(seeds) < k and mass.any():
        seeds.append(int(_draw(mass, rng, 1)[0]))
        mass = np.where((points == points[seeds[-1]]).all(axis=1), 0.0, mass)
    return np.array(seeds)


def _draw(mass: Array, rng: np.random.Generator, size: int) -> Array:
    """Indices, in proportion to their mass."""
    cumulative = mass.cumsum()
    indices = cumulative.searchsorted(rng.random(size) * cumulative[-1], side="right")
    if indices.max() == len(mass):  # rounded up
        indices = np.minimum(indices, np.flatnonzero(mass)[-1])
    return np.asarray(indices)


def partition(points: Array, centres: Array) -> Array:
    """Index of the nearest centre of every row; of those equally near but for rounding the first."""
    distances = squared_distances(np.ascontiguousarray(points.T), centres)
    return np.asarray(np.argmax(distances <= distances.min(axis=0) * (1.0 + 1e-9), axis=0))


def soften(labels: Array, weight: Array, n_active: int, k: int) -> Array:
    """Responsibilities (n, k) times weights: nine tenths to the row's own part, the rest shared among the parts in use.

    The shared tenth keeps every covariance regular, whatever the size of its part; parts not in use get nothing.
    """
    resp = np.zeros((len(labels), k))
    resp[:, :n_active] = 0.1 / n_active
    resp[np.arange(len(labels)), labels] += 0.9
    return resp * weight[:, None]
