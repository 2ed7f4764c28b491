"""Moves out of a local optimum: one part is given up, and another, which covers two groups of rows, is cut in two.

Local optima of well separated mixtures are combinations of "several parts on one group" and "one part on several", so
such swaps lead out of most of them. Of duplicate parts, a saddle of the likelihood, one costs nothing to give up.
Everything is said in responsibilities, so it holds for every law of observation.

References
----------
Ueda, N., Nakano, R., Ghahramani, Z. & Hinton, G. (2000). SMEM algorithm for mixture models. *Neural Computation* 12,
2109-2128.
Chen, Y., Song, D., Xi, X. & Zhang, Y. (2024). Local minima structures in Gaussian mixture models. *IEEE Transactions on
Information Theory* 70, 4218-4257.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from ._model import Degenerate, Params

Array = NDArray[Any]

# So many iterations of 2-means cut a part in two, along so many of its principal axes.
_ITERATIONS, _AXES = 3, 3


def swaps(resp: Array, weight: Array, features: Array, begin: Callable[[Array], Params]) -> Iterator[Params]:
    """Parameters that ``begin`` gives for responsibilities (n, k), times weights, after each swap.

    The most promising come first; what has no answer is left out. Parts are cut along their longest axis; when all
    these swaps have been given, along the next.
    ``resp`` are the responsibilities at the local optimum, without weights; ``features`` (n, m) are numbers by whose
    distances rows can be told apart.
    """
    k = resp.shape[1]
    # What the log-likelihood loses when a part is left out and nothing else is changed.
    loss = np.array([-weight @ np.log1p(-np.minimum(r, 1.0 - 1e-12)) for r in resp.T])
    axes = [_axes(features, weight * resp[:, part]) for part in range(k)]
    for axis in range(min(_AXES, features.shape[1])):
        halves = [
            _cut((features - centre) @ vectors[:, axis], weight * r)
            for (centre, vectors), r in zip(axes, resp.T, strict=True)
        ]
        profit = np.array([gain for gain, _ in halves]) - loss[:, None]
        for pair in np.argsort(-profit, axis=None, kind="stable"):
            gone, split = divmod(int(pair), k)
            if gone != split and np.isfinite(profit[gone, split]):
                moved = _swap(resp, gone, split, halves[split][1])
                moved *= weight[:, None]
                try:
                    params = begin(moved)
                except (Degenerate, np.linalg.LinAlgError):
                    continue
                yield params


def _swap(resp: Array, gone: int, split: int, second: Array) -> Array:
    """Share the rows of ``gone`` among the others, then give it the ``second`` half of ``split``."""
    moved = resp.copy()
    moved[:, gone] = 0.0
    left = moved.sum(axis=1, keepdims=True)
    orphans = left[:, 0] < 1e-6  # rows that no other part explains
    moved[orphans] = left[orphans] = 1.0
    moved /= left
    moved[:, gone] = np.where(second, 0.9, 0.1) * moved[:, split]
    moved[:, split] -= moved[:, gone]
    return moved


def _axes(features: Array, weight: Array) -> tuple[Array, Array]:
    """Centre (m,) of a part, and its longest principal axes (m, up to ``_AXES``), the longest first."""
    centre = weight @ features / max(float(weight.sum()), 1e-300)
    centred = features - centre
    m = len(centre)
    _, vectors = eigh((centred * weight[:, None]).T @ centred, subset_by_index=(max(0, m - _AXES), m - 1))
    return centre, vectors[:, ::-1]


def _cut(along: Array, weight: Array) -> tuple[float, Array]:
    """Cut a part in two by 2-means along an axis: about how many nats two Gaussians gain there, and the cut.

    A Gaussian cut in the middle loses 0.19 nats per row, two groups far apart gain without limit.
    """
    total, spread = float(weight.sum()), float(weight @ np.square(along))
    middle = 0.0
    for _ in range(_ITERATIONS):
        second = along > middle
        upper = weight * second
        share = float(upper.sum()) / max(total, 1e-300)
        if not 0.0 < share < 1.0:
            return -np.inf, second
        far = float(upper @ along) / (total * share)
        near = -far * share / (1.0 - share)
        middle = 0.5 * (far + near)
    within = max(1.0 + total * share * far * near / spread, 1e-3)
    doubt = -share * np.log(share) - (1.0 - share) * np.log(1.0 - share)
    return total * (-0.5 * np.log(within) - doubt), second
