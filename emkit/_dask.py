"""Dask arrays and dataframes: chunks stay where they are, parameters go out, sums come back.

Only dask's own interface is used, so the same code runs on threads, on processes and on a cluster, wherever dask is
told to compute. On a cluster, checked chunks are kept by their workers; elsewhere they are made anew in every pass,
which holds as many of them as there are threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from copy import copy
from functools import partial, reduce
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ._em import total
from ._sources import Blocks, Check, Data, Source, in_block, needed, overall, span

Array = NDArray[Any]
Delayed = Any

# So many sums are added at a time: a power of 2, so that they are added in the order of ``total``.
_FAN_IN = 8


def _dask(module: str) -> Any:
    """Part of dask, when it is wanted."""
    return needed(f"dask.{module}")


class Chunks(Source):
    """Checked rows of a dask collection, a chunk at a time."""

    def __init__(self, X: Any, check: Check) -> None:
        _find_workers()
        if not hasattr(X, "to_dask_array") and X.ndim == 2:
            X = X.rechunk({1: -1})
        parts = _parts(X)
        _learn(parts, check)
        chunks = _kept(_each(partial(_checked, check), parts, range(len(parts))))
        found = _answers(_each(_form, chunks))
        full = [i for i, form in enumerate(found) if form.n_rows]
        chunks, found = [chunks[i] for i in full], [found[i] for i in full]
        self.dtype = np.result_type(*(form.dtype for form in found))
        if any(form.dtype != self.dtype for form in found):
            chunks = _each(partial(_cast, self.dtype), chunks)
        self._chunks, self.n_each = chunks, np.array([form.n_rows for form in found])
        self.low, self.high = overall([form.span for form in found])
        self.shape = int(self.n_each.sum()), len(self.low)

    @property
    def _edges(self) -> list[int]:
        return [0, *np.cumsum(self.n_each).tolist()]

    def keep(self, columns: Array) -> Chunks:
        """Give some columns."""
        other = copy(self)
        other._chunks = _kept(_each(partial(_columns, columns), self._chunks))
        other.shape = len(self), len(columns)
        other.low, other.high = self.low[columns], self.high[columns]
        return other

    def regroup(self, ends: Array) -> Chunks:
        """Move rows between neighbours until no sequence is cut; a long one makes a long chunk."""
        edges = np.unique(ends[np.searchsorted(ends, self._edges[1:])])
        if np.array_equal(edges, self._edges[1:]):
            return self
        d = self.shape[1]
        other = copy(self)
        other.n_each = np.diff(edges, prepend=0)
        whole = _joined(self._chunks, self.n_each, (d,), self.dtype).rechunk((tuple(other.n_each.tolist()), d))
        other._chunks = _kept(_parts(whole))
        return other

    def fold(self, look: Callable[..., Any], join: Callable[[Any, Any], Any], weight: Array | None) -> Any:
        """Look at every chunk where it is, and join what was seen on the way here."""
        weights = [None] * len(self._chunks) if weight is None else np.split(weight, self._edges[1:-1])
        return _answer(_tree(look, self._chunks, partial(reduce, join), weights))

    def take(self, rows: Array) -> Array:
        """Ask the chunks that have them."""
        places = np.searchsorted(rows, self._edges)
        asked = [
            (chunk, rows[a:b] - begin)
            for chunk, begin, (a, b) in zip(self._chunks, self._edges[:-1], pairwise(places), strict=True)
            if a < b
        ]
        chunks, numbers = map(list, zip(*asked, strict=True))
        return np.concatenate(_answers(_each(_rows, chunks, numbers)))

    def cuts(self, wanted: Sequence[slice]) -> Sequence[slice]:
        """Where chunks end."""
        return [slice(a, b) for a, b in pairwise(self._edges)]

    def blocks(self, cuts: Sequence[slice], outlines: list[Data], hold: Callable[[Data, Array], Data]) -> Blocks:
        """Chunks as the model holds them, kept where they are."""
        return ChunkBlocks(outlines, _kept(_each(partial(_held, hold), self._chunks, outlines)))

    def told(self, blocks: Blocks, function: Callable[[Data], Array], tail: tuple[int, ...], dtype: Any) -> Any:
        """Lazy array of what a function says of each row."""
        assert isinstance(blocks, ChunkBlocks)
        return _joined(_each(function, blocks.chunks), self.n_each, tail, dtype)


class ChunkBlocks(Blocks):
    """Blocks that are mapped, and added, where they are."""

    def __init__(self, outlines: list[Data], chunks: list[Delayed]) -> None:
        self.outlines, self.chunks = outlines, chunks

    def map(self, function: Callable[[Data], Any], pool: Executor | None) -> Iterator[Any]:
        """Give the sum."""
        yield _answer(_tree(function, self.chunks, total))


def lazily(name: str, estimator: Any, X: Any, tail: tuple[int, ...], dtype: Any) -> Any:
    """Lazy array of what a method says of each row of a dask array or dataframe; filled frames are frames."""
    alone = copy(estimator)
    alone.n_jobs = 1  # a worker has threads of its own
    if name == "_transform" and getattr(X, "dtype", None) == np.float32:
        dtype = np.float32
    ask = partial(_asked, name, alone, tail, dtype)
    if hasattr(X, "to_dask_array") and name == "_transform":
        names = estimator.get_feature_names_out()
        return X.map_partitions(partial(_framed, ask, names), meta=_framed(ask, names, X._meta))
    if hasattr(X, "to_dask_array"):
        parts = _each(ask, _parts(X))
        return _joined(parts, [np.nan] * len(parts), tail, dtype)
    X = X.rechunk({1: -1})
    shape: dict[str, Any] = {"chunks": (X.chunks[0], tail)} if tail else {"drop_axis": 1}
    return X.map_blocks(ask, dtype=dtype, meta=np.empty((0,) * (1 + len(tail)), dtype), **shape)


# What workers do ------------------------------------------------------------------------------------------------------


def _checked(check: Check, block: Any, number: int) -> Array:
    if not len(block):
        return np.empty((0, np.shape(block)[1]), np.float32)
    return in_block(number, check, block, False)


def _head(block: Any) -> Any:
    """Few rows, of an array or of a frame."""
    return block[:2]


class _Form(NamedTuple):
    """What must be known of a chunk."""

    n_rows: int
    dtype: Any
    span: Any


def _form(rows: Array) -> _Form:
    return _Form(len(rows), rows.dtype, span(rows) if len(rows) else None)


def _cast(dtype: Any, rows: Array) -> Array:
    return rows.astype(dtype, copy=False)


def _columns(columns: Array, rows: Array) -> Array:
    return rows[:, columns]


def _rows(rows: Array, numbers: Array) -> Array:
    return rows[numbers]


def _held(hold: Callable[[Data, Array], Data], rows: Array, outline: Data) -> Data:
    return hold(outline, rows)


def _asked(name: str, estimator: Any, tail: tuple[int, ...], dtype: Any, block: Any) -> Array:
    told = getattr(estimator, name)(block) if len(block) else np.empty((0, *tail))
    return np.asarray(told, dtype)


def _framed(ask: Callable[[Any], Array], names: Array, block: Any) -> Any:
    return type(block)(ask(block), index=block.index, columns=names)


class _Given:
    """A value inside a graph, where a bare tuple would be taken for a task."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _apply(function: Callable[..., Any], argument: Any, *more: _Given) -> Any:
    return function(argument, *(given.value for given in more))


# Graphs ---------------------------------------------------------------------------------------------------------------


def _parts(X: Any) -> list[Delayed]:
    """Chunks of an array, partitions of a frame."""
    if hasattr(X, "to_dask_array"):
        return X.to_delayed()  # type: ignore[no-any-return]
    # Graphs of arrays that have been persisted lose the chunks when they are optimised.
    return X.to_delayed(optimize_graph=False).ravel().tolist()  # type: ignore[no-any-return]


def _learn(parts: list[Delayed], check: Check) -> None:
    """Show the first rows there are."""
    for number, part in enumerate(parts):
        first = _answer(_each(_head, [part])[0])
        if len(first):
            in_block(number, check, first, True)
            return
    raise ValueError("X has n_samples=0: no chunk has a row")


def _joined(parts: list[Delayed], n_each: Iterable[float], tail: tuple[int, ...], dtype: Any) -> Any:
    """One lazy array."""
    array = _dask("array")
    shapes = ((n if np.isnan(n) else int(n), *tail) for n in n_each)
    arrays = [array.from_delayed(part, shape, dtype) for part, shape in zip(parts, shapes, strict=True)]
    return array.concatenate(arrays, allow_unknown_chunksizes=True)


def _each(function: Callable[..., Any], chunks: list[Delayed], more: Sequence[Any] | None = None) -> list[Delayed]:
    """Ask a function, which travels once, of every chunk, and of one more thing for each."""
    graph, keys = _asking(function, chunks, more)
    return [_dask("delayed").Delayed(key, graph) for key in keys]


def _asking(
    function: Callable[..., Any], chunks: list[Delayed], more: Sequence[Any] | None
) -> tuple[dict[Any, Any], list[Any]]:
    """Graph in which a function is asked of every chunk, and the keys of the answers."""
    name, graph = f"emkit-{uuid4().hex}", {}
    for part in {id(chunk.dask): chunk.dask for chunk in chunks}.values():  # many share one
        graph.update(dict(part))
    graph[name] = function
    keys = [(name, i) for i in range(len(chunks))]
    for i, (key, chunk) in enumerate(zip(keys, chunks, strict=True)):
        graph[key] = (_apply, name, chunk.key) if more is None else (_apply, name, chunk.key, _Given(more[i]))
    return graph, keys


def _tree(
    function: Callable[..., Any],
    chunks: list[Delayed],
    join: Callable[[list[Any]], Any],
    more: Sequence[Any] | None = None,
) -> Delayed:
    """Ask a function, which travels once, of every chunk, and join what it says, a few at a time, in a fixed order."""
    graph, keys = _asking(function, chunks, more)
    name = f"emkit-{uuid4().hex}"
    graph[name] = join
    level = 0
    while len(keys) > 1 or not level:
        level += 1
        groups = [keys[i : i + _FAN_IN] for i in range(0, len(keys), _FAN_IN)]
        keys = [(name, level, i) for i in range(len(groups))]
        graph.update({key: (_apply, name, group) for key, group in zip(keys, groups, strict=True)})
    return _dask("delayed").Delayed(keys[0], graph)


# The cluster ----------------------------------------------------------------------------------------------------------


def _client() -> Any:
    """Give the client of the cluster on which dask computes; None if it computes on this machine without one."""
    client = getattr(_dask("base").get_scheduler(), "__self__", None)
    return client if hasattr(client, "wait_for_workers") else None


def _find_workers() -> None:
    """Wait for the first worker as long as the user lets a connection take."""
    client = _client()
    if client is None:
        return
    patience = _dask("config").get("distributed.comm.timeouts.connect")
    try:
        client.wait_for_workers(1, timeout=patience)
    except TimeoutError as error:
        raise TimeoutError(
            f"the cluster at {client.scheduler_info()['address']} has no worker after {patience}; start one, or give "
            "it more time: dask.config.set({'distributed.comm.timeouts.connect': '120s'})"
        ) from error


def _kept(chunks: list[Delayed]) -> list[Delayed]:
    """On a cluster, have the workers make and keep them."""
    client = _client()
    return chunks if client is None else client.persist(chunks, optimize_graph=False)


def _answers(asked: list[Delayed]) -> list[Any]:
    return _answer(_dask("delayed").delayed(asked))  # type: ignore[no-any-return]


def _answer(asked: Delayed) -> Any:
    """Compute, within the time that the user allows."""
    client = _client()
    if client is None:
        return _dask("base").compute(asked, optimize_graph=False)[0]
    patience = _dask("config").get("emkit.timeout", None)
    future = client.compute(asked, optimize_graph=False)
    try:
        return future.result(None if patience is None else _dask("utils").parse_timedelta(patience))
    except TimeoutError as error:
        future.cancel()
        raise TimeoutError(
            f"the cluster did not answer within {patience}, the 'emkit.timeout' of dask's configuration, in which a "
            "pass over the data must end"
        ) from error
    except CancelledError as error:
        raise ConnectionError("the cluster was lost during a pass over the data") from error
