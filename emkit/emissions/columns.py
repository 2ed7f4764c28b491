"""Different laws for different columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._blocks import Rows
from .._model import Charts, Emission, Rounding
from .._sources import Source
from .._validation import spelled
from ..exceptions import columns_named, with_names

Array = NDArray[Any]


class Parts(tuple[Any, ...]):
    """Parameters of each law, or a log-likelihood and statistics of each: a NamedTuple whose fields have no names."""

    @classmethod
    def _make(cls, parts: Any) -> Parts:
        return cls(parts)

    @property
    def _fields(self) -> tuple[int, ...]:
        return tuple(range(len(self)))


@dataclass(frozen=True)
class Columns(Emission):
    """Laws of different columns, independent given the component.

    Parameters
    ----------
    laws : sequence of (Emission or str, sequence of int)
        A law, by itself or by its name, and the numbers of its columns. Every column belongs to one law.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit import EMHiddenMarkov
    >>> from emkit.emissions import Bernoulli, Columns, Poisson
    >>> rng = np.random.default_rng(0)
    >>> state = np.repeat([0, 1, 0, 1], 50)
    >>> X = np.column_stack([rng.poisson([2.0, 9.0], (200, 2))[np.arange(200), state], state])
    >>> law = Columns([(Poisson(), [0]), (Bernoulli(), [1])])
    >>> EMHiddenMarkov(2, emission=law, random_state=0).fit(X).probs_.round(2)
    array([[0.],
           [1.]])
    """

    laws: Sequence[tuple[Any, Sequence[int]]]

    def __post_init__(self) -> None:
        """Look up laws by name; columns become tuples, so that the law can be compared."""
        from . import LAWS

        made = []
        for law, columns in self.laws:
            if isinstance(law, str) and law not in LAWS:
                raise ValueError(f"Columns knows no law {law!r}; give one of {', '.join(LAWS)}, or a law itself")
            if isinstance(columns, str | Integral) or not all(isinstance(column, Integral) for column in columns):
                raise ValueError(f"Columns wants a list of numbers of columns for each law, not {columns!r}")
            made.append((LAWS[law]() if isinstance(law, str) else law, tuple(map(int, columns))))
        object.__setattr__(self, "laws", tuple(made))

    def _each(self, X: Any) -> list[tuple[Emission, Any]]:
        """Every law with its columns of X."""
        return [(law, _take(X, columns)) for law, columns in self.laws]

    @property
    def numeric(self) -> bool:  # type: ignore[override]
        """Whether all laws want numbers."""
        return all(law.numeric for law, _ in self.laws)

    @property
    def streams(self) -> bool:  # type: ignore[override]
        """Whether all laws can follow a stream."""
        return all(law.streams for law, _ in self.laws)

    @property
    def charts(self) -> Charts:
        """Those of the laws."""
        return {number: law.charts for number, (law, _) in enumerate(self.laws)}  # type: ignore[misc]

    def learn(self, X: Any) -> Columns:
        """Let every law look at its columns."""
        named = sorted(column for _, columns in self.laws for column in columns)
        width = np.shape(X)[1]
        if named != list(range(width)):
            raise ValueError(
                f"Columns names the columns {named}, but X has {width}: name each from 0 to {width - 1} once"
            )
        return replace(
            self, laws=[(law.learn(x), c) for (law, x), (_, c) in zip(self._each(X), self.laws, strict=True)]
        )

    def read(self, X: Any) -> Array:
        """Let every law read its columns."""
        read, of_any_kind = np.empty(np.shape(X)), not self.numeric
        for (law, x), (_, columns) in zip(self._each(X), self.laws, strict=True):
            with columns_named(columns):  # a law counts its own
                read[:, columns] = law.read(spelled(np.asarray(x)) if of_any_kind and law.numeric else x)
        return read

    def prepare(self, X: Array, weight: Array | None) -> Rows:
        """Find the units of every law."""
        parts = []
        for (law, x), (_, columns) in zip(self._each(X), self.laws, strict=True):
            with columns_named(columns):  # a law counts its own
                parts.append(law.prepare(_in_order(x), weight))
        return self._joined(X, parts, weight)

    def frame(self, params: Parts, X: Array) -> Rows:
        """Rows to predict, in the units that suit every law."""
        each = zip(self._each(X), params, strict=True)
        return self._joined(X, [law.frame(p, _in_order(x)) for (law, x), p in each], None)

    def _joined(self, X: Array, parts: list[Rows], weight: Array | None) -> Rows:
        """Rows with the units of the laws."""
        rows = Rows(X, weight, np.zeros(X.shape[1]), np.ones(X.shape[1]))
        for part, (_, columns) in zip(parts, self.laws, strict=True):
            rows.center[list(columns)], rows.scale[list(columns)] = part.center, part.scale
        return rows

    def block(self, rows: Rows, cut: slice | Array) -> Rows:
        """Part of the rows, each law's columns apart."""
        part = rows.cut(cut)
        whole = slice(None)
        return part._replace(
            patterns=[law.block(own, whole) for (law, _), own in zip(self.laws, self._apart(part), strict=True)]
        )

    def _apart(self, rows: Rows) -> list[Rows]:
        """Rows of every law."""
        if rows.patterns is not None:
            return [part._replace(weight=rows.weight) for part in rows.patterns]
        columns = (list(columns) for _, columns in self.laws)
        return [Rows(_in_order(_take(rows.X, c)), rows.weight, rows.center[c], rows.scale[c]) for c in columns]

    def log_prob(self, params: Parts, rows: Rows) -> Array:
        """Sum of the log-densities of the laws."""
        first, *others = zip(self.laws, params, self._apart(rows), strict=True)
        (law, _), p, part = first
        total = law.log_prob(p, part)
        for (law, _), p, part in others:
            total += law.log_prob(p, part)
        return np.asarray(total)

    def summarize(self, params: Parts | None, rows: Rows, resp: Array) -> Any:
        """Sums of every law."""
        each = [None] * len(self.laws) if params is None else params
        sums = (law.summarize(p, r, resp) for (law, _), p, r in zip(self.laws, each, self._apart(rows), strict=True))
        return Parts((0.0, *sums))

    def start(self, rows: Rows, resp: Array) -> Parts:
        """Every law its own part."""
        return Parts(law.start(part, resp) for (law, _), part in zip(self.laws, self._apart(rows), strict=True))

    def maximize(self, stats: Parts, params: Parts | None) -> Parts:
        """Every law its own part."""
        each = [None] * len(self.laws) if params is None else params
        return Parts(law.maximize(s, p) for (law, _), s, p in zip(self.laws, stats[1:], each, strict=True))

    def prior(self, params: Parts) -> Parts | None:
        """Imaginary data of the laws that have any."""
        each = [law.prior(p) for (law, _), p in zip(self.laws, params, strict=True)]
        return Parts((sum(float(prior[0]) for prior in each if prior is not None), *each))

    def recentre(self, stats: Parts, params: Parts, new: Parts) -> Parts:
        """Every law its own part."""
        each = zip(self.laws, stats[1:], params, new, strict=True)
        return Parts((stats[0], *(law.recentre(s, p, n) for (law, _), s, p, n in each)))

    def q_value(self, candidate: Parts, stats: Parts, params: Parts) -> float:
        """Sum over the laws."""
        each = zip(self.laws, candidate, stats[1:], params, strict=True)
        return float(sum(law.q_value(c, s, p) for (law, _), c, s, p in each))

    def rounding(self, rows: Rows) -> Rounding:
        """Sum of the laws' roundings."""
        each = [law.rounding(part) for (law, _), part in zip(self.laws, self._apart(rows), strict=True)]
        return Rounding(sum(r.objective for r in each), max(r.step for r in each))

    def standardize(self, params: Parts, rows: Rows) -> Parts:
        """From the user's units."""
        return Parts(law.standardize(p, r) for (law, _), p, r in zip(self.laws, params, self._apart(rows), strict=True))

    def restore(self, params: Parts, rows: Rows) -> Parts:
        """To the user's units."""
        return Parts(law.restore(p, r) for (law, _), p, r in zip(self.laws, params, self._apart(rows), strict=True))

    def take(self, params: Parts, order: Array) -> Parts:
        """Components in another order."""
        return Parts(law.take(p, order) for (law, _), p in zip(self.laws, params, strict=True))

    def order(self, params: Parts) -> Array:
        """That of the first law."""
        return self.laws[0][0].order(params[0])  # type: ignore[no-any-return]

    def profile(self, params: Parts) -> Array:
        """Profiles of all laws side by side."""
        return np.hstack([law.profile(p) for (law, _), p in zip(self.laws, params, strict=True)])

    def degenerate(self, params: Parts, stats: Parts) -> str | None:
        """Name what collapsed under any law."""
        for (law, columns), p, s in zip(self.laws, params, stats[1:], strict=True):
            reason = law.degenerate(p, s)
            if reason:
                return with_names(reason, columns)
        return None

    def n_parameters(self, params: Parts) -> int:
        """Sum over the laws."""
        return sum(law.n_parameters(p) for (law, _), p in zip(self.laws, params, strict=True))

    def features(self, rows: Rows) -> Array:
        """Features of all laws side by side."""
        return np.column_stack(
            [law.features(part) for (law, _), part in zip(self.laws, self._apart(rows), strict=True)]
        )

    def sample(self, params: Parts, labels: Array, rng: np.random.Generator) -> Array:
        """Draw from every law."""
        return self._assemble([law.sample(p, labels, rng) for (law, _), p in zip(self.laws, params, strict=True)])

    def mean(self, params: Parts) -> Array:
        """Means (k, d)."""
        return self._assemble([law.mean(p) for (law, _), p in zip(self.laws, params, strict=True)])

    def cdf(self, params: Parts, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column."""
        number = next(i for i, (_, columns) in enumerate(self.laws) if column in columns)
        law, columns = self.laws[number]
        return np.asarray(law.cdf(params[number], columns.index(column), x))

    def fill(self, params: Parts, rows: Rows, resp: Array) -> Array:
        """Let every law fill its columns."""
        each = zip(self.laws, params, self._apart(rows), strict=True)
        return self._assemble([law.fill(p, part, resp) for (law, _), p, part in each])

    def _assemble(self, parts: list[Array]) -> Array:
        """Columns of the laws in their places."""
        width = sum(len(columns) for _, columns in self.laws)
        kind = np.result_type(*parts) if all(part.dtype.kind in "biuf" for part in parts) else object
        whole = np.empty((len(parts[0]), width), kind)
        for part, (_, columns) in zip(parts, self.laws, strict=True):
            whole[:, columns] = part
        return whole

    def publish(self, params: Parts) -> dict[str, Array]:
        """Attributes of all laws; where two have the same name, with the number of the law behind it."""
        named: dict[str, Array] = {}
        for number, ((law, _), p) in enumerate(zip(self.laws, params, strict=True)):
            for name, value in law.publish(p).items():
                named[name if name not in named else f"{name}{number}_"] = value
        return named

    def recall(self, attributes: Mapping[str, Array], like: Parts) -> Parts:
        """Parameters from fitted attributes."""
        parts = []
        for number, (law, _) in enumerate(self.laws):
            end = f"{number}_"
            own = {name.removesuffix(end): value for name, value in attributes.items() if name.endswith("_" + end)}
            parts.append(law.recall({**attributes, **own}, like[number]))
        return Parts(parts)


def _take(X: Any, columns: Sequence[int]) -> Any:
    if isinstance(X, Source):
        return X.keep(np.array(columns))
    return X.iloc[:, list(columns)] if hasattr(X, "iloc") else np.asarray(X)[:, list(columns)]


def _in_order(X: Any) -> Any:
    """Rows of a few columns, one after the other."""
    return X if isinstance(X, Source) else np.ascontiguousarray(X)
