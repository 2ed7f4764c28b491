"""Sequences through a hidden Markov chain on another device, in terms of the array API standard: torch, cupy.

The signatures are those of `chain`. Sequences advance together: rows are packed by time, so that those of one time lie
side by side and a step is one product with the transition matrix. Where few sequences run side by side they are first
cut into pieces, which run side by side instead: a pass through every piece from each state tells what its rows do to
any message that enters it, a walk from piece to piece what does enter it, forwards and backwards::

    log_prob -> packed densities -> (transfers of the pieces -> what enters each) -> forward, backward -> sums

A sequence for which probabilities are not enough, see `chain`, is done by the processor with logarithms.

References
----------
Särkkä, S. & García-Fernández, Á. (2021). Temporal parallelization of Bayesian smoothers. *IEEE Transactions on
Automatic Control* 66(1), 299-306.
"""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._arrays import bring, namespace, pick, send
from .chain import _GROUP_SIZE, _LOWEST, _MIXING, LEAST, _logarithm

Array = NDArray[Any]
Elsewhere = Any

# Added to sums that are divided by: nothing beside LEAST, and no division by zero.
_TINY = 1e-250
# Sequences are cut if they are longer than this and a step of all of them takes fewer operations than this.
_SHORT, _BUSY = 64, 2**18
# The last digits of a score as far below 0 as this are worth 1e-10 nats.
_FAR = 1e6
# How far what enters a piece may be from what leaves the one before it, relative to either.
_AGREE = 1e-7


class _Pieces(NamedTuple):
    """Sequences or parts of them, one after the other, and their rows packed by time."""

    first: Array  # (P,) their first rows
    number: Array  # (P,) which of its sequence each is
    is_last: Array  # (P,) of its sequence
    rank: Array  # (P,) the longest first: in this order they lie side by side
    order: Array  # (n,) row of each packed row
    edges: Array  # (T + 1,) first packed row of each time

    def steps(self) -> list[tuple[int, int]]:
        """First packed row of each time, and the one after the last."""
        edges: list[int] = self.edges.tolist()
        return list(pairwise(edges))


def _pieces(lengths: Array, k: int) -> _Pieces:
    longest = int(lengths.max())
    size = longest
    if longest > _SHORT and lengths.sum() * k**3 < _BUSY * longest:
        size = int(np.ceil(np.sqrt(longest)))
    n_each = -(-lengths // size)
    ends = np.cumsum(n_each)
    number = np.arange(ends[-1]) - np.repeat(ends - n_each, n_each)
    first = np.repeat(np.cumsum(lengths) - lengths, n_each) + number * size
    sizes = np.minimum(size, np.repeat(lengths, n_each) - number * size)
    is_last = np.zeros(len(number), bool)
    is_last[ends - 1] = True
    rank = np.argsort(-sizes, kind="stable")
    running = np.searchsorted(-sizes[rank], -np.arange(size))  # how many have a row at each time
    edges = np.concatenate([[0], np.cumsum(running)])
    lane = np.arange(edges[-1]) - np.repeat(edges[:-1], running)
    order = first[rank][lane] + np.repeat(np.arange(size), running)
    return _Pieces(first, number, is_last, rank, order, edges)


class _Chain(NamedTuple):
    """Transition probabilities where the rows are."""

    transmat: Elsewhere  # (K, K)
    back: Elsewhere  # (K, K), its transpose
    ones: Elsewhere  # (K, 1): a product with it is a sum, faster than the library's


def _chain(transmat: Array, like: Elsewhere) -> _Chain:
    return _Chain(*(send(array, like) for array in (transmat, transmat.T, np.ones((len(transmat), 1)))))


def _unpacked(packed: Elsewhere, pieces: _Pieces) -> Elsewhere:
    """Rows in the order of time."""
    where = np.empty_like(pieces.order)
    where[pieces.order] = np.arange(len(where))
    return pick(packed, where)


# Passes ---------------------------------------------------------------------------------------------------------------


def _forward(density: Elsewhere, pieces: _Pieces, chain: _Chain, entries: Array) -> tuple[Elsewhere, Elsewhere]:
    """Probabilities (n, K) of the states given the rows up to each, and sums (n, 1), of packed rows.

    ``entries`` (P, K) are the probabilities of the states at the first row of each piece given what was before.
    """
    xp = namespace(density)
    filtered, sums = xp.empty_like(density), xp.empty_like(density[:, :1])
    ahead = send(entries[pieces.rank], density)
    for begin, end in pieces.steps():
        if begin:
            ahead = ahead[: end - begin, :] @ chain.transmat
        joint = density[begin:end, :] * ahead
        total = joint @ chain.ones
        ahead = joint / (total + _TINY)
        filtered[begin:end, :] = ahead
        sums[begin:end, :] = total
    return filtered, sums


def _backward(density: Elsewhere, pieces: _Pieces, chain: _Chain, exits: Array) -> Elsewhere:
    """Probability (n, K) of the rows from each on, relative to its sum, for every state then; of packed rows.

    ``exits`` (P, K) are those of what is after each piece, for every state at its last row.
    """
    xp = namespace(density)
    after, leaving = xp.empty_like(density), send(exits[pieces.rank], density)
    message, running = leaving[:0, :], 0
    for begin, end in reversed(pieces.steps()):
        message = message @ chain.back
        if end - begin > running:
            message = xp.concat([message, leaving[running : end - begin, :]]) if running else leaving[: end - begin, :]
        joint = density[begin:end, :] * message
        message, running = joint / (joint @ chain.ones + _TINY), end - begin
        after[begin:end, :] = message
    return after


def _transfers(density: Elsewhere, pieces: _Pieces, chain: _Chain, startprob: Array) -> tuple[Array, Array]:
    """What each piece does to a message: ``exp(scales[p, i]) * transfers[p, i, j]``, from i before it to j at its end.

    The first piece of a sequence begins with ``startprob`` whatever was before it.
    """
    xp, K = namespace(density), len(startprob)
    P = len(pieces.first)
    is_first = send((pieces.number == 0)[pieces.rank], density)[:, None, None]
    start = xp.broadcast_to(send(startprob, density), (P, K, K))
    matrices = xp.where(is_first, start, chain.transmat[None, :, :])
    scales = xp.zeros_like(matrices[:, :, 0])
    for begin, end in pieces.steps():
        m = end - begin
        some = matrices[:m, :, :]
        if begin:
            some = xp.reshape(xp.reshape(some, (m * K, K)) @ chain.transmat, (m, K, K))
        some = some * density[begin:end, None, :]
        total = some @ chain.ones
        matrices[:m, :, :] = some / (total + _TINY)
        scales[:m, :] += xp.log(total[:, :, 0] + _TINY)
    transfers, logs = np.empty((P, K, K)), np.empty((P, K))
    transfers[pieces.rank], logs[pieces.rank] = bring(matrices), bring(scales)
    return transfers, logs


def _messages(
    density: Elsewhere, pieces: _Pieces, chain: _Chain, startprob: Array, transmat: Array
) -> tuple[Array, Array]:
    """What enters each piece from before and from after, both (P, K)."""
    P, K = len(pieces.first), len(startprob)
    entries, exits = np.tile(startprob, (P, 1)), np.ones((P, K))
    if pieces.is_last.all():  # nothing was cut
        return entries, exits
    transfers, scales = _transfers(density, pieces, chain, startprob)
    factors = np.exp(scales - scales.max(axis=1, keepdims=True))
    turns = [np.flatnonzero(pieces.number == i) for i in range(int(pieces.number.max()) + 1)]
    before = np.full((P, K), 1.0 / K)  # of the last row before each piece
    for these, following in pairwise(turns):
        goes_on = these[~pieces.is_last[these]]
        before[following] = _shares(np.einsum("pi,pij->pj", (before * factors)[goes_on], transfers[goes_on]))
        entries[following] = before[following] @ transmat
    for following in reversed(turns[1:]):
        exits[following - 1] = _shares(
            factors[following] * np.einsum("pij,pj->pi", transfers[following], exits[following])
        )
    return entries, exits


def _shares(x: Array) -> Array:
    return np.asarray(x / (x.sum(axis=1, keepdims=True) + _TINY))


def _disagree(one: Array, other: Array) -> Array:
    """Pieces (P,) whose messages (P, K) differ by more than rounding."""
    return np.asarray(~np.isclose(one, other, rtol=_AGREE, atol=1e-290).all(axis=1))


# What is asked of them ------------------------------------------------------------------------------------------------


def _packed_densities(log_prob: Elsewhere, pieces: _Pieces) -> tuple[Elsewhere, Elsewhere]:
    """Highest log-density (n,) of each row, and the densities (n, K) relative to it, these packed."""
    xp = namespace(log_prob)
    highest = xp.clip(xp.max(log_prob, axis=1, keepdims=True), _LOWEST, -_LOWEST)
    return highest[:, 0], pick(xp.exp(log_prob - highest), pieces.order)


def _hard(broken: Elsewhere, lengths: Array) -> Array:
    """Sequences (N,) of which a row is broken."""
    if not bool(namespace(broken).any(broken)):  # seldom anything else, and then nothing is brought
        return np.zeros(len(lengths), bool)
    return np.logical_or.reduceat(bring(broken), np.cumsum(lengths) - lengths)


def _rows(which: Array, lengths: Array) -> Array:
    """Numbers of the rows of some sequences."""
    return np.flatnonzero(np.repeat(which, lengths))


def _replace(array: Elsewhere, which: Array, lengths: Array, values: Array) -> None:
    """Overwrite the rows of some sequences."""
    ends, begin = np.cumsum(lengths), 0
    for number in np.flatnonzero(which):
        end = begin + int(lengths[number])
        array[int(ends[number] - lengths[number]) : int(ends[number]), ...] = send(values[begin:end], array)
        begin = end


def _processor() -> Any:
    """Kernels for rows of NumPy; they are loaded after this module."""
    return import_module(__package__)


def forward_backward(
    log_prob: Elsewhere,
    lengths: Array,
    weight: Array | None,
    startprob: Array,
    transmat: Array,
    states: Elsewhere,
    logliks: Array,
    n_threads: int,
) -> tuple[Array, Array]:
    """Fill ``states``; return ``starts`` (K,) and ``transitions`` (K, K): see `chain.forward_backward`."""
    xp, chain, pieces = namespace(log_prob), _chain(transmat, log_prob), _pieces(lengths, len(startprob))
    ends = np.cumsum(lengths)
    highest, density = _packed_densities(log_prob, pieces)
    entries, exits = _messages(density, pieces, chain, startprob, transmat)
    filtered, sums = (_unpacked(told, pieces) for told in _forward(density, pieces, chain, entries))
    after = _unpacked(_backward(density, pieces, chain, exits), pieces)
    logliks[:] = np.add.reduceat(bring(xp.log(sums[:, 0] + _TINY) + highest), ends - lengths)

    goes_on = np.ones((int(ends[-1]), 1), bool)
    goes_on[ends - 1] = False
    following = xp.concat([after[1:, :], after[:1, :]])
    joint = filtered * xp.where(send(goes_on, log_prob), following @ chain.back, xp.ones_like(after))
    total = joint @ chain.ones

    hard = _hard((sums < LEAST)[:, 0] | (total < LEAST)[:, 0], lengths)
    cut = np.flatnonzero(pieces.number)  # pieces that go on from another
    if len(cut):
        left, right = bring(pick(filtered, pieces.first[cut] - 1)), bring(pick(after, pieces.first[cut]))
        odd = _disagree(left @ transmat, entries[cut]) | _disagree(_shares(right @ transmat.T), exits[cut - 1])
        hard[np.searchsorted(ends, pieces.first[cut][odd], side="right")] = True

    weights = np.ones(len(lengths)) if weight is None else weight
    share = send(np.repeat(np.where(hard, 0.0, weights), lengths)[:, None], log_prob) / (total + _TINY)
    states[...] = joint * share
    pull = following * (share * send(goes_on.astype(np.float64), log_prob))
    transitions = bring(xp.permute_dims(filtered, (1, 0)) @ pull) * transmat
    if hard.any():
        rows = bring(pick(log_prob, _rows(hard, lengths)))
        again, told = np.empty_like(rows), np.empty(int(hard.sum()))
        _, more = _processor().forward_backward(
            rows, lengths[hard], weights[hard], startprob, transmat, again, told, n_threads
        )
        _replace(states, hard, lengths, again)
        logliks[hard], transitions = told, transitions + more
    return bring(xp.sum(pick(states, ends - lengths), axis=0)), transitions


def filter_chain(log_prob: Elsewhere, lengths: Array, startprob: Array, transmat: Array, increments: Elsewhere) -> None:
    """Overwrite ``log_prob`` and fill ``increments`` (n,): see `chain.filter_chain`."""
    hard = np.full(len(lengths), bool(transmat.min() < _MIXING))
    filtered = log_prob
    if not hard.all():
        xp, chain, pieces = namespace(log_prob), _chain(transmat, log_prob), _pieces(lengths, len(startprob))
        highest, density = _packed_densities(log_prob, pieces)
        entries, _ = _messages(density, pieces, chain, startprob, transmat)
        filtered, sums = (_unpacked(told, pieces) for told in _forward(density, pieces, chain, entries))
        hard = _hard((sums < LEAST)[:, 0], lengths)
        increments[...] = xp.log(sums[:, 0] + _TINY) + highest
    again = bring(pick(log_prob, _rows(hard, lengths)))
    log_prob[...] = filtered
    if hard.any():
        told = np.empty(len(again))
        _processor().filter_chain(again, lengths[hard], startprob, transmat, told)
        _replace(log_prob, hard, lengths, again)
        _replace(increments, hard, lengths, told)


def viterbi(
    log_prob: Elsewhere,
    lengths: Array,
    startprob: Array,
    transmat: Array,
    path: Elsewhere,
    scores: Array,
    n_threads: int = 1,
) -> None:
    """Fill ``path`` (n,) and ``scores`` (N,): see `chain.viterbi`.

    The processor does few long sequences, and those of which an outlier would take the digits.
    """
    xp, pieces = namespace(log_prob), _pieces(lengths, len(startprob))
    if not pieces.is_last.all():
        states = np.empty(int(lengths.sum()), np.int64)
        _processor().viterbi(bring(log_prob), lengths, startprob, transmat, states, scores, n_threads)
        path[...] = send(states, path)
        return
    log_start, log_trans = (send(_logarithm(array), log_prob) for array in (startprob, transmat))
    best = pick(log_prob, pieces.order)
    came_from = xp.zeros_like(best, dtype=xp.int64)
    before = 0
    for begin, end in pieces.steps():
        if begin:
            came_from[begin:end, :], gained = _best(best[before : before + end - begin, :], log_trans)
            best[begin:end, :] += gained
        else:
            best[:end, :] += log_start
        before = begin
    path[...] = _unpacked(_traced(came_from, xp.argmax(best, axis=1), pieces), pieces)
    last = np.cumsum(lengths) - 1
    scores[:] = bring(pick(_unpacked(xp.max(best, axis=1), pieces), last))
    hard = (scores < -_FAR) & (scores > -np.inf)
    if hard.any():
        states, told = np.empty(int(lengths[hard].sum()), np.int64), np.empty(int(hard.sum()))
        rows = bring(pick(log_prob, _rows(hard, lengths)))
        _processor().viterbi(rows, lengths[hard], startprob, transmat, states, told, n_threads)
        _replace(path, hard, lengths, states)
        scores[hard] = told


def _best(before: Elsewhere, log_trans: Elsewhere) -> tuple[Elsewhere, Elsewhere]:
    """The state (m, K) from which each is best reached, and how well."""
    xp, size, m = namespace(before), max(1, _GROUP_SIZE // log_trans.shape[0] ** 2), before.shape[0]
    came_from, gained = [], []
    for begin in range(0, m, size):
        pairs = before[begin : min(begin + size, m), :, None] + log_trans[None, :, :]
        came_from.append(xp.argmax(pairs, axis=1))
        gained.append(xp.max(pairs, axis=1))
    return xp.concat(came_from), xp.concat(gained)


def _traced(came_from: Elsewhere, final: Elsewhere, pieces: _Pieces) -> Elsewhere:
    """Packed states (n,) of the paths, each ending in the ``final`` state of its last row."""
    xp, K = namespace(came_from), came_from.shape[1]
    cells, lanes = xp.reshape(came_from, (-1,)), send(K * np.arange(len(pieces.first)), came_from)
    states, steps = xp.empty_like(final), pieces.steps()
    after, running = final[:0], 0  # states at the next time
    for t in reversed(range(len(steps))):
        begin, end = steps[t]
        here = xp.take(cells, K * end + lanes[:running] + after, axis=0)
        after, running = xp.concat([here, final[begin + running : end]]), end - begin
        states[begin:end] = after
    return states
