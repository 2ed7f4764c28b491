"""The categorical law: symbols of an alphabet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import xlogy

from .. import kernels
from .._blocks import Rows
from .._charts import Simplex
from .._model import Charts, Emission, Passes, Succession
from ..exceptions import InvalidParameterError

Array = NDArray[Any]

_EMPTY = 1e-10
# A symbol that a probability of 0 makes impossible would never be possible again.
_LEAST = 1e-12


class Symbols(NamedTuple):
    """Parameters of ``k`` components."""

    emissionprob: Array  # (k, m), each row on the simplex


class Sums(NamedTuple):
    """Expected sufficient statistics; the first field is the log-likelihood."""

    loglik: Any
    counts: Any  # (k, m)


@dataclass(frozen=True)
class Categorical(Emission):
    """One column of symbols: strings, numbers with or without gaps, bools.

    Parameters
    ----------
    categories : sequence, optional
        The alphabet. None: the symbols that occur in ``fit``, sorted.
    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a symbol outside the alphabet; "ignore" takes it for a missing cell.

    Examples
    --------
    >>> from emkit import EMHiddenMarkov
    >>> X = [[word] for word in "the cat sat the dog sat the cat ran".split()]
    >>> model = EMHiddenMarkov(3, emission="categorical", random_state=0).fit(X)
    >>> model.categories_.tolist()
    ['cat', 'dog', 'ran', 'sat', 'the']
    """

    categories: tuple[Any, ...] | None = None
    handle_unknown: str = "error"
    streams = True

    def __post_init__(self) -> None:
        """Refuse an alphabet that holds a symbol twice."""
        symbols = () if self.categories is None else self.categories
        try:
            repeated = [symbol for symbol, count in Counter(symbols).items() if count > 1]
        except TypeError as error:
            raise InvalidParameterError(f"categories must be a sequence of hashable symbols: {error}") from error
        if repeated:
            raise InvalidParameterError(f"categories must be distinct, but {repeated[0]!r} occurs more than once")

    @property
    def numeric(self) -> bool:  # type: ignore[override]
        """Symbols may be anything."""
        return False

    @property
    def charts(self) -> Charts:
        """Points of a simplex."""
        return {"emissionprob": Simplex()}

    def learn(self, X: Any) -> Categorical:
        """Take the alphabet from the rows unless it is given."""
        if self.handle_unknown not in ("error", "ignore"):
            raise ValueError(f"handle_unknown must be 'error' or 'ignore'. Got {self.handle_unknown!r} instead.")
        if self.categories is not None:
            return self
        cells = _cells(X)
        seen = cells[~_missing(cells)]
        if not len(seen):
            raise ValueError("X has no symbols: every cell is missing")
        try:
            alphabet = np.unique(seen)
        except TypeError as error:
            raise ValueError(f"the symbols of X cannot be sorted ({error}); give categories") from error
        return replace(self, categories=tuple(alphabet.tolist()))

    def read(self, X: Any) -> Array:
        """Numbers of the symbols as floats, NaN where missing."""
        assert self.categories is not None
        cells = _cells(X)
        codes = np.full(len(cells), np.nan)
        holes = _missing(cells)
        number = {symbol: i for i, symbol in enumerate(self.categories)}
        distinct, inverse = np.unique(cells[~holes], return_inverse=True)
        found = np.array([number.get(symbol, np.nan) for symbol in distinct.tolist()], dtype=np.float64)
        codes[~holes] = found[inverse]
        unknown = np.isnan(codes) & ~holes
        if unknown.any() and self.handle_unknown == "error":
            row = int(np.argmax(unknown))
            symbol = cells[row].item() if isinstance(cells[row], np.generic) else cells[row]
            raise ValueError(
                f"X holds {symbol!r} at row {row}, column 0, which is not in the alphabet of {len(number)} symbols; "
                "handle_unknown='ignore' takes it for missing"
            )
        return codes[:, None]

    def log_prob(self, params: Symbols, rows: Rows) -> Array:
        """Look up the logarithm of each symbol's probability; 0 where missing."""
        return self._table(params)[self._numbers(rows.X)]

    def _table(self, params: Symbols) -> Array:
        """Log-probabilities (m + 1, k) of the symbols, the last one missing."""
        with np.errstate(divide="ignore"):
            log_prob = np.log(np.ascontiguousarray(params.emissionprob.T))
        return np.vstack([log_prob, np.zeros(log_prob.shape[1])])

    def expect_chain(self, params: Symbols, rows: Rows, succession: Succession) -> tuple[Passes, Sums]:
        """Fused E-step of a chain, without an (n, k) array."""
        lengths, weight, startprob, transmat, n_threads = succession
        logliks = np.empty(len(lengths))
        found = kernels.expect_chain_symbols(
            rows.X, self._table(params), lengths, weight, startprob, transmat, logliks, n_threads
        )
        if not found:
            return super().expect_chain(params, rows, succession)
        starts, transitions, counts = found
        return Passes(logliks, starts, transitions), Sums(0.0, np.ascontiguousarray(counts[:-1].T))

    def summarize(self, params: Symbols | None, rows: Rows, resp: Array) -> Sums:
        """How often each component emits each symbol."""
        n, m = len(rows.X), self._size
        chosen = csr_array((np.ones(n), self._numbers(rows.X), np.arange(n + 1)), shape=(n, m + 1))
        return Sums(0.0, np.ascontiguousarray((chosen.T @ resp)[:m].T))

    def maximize(self, stats: Sums, params: Symbols | None) -> Symbols:
        """Shares of the symbols."""
        total = stats.counts.sum(axis=1, keepdims=True)
        previous = np.full(stats.counts.shape, 1.0 / self._size) if params is None else params.emissionprob
        shares = np.where(total > _EMPTY, stats.counts / np.where(total > _EMPTY, total, 1.0), previous)
        shares = np.where(previous > 0.0, np.maximum(shares, _LEAST), 0.0)
        return Symbols(shares / shares.sum(axis=1, keepdims=True))

    def q_value(self, candidate: Symbols, stats: Sums, params: Symbols) -> float:
        """Log-probability of the symbols."""
        return float(xlogy(stats.counts, candidate.emissionprob).sum())

    @property
    def _size(self) -> int:
        assert self.categories is not None
        return len(self.categories)

    def _numbers(self, X: Array) -> Array:
        """Number of each symbol; one more than the last for a missing cell."""
        codes = X[:, 0]
        return np.where(np.isnan(codes), self._size, codes).astype(np.int64)

    def order(self, params: Symbols) -> Array:
        """By the probabilities of the symbols, the first symbol first, the most probable first."""
        return np.lexsort(-params.emissionprob.T[::-1])

    def features(self, rows: Rows) -> Array:
        """One column for each symbol."""
        return np.eye(self._size + 1)[self._numbers(rows.X)][:, : self._size]

    def n_parameters(self, params: Symbols) -> int:
        """Probabilities that are not known to be zero, less one for each sum."""
        return int(np.count_nonzero(params.emissionprob) - len(params.emissionprob))

    def sample(self, params: Symbols, labels: Array, rng: np.random.Generator) -> Array:
        """Draw symbols (n, 1) from the component that each label names."""
        cumulative = params.emissionprob.cumsum(axis=1)[labels]
        numbers = (rng.random(len(labels))[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
        return self.symbols(numbers)[:, None]

    def symbols(self, numbers: Array) -> Array:
        """Symbols of the alphabet by their numbers."""
        assert self.categories is not None
        return np.asarray(np.array(self.categories)[numbers])

    def fill(self, params: Symbols, rows: Rows, resp: Array) -> Array:
        """The most probable symbol in place of a missing one."""
        likely = np.argmax(resp @ params.emissionprob, axis=1)
        numbers = self._numbers(rows.X)
        return self.symbols(np.where(numbers == self._size, likely, numbers))[:, None]

    def publish(self, params: Symbols) -> dict[str, Array]:
        """Probabilities, and the alphabet of their columns."""
        assert self.categories is not None
        return {"emissionprob_": params.emissionprob, "categories_": np.array(self.categories)}


def _cells(X: Any) -> Array:
    cells = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    if cells.ndim != 2 or cells.shape[1] != 1:
        raise ValueError(
            f"a categorical law has one column, but X has shape {cells.shape}; use Columns for several, or "
            "X.reshape(-1, 1) for a vector"
        )
    return np.asarray(cells[:, 0])


def _missing(cells: Array) -> Array:
    """None, NaN and pandas.NA."""
    if cells.dtype.kind in "biuUS":
        return np.zeros(len(cells), bool)
    if cells.dtype.kind == "f":
        return np.isnan(cells)
    return np.array([cell is None or type(cell).__name__ == "NAType" or cell != cell for cell in cells], bool)
