"""Sequences: rows that follow each other, and where one sequence ends and the next begins.

A user says so in one of three ways: ``groups`` (an identifier for each row), ``lengths``, or a list of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._arrays import bring, is_elsewhere, namespace, pick
from ._sources import Source, each, is_arrow, is_open, is_source, named, opened
from ._validation import refuse_weights

Array = NDArray[Any]


@dataclass(frozen=True)
class Sequences:
    """Rows of all sequences, one sequence after the other."""

    X: Any  # (n, d)
    lengths: Array  # (N,) int64
    names: Array  # (N,) what the user calls each sequence
    order: Array | None = None  # (n,) the user's number of each row; None: the same
    is_list: bool = False

    def __len__(self) -> int:
        return int(self.lengths.sum())

    @property
    def ends(self) -> Array:
        """Number of the row after the last one of each sequence."""
        return np.cumsum(self.lengths)

    def hold(self, X: Any) -> Sequences:
        """Give the same sequences with other rows."""
        return replace(self, X=X)

    def here(self) -> Sequences:
        """Give the same sequences, rows of another device brought."""
        return self.hold(bring(self.X)) if is_elsewhere(self.X) else self

    def resolve(self, X: Source, *, are_blocks: bool) -> Sequences:
        """Give the sequences of a source that has been read; ``are_blocks``: each of its blocks is one."""
        lengths, names = self.lengths, self.names
        if not len(lengths):
            lengths = X.n_each if are_blocks else np.array([len(X)])
            names = np.arange(len(lengths))
        if lengths.sum() != len(X):
            raise ValueError(f"lengths or groups tell of {lengths.sum()} rows, but X has {len(X)}")
        return replace(self, X=X.regroup(np.cumsum(lengths)), lengths=lengths, names=names)

    def restore(self, values: Array) -> Any:
        """Give one value for each row in the form the user gave the rows: in their order, or as a list."""
        if self.is_list:
            return [values[begin:end, ...] for begin, end in pairwise([0, *self.ends.tolist()])]
        return values if self.order is None else pick(values, np.argsort(self.order))

    def place(self, row: int) -> str:
        """Say where a row stands."""
        number = int(np.searchsorted(self.ends, row, side="right"))
        within = row - int(self.ends[number] - self.lengths[number])
        if len(self.lengths) == 1:
            return f"row {within}"
        if self.order is not None:
            row = int(self.order[row])
        inside = f"row {within} of sequence {self.names[number]!s}"
        return inside if self.is_list else f"row {row} ({inside})"

    def translate(self, message: str) -> str:
        """Say of a row named in a message which sequence it belongs to."""
        named = re.search(r"\brow (\d+)", message)
        if named is None or len(self.lengths) == 1 or int(named[1]) >= len(self):
            return message
        return message[: named.start()] + self.place(int(named[1])) + message[named.end() :]

    def by_row(self, weight: Any) -> Any:
        """Weight of each row, where a list of sequences comes with one for each sequence; others are as they are."""
        if not self.is_list or weight is None or np.shape(weight) != self.lengths.shape:
            return weight
        weight = bring(weight).astype(np.float64)
        refuse_weights(weight, "sequence")
        return np.repeat(weight, self.lengths)

    def weights(self, weight: Array | None) -> Array | None:
        """Weight of each sequence, from one for each row or for each sequence."""
        if weight is None or len(weight) == len(self.lengths) != len(self):
            return weight
        if self.order is not None:
            weight = weight[self.order]
        first = weight[self.ends - self.lengths]
        differs = np.flatnonzero(weight != np.repeat(first, self.lengths))
        if len(differs):
            row = int(differs[0])
            number = int(np.searchsorted(self.ends, row, side="right"))
            raise ValueError(
                f"sample_weight is {first[number]:g} at the beginning of sequence {self.names[number]!s} and "
                f"{weight[row]:g} at {self.place(row)}: a sequence counts as a whole, so give all its rows one weight"
            )
        return np.asarray(first)


def arrange(X: Any, groups: Any, lengths: Any) -> Sequences:
    """Sequences from an array, with ``groups``, ``lengths`` or neither, or from a list of arrays."""
    if groups is not None and lengths is not None:
        raise ValueError("groups and lengths both say where sequences begin; give one of them")
    X = opened(X)
    if _is_list(X):
        if groups is not None or lengths is not None:
            raise ValueError(
                f"X is a list of sequences, so {'groups' if lengths is None else 'lengths'} has nothing to say; leave "
                "it out"
            )
        return _from_list(X)
    if is_source(X):
        return _from_source(X, groups, lengths)
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(X.shape) == 3:
        raise ValueError(f"X has three dimensions, {X.shape}: give sequences as a list of arrays, list(X)")
    if lengths is not None:
        return _from_lengths(X, lengths, np.shape(X)[0])
    if groups is not None:
        return _from_groups(X, groups)
    n = X.shape[0] if len(X.shape) else 0
    return Sequences(X, np.array([n]), np.array([0]))


def lone(X: Any, method: str) -> Sequences:
    """One sequence, from an array or from a list of one; ``method`` asks for it."""
    told = arrange(X, None, None)
    if is_source(told.X):
        raise ValueError(f"{method} is asked of one sequence, but X is read in blocks: give one of them, as an array")
    if len(told.lengths) != 1:
        raise ValueError(f"{method} is asked of one sequence, but X has {len(told.lengths)}: ask it of each")
    if not len(told):
        raise ValueError(f"X has n_samples=0: {method} needs a sequence of at least one row")
    return told


def _from_source(X: Any, groups: Any, lengths: Any) -> Sequences:
    """Lengths of sequences are empty where only reading will tell them."""
    if lengths is not None:
        return _from_lengths(X, lengths, None)
    if groups is None:
        return Sequences(X, np.empty(0, np.int64), np.empty(0, np.int64))
    groups = np.asarray(groups)
    told = _from_groups(groups, groups)
    if told.order is not None:
        row = int(np.flatnonzero(np.diff(told.order, prepend=-1) != 1)[0])
        raise ValueError(
            f"the rows of group {groups[told.order[row]]} are not together, and a source is read in its own order: "
            "sort it by group"
        )
    return told.hold(X)


def sequencewise(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of an estimator, which says something of each row, take sources: it says so block by block."""

    @wraps(method)
    def of_blocks(self: Any, X: Any, *, groups: Any = None, lengths: Any = None) -> Any:
        X = opened(X)
        if _is_list(X) or not is_source(X):
            self._check_place(X[0] if _is_list(X) else X, method.__name__)
            return method(self, X, groups=groups, lengths=lengths)
        check_is_fitted(self)
        if groups is None and lengths is None and is_open(X):
            return each(partial(method, self), X)
        if not self.emission_.numeric:
            raise ValueError("symbols of a source are read sequence by sequence: give an iterable of sequences")
        model, checked = self._fitted_model(), self._check_rows(arrange(X, groups, lengths), reset=False)
        blocks = model.split(model.frame(self._recall(), checked))
        return checked.X.told(blocks, _Asked(method.__name__, self), *self._form(method.__name__))

    return of_blocks


class _Asked:
    """A method, asked of a block of whole sequences."""

    def __init__(self, name: str, estimator: Any) -> None:
        self._name, self._estimator = name, estimator

    def __call__(self, block: Any) -> Array:
        told: Array = getattr(self._estimator, self._name)(block.rows.X, lengths=block.lengths)
        return told


def refuse_mistaken(X: Any, y: Any) -> None:
    """Refuse series where tables are meant, and lengths of sequences in the place of y, which is ignored."""
    if isinstance(X, list | tuple) and len(X) and all(len(getattr(x, "shape", ())) == 1 for x in X):
        sizes = [x.shape[0] for x in X]
        if min(sizes) < max(sizes) or len(X) < sizes[0]:
            raise ValueError(
                f"X is a list of {len(X)} arrays of one dimension, the first of {sizes[0]} numbers: give each sequence "
                "as a table of shape (rows, columns), one column being x[:, None]; rows of a table as one array"
            )
    if y is None:
        return
    if len(getattr(X, "shape", ())) != 2 or np.ndim(y) != 1:
        return
    n_rows, n_entries = X.shape[0], np.shape(y)[0]
    if n_entries != n_rows:
        raise ValueError(
            f"y has {n_entries} entries, but X has {n_rows} rows. y is ignored: lengths of sequences are given as "
            "lengths="
        )


def _is_list(X: Any) -> bool:
    """Whether X is a list of tables, rather than a list of rows."""
    return isinstance(X, list | tuple) and len(X) > 0 and all(_n_dimensions(x) == 2 for x in X)


def _n_dimensions(x: Any) -> int:
    if hasattr(x, "shape"):
        return len(x.shape)
    if isinstance(x, list | tuple):
        return 1 + (_n_dimensions(x[0]) if len(x) else 0)
    return 0


def _from_list(tables: Any) -> Sequences:
    lengths = np.array([np.shape(table)[0] for table in tables])
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise ValueError(f"sequence {empty[0]} of X has no rows; leave it out")
    widths = [np.shape(table)[1] for table in tables]
    odd = next((i for i, width in enumerate(widths) if width != widths[0]), None)
    if odd is not None:
        raise ValueError(f"sequence {odd} of X has {widths[odd]} columns, but sequence 0 has {widths[0]}")
    return Sequences(_stacked(tables), lengths, np.arange(len(tables)), is_list=True)


def _stacked(tables: Any) -> Any:
    """All rows in one table; columns that have names go by them, and masked cells stay masked."""
    names = [_column_names(table) for table in tables]
    if any(own is not None for own in names):
        return _stacked_frames(tables, names)
    if all(is_elsewhere(table) for table in tables):
        return namespace(*tables).concat(list(tables))
    if any(np.ma.isMaskedArray(table) for table in tables):
        parts = [table if np.ma.isMaskedArray(table) else bring(table) for table in tables]
        return np.ma.concatenate(parts)  # type: ignore[no-untyped-call]
    return np.concatenate([bring(table) for table in tables])


def _column_names(table: Any) -> list[Any] | None:
    """Names of the columns of a frame; None for what has none."""
    if is_arrow(table):
        return list(table.schema.names)
    return list(table.columns) if hasattr(table, "columns") else None


def _stacked_frames(tables: Any, names: list[Any]) -> Any:
    """Rows of frames of one library, whose columns may come in another order but not under other names."""
    libraries = [type(table).__module__.partition(".")[0] for table in tables]
    for i, own in enumerate(names):
        if libraries[i] != libraries[0]:
            raise ValueError(
                f"sequence {i} of X is a {libraries[i]} {type(tables[i]).__name__}, but sequence 0 a {libraries[0]} "
                f"{type(tables[0]).__name__}: give all as frames of one library, or all as arrays"
            )
        if own != names[0] and not (set(own) == set(names[0]) and len(set(own)) == len(own)):
            raise ValueError(
                f"sequence {i} of X has the columns {own}, but sequence 0 has {names[0]}: give all the same names"
            )
    choose = "select" if libraries[0] in ("pyarrow", "polars") else "__getitem__"
    pairs = zip(tables, names, strict=True)
    ordered = [table if own == names[0] else getattr(table, choose)(names[0]) for table, own in pairs]
    if libraries[0] == "pyarrow":
        pa = import_module("pyarrow")
        return pa.concat_tables([named(table) for table in ordered], promote_options="permissive")
    if libraries[0] == "polars":
        return import_module("polars").concat(ordered, how="vertical_relaxed")
    return import_module("pandas").concat(ordered, ignore_index=True)


def _from_lengths(X: Any, lengths: Any, n: int | None) -> Sequences:
    given = bring(lengths)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
        raise ValueError(
            f"lengths must be a list of ints, the number of rows of each sequence. Got {lengths!r} instead."
        )
    wrong = np.flatnonzero(given < 1)
    if len(wrong):
        raise ValueError(f"lengths[{wrong[0]}] is {given[wrong[0]]}; a sequence has at least one row")
    total = sum(given.tolist())  # exact, whatever they are
    if total > np.iinfo(np.int64).max:
        raise ValueError(f"lengths sum to {total}, more rows than any X has")
    if n is not None and total != n:
        raise ValueError(
            f"lengths sum to {total}, but X has {n} rows. Cross-validation cuts X but not lengths: there, give "
            "groups, the identifier of its sequence for each row, with metadata routing on, or a list of sequences"
        )
    return Sequences(X, given.astype(np.int64), np.arange(len(given)))


def _from_groups(X: Any, groups: Any) -> Sequences:
    groups = bring(groups)
    n = np.shape(X)[0]
    if groups.shape != (n,):
        raise ValueError(
            f"groups has shape {groups.shape}, but X has {n} rows: give each row its sequence's identifier"
        )
    is_object = groups.dtype.kind == "O"
    nothing = np.flatnonzero([g is None or bool(g != g) for g in groups] if is_object else groups != groups)
    if len(nothing):
        raise ValueError(f"groups[{nothing[0]}] is {groups[nothing[0]]}; every row belongs to a sequence")
    begins = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])[:n])
    try:
        names, first, number = np.unique(groups[begins], return_index=True, return_inverse=True)
    except TypeError as error:
        kinds = ", ".join(sorted({type(g).__name__ for g in groups}))
        raise ValueError(f"groups mixes {kinds}: give all rows identifiers of one kind, such as str") from error
    runs = np.diff(np.append(begins, n))
    if len(names) == len(begins):
        return Sequences(X, runs, groups[begins])
    # Some sequences are in pieces: bring their rows together, sequences in the order of their first rows.
    rank = np.argsort(np.argsort(first))[number]
    order = np.argsort(np.repeat(rank, runs), kind="stable")
    if is_arrow(X):
        together = X.take(order)
    elif hasattr(X, "iloc"):
        together = X.iloc[order]
    else:
        together = pick(X if hasattr(X, "shape") else np.asarray(X), order)
    return Sequences(together, np.bincount(rank, runs).astype(np.int64), names[np.argsort(first)], order)
