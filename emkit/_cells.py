"""Cells of what the user hands in: numbers, holes, and those that cannot be."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class BadCell(ValueError):
    """A cell that cannot be an observation; the parts of the message are kept, so that a caller may rename them."""

    def __init__(self, row: int, column: Any, value: Any, why: str) -> None:
        super().__init__(f"X holds {value} at row {row}, column {column}: {why}")
        self.row, self.column, self.value, self.why = row, column, value, why

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way back from another process."""
        return BadCell, (self.row, self.column, self.value, self.why)


def refuse(X: Array, wrong: Array, why: str) -> None:
    """Raise for the first wrong cell, if there is one; ``wrong`` (n, d) bool."""
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise BadCell(row, column, f"{X[row, column]:g}", why)


def numbers(X: Any) -> Array:
    """Two-dimensional float32 or float64, NaN where a cell is missing, however that was spelled; none infinite."""
    if np.ma.isMaskedArray(X):
        X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
    X = plain_numbers(X)
    X = np.asarray(X)
    if X.dtype not in (np.float32, np.float64):
        if X.dtype.kind not in "biuf":
            raise ValueError(not_a_number("0", X.dtype))
        X = X.astype(np.float64)
    if X.ndim != 2:
        raise ValueError(f"X has {X.ndim} dimensions, but rows and columns are needed: reshape it, X.reshape(-1, 1)")
    for begin in range(0, len(X), 65_536):
        block = X[begin : begin + 65_536]
        if np.isinf(block).any():
            row, column = (int(i) for i in np.argwhere(np.isinf(block))[0])
            raise BadCell(begin + row, column, "infinity", "a missing value is written NaN")
    return np.asarray(X)


def symbols(X: Any) -> list[tuple[Array, Array]]:
    """Columns of anything, each as values (n,) and which of them are missing (n,) bool."""
    if hasattr(X, "columns") and hasattr(X, "shape"):
        columns = [np.asarray(X[name]) for name in X.columns]
    else:
        plain = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
        if plain.ndim != 2:
            raise ValueError(f"X has {plain.ndim} dimensions, but rows and columns are needed: a list of lists, say")
        columns = list(plain.T)
    return [(column, _holes(column)) for column in columns]


def _holes(column: Array) -> Array:
    """Which cells are NaN, None, or pandas' or polars' word for it."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind != "O":
        return np.zeros(len(column), bool)
    nothing = _nothing()
    return np.array([any(c is n for n in nothing) or (isinstance(c, float) and c != c) for c in column], dtype=bool)


def _nothing() -> tuple[Any, ...]:
    """Words for what is missing."""
    pandas = sys.modules.get("pandas")
    return (None,) if pandas is None else (None, pandas.NA, pandas.NaT)


def refuse_unseen(X: Array) -> None:
    """Raise for the first column of which nothing was observed."""
    empty = np.flatnonzero(np.isnan(X).all(axis=0))
    if len(empty):
        raise ValueError(f"column {empty[0]} of X has no observed cell: drop it")


def known(X: Array) -> tuple[Array, Array | None]:
    """Float64 cells with 0 in the holes, and which are observed (n, d) as 0 and 1; None if all are."""
    holes = np.isnan(X)
    if holes.any():
        return np.where(holes, 0.0, X), (~holes).astype(np.float64)
    return X.astype(np.float64, copy=False), None


def over_known(seen: Array | None, terms: Array) -> Array:
    """Sum terms (k, d) over the observed columns of each row: (n, k), or (k,) when all are observed."""
    return np.asarray(terms.sum(axis=1) if seen is None else seen @ terms.T)


def resp_of_known(seen: Array | None, resp: Array, d: int) -> Array:
    """Sum responsibilities over the rows in which each column is observed: (k, d)."""
    if seen is None:
        return np.repeat(resp.sum(axis=0)[:, None], d, axis=1)
    return np.asarray(resp.T @ seen)


def centred(values: Array, weight: Array | None) -> Array:
    """Subtract the mean of each column; holes become 0."""
    z, seen = known(values)
    w = np.ones(len(z)) if weight is None else weight
    count = w.sum() if seen is None else w @ seen
    mean = (w @ z) / np.maximum(count, 1e-300)
    return z - mean if seen is None else (z - mean) * seen


def plain_numbers(X: Any) -> Any:
    """Replace None, pandas.NA, NaT and nulls by NaN, in whatever holds them; frames keep their names."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if polars is not None and isinstance(X, polars.DataFrame):
        for name, dtype in X.schema.items():
            if not (dtype.is_numeric() or dtype in (polars.Boolean, polars.Null)):
                raise ValueError(not_a_number(repr(name), dtype))
        return X.cast(polars.Float64) if len(X.columns) else X
    if pandas is not None and isinstance(X, pandas.DataFrame):
        plain = X
        for i, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True)):
            if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
                continue
            if plain is X:
                plain = X.copy(deep=False)
            if dtype.kind in "biuf":
                values = X.iloc[:, i].to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                values = _cells(X.iloc[:, i].to_numpy(dtype=object), repr(name))
            plain.isetitem(i, values)
        return plain
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError:  # ragged: validate_data says so
            return X
    if isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 2:
        return np.column_stack([_cells(X[:, j], str(j)) for j in range(X.shape[1])]) if X.size else X
    return X


def _cells(column: Array, name: str) -> Array:
    """Floats from the cells of one column of objects."""
    nothing = _nothing()
    values = np.empty(len(column))
    for i, cell in enumerate(column):
        if isinstance(cell, str):
            raise ValueError(f"{not_a_number(name, 'str')}; row {i} holds {cell!r}")
        values[i] = np.nan if any(cell is n for n in nothing) else float(cell)
    return values


def not_a_number(name: str, dtype: Any) -> str:
    return f"column {name} of X holds {dtype}, not numbers: encode it first (OneHotEncoder), or leave it out"
