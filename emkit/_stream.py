"""Stepwise EM: rows come once, in batches, and only running means of the statistics are kept."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._em import total
from ._executors import workers
from ._model import Ascent, Data, Params, Stats, add, scale

Array = NDArray[Any]

# New rows count by their share of the rows so far, to this power: less than 1, so that what was learned from poor
# parameters, or from another time, is forgotten; more than 1/2, so that the estimates settle.
_POWER = 0.6


class Stream(NamedTuple):
    """What is kept of a stream."""

    data: Data  # the coordinates of its first rows, and none of these
    params: Params
    stats: Stats | None = None  # means per row, about ``params``
    n_rows: float = 0.0
    n_batches: int = 0


def follow(model: Any, stream: Stream, X: Any, weight: Array | None, n_workers: int) -> tuple[Stream, Ascent]:
    """Take in the next rows: one pass over them, and one M-step.

    The model is one that can ``place`` rows in the coordinates of others, and ``recentre`` its statistics.
    """
    data = model.place(X, weight, stream.data)
    blocks = model.split(data)
    with workers(max(1, min(len(blocks), n_workers))) as run:
        stats = total(run(partial(model.expect, stream.params), blocks))
    n_rows = stream.n_rows + data.total
    mean = scale(stats, 1.0 / data.total)
    if stream.stats is not None:
        share = (data.total / n_rows) ** _POWER
        mean = add(scale(stream.stats, 1.0 - share), scale(mean, share))
    whole = add(scale(mean, n_rows), model.prior(stream.params))
    params = model.maximize(whole, stream.params)
    loglik = float(stats[0])
    collapsed = model.degenerate(params, whole)
    status, reason = ("stopped", "the stream may go on") if collapsed is None else ("degenerate", collapsed)
    found = Ascent(
        params, stats, loglik, loglik, np.array([loglik]), stream.n_batches + 1, np.nan, np.inf, status, reason
    )
    return Stream(stream.data, params, model.recentre(mean, stream.params, params), n_rows, stream.n_batches + 1), found
