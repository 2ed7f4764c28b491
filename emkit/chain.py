"""Hidden Markov chains: sequences of rows, each from the law of a state that is not seen; states follow each other.

Statistics, summed over sequences with their weights::

    starts_i = sum P(first state is i)        transitions_ij = sum over t of P(state i at t, state j at t + 1)

and the law's own, for which every row counts for state i with the probability of i given its whole sequence.

References
----------
Rabiner, L. (1989). A tutorial on hidden Markov models and selected applications in speech recognition. *Proceedings of
the IEEE* 77(2), 257-286. Zucchini, W., MacDonald, I. & Langrock, R. (2016). *Hidden Markov Models for Time Series*.
Chapman & Hall.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from . import kernels
from ._arrays import blank, bring, is_elsewhere, pick
from ._blocks import _hash, by_values, held, take
from ._charts import Implied, Simplex
from ._model import Charts, Degenerate, Emission, Model, Rounding, Succession, match
from ._moves import swaps
from ._sequences import Sequences
from ._sources import Blocks, Source
from ._starts import greedy_seeds, partition, random_seeds, soften, whiten

Array = NDArray[Any]

# Estimated probabilities stay above this: EM never leaves a zero, so only what is known to be impossible may be one.
LEAST = 1e-12
# A state that is visited less often has no rows.
_EMPTY = 1e-6
# Most numbers of a block, counted as rows times states; blocks are never smaller than a sequence.
_BLOCK = 2**18
# Starts look at no more rows than this, in stretches of this many.
_START_ROWS, _STRETCH = 16_384, 512
# Most steps towards the maximum of one M-step whose start is stationary.
_STATIONARY_STEPS = 50


class Chain(NamedTuple):
    """Parameters of a chain."""

    startprob: Array  # (k,), on the simplex
    transmat: Array  # (k, k), each row on the simplex
    law: Any


class ChainTotals(NamedTuple):
    """Statistics of a chain."""

    loglik: Any
    starts: Any  # (k,)
    transitions: Any  # (k, k)
    law: Any


class Runs(NamedTuple):
    """Data of a chain: the rows of the law, and where sequences begin and end."""

    rows: Any
    lengths: Array  # (N,) int64
    weight: Array | None  # (N,); None: every sequence counts once
    names: Array  # (N,)
    n_threads: int = 1  # for the passes through one sequence

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.lengths.sum())

    @property
    def row_weight(self) -> Array:
        """Weight of every row."""
        return np.ones(self.n_rows) if self.weight is None else np.repeat(self.weight, self.lengths)

    @property
    def total(self) -> float:
        """Sum of the weights of the rows."""
        return float(self.n_rows if self.weight is None else self.weight @ self.lengths)

    def cut(self, sequences: slice) -> Runs:
        """Some of the sequences, as they are."""
        edges = np.concatenate([[0], np.cumsum(self.lengths)])
        rows = slice(int(edges[sequences.start]), int(edges[sequences.stop]))
        weight = None if self.weight is None else self.weight[sequences]
        return Runs(self.rows.cut(rows), self.lengths[sequences], weight, self.names[sequences])


class Told(NamedTuple):
    """What a chain can say of sequences; None where it was not asked."""

    log_density: Array | None = None  # (n,) of each row given those before it
    filtered: Array | None = None  # (n, k) probabilities of the states given the rows up to each
    smoothed: Array | None = None  # (n, k) given all rows of the sequence
    path: Array | None = None  # (n,) most probable sequence of states
    score: Array | None = None  # (N,) its log-probability, with the rows


# Quantities of which there is one for each sequence; the others have one for each row.
_PER_SEQUENCE = {"score"}


class Given(NamedTuple):
    """Starting values, each or None; zeros stay."""

    startprob: Array | None = None
    transmat: Array | None = None
    law: tuple[tuple[str, Array], ...] = ()  # fitted attributes of the law, in the user's units


NOTHING_GIVEN = Given()


@dataclass(frozen=True, eq=False)
class MarkovChain(Model):
    """A hidden Markov chain of ``k`` states with one law of observation.

    E-step: forward and backward pass through every sequence. M-step: shares of the expected starts and transitions,
    with ``prior - 1`` imaginary ones each (Dirichlet); the law maximises its own part. With a ``stationary`` start the
    first state has the chain's stationary distribution, and the M-step climbs towards its maximum numerically.
    """

    law: Emission
    k: int
    start_prior: Any = 1.0
    trans_prior: Any = 1.0
    mask: Array | None = None  # (k, k) bool: which transitions are possible
    stationary: bool = False
    init: str = "k-means++"
    given: Given = NOTHING_GIVEN
    n_threads: int = 1

    # The engine's questions
    # -----------------------------------------------------------------------------------------------

    @property
    def charts(self) -> Charts:
        """Probabilities on simplices; the law's own."""
        startprob = Implied() if self.stationary else Simplex()
        return {"startprob": startprob, "transmat": Simplex(), "law": self.law.charts}

    def prepare(self, X: Sequences, sample_weight: Array | None = None) -> Runs:
        """Find the units of the rows."""
        return self._gather(X, sample_weight, self.law.prepare)

    def place(self, X: Sequences, weight: Array | None, like: Runs) -> Runs:
        """Sequences in the coordinates of others."""
        return self._gather(X, weight, like.rows.others)

    def _gather(self, X: Sequences, sample_weight: Array | None, rows: Callable[[Any, Array | None], Any]) -> Runs:
        """Leave out sequences of weight zero; ``rows`` makes something of the rows and their weights."""
        weight, names, lengths, values = X.weights(sample_weight), X.names, X.lengths, X.X
        if weight is not None and not weight.all():
            if isinstance(values, Source):
                raise ValueError(
                    f"sample_weight is 0 for sequence {names[np.argmin(weight)]}: leave the sequence out of the source"
                )
            kept = weight > 0.0
            values = pick(values, np.flatnonzero(np.repeat(kept, lengths)))
            weight, names, lengths = weight[kept], names[kept], lengths[kept]
        row_weight = None if weight is None else np.repeat(weight, lengths)
        return Runs(rows(values, row_weight), lengths, weight, names)

    def split(self, data: Runs) -> list[Runs] | Blocks:
        """Cut between sequences; one sequence that is a block by itself may use the threads."""
        if isinstance(data.rows.X, Source):
            return self._read(data, data.rows.X)
        blocks = self._cut(data)
        return [blocks[0]._replace(n_threads=self.n_threads)] if len(blocks) == 1 else blocks

    def _read(self, data: Runs, X: Source) -> Blocks:
        """Blocks of whole sequences of a source."""
        ends = np.cumsum(data.lengths)
        last = ends[self._edges(data)[1:] - 1]
        cuts = X.cuts([slice(int(a), int(b)) for a, b in pairwise([0, *last])])
        edges = [0, *(np.searchsorted(ends, [cut.stop for cut in cuts]) + 1)]
        outlines = [data.cut(slice(int(a), int(b))) for a, b in pairwise(edges)]
        if len(outlines) == 1:
            outlines[0] = outlines[0]._replace(n_threads=self.n_threads)
        return X.blocks(cuts, outlines, self._hold)

    def _hold(self, outline: Runs, X: Array) -> Runs:
        """Block of a source, now that its rows are there."""
        return outline._replace(rows=self.law.block(outline.rows._replace(X=X), slice(None)))

    def block(self, data: Runs, cut: slice) -> Runs:
        """Some sequences."""
        part = data.cut(cut)
        return part._replace(rows=self.law.block(part.rows, slice(None)))

    def _cut(self, data: Runs) -> list[Runs]:
        edges = self._edges(data)
        if len(edges) == 2:
            return [data._replace(rows=self.law.block(data.rows, slice(None)))]
        return [self.block(data, slice(a, b)) for a, b in pairwise(edges)]

    def _edges(self, data: Runs) -> Array:
        """First sequences of blocks with about equally many rows, and the number of all."""
        ends = np.cumsum(data.lengths)
        size = kernels.devices.cells(data.rows.X) if is_elsewhere(data.rows.X) else _BLOCK
        n_blocks = -(-int(ends[-1]) * self.k // size)
        if n_blocks == 1 or len(ends) == 1:
            return np.array([0, len(ends)])
        marks = np.arange(1, n_blocks) * (ends[-1] / n_blocks)
        return np.unique(np.concatenate([[0], np.searchsorted(ends, marks) + 1, [len(ends)]]))

    def sketch(self, data: Runs) -> Runs:
        """Stretches of the sequences, chosen by their values, so that a copy of a sequence is chosen with it."""
        if data.n_rows <= _START_ROWS:
            return data._replace(rows=held(data.rows))
        n_stretches = -(-data.lengths // _STRETCH)
        number = np.repeat(np.arange(len(data.lengths)), n_stretches)
        within = np.arange(len(number)) - np.repeat(np.cumsum(n_stretches) - n_stretches, n_stretches)
        first = (np.cumsum(data.lengths) - data.lengths)[number] + within * _STRETCH
        lengths = np.minimum(_STRETCH, data.lengths[number] - within * _STRETCH)
        X = data.rows.X
        _, unique, copies = np.unique(_hash(np.nan_to_num(take(X, first).astype(np.float64))), True, True)
        kept = np.sort(unique[: 1 + int(np.searchsorted(np.cumsum(lengths[unique]), _START_ROWS))])
        weight = np.ones(len(number)) if data.weight is None else data.weight[number]
        weight = np.bincount(copies, weight)[copies[kept]]
        lengths = lengths[kept]
        rows = np.repeat(first[kept] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        few = data.rows._replace(X=take(X, rows), weight=None)
        picked = self.law.block(few, slice(None))._replace(weight=np.repeat(weight, lengths))
        return Runs(picked, lengths, weight, data.names[number[kept]])

    def expect(self, params: Chain, data: Runs) -> ChainTotals:
        """E-step: the passes through every sequence, the rows summed up by the law."""
        succession = Succession(data.lengths, data.weight, self._startprob(params), params.transmat, data.n_threads)
        (logliks, starts, transitions), law = self.law.expect_chain(params.law, data.rows, succession)
        loglik = float(logliks.sum() if data.weight is None else data.weight @ logliks)
        if loglik == -np.inf:
            raise Degenerate(
                f"sequence {data.names[np.argmin(logliks)]} is impossible: no allowed path of states explains its rows"
            )
        return ChainTotals(loglik, starts, transitions, law)

    def maximize(self, stats: ChainTotals, params: Chain) -> Chain:
        """Shares of starts and transitions, and the law's own M-step."""
        law = self.law.maximize(stats.law, params.law)
        if self.stationary:
            transmat = _stationary_step(stats.starts, stats.transitions, params.transmat)
            return Chain(stationary(transmat), transmat, law)
        counts = np.concatenate([stats.starts[None], stats.transitions])
        shares = _shares(counts, params.startprob, params.transmat)
        return Chain(shares[0], shares[1:], law)

    def recentre(self, stats: ChainTotals, params: Chain, new: Chain) -> ChainTotals:
        """The same sums about other parameters; starts and transitions are about none."""
        return stats._replace(law=self.law.recentre(stats.law, params.law, new.law))

    def prior(self, params: Chain) -> ChainTotals:
        """Imaginary starts and transitions, where they are possible, and the law's own prior."""
        starts, transitions = self.start_prior - 1.0, self.trans_prior - 1.0
        startprob, log_prior = self._startprob(params), 0.0
        if isinstance(starts, np.ndarray) or starts:
            starts = np.where(startprob > 0.0, starts, 0.0)
            log_prior += _log_dirichlet(starts, startprob)
        if isinstance(transitions, np.ndarray) or transitions:
            transitions = np.where(params.transmat > 0.0, transitions, 0.0)
            log_prior += _log_dirichlet(transitions, params.transmat)
        law = self.law.prior(params.law)
        if law is not None:
            log_prior += float(law[0])
        return ChainTotals(log_prior, starts, transitions, law)

    def q_value(self, candidate: Chain, stats: ChainTotals, params: Chain) -> float:
        """Of the path, and of the rows given it."""
        path = (
            xlogy(stats.starts, self._startprob(candidate)).sum() + xlogy(stats.transitions, candidate.transmat).sum()
        )
        return float(path) + self.law.q_value(candidate.law, stats.law, params.law)

    def rounding(self, data: Runs) -> Rounding:
        """The law's, and that of the passes."""
        law = self.law.rounding(data.rows)
        return law._replace(objective=law.objective + 1e-12 * data.total)

    def standardize(self, params: Chain, data: Runs) -> Chain:
        """From the user's units."""
        return params._replace(law=self.law.standardize(params.law, data.rows))

    def restore(self, params: Chain, data: Runs) -> Chain:
        """To the user's units."""
        return Chain(self._startprob(params), params.transmat, self.law.restore(params.law, data.rows))

    def take(self, params: Chain, order: Array) -> Chain:
        """States in another order."""
        return Chain(params.startprob[order], params.transmat[np.ix_(order, order)], self.law.take(params.law, order))

    @property
    def has_places(self) -> bool:
        """Whether something the user gave tells the states apart."""
        priors = np.ndim(self.start_prior) or np.ndim(self.trans_prior)
        startprob, transmat, law = self.given
        return bool(priors) or any(value is not None for value in (self.mask, startprob, transmat)) or bool(law)

    def canonical(self, params: Chain) -> Chain:
        """Put the states in the law's order, unless the user gave them places."""
        return params if self.has_places else self.take(params, self.law.order(params.law))

    def align(self, params: Chain, like: Chain) -> Chain:
        """By the profiles of their laws."""
        return self.take(params, match(self.law.profile(params.law), self.law.profile(like.law)))

    def degenerate(self, params: Chain, stats: ChainTotals) -> str | None:
        """Name an empty state, two that are the same, or one whose law has collapsed."""
        empty = self.empty(stats)
        if len(empty):
            return f"state {empty[0]} is empty: fewer than {self.k} states describe the sequences"
        parts = [_flat(self.law.take(params.law, np.array([i]))) for i in range(self.k)]
        for j in range(1, self.k):
            for i in range(j):
                if np.allclose(parts[i], parts[j], rtol=1e-6, atol=1e-6) and np.allclose(
                    params.transmat[i], params.transmat[j], atol=1e-6
                ):
                    return f"states {i} and {j} are identical: fewer than {self.k} states describe the sequences"
        reason = self.law.degenerate(params.law, stats.law)
        return reason and reason.replace("component", "state")

    def empty(self, stats: ChainTotals) -> Array:
        """States that are never visited: every row is a start or what a transition leads to."""
        return np.flatnonzero(stats.starts + stats.transitions.sum(axis=0) <= _EMPTY)

    def n_parameters(self, params: Chain) -> int:
        """Free parameters: probabilities that are not known to be zero, less one for each sum; those of the law."""
        starts = 0 if self.stationary else np.count_nonzero(params.startprob) - 1
        transitions = np.count_nonzero(params.transmat) - self.k
        return int(starts + transitions) + self.law.n_parameters(params.law)

    def _startprob(self, params: Chain) -> Array:
        return stationary(params.transmat) if self.stationary else params.startprob

    # Starts
    # ---------------------------------------------------------------------------------------------------------------

    def start(self, data: Runs, rng: np.random.Generator) -> Chain:
        """Partition the rows, by their values or by time, then take one M-step."""
        labels, n_active = self._labels(data, rng)
        resp = soften(labels, data.row_weight, n_active, self.k)
        params = self._begin(labels, data)._replace(law=self.law.start(data.rows, resp))
        return self._impose(params, data)

    def _labels(self, data: Runs, rng: np.random.Generator) -> tuple[Array, int]:
        """A state for each row, and how many states are in use."""
        recipe = int(rng.integers(6))
        if recipe >= 3 or self.mask is not None:
            return self._segments(data, rng), self.k
        weight, points = data.row_weight, self.law.features(data.rows)
        if recipe == 0:
            points = whiten(points, weight)
        # In an order given by their values, rows are drawn alike whether a sequence is repeated or weighted.
        order = by_values(points)
        draw = random_seeds if recipe == 2 or self.init == "random_from_data" else greedy_seeds
        centres = points[order][draw(points[order], weight[order], self.k, rng)]
        return partition(points, centres), len(centres)

    def _segments(self, data: Runs, rng: np.random.Generator) -> Array:
        """Cut every sequence at the same fractions of its length; states in turn, or one after the other if masked."""
        n_pieces = self.k * (1 if self.mask is not None else int(rng.integers(1, 4)))
        cuts = np.sort(rng.random(n_pieces - 1))
        ends = np.cumsum(data.lengths)
        time = np.arange(ends[-1]) - np.repeat(ends - data.lengths, data.lengths)
        piece = np.searchsorted(cuts, (time + 0.5) / np.repeat(data.lengths, data.lengths))
        return np.asarray(piece % self.k)

    def _begin(self, labels: Array, data: Runs) -> Chain:
        """Starts and transitions of a labelling, with one imaginary transition in ten."""
        allowed = np.ones((self.k, self.k)) if self.mask is None else self.mask.astype(np.float64)
        ends, weight = np.cumsum(data.lengths), data.row_weight
        first = ends - data.lengths
        starts = np.bincount(labels[first], weight[first], minlength=self.k)
        inner = np.ones(len(labels), bool)
        inner[ends - 1] = False
        source = np.flatnonzero(inner)
        pairs = labels[source] * self.k + labels[source + 1]
        moves = np.bincount(pairs, weight[source], minlength=self.k**2).reshape(self.k, self.k) * allowed
        uniform = np.full(self.k, 1.0 / self.k)
        even = allowed / allowed.sum(axis=1, keepdims=True)
        transmat = 0.9 * _shares(moves, even) + 0.1 * even
        startprob = stationary(transmat) if self.stationary else 0.9 * _shares(starts, uniform) + 0.1 * uniform
        return Chain(startprob, transmat, None)

    def _impose(self, params: Chain, data: Runs) -> Chain:
        """Replace what the user gave; iteration 0 uses exactly that."""
        if self.given.startprob is not None:
            params = params._replace(startprob=self.given.startprob)
        if self.given.transmat is not None:
            params = params._replace(transmat=self.given.transmat)
        if not self.given.law:
            return params
        attributes = self.law.publish(self.restore(params, data).law) | dict(self.given.law)
        return self.standardize(params._replace(law=self.law.recall(attributes, params.law)), data)

    def moves(self, params: Chain, data: Runs) -> Iterator[Chain]:
        """Swap states; those that the user gave places stay."""
        if self.has_places:
            return
        smoothed = self.outputs(data, ("smoothed",))
        self.infer(params, data, smoothed)
        assert smoothed.smoothed is not None

        def begin(resp: Array) -> Chain:
            return self._begin(resp.argmax(axis=1), data)._replace(law=self.law.start(data.rows, resp))

        yield from swaps(smoothed.smoothed, data.row_weight, self.law.features(data.rows), begin)

    # Prediction
    # -----------------------------------------------------------------------------------------------------------

    def frame(self, params: Chain, X: Sequences) -> Runs:
        """Sequences to predict, in units that suit the parameters."""
        return Runs(self.law.frame(params.law, X.X), X.lengths, None, X.names)

    def outputs(self, data: Runs, wanted: Collection[str]) -> Told:
        """Empty arrays for what is wanted."""
        n, N = data.n_rows, len(data.lengths)
        shapes = {"log_density": (n,), "filtered": (n, self.k), "smoothed": (n, self.k), "path": (n,), "score": (N,)}
        kinds = {w: np.int64 if w == "path" else np.float64 for w in wanted}
        likes = {w: data.lengths if w in _PER_SEQUENCE else data.rows.X for w in wanted}
        return Told(**{w: blank(shapes[w], kind, likes[w]) for w, kind in kinds.items()})

    def portions(self, data: Runs, out: Told) -> list[tuple[Runs, Told]]:
        """Cut between sequences."""
        if isinstance(data.rows.X, Source):
            raise ValueError(
                "of a source, fit, predict, predict_proba, score_samples, score, aic and bic can be asked; hand its "
                "sequences to other methods one by one"
            )
        blocks = self._cut(data)
        if len(blocks) == 1:
            return [(blocks[0], out)]
        portions, row, number = [], 0, 0
        for block in blocks:
            rows, sequences = slice(row, row + block.n_rows), slice(number, number + len(block.lengths))
            row, number = rows.stop, sequences.stop
            parts = (
                None if array is None else array[sequences if name in _PER_SEQUENCE else rows, ...]
                for name, array in zip(Told._fields, out, strict=True)
            )
            portions.append((block, Told(*parts)))
        return portions

    def infer(self, params: Chain, data: Runs, out: Told) -> None:
        """Fill what is wanted, each by its own pass."""
        startprob, transmat = self._startprob(params), params.transmat
        lengths = data.lengths
        if out.smoothed is not None:
            log_prob, logliks = self.law.log_prob(params.law, data.rows), np.empty(len(lengths))
            kernels.at(log_prob).forward_backward(
                log_prob, lengths, None, startprob, transmat, out.smoothed, logliks, self.n_threads
            )
            self._refuse_impossible(logliks, data)
        if out.log_density is not None or out.filtered is not None:
            filtered = self.law.log_prob(params.law, data.rows)
            increments = out.log_density
            if increments is None:
                increments = blank((data.n_rows,), np.float64, filtered)
            kernels.at(filtered).filter_chain(filtered, lengths, startprob, transmat, increments)
            if out.filtered is not None:
                out.filtered[...] = filtered
                self._refuse_impossible(np.add.reduceat(bring(increments), np.cumsum(lengths) - lengths), data)
        if out.path is not None or out.score is not None:
            path = blank((data.n_rows,), np.int64, data.rows.X) if out.path is None else out.path
            score = np.empty(len(lengths)) if out.score is None else out.score
            succession = Succession(lengths, None, startprob, transmat, self.n_threads)
            self.law.decode(params.law, data.rows, succession, path, score)
            self._refuse_impossible(score, data)

    def _refuse_impossible(self, logliks: Array, data: Runs) -> None:
        impossible = np.flatnonzero(np.isneginf(logliks))
        if len(impossible):
            raise ValueError(
                f"sequence {data.names[impossible[0]]} is impossible under the fitted chain: no allowed path of states "
                "explains its rows; score_samples tells which row (-inf)"
            )

    def with_threads(self, n_threads: int) -> MarkovChain:
        """Give the same model, its passes through one sequence on up to two threads."""
        return replace(self, n_threads=min(2, n_threads))


# Probabilities --------------------------------------------------------------------------------------------------------


def stationary(transmat: Array) -> Array:
    """Stationary distribution, by elimination without subtractions, so that small probabilities are exact.

    References
    ----------
    Grassmann, W., Taksar, M. & Heyman, D. (1985). Regenerative analysis and steady state distributions for Markov
    chains. *Operations Research* 33, 1107-1116.
    """
    left = transmat.astype(np.float64)
    k = len(left)
    for last in range(k - 1, 0, -1):
        leaving = left[last, :last].sum()
        if leaving == 0.0:  # from here on the states are never left: the others are forgotten
            absorbed = np.zeros(k)
            absorbed[last:] = stationary(transmat[last:, last:]) if last < k - 1 else 1.0
            return absorbed
        left[:last, last] /= leaving
        left[:last, :last] += np.outer(left[:last, last], left[last, :last])
    shares = np.ones(k)
    for state in range(1, k):
        shares[state] = shares[:state] @ left[:state, state]
    return np.asarray(shares / shares.sum())


def _log_dirichlet(counts: Array, probabilities: Array) -> float:
    """Log-density of a Dirichlet law, but for its constant."""
    seen = counts > 0.0
    with np.errstate(divide="ignore"):
        return float(np.broadcast_to(counts, seen.shape)[seen] @ np.log(probabilities[seen]))


def _shares(counts: Array, *previous: Array) -> Array:
    """Shares along the last axis; zeros stay, others do not become zero; without counts those before, row by row."""
    total = counts.sum(axis=-1, keepdims=True)
    if total.min() > _EMPTY:
        shares = counts / total
    else:
        seen = total > _EMPTY
        shares = np.where(seen, counts / np.where(seen, total, 1.0), _rows_of(previous, counts))
    if shares.min() >= LEAST:  # what was zero has no counts
        return np.asarray(shares)
    shares = np.where(_rows_of(previous, counts) > 0.0, np.maximum(shares, LEAST), 0.0)
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def _rows_of(parts: tuple[Array, ...], like: Array) -> Array:
    return np.vstack(parts).reshape(like.shape)


def _stationary_step(starts: Array, transitions: Array, transmat: Array) -> Array:
    """Raise ``sum starts log delta(A) + sum transitions log A``, where delta is the stationary distribution of A.

    The gradient by ``a_ij`` is ``g_ij = transitions_ij / a_ij + delta_i u_j`` with ``u = (I - A + 1 delta')^-1
    (starts / delta)``, ``u`` known but for a constant that is chosen to make it positive. The rows of ``a * g``,
    normalised, lie uphill; the way there is halved until the value rises.
    """

    def value(matrix: Array) -> float:
        delta = stationary(matrix)
        seen = transitions > 0.0
        with np.errstate(divide="ignore"):
            return float(xlogy(starts, delta).sum() + transitions[seen] @ np.log(matrix[seen]))

    best = _shares(transitions, transmat)
    height = value(best)
    if not height >= (before := value(transmat)):
        best, height = transmat, before
    slack = 1e-13 * abs(height)
    for _ in range(_STATIONARY_STEPS):
        delta = stationary(best)
        # 0 for a state in which nothing begins: it may be one that is never returned to.
        ratios = np.divide(starts, delta, out=np.zeros(len(delta)), where=starts > 0.0)
        u = np.linalg.solve(np.eye(len(best)) - best + delta, ratios)
        pull = transitions + best * np.outer(delta, u - u.min())
        uphill, stride = _shares(pull, best), 1.0
        while stride > 1e-3:
            tried = best + stride * (uphill - best)
            reached = value(tried)
            if reached > height:
                break
            stride /= 2.0
        else:
            break
        best, gained, height = tried, reached - height, reached
        if gained <= slack:
            break
    return best


def _flat(tree: Any) -> Array:
    """Fold all numbers of some parameters into one vector."""
    if isinstance(tree, tuple):
        return np.concatenate([_flat(part) for part in tree])
    return np.ravel(tree)
