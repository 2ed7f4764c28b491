"""The search over starts: a race on a sketch of the data, moves out of the best optimum, and a climb on all of it.

::

    starts -> _race (successive halving, on the sketch) -> _settle (climbs on the sketch, twins merged)
        -> _move (as long as moves pay, on the sketch) -> _race (a last rung, on all data) -> climb
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from operator import itemgetter
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from ._em import INTERRUPTED, climb
from ._executors import one_blas_thread, workers
from ._model import Ascent, Data, Degenerate, Model, Params
from ._sources import Blocks

# The race: how many start; at each rung, how many steps they take and how many places there are in the next.
# The steps of the last are enough to show to which optimum of the sketch a finalist leads.
_SETTLING = 100
_RACERS, _RUNGS = 32, ((3, 12), (5, 9), (8, 3), (_SETTLING, 3))
# Moves out of the best optimum: how many are tried at once; their rungs; how often, each time from a better optimum.
_MOVES, _MOVE_RUNGS, _ROUNDS = 16, ((6, 4), (40, 1)), 20
# Steps in which optima of the sketch compete once more, on all data.
_LAST_STEPS = 3
# Objectives that differ by less, in nats, are the same but for rounding; and so near each other, twins.
_TIE, _TWIN = 1e-3, 1e-2
# A climb that takes longer than this, in seconds, is worth the price (some 20 ms) of handing the next ones to other
# workers.
_WORTH_SHARING = 0.1


class FitFailedError(ValueError):
    """No start led anywhere; the message says why each failed."""


class Search(NamedTuple):
    """The best climb, what became of every start, and whether one start alone led to the best optimum, of several."""

    best: Ascent
    restarts: list[dict[str, Any]]
    is_lone: bool = False


def search(
    model: Model,
    data: Data,
    *,
    n_init: int | Literal["auto"],
    seed: np.random.SeedSequence,
    n_workers: int,
    first: Params | None = None,
    **climbing: Any,
) -> Search:
    """Climb from several starts and keep the best regular solution; a start that fails is recorded, not fatal.

    An integer ``n_init`` is that many full climbs, and one more for each that ended with an empty part. "auto" is a
    search on a bounded sample of the data, and a climb on all of it from the best that was found. ``first``, if given,
    is the first start (with "auto" the only one); the others are the model's own, each from a child of ``seed`` drawn
    before any work.
    """
    blocks, sketch = model.split(data), model.sketch(data)
    restarts: list[dict[str, Any]] = []
    starts: dict[int, Params] = {} if first is None else {0: first}
    n_starts = n_init if n_init != "auto" else _RACERS if first is None else 1
    repeated: set[int] = set()  # starts that were drawn more than once
    interrupted = False
    with one_blas_thread():
        for index, child in enumerate(seed.spawn(n_starts)):
            try:
                start = starts.get(index) or model.start(sketch, np.random.default_rng(child))
            except (Degenerate, np.linalg.LinAlgError) as error:
                restarts.append(_fate(index, error))
                continue
            twin = next((i for i, other in starts.items() if i < index and _equal(start, other)), None)
            if twin is None:
                starts[index] = start
            else:
                repeated.add(twin)
                restarts.append(_fate(index, Degenerate(f"the same as start {twin}")) | {"status": "duplicate"})
        if n_init == "auto" and len(starts) > 1:
            finalists, is_lone, interrupted = _compete(
                model, blocks, sketch, starts, repeated, restarts, n_workers, **climbing
            )
            if interrupted:  # one step on all the data, so that what is returned has an objective
                climbing["max_iter"] = 1
            outcomes: dict[int, Ascent | Exception] = {}
            for index, finalist in finalists.items():  # a degenerate one gives way to the next
                outcomes |= _from_each({index: finalist.params}, climb, model, blocks, n_workers, **climbing)
                if isinstance(found := outcomes[index], Ascent) and found.status != "degenerate":
                    break
            restarts.extend(_outrun(index, finalists[index]) for index in finalists if index not in outcomes)
        else:
            outcomes = _from_each(starts, climb, model, blocks, n_workers, **climbing)
            reseeded = dict(enumerate(_reseed(model, sketch, outcomes, n_workers, **climbing), n_starts))
            outcomes |= _from_each(reseeded, climb, model, blocks, n_workers, **climbing)
            is_lone = _is_lone(outcomes, repeated, climbing["tol"])
    best = _best(outcomes, climbing["tol"])
    restarts.extend(_fate(index, outcome) for index, outcome in outcomes.items())
    restarts.sort(key=itemgetter("start"))
    if best is None:
        reasons = dict.fromkeys(row["reason"] for row in restarts if row["status"] == "failed")
        raise FitFailedError(f"every start failed ({'; '.join(reasons)})")
    if interrupted:
        best = best._replace(status="stopped", reason=INTERRUPTED)
    return Search(best, restarts, is_lone and best.status != "stopped")


def _reseed(
    model: Model, sketch: Data, outcomes: dict[int, Ascent | Exception], n_workers: int, **climbing: Any
) -> list[Params]:
    """Give one more start for each climb that ended with an empty part: what moving that part elsewhere led to."""
    if any(map(_interrupted, outcomes.values())):
        return []
    ends = [end for end in outcomes.values() if isinstance(end, Ascent) and len(model.empty(end.stats))]
    climbing |= {"watch": None}
    moved = [_move(model, sketch, model.split(sketch), end, False, n_workers, **climbing)[0] for end in ends]
    return [there.params for there, end in zip(moved, ends, strict=True) if there is not end]


def _compete(
    model: Model,
    blocks: Sequence[Data] | Blocks,
    sketch: Data,
    starts: dict[int, Params],
    repeated: set[int],
    restarts: list[dict[str, Any]],
    n_workers: int,
    **climbing: Any,
) -> tuple[dict[int, Ascent], bool, bool]:
    """Give what should climb on all data, the best first; whether one start alone led there; whether interrupted."""
    climbing |= {"watch": None, "tol": max(climbing["tol"], _TIE)}
    small = model.split(sketch)
    finalists, interrupted = _race(model, small, starts, _RUNGS, repeated, restarts, n_workers, **climbing)
    if interrupted or not finalists:
        return finalists, False, interrupted
    leader = next(iter(finalists))
    moved, is_lone, interrupted = _move(
        model, sketch, small, finalists[leader], leader not in repeated, n_workers, **climbing
    )
    if moved is not finalists[leader]:
        finalists = {max(starts) + 1: moved} | finalists
    if len(finalists) > 1 and not interrupted:
        starts = {index: ascent.params for index, ascent in finalists.items()}
        rungs = ((_LAST_STEPS, len(starts)),)
        finalists, interrupted = _race(model, blocks, starts, rungs, repeated, restarts, n_workers, **climbing)
    return finalists, is_lone, interrupted


def _race(
    model: Model,
    blocks: Sequence[Data] | Blocks,
    starts: dict[int, Params],
    rungs: Sequence[tuple[int, int]],
    repeated: set[int],
    restarts: list[dict[str, Any]],
    n_workers: int,
    **climbing: Any,
) -> tuple[dict[int, Ascent], bool]:
    """Successive halving: the finalists, the best first, and whether the user interrupted; others are recorded.

    Of racers that are equally good, and so most likely on the way to the same optimum, one goes on.
    """
    for n_steps, places in rungs:
        outcomes = _from_each(starts, climb, model, blocks, n_workers, **climbing | {"max_iter": n_steps})
        running = {index: outcome for index, outcome in outcomes.items() if isinstance(outcome, Ascent)}
        # Equal but for rounding is equal: the earlier start goes first, whatever the order of the rows.
        order = sorted(
            running, key=lambda i: (running[i].status == "degenerate", -round(running[i].objective / _TIE), i)
        )
        interrupted = any(map(_interrupted, outcomes.values()))
        if interrupted:
            places = 1
        restarts += [_fate(index, outcome) for index, outcome in outcomes.items() if index not in running]
        apart: list[int] = []
        for index in order:
            twin = next((i for i in apart if _are_twins(running[i], running[index])), None)
            if twin is None:
                apart.append(index)
            else:
                repeated.add(twin)
                why = f"leads where start {twin} leads"
                restarts.append(_fate(index, running[index]) | {"status": "duplicate", "reason": why})
        restarts += [_outrun(index, running[index]) for index in apart[places:]]
        finalists = {index: running[index] for index in apart[:places]}
        starts = {index: running[index].params for index in sorted(finalists)}
        if interrupted:
            break
    return finalists, interrupted


def _move(
    model: Model,
    sketch: Data,
    blocks: Sequence[Data] | Blocks,
    best: Ascent,
    is_lone: bool,
    n_workers: int,
    **climbing: Any,
) -> tuple[Ascent, bool, bool]:
    """Leave an optimum of the sketch for better ones while moves pay: the last; if only found once; if interrupted."""
    for _ in range(_ROUNDS):
        moves = dict(enumerate(islice(model.moves(best.params, sketch), _MOVES)))
        if not moves:
            break
        finalists, interrupted = _race(model, blocks, moves, _MOVE_RUNGS, set(), [], n_workers, **climbing)
        winner = next((a for a in finalists.values() if a.status != "degenerate"), None)
        if interrupted or winner is None:
            return best, is_lone, interrupted
        if not _better(winner, best, _TIE):
            if is_lone:  # unless the winner leads back
                back = _attempt(climb, model, blocks, winner.params, **climbing | {"max_iter": _SETTLING})
                is_lone = not (isinstance(back, Ascent) and _are_twins(back, best))
            break
        best, is_lone = winner, True
    return best, is_lone, False


def _are_twins(one: Ascent, other: Ascent) -> bool:
    """Whether two climbs ended at the same optimum, or at equally good ones."""
    return one.status != "degenerate" != other.status and abs(one.objective - other.objective) <= _TWIN


def _is_lone(outcomes: dict[int, Ascent | Exception], repeated: set[int], tol: float) -> bool:
    """Whether one of several full climbs alone reached the best optimum."""
    ends = {index: outcome.objective for index, outcome in outcomes.items() if isinstance(outcome, Ascent)}
    best = [index for index in ends if ends[index] >= max(ends.values()) - max(tol, _TWIN)]
    return len(ends) > 1 and len(best) == 1 and best[0] not in repeated


def _best(outcomes: dict[int, Ascent | Exception], tol: float) -> Ascent | None:
    """Give the best outcome, the earlier of two that are equal."""
    best: Ascent | None = None
    for outcome in outcomes.values():
        if isinstance(outcome, Ascent) and (best is None or _better(outcome, best, tol)):
            best = outcome
    return best


def _from_each(
    starts: dict[int, Params],
    move: Callable[..., Ascent],
    model: Model,
    blocks: Sequence[Data] | Blocks,
    n_workers: int,
    **how: Any,
) -> dict[int, Ascent | Exception]:
    """Move from every start: the first with its blocks over the workers, the others side by side if that pays."""
    outcomes: dict[int, Ascent | Exception] = {}
    seconds = 0.0
    with workers(min(n_workers, len(blocks))) as run:
        for index, start in starts.items():
            if n_workers > 1 and seconds > _WORTH_SHARING:
                break
            began = perf_counter()
            outcomes[index] = _attempt(move, model, blocks, start, run=run, number=index, **how)
            seconds = perf_counter() - began
            if _interrupted(outcomes[index]):
                return outcomes
    rest = [index for index in starts if index not in outcomes]
    if rest:
        # Blocks of a source go to their own workers.
        here = "sharedmem" if isinstance(blocks, Blocks) else None
        parallel = Parallel(n_jobs=n_workers, prefer="threads", require=here)
        try:
            found = parallel(
                delayed(_attempt)(move, model, blocks, starts[index], number=index, **how) for index in rest
            )
        except KeyboardInterrupt:  # what is finished is kept
            found = [Degenerate(INTERRUPTED) for _ in rest]
        outcomes.update(zip(rest, found, strict=True))
    return outcomes


def _attempt(move: Callable[..., Ascent], *where: Any, **how: Any) -> Ascent | Exception:
    try:
        return move(*where, **how)
    except (Degenerate, np.linalg.LinAlgError) as error:
        return error


def _interrupted(outcome: Ascent | Exception) -> bool:
    return isinstance(outcome, Ascent) and outcome.reason == INTERRUPTED


def _fate(index: int, outcome: Ascent | Exception) -> dict[str, Any]:
    if isinstance(outcome, Ascent):
        ending = (outcome.status, outcome.objective, outcome.n_steps, outcome.reason)
    else:
        ending = ("failed", -np.inf, 0, str(outcome))
    return dict(zip(("start", "status", "objective", "n_iter", "reason"), (index, *ending), strict=True))


def _outrun(index: int, ascent: Ascent) -> dict[str, Any]:
    return _fate(index, ascent) | {"status": "outrun", "reason": ""}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(_equal, one, other))
    return np.array_equal(one, other)


def _better(one: Ascent, other: Ascent, tol: float) -> bool:
    """Whether a later climb beats an earlier one: regular before degenerate, then higher than by what ``tol`` left."""
    if (one.status == "degenerate") != (other.status == "degenerate"):
        return other.status == "degenerate"
    return one.objective > other.objective + tol
