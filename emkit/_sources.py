"""Sources of rows: what is not one array in memory, and is read block by block, as often as EM passes over it.

::

    what the user hands in -> opener (how to begin anew) -> Stream (checked rows) -> its blocks, one after the other

A stream is cut at the same rows as an array in memory, whatever blocks it comes in, so a fit gives the same bits unless
missing cells are gathered block by block: then sums differ by rounding. Dask collections, whose chunks stay where they
are, are the other kind of source; see ``_dask``.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from copy import copy
from functools import partial, reduce, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _num_samples, check_is_fitted

from ._arrays import bring

Array = NDArray[Any]
Data = Any
Check = Callable[[Any, bool], Array]

# Rows that a pass before the first E-step looks at at once; rows and bytes read at once from a file.
PASS_ROWS, _READ_ROWS, _READ_BYTES = 16_384, 65_536, 2**20
# How many blocks may be under way at a time.
_WAITING = 16


class Source(ABC):
    """Rows of floats that are elsewhere, all checked once."""

    shape: tuple[int, int]
    dtype: Any
    n_each: Array  # rows of every block that is not empty
    low: Array  # smallest and largest number of each column, NaN where one is missing
    high: Array

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def fold(self, look: Callable[..., Any], join: Callable[[Any, Any], Any], weight: Array | None) -> Any:
        """Join what ``look(rows, weight)`` sees in every part of the rows, in a fixed order."""

    @abstractmethod
    def keep(self, columns: Array) -> Source:
        """Give some columns."""

    @abstractmethod
    def take(self, rows: Array) -> Array:
        """Give a few rows, by their numbers in rising order."""

    def regroup(self, ends: Array) -> Source:
        """Give the same rows, in blocks that end where sequences do."""
        return self

    @abstractmethod
    def cuts(self, wanted: Sequence[slice]) -> Sequence[slice]:
        """Where the rows are cut instead of where it is wanted."""

    @abstractmethod
    def blocks(self, cuts: Sequence[slice], outlines: list[Data], hold: Callable[[Data, Array], Data]) -> Blocks:
        """Blocks that ``hold`` makes of outlines and of the rows cut for them."""

    def told(self, blocks: Blocks, function: Callable[[Data], Array], tail: tuple[int, ...], dtype: Any) -> Any:
        """What a function says of each row, block by block, when it is asked."""
        return Each(lambda: blocks.map(function, None))

    def outline(self, rows: slice) -> Array:
        """Stand in for some rows: an array of their shape and type that takes no memory."""
        return np.broadcast_to(np.zeros((1, 1), self.dtype), (rows.stop - rows.start, self.shape[1]))


class Blocks(ABC):
    """Blocks of a source: they come one after the other and are mapped where they are."""

    outlines: list[Data]  # the blocks but for their rows

    def __len__(self) -> int:
        return len(self.outlines)

    @abstractmethod
    def map(self, function: Callable[[Data], Any], pool: Executor | None) -> Iterator[Any]:
        """Map in order; addends may have been added in the order of ``emkit._em.total`` already."""


def outlines(blocks: Sequence[Data] | Blocks) -> Sequence[Data]:
    """Blocks whose rows nobody looks at."""
    return blocks.outlines if isinstance(blocks, Blocks) else blocks


# What users hand in ---------------------------------------------------------------------------------------------------


def is_source(X: Any) -> bool:
    """Whether the rows are to be read block by block, rather than as one array that is there already."""
    if isinstance(X, np.ndarray):
        return False
    return is_dask(X) or isinstance(X, Source | str | os.PathLike) or _opener(X) is not None


def is_open(X: Any) -> bool:
    """Whether the blocks of X are the user's own, and not cut from a file or from an array."""
    return not is_dask(X) and _family(X) not in ("zarr", "pyarrow")


def is_dask(X: Any) -> bool:
    """Whether this is a dask array or dataframe."""
    return _family(X) in ("dask", "dask_expr")


def is_arrow(X: Any) -> bool:
    """Whether this is an Arrow table or a batch of records."""
    return _family(X) == "pyarrow" and hasattr(X, "itercolumns")


def _family(X: Any) -> str:
    """Package that the type of X comes from."""
    return type(X).__module__.partition(".")[0]


def opened(X: Any) -> Any:
    """Turn a path into what is stored there; refuse what has no rows to read."""
    X = _stored(Path(X)) if isinstance(X, str | os.PathLike) else X
    family, kind, remedy = _family(X), type(X).__name__, ""
    if isinstance(X, dict | set | frozenset) and not hasattr(X, "shape"):  # a sparse matrix may be a dict
        remedy = "give an array or a table, such as pandas.DataFrame"
    elif family == "polars" and kind == "LazyFrame":
        remedy = "give X.collect(), or write it with X.sink_parquet(path) and give the path"
    elif family == "zarr" and not hasattr(X, "shape"):
        remedy = f"give one of its arrays: {', '.join(sorted(X)) or 'it has none'}"
    elif is_dask(X) and not hasattr(type(X), "ndim"):
        remedy = "give a dask array or dataframe, X.to_dataframe() or dask.array.from_delayed(X, shape, dtype)"
    elif family in ("dask", "dask_expr", "zarr") and X.ndim != 2:
        remedy = f"it has {X.ndim} dimensions: give rows and columns, one column as X.reshape((-1, 1))"
    if remedy:
        raise ValueError(f"X is a {family}.{kind}, which has no rows to read; {remedy}".replace("builtins.", ""))
    return X


def _stored(path: Path) -> Any:
    """What is stored at a path."""
    if not path.exists():
        raise ValueError(f"X is the path {str(path)!r}, but nothing is there")
    if path.suffix == ".npy":
        try:
            return np.load(path, mmap_mode="r")
        except (EOFError, ValueError) as error:
            raise ValueError(f"X is the path {str(path)!r}, which holds no array of numbers: {error}") from error
    if path.suffix == ".zarr":
        return needed("zarr").open(path, mode="r")
    if path.is_file() and path.suffix not in (".parquet", ".pq", ""):
        raise ValueError(
            f"X is the path {str(path)!r}; paths of .npy, .zarr and .parquet are read. Read other files yourself, with "
            "pandas.read_csv for example, and give the table"
        )
    dataset = needed("pyarrow.dataset")
    try:
        return dataset.dataset(path, format="parquet")
    except ValueError as error:  # ArrowInvalid is one
        raise ValueError(f"X is the path {str(path)!r}, where not every file is a Parquet file: {error}") from error


def needed(module: str) -> Any:
    """Import what an optional dependency brings, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        install = "pip install 'emkit[dask]'" if name in ("dask", "distributed") else f"pip install {name}"
        raise ImportError(f"X needs {name}: {install}") from error


def _opener(X: Any) -> Callable[[], Iterator[Any]] | None:
    """Give what begins to read X anew; None for what is an array, or can only become one."""
    family = _family(X)
    if family == "zarr" and hasattr(X, "shape"):
        return lambda: (X[begin : begin + _READ_ROWS] for begin in range(0, X.shape[0], _READ_ROWS))
    if family == "pyarrow":
        if hasattr(X, "get_fragments"):  # a dataset
            return lambda: _scanned(X)
        if hasattr(X, "iter_batches"):  # a Parquet file
            return lambda: X.iter_batches(batch_size=_READ_ROWS)
        if hasattr(X, "read_next_batch"):
            raise ValueError(
                "X is a RecordBatchReader, which can be read once, and a fit reads its rows again and again; give a "
                "function that opens a new one, a dataset, or hand its batches to partial_fit"
            )
        return None
    if isinstance(X, type) or hasattr(X, "__array__") or hasattr(X, "shape") or hasattr(X, "__dataframe__"):
        return None
    if isinstance(X, list | tuple):
        return (lambda: iter(X)) if X and all(hasattr(x, "shape") and len(x.shape) == 2 for x in X) else None
    if callable(X):
        return lambda: _called(X)
    if not hasattr(X, "__iter__") or isinstance(X, bytes | dict | set | frozenset | range):
        return None
    if iter(X) is X:
        raise ValueError(
            f"X is a {type(X).__name__}, which can be read once, and a fit reads its rows again and again; give an "
            "object whose iter() begins anew, or the function that makes it, or hand its blocks to partial_fit"
        )
    return lambda: iter(X)


def _called(X: Callable[[], Any]) -> Iterator[Any]:
    """Begin to read what a function gives."""
    blocks = X()
    if not hasattr(blocks, "__iter__"):
        raise ValueError(f"X is a function that gives a {type(blocks).__name__}: it must give the blocks, an iterable")
    return iter(blocks)


def read(X: Any, check: Check) -> Source:
    """Check every block of what the user hands in, once; it is checked again whenever it is read."""
    if is_dask(X):
        return import_module("emkit._dask").Chunks(X, check)  # type: ignore[no-any-return]
    return Stream(X, check)


class Each:
    """What is said of every block of a source, worked out when it is asked: iterate, as often as you like."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        return self._begin()

    def __repr__(self) -> str:
        """Say what to do with it."""
        return "<what is said of each block: iterate>"


def each(function: Callable[[Any], Any], X: Any) -> Each:
    """What a function says of every block that is not empty."""
    opener = _opener(X)
    assert opener is not None
    return Each(lambda: (function(named(block)) for _, block in _filled(opener())))


def _filled(blocks: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    """Give the blocks that have rows, and their numbers."""
    for number, block in enumerate(blocks):
        try:
            n_rows = _num_samples(block)
        except TypeError as error:
            raise ValueError(
                f"block {number} of X is a {type(block).__name__}: every block must be an array or a table of rows"
            ) from error
        if n_rows:
            yield number, block


def gathered(told: Any, look: Callable[[Any], Array] = bring) -> Array:
    """What was said of all rows, or what ``look`` sees in it, as one array in memory."""
    parts = [look(part) for part in told] if isinstance(told, Each) else [look(told)]
    if not sum(map(len, parts)):
        raise ValueError("X has n_samples=0: nothing can be said of no rows")
    return np.concatenate(parts)


def named(block: Any) -> Any:
    """Give a table, of which scikit-learn knows the names of columns, for a batch of records."""
    return import_module("pyarrow").Table.from_batches([block]) if type(block).__name__ == "RecordBatch" else block


def blockwise(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of an estimator, which says something of each row, take sources: it says so block by block."""

    @wraps(method)
    def of_blocks(self: Any, X: Any) -> Any:
        X = opened(X)
        if not is_source(X):
            self._check_place(X, method.__name__)
            return method(self, X)
        check_is_fitted(self)
        if is_dask(X):
            return import_module("emkit._dask").lazily(method.__name__, self, X, *self._form(method.__name__))
        return each(partial(method, self), X)

    return of_blocks


def in_block(number: int, check: Check, block: Any, first: bool) -> Array:
    """Check a block; an error says which one it is."""
    try:
        return check(block, first)
    except ValueError as error:
        error.args = (f"block {number} of X: {error}",)
        raise


def _scanned(X: Any) -> Iterator[Any]:
    """Batches of a dataset; plain Parquet files without the scanner, which would read far ahead."""
    for fragment in X.get_fragments():
        if type(fragment).__name__ == "ParquetFileFragment" and fragment.physical_schema.names == X.schema.names:
            few = {"pre_buffer": False, "buffer_size": _READ_BYTES}
            with needed("pyarrow.parquet").ParquetFile(fragment.path, filesystem=fragment.filesystem, **few) as file:
                yield from file.iter_batches(batch_size=_READ_ROWS)
        else:
            yield from fragment.to_batches(schema=X.schema, batch_size=_READ_ROWS, batch_readahead=1)


# Streams --------------------------------------------------------------------------------------------------------------


class Stream(Source):
    """Rows that come in blocks, the same ones every time.

    ``check(block, first)`` turns a block as the user gives it into rows of floats, and learns from the ``first``.
    """

    def __init__(self, X: Any, check: Check) -> None:
        opener = _opener(X)
        assert opener is not None
        self._open, self._check, self._is_file = opener, check, not is_open(X)
        self._columns: Array | None = None  # those that are kept
        self.dtype = np.dtype(np.float32)
        n_each, ranges = [], []
        for block in self._read():
            n_each.append(len(block))
            ranges.append(span(block))
            self.dtype = np.result_type(self.dtype, block.dtype)
            self._check = partial(_not_first, check)
        if not n_each:
            raise ValueError("X has n_samples=0: no block has a row")
        self.n_each = np.array(n_each)
        self.low, self.high = overall(ranges)
        self.shape = sum(n_each), len(self.low)

    def keep(self, columns: Array) -> Stream:
        """Give some columns."""
        other = copy(self)
        other._columns, other.shape = columns, (len(self), len(columns))
        other.low, other.high = self.low[columns], self.high[columns]
        return other

    def _read(self) -> Iterator[Array]:
        return _ahead(self._checked()) if self._is_file else self._checked()

    def _checked(self) -> Iterator[Array]:
        for number, block in _filled(self._open()):
            rows = bring(in_block(number, self._check, named(block), True))
            yield rows if self._columns is None else rows[:, self._columns]

    def between(self, cuts: Iterable[slice]) -> Iterator[Array]:
        """Cut all rows where it is wanted."""
        blocks = self._read()
        left: Array = np.empty((0, self.shape[1]), self.dtype)
        for cut in cuts:
            parts, missing = [], cut.stop - cut.start
            while missing:
                if not len(left):
                    left = next(blocks, left)
                    if not len(left):
                        raise ValueError(_changed(len(self), "fewer"))
                parts.append(left[:missing].astype(self.dtype, copy=False))
                left, missing = left[missing:], missing - len(parts[-1])
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)
        if len(left) or next(blocks, None) is not None:
            raise ValueError(_changed(len(self), "more"))

    def _passes(self) -> list[slice]:
        return [slice(a, min(a + PASS_ROWS, len(self))) for a in range(0, len(self), PASS_ROWS)]

    def fold(self, look: Callable[..., Any], join: Callable[[Any, Any], Any], weight: Array | None) -> Any:
        """One part after the other."""
        cuts = self._passes()
        weights = [None if weight is None else weight[cut] for cut in cuts]
        return reduce(join, map(look, self.between(cuts), weights))

    def take(self, rows: Array) -> Array:
        """Read as far as the last, keep a few."""
        cuts = self._passes()
        edges = np.searchsorted(rows, [cut.start for cut in cuts] + [len(self)])
        last = int(np.searchsorted(edges, len(rows)))
        parts = zip(cuts[:last], self.between(cuts), edges[:-1], edges[1:], strict=False)
        return np.concatenate([x[rows[a:b] - cut.start] for cut, x, a, b in parts])

    def cuts(self, wanted: Sequence[slice]) -> Sequence[slice]:
        """Anywhere."""
        return wanted

    def blocks(self, cuts: Sequence[slice], outlines: list[Data], hold: Callable[[Data, Array], Data]) -> Blocks:
        """Read when they are wanted."""
        return StreamBlocks(self, cuts, outlines, hold)


def _ahead(blocks: Iterator[Array]) -> Iterator[Array]:
    """Read the next block while this one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block


def _changed(n_rows: int, how: str) -> str:
    return (
        f"X gave {n_rows} rows when it was first read and {how} now: it must give the same rows every time; a source "
        "that draws or shuffles needs a seed of its own"
    )


def span(X: Array) -> tuple[Array, Array]:
    """Smallest and largest number of each column, NaN where one is missing."""
    return X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)


def overall(spans: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Of all together."""
    return np.min([low for low, _ in spans], axis=0), np.max([high for _, high in spans], axis=0)


def _not_first(check: Check, block: Any, first: bool) -> Array:
    return check(block, False)


class StreamBlocks(Blocks):
    """Blocks of a stream: few are in memory at a time."""

    def __init__(
        self, stream: Stream, cuts: Sequence[slice], outlines: list[Data], hold: Callable[[Data, Array], Data]
    ) -> None:
        self.outlines = outlines
        self._stream, self._cuts, self._hold = stream, cuts, hold

    def map(self, function: Callable[[Data], Any], pool: Executor | None) -> Iterator[Any]:
        """Read in this thread, work in those of the pool."""
        parts = zip(self.outlines, self._stream.between(self._cuts), strict=True)
        if pool is None:
            for outline, rows in parts:
                yield function(self._hold(outline, rows))
            return
        waiting: deque[Future[Any]] = deque()
        for outline, rows in parts:
            waiting.append(pool.submit(self._work, function, outline, rows))
            if len(waiting) > _WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _work(self, function: Callable[[Data], Any], outline: Data, rows: Array) -> Any:
        return function(self._hold(outline, rows))
