"""Checks at the door: every parameter and every cell, before any work, with the remedy in the message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from importlib import import_module
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.utils._array_api import get_namespace
from sklearn.utils.validation import check_array, validate_data

from . import kernels
from ._arrays import bring, is_elsewhere, namespace
from ._blocks import release
from ._sources import is_arrow, is_source
from .exceptions import DataWarning, InvalidParameterError, warn

Array = NDArray[Any]

# Cells that are times or differences of times; a datetime is a date.
_TIMES = date | time | timedelta | np.datetime64 | np.timedelta64
# Rows of one block of the passes over all cells.
_BLOCK_ROWS = 65_536


class Rule(Protocol):
    """One kind of value a parameter may have."""

    def allows(self, value: Any) -> bool:
        """Whether the value is of this kind."""

    def __str__(self) -> str:
        """The end of a sentence that begins with "must be"."""


@dataclass(frozen=True)
class Interval:
    """Numbers of a range; ``kind`` is int or float (which includes integers)."""

    kind: type
    low: float
    high: float = np.inf
    open_low: bool = False

    def allows(self, value: Any) -> bool:
        """Whether the value is a number of the range; a bool is not a number."""
        if isinstance(value, bool | np.bool_) or not isinstance(value, Integral if self.kind is int else Real):
            return False
        if not _is_float(value):
            return False
        x = float(value)
        return np.isfinite(x) and (x > self.low if self.open_low else x >= self.low) and x <= self.high

    def __str__(self) -> str:
        """Name the range."""
        article = "an int" if self.kind is int else "a float"
        closing = "inf)" if np.isinf(self.high) else f"{self.high}]"
        return f"{article} in the range {'(' if self.open_low or np.isinf(self.low) else '['}{self.low}, {closing}"


@dataclass(frozen=True)
class Number:
    """A number or infinity; NaN too."""

    def allows(self, value: Any) -> bool:
        """Whether the value is a number that a float can hold."""
        return isinstance(value, Real) and _is_float(value)

    def __str__(self) -> str:
        """Name it."""
        return "a number"


def _is_float(value: Any) -> bool:
    """Whether a float can hold the number: it can not if an int has too many digits."""
    return not isinstance(value, int) or abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class Options:
    """One of a few values."""

    values: tuple[Any, ...]

    def allows(self, value: Any) -> bool:
        """Whether the value is among them."""
        return any(value is v or (isinstance(value, str) and value == v) for v in self.values)

    def __str__(self) -> str:
        """Name them."""
        return "one of " + ", ".join(repr(v) for v in self.values)


@dataclass(frozen=True)
class Instance:
    """Anything of the given types."""

    types: tuple[type, ...]
    name: str

    def allows(self, value: Any) -> bool:
        """Whether the value is of one of them."""
        return isinstance(value, self.types)

    def __str__(self) -> str:
        """Name them."""
        return self.name


@dataclass(frozen=True)
class ArrayLike:
    """Numbers in an array or in nested lists."""

    def allows(self, value: Any) -> bool:
        """Whether it looks like an array."""
        return not isinstance(value, str) and (hasattr(value, "__array__") or isinstance(value, list | tuple))

    def __str__(self) -> str:
        """Name it."""
        return "an array-like"


@dataclass(frozen=True)
class Vector:
    """Finite numbers in a row, of one of the kinds of NumPy's dtypes."""

    kinds: str

    def allows(self, value: Any) -> bool:
        """Whether it is such an array."""
        is_vector = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in self.kinds
        return is_vector and bool(np.isfinite(value).all())

    def __str__(self) -> str:
        """Name it."""
        return f"an array of one dimension, of finite {'floats' if 'f' in self.kinds else 'integers'}"


class Vectors:
    """Such arrays in a list."""

    def __init__(self, kinds: str) -> None:
        self._each = Vector(kinds)

    def allows(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, list) and all(map(self._each.allows, value))

    def __str__(self) -> str:
        """Name it."""
        return f"a list, each {self._each}"


class Floats:
    """A list of finite floats."""

    def allows(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, list) and all(isinstance(each, float) and np.isfinite(each) for each in value)

    def __str__(self) -> str:
        """Name it."""
        return "a list of finite floats"


NOTHING = Options((None,))
FLAG = Instance((bool, np.bool_), "a bool")
SEED = (
    NOTHING,
    Interval(int, 0),
    Instance(
        (np.random.RandomState, np.random.Generator, np.random.SeedSequence),
        "a RandomState, a Generator or a SeedSequence",
    ),
)

Rules = Mapping[str, tuple[Rule, ...]]

# Characters of a value that a message repeats.
_LONGEST_SHOWN = 300


def check_parameters(estimator: Any, rules: Rules) -> None:
    """Raise on the first constructor parameter that breaks its rules; one without rules is left to its owner."""
    if sklearn.get_config().get("skip_parameter_validation", False):
        return
    given = vars(estimator)
    for name, allowed in rules.items():
        if name in given:
            check_parameter(type(estimator).__name__, name, given[name], allowed)


def check_parameter(owner: str, name: str, value: Any, allowed: tuple[Rule, ...], what: str = "parameter") -> None:
    """Raise unless the value obeys one of the rules, or there is none."""
    if allowed and not any(rule.allows(value) for rule in allowed):
        *most, last = [str(rule) for rule in allowed]
        wanted = f"{', '.join(most)} or {last}" if most else last
        hint = f": give an instance, {value.__name__}()" if isinstance(value, type) else ""
        raise InvalidParameterError(
            f"The {name!r} {what} of {owner} must be {wanted}. Got {_shown(value)} instead{hint}."
        )


def _shown(value: Any) -> str:
    """Give a value as a message repeats it."""
    if isinstance(value, Real) and not _is_float(value):
        return f"an int beyond {sys.float_info.max:.1e}, the largest float,"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def as_floats(name: str, value: Any) -> Array:
    """Return a parameter as a new array of float64."""
    try:
        return np.array(value, dtype=np.float64, order="C")
    except (OverflowError, TypeError, ValueError) as error:
        raise InvalidParameterError(f"{name} must be an array of numbers: {error}") from error


_DROP = "impute it first, for example by EMImputer, or drop it"


def check_rows(estimator: Any, X: Any, *, reset: bool, remedy: str = _DROP) -> Any:
    """Two-dimensional float32 or float64 rows without missing or infinite cells; what is so already is not copied."""
    _refuse_kinds(X)
    if is_arrow(X):
        X = _arrow_floats(X)
    xp, is_standard = get_namespace(X)
    if is_standard and xp.isdtype(X.dtype, "complex floating"):
        raise ValueError(f"Complex data not supported: X holds {X.dtype}; give real and imaginary parts as columns")
    X = _table(estimator, X, reset=reset, dtype=[xp.float64, xp.float32])
    if is_standard and is_elsewhere(X):
        return _check_elsewhere(X, remedy)
    names = getattr(estimator, "feature_names_in_", None)
    check_finite(X, names, remedy)
    return _aligned(X)


def _table(estimator: Any, X: Any, *, reset: bool, dtype: list[Any]) -> Any:
    """Two-dimensional array of one of these types, as many columns as the fit had, under the same names."""
    if not reset and type(X) is np.ndarray and X.ndim == 2 and len(X) and X.dtype in (np.float64, np.float32):
        names = getattr(estimator, "feature_names_in_", None)
        if names is None and X.shape[1] == getattr(estimator, "n_features_in_", None):
            return X  # scikit-learn would find this out too, but not within the time that a few rows take
    return validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=False)


def _check_elsewhere(X: Any, remedy: str) -> Any:
    """Name the first NaN or infinite cell of rows on another device."""
    xp = namespace(X)
    if not bool(xp.all(xp.isfinite(xp.sum(X, axis=0)))) and not bool(xp.all(xp.isfinite(X))):
        check_finite(bring(X), remedy=remedy)
    return X


def _aligned(X: Any) -> Array:
    """The same array, unless it lies at odd places in memory, as fields of records may, where no kernel can read it."""
    rows: Array = np.asarray(X)
    is_even = rows.flags.aligned and all(stride % rows.itemsize == 0 for stride in rows.strides)
    return rows if is_even else rows.copy(order="C")


def check_holes(estimator: Any, X: Any, missing_values: Any, *, reset: bool) -> Array:
    """Two-dimensional float32 or float64 rows, NaN where a cell is missing, however that was spelled."""
    if np.ma.isMaskedArray(X):
        X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
    _refuse_kinds(X)
    if is_elsewhere(X) and get_namespace(X)[1]:
        X = bring(X)
    X = _aligned(_table(estimator, _numbers(X), reset=reset, dtype=[np.float64, np.float32]))
    if not _is_finite(X) and np.isinf(kernels.range_missing(X)).any():
        _refuse_infinite(X, getattr(estimator, "feature_names_in_", None))
    if isinstance(missing_values, Real) and not np.isnan(float(missing_values)):
        X = np.where(X == float(missing_values), X.dtype.type(np.nan), X)
    return np.asarray(X)


def check_symbols(estimator: Any, X: Any, *, reset: bool) -> Array:
    """Two-dimensional cells of any kind; None where one is masked, what they stand for where they are encoded."""
    if np.ma.is_masked(X):
        X = np.where(np.ma.getmaskarray(X), None, X.data)
    if is_arrow(X):
        X = _arrow_table(X, _decoded)
    return np.asarray(validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=False))


# Arrow tables ---------------------------------------------------------------------------------------------------------


def _arrow_table(X: Any, change: Callable[[Any], Any]) -> Any:
    """Table of the same names, its columns changed one by one."""
    return sys.modules["pyarrow"].Table.from_arrays([change(column) for column in X.itercolumns()], X.schema.names)


def _arrow_type(dtype: Any) -> Any:
    """Type of the cells, of encoded ones too."""
    return dtype.value_type if sys.modules["pyarrow"].types.is_dictionary(dtype) else dtype


def _decoded(column: Any) -> Any:
    """Give the cells for which the numbers of a dictionary stand."""
    dtype = _arrow_type(column.type)
    return column if dtype is column.type else column.cast(dtype)


def _first_text(column: Any) -> tuple[int, Any]:
    """Row and cell of the first that is not null, of a column of text."""
    types, dtype = sys.modules["pyarrow"].types, _arrow_type(column.type)
    if types.is_primitive(dtype):
        return 0, None
    return next(((row, cell.as_py()) for row, cell in enumerate(column) if cell.is_valid), (0, None))


def _arrow_floats(X: Any) -> Any:
    """Table of floats, NaN where a cell is null; a column that is not of numbers is refused by its name."""
    pa, compute = sys.modules["pyarrow"], import_module("pyarrow.compute")
    for name, dtype in zip(X.schema.names, X.schema.types, strict=True):
        t = _arrow_type(dtype)
        if not any(kind(t) for kind in (pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)):
            raise ValueError(_not_a_number(repr(name), t))

    def floats(column: Any) -> Any:
        column = _decoded(column)
        if column.type not in (pa.float32(), pa.float64()):
            column = column.cast(pa.float64(), safe=False)
        return compute.fill_null(column, np.nan) if column.null_count else column

    return _arrow_table(X, floats)


# Cells ----------------------------------------------------------------------------------------------------------------


def _numbers(X: Any) -> Any:
    """Replace None, pandas.NA, NaT and nulls by NaN, in whatever holds them; frames keep their names."""
    if is_arrow(X):
        return _arrow_floats(X)
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if polars is not None and isinstance(X, polars.DataFrame):
        for name, dtype in X.schema.items():
            if not (dtype.is_numeric() or dtype in (polars.Boolean, polars.Null)):
                raise ValueError(_not_a_number(repr(name), dtype))
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


def spelled(X: Array) -> Array:
    """Floats from cells of any kind, also where text spells them, as beside text in one array; NaN: missing."""
    if X.dtype.kind not in "biuf":
        X = np.frompyfunc(_spelled, 1, 1)(X)
        _refuse_kinds(X)
        X = _numbers(X)
    _refuse_infinite(X)
    return X


def _spelled(cell: Any) -> Any:
    try:
        return float(cell) if isinstance(cell, str) else cell
    except ValueError:
        return cell


def _refuse_infinite(X: Array, names: Any = None) -> None:
    """Name the first infinite cell, where a missing one is allowed."""
    infinite = np.argwhere(np.isinf(X))
    if len(infinite):
        row, column = (int(i) for i in infinite[0])
        raise ValueError(
            f"Input X contains infinity at row {row}, {_called(column, names)}; a missing value is written NaN"
        )


def _cells(column: Array, name: str) -> Array:
    """Floats from the cells of one column of objects."""
    values = np.empty(len(column))
    for i, cell in enumerate(column):
        if isinstance(cell, str | bytes | _TIMES) and not _is_null(cell):
            raise ValueError(f"{_not_a_number(name, type(cell).__name__)}; row {i} holds {cell!r}")
        try:
            values[i] = np.nan if _is_null(cell) else float(cell)
        except TypeError as error:
            raise TypeError(f"{_not_a_number(name, type(cell).__name__)}; row {i}: {error}") from error
    return values


def _not_a_number(name: str, dtype: Any) -> str:
    return (
        f"column {name} of X holds {dtype}, not numbers: convert it yourself if it spells numbers (astype(float)), "
        "else encode it first (OneHotEncoder), or leave it out"
    )


def _refuse_kinds(X: Any) -> None:
    """Refuse what an array conversion would silently read as something else."""
    if is_source(X):
        raise ValueError(
            f"X is a {type(X).__name__}, which fit and methods that answer row by row read in blocks; hand its "
            "blocks to other methods one by one"
        )
    layout, device = getattr(X, "layout", None), getattr(X, "device", None)
    if str(layout).startswith("torch.sparse"):
        raise ValueError(f"X is a tensor of the layout {layout}; sparse input is not supported: give X.to_dense()")
    if getattr(device, "type", "") == "meta":
        raise ValueError("X is a tensor on the device 'meta', which holds no numbers: give one on a real device")
    if np.ma.isMaskedArray(X) and np.ma.is_masked(X):
        row, column = (int(i[0]) for i in np.nonzero(np.ma.getmaskarray(np.atleast_2d(X))))
        raise ValueError(
            f"X has a masked cell at row {row}, column {column}; missing values are not supported here: impute them "
            "first, or drop the rows"
        )
    for name, dtype, row, cell in _columns(X):
        is_date = _is_temporal(dtype)
        if is_date or isinstance(cell, _TIMES) or type(cell).__name__ == "Period":
            kind = type(cell).__name__ if not is_date else dtype
            raise ValueError(
                f"column {name} of X holds {kind}; a date is not a measurement: convert it to a number yourself, "
                "for example days since its minimum"
            )
        if isinstance(cell, str | bytes):
            raise ValueError(f"{_not_a_number(name, 'text')}; row {row} holds {cell!r}")
        if hasattr(X, "columns") and not (hasattr(cell, "__float__") or isinstance(cell, complex) or _is_null(cell)):
            raise ValueError(f"{_not_a_number(name, type(cell).__name__)}; row {row} holds {cell!r}")


def _is_temporal(dtype: Any) -> bool:
    """Whether cells of this type are times or differences of times."""
    if type(dtype).__module__.partition(".")[0] == "pyarrow":
        return bool(sys.modules["pyarrow"].types.is_temporal(dtype))
    polars = getattr(dtype, "is_temporal", None)
    return bool(polars()) if polars else getattr(dtype, "kind", "O") in "mM"


def _columns(X: Any) -> Iterable[tuple[str, Any, int, Any]]:
    """Name and type of the columns of X and, where Python objects may hide something, a cell: the first text if any."""
    if is_arrow(X):
        first = [_first_text(column) for column in X.itercolumns()]
        types = map(_arrow_type, X.schema.types)
        return [(repr(c), t, *cell) for c, t, cell in zip(X.schema.names, types, first, strict=True)]
    if hasattr(X, "iloc") and hasattr(X, "columns") and len(X):  # pandas
        cells = [_telling(X.iloc[:, j]) for j in range(X.shape[1])]
        return [(repr(c), t, *cell) for c, t, cell in zip(X.columns, X.dtypes, cells, strict=True)]
    if hasattr(X, "row") and hasattr(X, "columns") and len(X):  # polars
        return [(repr(c), t, 0, cell) for c, t, cell in zip(X.columns, X.dtypes, X.row(0), strict=True)]
    if isinstance(X, list) and _is_rectangular(X):
        X = np.asarray(X)
    if not isinstance(X, np.ndarray) or not X.size:
        return []
    if X.dtype == object and X.ndim == 2:
        return [(str(j), X.dtype, *_telling(x)) for j, x in enumerate(X.T)]
    return [("0", X.dtype, 0, X.flat[0] if X.dtype.kind in "US" else None)]


def _is_null(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType")


def _telling(column: Any) -> tuple[int, Any]:
    """Row and cell of the first text of a column of objects, or else of the first that is not missing."""
    if getattr(column.dtype, "kind", "O") in "biufcmM":
        return 0, None
    told: tuple[int, Any] = (0, None)
    for row, cell in enumerate(column):
        if isinstance(cell, str | bytes):
            return row, cell
        if told[1] is None and not _is_null(cell):
            told = row, cell
    return told


def _is_rectangular(X: list[Any]) -> bool:
    lengths = {len(row) if isinstance(row, list | tuple) else -1 for row in X}
    return len(lengths) == 1


def _is_finite(X: Array) -> bool:
    """Whether no cell is NaN or infinite; False also if the cells are too large for their sum to tell."""
    for begin in range(0, len(X), _BLOCK_ROWS):
        block = X[begin : begin + _BLOCK_ROWS]
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(block.sum(dtype=np.float64)):
                return False
        release(block)
    return True


def check_finite(X: Array, names: Any = None, remedy: str = _DROP) -> None:
    """Name the first NaN or infinite cell; a block at a time, without a copy."""
    for begin in range(0, len(X), _BLOCK_ROWS):
        block = X[begin : begin + _BLOCK_ROWS]
        if _is_finite(block):
            continue
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            row, column = int(bad[0, 0]) + begin, int(bad[0, 1])
            value = "NaN" if np.isnan(X[row, column]) else "infinity"
            raise ValueError(f"Input X contains {value} at row {row}, {_called(column, names)}; {remedy}")


def _called(column: int, names: Any) -> str:
    return f"column {column}" if names is None else f"column {names[column]!r}"


def check_weight(sample_weight: Any, n_rows: int) -> Array | None:
    """Return non-negative, finite weights, one for each row; None when every row counts once."""
    if sample_weight is None:
        return None
    if np.ma.is_masked(sample_weight):
        row = int(np.flatnonzero(np.ma.getmaskarray(sample_weight))[0])
        raise ValueError(f"sample_weight[{row}] is masked; give 0 for a row that does not count")
    if isinstance(sample_weight, Real):
        check_parameter("fit", "sample_weight", sample_weight, (Number(),))
        sample_weight = np.full(n_rows, float(sample_weight))
    weight = check_array(
        bring(sample_weight) if get_namespace(sample_weight)[1] else sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        input_name="sample_weight",
        ensure_all_finite=False,
    )
    if weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, but X has {n_rows} rows: give one weight for each row"
        )
    refuse_weights(weight, "row")
    if not weight.any():
        raise ValueError("every sample_weight is zero: nothing is left to fit; give at least one row a positive weight")
    total = float(np.sum(weight / weight.max())) * float(weight.max())
    if not 1e-100 < total < 1e100:
        raise ValueError(f"sample_weight sums to {total:g}; weights count rows: bring them nearer to 1")
    if total < 1.0 + 1e-9 < n_rows:
        warn(
            f"sample_weight sums to {total:g}, so {n_rows} rows count as {total:g}: weights are counts, not shares; "
            f"multiply them by {n_rows / total:g}",
            DataWarning,
        )
    return None if (weight == 1.0).all() else _aligned(weight)


def refuse_weights(weight: Array, unit: str) -> None:
    """Refuse weights, each of a row or a sequence, that count nothing."""
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0.0)))
    if len(wrong):
        raise ValueError(
            f"sample_weight[{wrong[0]}] is {weight[wrong[0]]}; weights count how often a {unit} was seen and must be "
            "finite and not negative"
        )


def spawn(random_state: Any) -> np.random.SeedSequence:
    """Seed that spawns children: None varies, an int repeats, a generator moves on; the global state is not touched."""
    if random_state is None:
        return np.random.SeedSequence()
    if isinstance(random_state, np.random.SeedSequence):  # a copy: the user's own is not advanced
        return np.random.SeedSequence(random_state.entropy, spawn_key=random_state.spawn_key)
    if isinstance(random_state, np.random.Generator):
        return np.random.SeedSequence(random_state.integers(2**32, size=4).tolist())
    if isinstance(random_state, np.random.RandomState):
        return np.random.SeedSequence(random_state.randint(2**31, size=4).tolist())
    return np.random.SeedSequence(int(random_state))


def generator(random_state: Any) -> np.random.Generator:
    """Random numbers of our own: not those of ``default_rng(random_state)``, which may have made the user's data."""
    return np.random.default_rng(spawn(random_state).spawn(1)[0])
