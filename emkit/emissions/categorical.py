"""The categorical law: symbols of an alphabet, a table of probabilities for each component and column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .._blocks import Rows
from .._cells import BadCell, symbols
from .._charts import Simplex
from .._model import Charts, Emission
from ..exceptions import InvalidParameterError
from ._by_mean import UNSEEN, safe_log

Array = NDArray[Any]

# Symbols are all equally far apart; of a larger alphabet they are told apart in this many random directions.
_DIRECTIONS = 64
# How much of a start is shared by all symbols: one that the start has not seen must not be impossible.
_START_SHARE = 0.01


class Tables(NamedTuple):
    """Probabilities of the symbols; those beyond the alphabet of a column are 0."""

    probs: Array  # (k, d, largest alphabet)


class Counts(NamedTuple):
    """Expected sufficient statistics: how often a component emits each symbol."""

    loglik: Any  # 0, but for the log prior
    counts: Any  # (k, d, largest alphabet)


@dataclass(frozen=True)
class Categorical(Emission):
    """Symbols: strings, numbers, anything that can be told apart; columns are independent given the component.

    The fitted tables are ``emissionprob_``, (k, size of the alphabet) for one column as in hmmlearn, else a list with
    one for each column; their columns are the symbols in the order of ``categories``.

    Parameters
    ----------
    categories : sequence of sequences, optional
        The alphabet of each column. By default what the training data show, sorted.
    handle_unknown : {"error", "ignore"}, default="error"
        What a symbol beyond the alphabet is: an error that names it, or a missing cell.
    pseudocount : float, default=0.0
        Times that every component is imagined to have emitted every symbol, a Dirichlet prior. 0 is maximum
        likelihood: a symbol that was declared and never seen is then impossible.

    References
    ----------
    Rabiner, L. (1989). A tutorial on hidden Markov models and selected applications in speech recognition.
    *Proceedings of the IEEE* 77(2), 257-286.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.emissions import Categorical
    >>> words = [["sun"], ["rain"], [None], ["sun"]]
    >>> law = Categorical().learn(words)
    >>> law.categories
    (('rain', 'sun'),)
    >>> rows = law.prepare(law.read(words), None)
    >>> params = law.maximize(law.summarize(None, rows, np.ones((4, 1))), None)
    >>> np.exp(law.log_prob(params, rows)[:, 0]).round(4)
    array([0.6667, 0.3333, 1.    , 0.6667])
    """

    categories: Any = None
    handle_unknown: str = "error"
    pseudocount: float = 0.0

    def __post_init__(self) -> None:
        if self.handle_unknown not in ("error", "ignore"):
            raise InvalidParameterError(f"handle_unknown is {self.handle_unknown!r}; choose 'error' or 'ignore'")
        if not self.pseudocount >= 0.0:
            raise InvalidParameterError(f"pseudocount is {self.pseudocount!r}; it must be 0 or more")
        if self.categories is not None:
            object.__setattr__(self, "categories", tuple(tuple(alphabet) for alphabet in self.categories))

    # Symbols and their numbers
    # ----------------------------------------------------------------------------------------

    def learn(self, X: Any) -> Self:
        """Collect the alphabet of each column, unless it was given."""
        if self.categories is not None:
            return self
        return replace(self, categories=tuple(_alphabet(column[~missing]) for column, missing in symbols(X)))

    def read(self, X: Any) -> Array:
        """Numbers of the symbols."""
        columns = symbols(X)
        if len(columns) != len(self.categories):
            raise ValueError(f"X has {len(columns)} columns, but the alphabets of {len(self.categories)} are known")
        return np.column_stack([self._encode(j, *column) for j, column in enumerate(columns)])

    def _encode(self, j: int, values: Array, missing: Array) -> Array:
        numbers = {symbol: float(i) for i, symbol in enumerate(self.categories[j])}
        present = values[~missing]
        distinct, where = (present, slice(None)) if present.dtype == object else np.unique(present, return_inverse=True)
        known = np.array([numbers.get(symbol, np.nan) for symbol in distinct.tolist()], dtype=np.float64)
        codes = np.full(len(values), np.nan)
        codes[~missing] = known[where]
        if self.handle_unknown == "error" and np.isnan(known).any():
            row = int(np.flatnonzero(np.isnan(codes) & ~missing)[0])
            shown = ", ".join(repr(symbol) for symbol in self.categories[j][:5])
            more = ", ..." if len(self.categories[j]) > 5 else ""
            value = values[row : row + 1].tolist()[0]
            raise BadCell(
                row,
                j,
                repr(value),
                f"it is none of the {len(self.categories[j])} known symbols ({shown}{more}); declare it in "
                "categories, or set handle_unknown='ignore' to take it for missing",
            )
        return codes

    def write(self, X: Array) -> Array:
        """Symbols of the numbers."""
        columns = []
        for j, alphabet in enumerate(self.categories):
            plain = np.array(alphabet)
            kept = plain if plain.ndim == 1 and plain.tolist() == list(alphabet) else np.array(alphabet, dtype=object)
            columns.append(kept[X[:, j].astype(np.intp)])
        kinds = {column.dtype.kind for column in columns}
        return np.column_stack([c if len(kinds) == 1 else c.astype(object) for c in columns])

    # The law
    # ----------------------------------------------------------------------------------------------------------

    @property
    def _inside(self) -> Array:
        """Which symbols each column has: (d, largest alphabet)."""
        sizes = np.array([len(alphabet) for alphabet in self.categories])
        return np.asarray(np.arange(sizes.max()) < sizes[:, None])

    @property
    def charts(self) -> Charts:
        """Probabilities on simplices."""
        return {"probs": Simplex()}

    def log_prob(self, params: Tables, rows: Rows) -> Array:
        """Log-probability (n, k) of every row under every component."""
        with np.errstate(divide="ignore"):
            logs = np.log(params.probs)
        nothing = np.zeros((1, len(logs)))
        out = None
        for j, codes in enumerate(_codes(rows.X, logs.shape[2])):
            found = np.concatenate([logs[:, j].T, nothing])[codes]
            out = found if out is None else np.add(out, found, out=out)
        assert out is not None
        return out

    def summarize(self, params: Tables | None, rows: Rows, resp: Array) -> Counts:
        """Counts for given responsibilities (n, k), weights included."""
        largest = self._inside.shape[1]
        each = np.arange(len(resp) + 1)
        counts = np.empty((resp.shape[1], rows.X.shape[1], largest))
        for j, codes in enumerate(_codes(rows.X, largest)):
            one_hot = csr_array((np.ones(len(codes)), codes, each), shape=(len(codes), largest + 1))
            counts[:, j] = (one_hot.T @ resp)[:largest].T
        return Counts(0.0, counts)

    def maximize(self, stats: Counts, params: Tables | None) -> Tables:
        """Shares of the symbols; a component that has not seen a column keeps what it has."""
        total = stats.counts.sum(axis=2, keepdims=True)
        seen = total > UNSEEN
        shares = stats.counts / np.where(seen, total, 1.0)
        if seen.all():
            return Tables(shares)
        even = self._inside / self._inside.sum(axis=1, keepdims=True)
        return Tables(np.where(seen, shares, even if params is None else params.probs))

    def start(self, rows: Rows, resp: Array) -> Tables:
        """Shares of the symbols, none 0."""
        shares = super().start(rows, resp).probs
        even = self._inside / self._inside.sum(axis=1, keepdims=True)
        return Tables((1.0 - _START_SHARE) * shares + _START_SHARE * even)

    def prior(self, params: Tables) -> Counts | None:
        """Every symbol ``pseudocount`` times."""
        if not self.pseudocount:
            return None
        counts = self.pseudocount * self._inside
        return Counts(float((counts * safe_log(params.probs)).sum()), counts)

    def n_parameters(self, params: Tables) -> int:
        """Probabilities, less one for each sum."""
        return len(params.probs) * int(self._inside.sum() - len(self.categories))

    def order(self, params: Tables) -> Array:
        """By the probabilities, those that favour the first symbols first."""
        return np.lexsort(-params.probs.reshape(len(params.probs), -1).T[::-1])

    def features(self, rows: Rows) -> Array:
        """Indicators of the symbols, or so many random directions that these hardly differ from indicators."""
        largest = self._inside.shape[1]
        if largest <= _DIRECTIONS:
            table = np.eye(largest)
        else:
            table = np.random.default_rng(0).standard_normal((largest, _DIRECTIONS)) / np.sqrt(_DIRECTIONS)
        table = np.concatenate([table, np.zeros((1, table.shape[1]))])
        return np.hstack([table[codes] for codes in _codes(rows.X, largest)])

    # Prediction
    # ---------------------------------------------------------------------------------------------------------

    def sample(self, params: Tables, labels: Array, rng: np.random.Generator) -> Array:
        """Draw the numbers of one row's symbols from the component that each label names."""
        upper = params.probs.cumsum(axis=2)
        numbers = np.empty((len(labels), upper.shape[1]))
        for j, point in enumerate(rng.random((upper.shape[1], len(labels)))):
            above = upper[labels, j] > (point * upper[labels, j, -1])[:, None]
            numbers[:, j] = above.argmax(axis=1)
        return numbers

    def fill(self, params: Tables, rows: Rows, resp: Array) -> Array:
        """Rows whose missing cells hold the most probable symbol."""
        likely = np.column_stack([(resp @ params.probs[:, j]).argmax(axis=1) for j in range(params.probs.shape[1])])
        return np.where(np.isnan(rows.X), likely, rows.X)

    def publish(self, params: Tables) -> dict[str, Any]:
        """Tables as wide as the alphabets."""
        tables = [params.probs[:, j, : len(alphabet)] for j, alphabet in enumerate(self.categories)]
        return {"emissionprob_": tables[0] if len(tables) == 1 else tables}

    def recall(self, attributes: Mapping[str, Any]) -> Tables:
        """From the fitted tables."""
        given = attributes["emissionprob_"]
        tables = [given] if len(self.categories) == 1 else given
        probs = np.zeros((len(tables[0]), *self._inside.shape))
        for j, table in enumerate(tables):
            probs[:, j, : len(self.categories[j])] = table
        return Tables(probs)


def _codes(X: Array, largest: int) -> list[Array]:
    """Columns of integers; the number after the largest alphabet stands for a hole."""
    return [np.where(np.isnan(column), largest, column).astype(np.intp) for column in X.T]


def _alphabet(values: Array) -> tuple[Any, ...]:
    """Distinct symbols, sorted; of different kinds, kind by kind."""
    if values.dtype != object:
        return tuple(np.unique(values).tolist())
    distinct = list(dict.fromkeys(values.tolist()))
    try:
        return tuple(sorted(distinct))
    except TypeError:
        return tuple(sorted(distinct, key=lambda symbol: (type(symbol).__name__, str(symbol))))
