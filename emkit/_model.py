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
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from . import kernels
from ._arrays import blank
from ._blocks import Rows
from ._charts import Chart, Real
from ._sources import Blocks

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
    """Add statistics field by field; None adds nothing, nor does 0.0."""
    if right is None or (type(right) is float and not right):
        return left
    if isinstance(left, tuple) and hasattr(left, "_make"):
        return left._make(map(add, left, right))  # type: ignore[no-any-return, call-overload]
    return left + right  # type: ignore[no-any-return, operator]


def scale(tree: Tree, factor: float) -> Tree:
    """Multiply statistics field by field."""
    if isinstance(tree, tuple) and hasattr(tree, "_make"):
        return tree._make(scale(field, factor) for field in tree)  # type: ignore[no-any-return]
    return tree * factor  # type: ignore[return-value, operator]


def match(profile: Array, like: Array) -> Array:
    """Order of the components, described by rows of numbers, that makes them resemble others one by one."""
    distance = ((profile[:, None, :] - like) ** 2).sum(axis=2)
    return np.asarray(linear_sum_assignment(distance.T)[1])


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
    def split(self, data: Data) -> list[Data] | Blocks:
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

    def promise(self, image: Params, stats: Stats, params: Params) -> float:
        """Tell what the EM step from ``params``, whose sums are ``stats``, to ``image`` promises to gain; NaN: unknown.

        To second order it is half the squared length of the step in the metric of the complete-data information.
        """
        return float("nan")

    def condition(self, params: Params) -> float:
        """How many times larger the rounding of the objective is at these parameters than ``rounding`` says."""
        return 1.0

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

    def moves(self, params: Params, data: Data) -> Iterable[Params]:
        """Parameters elsewhere, the most promising first, that may lead out of a local optimum on a sketch."""
        return ()

    def empty(self, stats: Stats) -> Array:
        """Number the parts that no rows belong to and that may be seeded anew."""
        return np.empty(0, np.int64)

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

    def align(self, params: Params, like: Params) -> Params:
        """Give the parts the order of those of other parameters that they resemble."""
        return params

    def q_value(self, candidate: Params, stats: Stats, params: Params) -> float:
        """Expected complete-data log-likelihood of a candidate, up to a constant; unlocks standard errors.

        ``params`` are those ``stats``, the prior's included, were computed at.
        """
        raise NotImplementedError(f"{type(self).__name__} has no standard errors: it does not define q_value")

    def degenerate(self, params: Params, stats: Stats) -> str | None:
        """Name what has collapsed (a component, a state), or None for a regular solution."""
        return None


class Succession(NamedTuple):
    """Which rows follow each other, and how the states of a chain do."""

    lengths: Array  # (N,) int64: rows of each sequence, one sequence after the other
    weight: Array | None  # (N,); None: every sequence counts once
    startprob: Array  # (k,)
    transmat: Array  # (k, k)
    n_threads: int = 1  # for the passes through one sequence; the answer is the same


class Passes(NamedTuple):
    """What the passes through sequences tell."""

    logliks: Array  # (N,) log-likelihood of each, without its weight
    starts: Array  # (k,) weighted probabilities of the first states
    transitions: Array  # (k, k) weighted expected numbers


class Emission(ABC):
    """An observation law, the same for mixtures and chains; ``k`` components, rows that are independent given them.

    Three methods make a law: ``log_prob``, ``summarize`` and ``maximize``. The rest has an answer that suits simple
    ones. ``rows`` are ``emkit._blocks.Rows`` unless ``prepare`` makes something else; ``rows.X`` holds the numbers, NaN
    where a cell is missing, which must count for nothing. Fields of the parameters have the components along their
    first axis.

    Examples
    --------
    Every law can be used by itself. ``EMHiddenMarkov`` takes it as ``emission``.

    >>> import numpy as np
    >>> from emkit.emissions import Poisson
    >>> law = Poisson()
    >>> rows = law.prepare(law.read([[0], [1], [9], [11]]), None)
    >>> resp = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> params = law.maximize(law.summarize(None, rows, resp), None)
    >>> params.lambdas.ravel()
    array([ 0.5, 10. ])
    >>> law.log_prob(params, rows).shape
    (4, 2)
    """

    # Whether the user's rows are numbers before ``read`` has seen them.
    numeric: bool = True
    # Whether sums taken at some parameters can be kept when these change: as they are, or by ``recentre``.
    streams: bool = False

    @abstractmethod
    def log_prob(self, params: Params, rows: Data) -> Array:
        """Log-density of every row under every component: a new float64 array (n, k), in C order."""

    @abstractmethod
    def summarize(self, params: Params | None, rows: Data, resp: Array) -> Stats:
        """Sum the statistics of the rows, weighted by ``resp`` (n, k), weights of the rows included.

        ``params`` are None when there are none yet: at a start.
        """

    @abstractmethod
    def maximize(self, stats: Stats, params: Params | None) -> Params:
        """Parameters of every component; one without rows keeps those it has."""

    # What a mixture and a start ask.

    def expect(self, log_weights: Array, params: Params, rows: Data) -> tuple[float, Array, Stats]:
        """E-step of a mixture: log-likelihood, counts (k,) of the components, and the law's sums."""
        log_density, resp = _posterior(self.log_prob(params, rows) + log_weights)
        if rows.weight is not None:
            resp *= rows.weight[:, None]
            log_density = np.where(rows.weight > 0.0, log_density * rows.weight, 0.0)
        return float(log_density.sum()), resp.sum(axis=0), self.summarize(params, rows, resp)

    def expect_chain(self, params: Params, rows: Data, succession: Succession) -> tuple[Passes, Stats]:
        """E-step of a chain: what the passes tell, and the law's sums."""
        log_prob = self.log_prob(params, rows)
        states, logliks = blank(log_prob.shape, np.float64, log_prob), np.empty(len(succession.lengths))
        lengths, weight, startprob, transmat, n_threads = succession
        passes = kernels.at(log_prob).forward_backward(
            log_prob, lengths, weight, startprob, transmat, states, logliks, n_threads
        )
        return Passes(logliks, *passes), self.summarize(params, rows, states)

    def decode(self, params: Params, rows: Data, succession: Succession, path: Array, scores: Array) -> None:
        """Fill the most probable states (n,) of a chain, and their log-probability (N,) in each sequence."""
        lengths, _, startprob, transmat, n_threads = succession
        log_prob = self.log_prob(params, rows)
        kernels.at(log_prob).viterbi(log_prob, lengths, startprob, transmat, path, scores, n_threads)

    def infer(self, log_weights: Array, params: Params, rows: Data, *out: Array | None) -> None:
        """Fill log-densities (n,), responsibilities (n, k) and labels (n,) of a mixture, each unless None."""
        log_density, resp = _posterior(self.log_prob(params, rows) + log_weights)
        for array, value in zip(out, (log_density, resp, resp.argmax(axis=1)), strict=True):
            if array is not None:
                array[...] = value

    def start(self, rows: Data, resp: Array) -> Params:
        """Parameters that responsibilities imply when there are no others."""
        return self.maximize(self.summarize(None, rows, resp), None)

    # What an accelerator, a prior, other units, a stream ask.

    def recentre(self, stats: Stats, params: Params, new: Params) -> Stats:
        """Say of ``new`` parameters what sums say that were taken about ``params``; by default they are about none."""
        return stats

    @property
    def charts(self) -> Charts:
        """Free coordinates of each field of the parameters; by default the numbers themselves."""
        return defaultdict(Real)

    def prior(self, params: Params) -> Stats | None:
        """Imaginary data, one more addend; its first field is the log prior. None: no prior."""
        return None

    def rounding(self, rows: Data) -> Rounding:
        """Tell what differences are nothing but rounding."""
        return Rounding(1e-12 * rows.X.shape[1] * rows.total, 1e-12)

    def standardize(self, params: Params, rows: Data) -> Params:
        """Convert the user's units to the coordinates of ``rows``."""
        return params

    def restore(self, params: Params, rows: Data) -> Params:
        """Convert the coordinates of ``rows`` to the user's units."""
        return params

    def take(self, params: Params, order: Array) -> Params:
        """Components in another order."""
        return params._make(field[order] for field in params)

    def order(self, params: Params) -> Array:
        """Give the components in a stable order, as indices."""
        return np.arange(len(params[0]))

    def profile(self, params: Params) -> Array:
        """Numbers (k, m) that describe each component, of order 1; two that agree in them are the same."""
        fields = [field.reshape(len(field), -1) for field in params]
        return np.hstack([field / np.maximum(np.abs(field).max(axis=0), 1e-300) for field in fields])

    def degenerate(self, params: Params, stats: Stats) -> str | None:
        """Name a component that has collapsed, or None."""
        return None

    def q_value(self, candidate: Params, stats: Stats, params: Params) -> float:
        """Expected log-density of the summed rows under a candidate, up to a constant; unlocks standard errors.

        ``params`` are those ``stats``, the prior's included, were computed at.
        """
        raise NotImplementedError(f"{type(self).__name__} has no standard errors: it does not define q_value")

    def n_parameters(self, params: Params) -> int:
        """How many free parameters all components have together."""
        return int(sum(field.size for field in params))

    # What the user hands in.

    def learn(self, X: Any) -> Self:
        """Give the same law, knowing what must be known before rows can be read: alphabets, numbers of columns."""
        return self

    def read(self, X: Any) -> Array:
        """Turn the user's rows into floats (n, d), NaN where missing; name the cell that cannot be an observation."""
        return np.asarray(X, dtype=np.float64)

    def prepare(self, X: Array, weight: Array | None) -> Data:
        """Rows with their weights and units."""
        return Rows(X, weight, np.zeros(X.shape[1]), np.ones(X.shape[1]))

    def frame(self, params: Params, X: Array) -> Data:
        """Rows to predict, in units that suit the parameters, which are in the user's."""
        return self.prepare(X, None)

    def block(self, rows: Data, cut: slice | Array) -> Data:
        """Part of the rows: a slice, or their numbers."""
        return rows.cut(cut)

    def features(self, rows: Data) -> Array:
        """Numbers (n, m), none missing, by whose distances rows can be told apart: starts are seeded on them."""
        deviations = (rows.X - rows.center) / rows.scale
        return np.where(np.isnan(deviations), 0.0, deviations)

    # What prediction asks; parameters in the user's units.

    def sample(self, params: Params, labels: Array, rng: np.random.Generator) -> Array:
        """Draw one row (n, d) from the component that each label names."""
        raise NotImplementedError(f"{type(self).__name__} cannot be sampled: it does not define sample")

    def mean(self, params: Params) -> Array:
        """Means (k, d) of the components."""
        raise NotImplementedError(f"{type(self).__name__} has no mean: it does not define mean")

    def cdf(self, params: Params, column: int, x: Array) -> Array:
        """Distribution function (len(x), k) of one column under every component."""
        raise NotImplementedError(f"{type(self).__name__} has no quantiles: it does not define cdf")

    def fill(self, params: Params, rows: Data, resp: Array) -> Array:
        """Rows (n, d) whose missing cells hold their expectation, given the observed cells and ``resp`` (n, k)."""
        return np.where(np.isnan(rows.X), resp @ self.mean(params), rows.X)

    def publish(self, params: Params) -> dict[str, Array]:
        """Fitted attributes, by name (each ends in an underscore)."""
        return {f"{name}_": value for name, value in zip(params._fields, params, strict=True)}

    def recall(self, attributes: Mapping[str, Array], like: Params) -> Params:
        """Parameters from fitted attributes: the inverse of ``publish``; ``like`` are parameters of the same kind."""
        return like._make(np.asarray(attributes[f"{name}_"]) for name in like._fields)


def _posterior(log_joint: Array) -> tuple[Array, Array]:
    """Logarithms of the sums (n,) of the rows' exponentials, and shares (n, k) in them; zeros if there is no sum."""
    top = log_joint.max(axis=1, keepdims=True)
    share = np.exp(log_joint - np.where(np.isneginf(top), 0.0, top))
    total = share.sum(axis=1, keepdims=True)
    possible = total > 0.0
    share /= np.where(possible, total, 1.0)
    return np.where(possible, top + np.log(np.where(possible, total, 1.0)), -np.inf)[:, 0], share


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
