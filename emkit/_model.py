"""The contract between a family of models and the engine.

An E-step maps a block of data to expected sufficient statistics. Statistics add. An M-step is a function of the sum. A
prior is one more block, of imaginary data. A family says these four things about itself; everything else (iterations,
acceleration, restarts, threads, scikit-learn's manners) is written once, around it.

Every model obeys, and ``tests/test_laws.py`` checks for every model of the package:

1. *Additive*: ``expect`` of the whole is the sum of ``expect`` over any split.
2. *Monotone*: ``maximize`` after ``expect`` never lowers the objective, log-likelihood plus log prior, beyond rounding.
3. *Weights are repetitions*: an integer weight equals that many copies, weight zero equals absence.
4. *Charts are inverse*: unpacking what was packed gives the parameters back; any free vector unpacks to valid ones.
5. *Equivariant*: data shifted and scaled give the fit shifted and scaled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._charts import Chart

Array = NDArray[Any]
Tree = TypeVar("Tree")

# Parameters and statistics are NamedTuples of float64 arrays, nested where a law of observation stands inside a model.
Params = Any
Stats = Any
Data = Any
Charts = Mapping[str, "Chart | Charts"]


class Degenerate(ArithmeticError):
    """The M-step has no valid answer; the message names the component or state and the remedy."""


def add(left: Tree, right: Tree) -> Tree:
    """Add statistics field by field."""
    if isinstance(left, tuple) and hasattr(left, "_make"):
        return left._make(map(add, left, right))  # type: ignore[no-any-return, call-overload]
    return left + right  # type: ignore[no-any-return, operator]


class Rounding(NamedTuple):
    """Differences that mean nothing in the arithmetic of a model."""

    objective: float  # in nats
    step: float  # length of a step in free coordinates, relative to the length of the point


class Model(ABC):
    """A family of models: frozen, picklable, made of hyperparameters; it never holds data or parameters."""

    @property
    @abstractmethod
    def charts(self) -> Charts:
        """Free coordinates of each field of the parameters."""

    @abstractmethod
    def prepare(self, X: Any, sample_weight: Array | None = None) -> Data:
        """Do once whatever does not depend on the parameters: units, centring, counts, patterns."""

    @abstractmethod
    def split(self, data: Data) -> list[Data]:
        """Cut the data along the independent unit; the cuts depend on the data alone."""

    @abstractmethod
    def start(self, data: Data, rng: np.random.Generator) -> Params:
        """Give a cheap start from a sketch of the data; another generator gives another start."""

    @abstractmethod
    def expect(self, params: Params, data: Data) -> Stats:
        """E-step: expected sufficient statistics, additive over blocks; the first field is the log-likelihood."""

    @abstractmethod
    def maximize(self, stats: Stats, params: Params) -> Params:
        """M-step: the parameters that the sum implies. ``params`` are those ``stats`` were computed at."""

    @abstractmethod
    def prior(self, params: Params) -> Stats:
        """Imaginary data, one more addend; its log-likelihood is the log prior."""

    @abstractmethod
    def rounding(self, data: Data) -> Rounding:
        """Tell what differences are nothing but rounding."""

    # Prediction: one frame, cut into portions, each filled by itself.

    @abstractmethod
    def frame(self, params: Params, X: Any) -> Data:
        """Prepare data to predict, given parameters in the user's units."""

    @abstractmethod
    def outputs(self, data: Data, wanted: Collection[str]) -> Any:
        """Give a NamedTuple with an empty array for each wanted quantity, None for the others."""

    @abstractmethod
    def portions(self, data: Data, out: Any) -> list[tuple[Data, Any]]:
        """Cut the data along the independent unit, each part with its part of the arrays."""

    @abstractmethod
    def infer(self, params: Params, data: Data, out: Any) -> None:
        """Fill the arrays of ``out`` that are not None with what the model knows about each row."""

    @abstractmethod
    def n_parameters(self, params: Params) -> int:
        """How many free parameters there are: what an information criterion counts."""

    # What follows has an answer that suits many families.

    def sketch(self, data: Data) -> Data:
        """Data of bounded size, in the same coordinates, on which starts are drawn and raced."""
        return data

    def calibrate(self, data: Data) -> Self:
        """Give the same model, its hyperparameters expressed in the coordinates of the data."""
        return self

    def rescue(self, data: Data, reason: str) -> Self | None:
        """Give a more modest model when this one, for the ``reason`` given, has no regular maximum; None: none."""
        return None

    def standardize(self, params: Params, data: Data) -> Params:
        """Convert the user's units to the coordinates of ``data``, in which all parameters above live."""
        return params

    def restore(self, params: Params, data: Data) -> Params:
        """Convert the coordinates of ``data`` to the user's units: the inverse of ``standardize``."""
        return params

    def canonical(self, params: Params) -> Params:
        """Give the parts a stable order and stable signs; called once, at the end of a run."""
        return params

    def degenerate(self, params: Params, stats: Stats) -> str | None:
        """Name what has collapsed (a component, a state), or None for a regular solution."""
        return None


class Emission(ABC):
    """An observation law, the same for mixtures and chains; ``k`` components, rows that are independent given them."""

    @property
    @abstractmethod
    def charts(self) -> Charts:
        """Free coordinates of each field of the parameters."""

    @abstractmethod
    def prepare(self, X: Array, weight: Array | None) -> Data:
        """Rows with their weights and units."""

    @abstractmethod
    def block(self, rows: Data, cut: slice) -> Data:
        """Part of the rows."""

    @abstractmethod
    def log_prob(self, params: Params, rows: Data) -> Array:
        """Log-density (n, k) of every row under every component."""

    @abstractmethod
    def summarize(self, params: Params, rows: Data, resp: Array) -> Stats:
        """Sum the statistics of the rows, weighted by the responsibilities (n, k)."""

    @abstractmethod
    def maximize(self, stats: Stats, params: Params) -> Params:
        """Parameters of every component; one without rows keeps those it has."""


class Ascent(NamedTuple):
    """The record of one climb: where it ended, and how."""

    params: Params
    stats: Stats
    objective: float  # log-likelihood + log prior, of exactly these parameters
    loglik: float
    history: Array  # objective per accepted step
    n_steps: int
    rate: float  # share of the distance left that one EM step leaves: the fraction of missing information
    gap: float  # estimated rise of the objective still to come, in nats
    status: str  # converged | max_iter | stalled | degenerate | stopped
    reason: str  # what to tell the user when the status is not "converged"
