"""The engine: three loops, each written once, for every family.

``step`` goes over blocks, ``climb`` over iterations, ``search`` over starts.

A step costs one pass over the data and gives the objective at the point it started from for free, so no safeguard here
ever needs a second evaluation. Its price is that the objective of the last image is not known until that image is
evaluated too: a climb of ``n`` steps makes ``n + 1`` passes, and the number it reports belongs to the parameters it
returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import islice
from operator import itemgetter
from time import perf_counter
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from ._accelerate import Accelerator, Secants
from ._charts import pack, unpack
from ._executors import Run, one_blas_thread, serial, workers
from ._model import Ascent, Data, Degenerate, Model, Params, Rounding, Stats, add

Array = NDArray[Any]
T = TypeVar("T")


class FitFailedError(ValueError):
    """No start led anywhere; the message says why each failed."""


def total(stats: Iterable[T]) -> T:
    """Add pairwise, in the order given, holding partial sums like the digits of a binary counter."""
    partial_sums: list[tuple[int, T]] = []
    for item in stats:
        count = 1
        while partial_sums and partial_sums[-1][0] == count:
            item, count = add(partial_sums.pop()[1], item), 2 * count
        partial_sums.append((count, item))
    return reduce(lambda later, earlier: add(earlier, later), [item for _, item in reversed(partial_sums)])


class Step(NamedTuple):
    """One turn of the EM map."""

    image: Params  # where the step leads
    stats: Stats
    objective: float  # at the point the step started from
    loglik: float


def step(model: Model, blocks: Sequence[Data], params: Params, *, run: Run[Stats] = serial) -> Step:
    """Map, add, maximise: one pass over the data."""
    stats = total(run(partial(model.expect, params), blocks))
    loglik = float(stats[0])
    penalised = add(stats, model.prior(params))
    objective = float(penalised[0])
    if not np.isfinite(objective):
        raise Degenerate(f"the objective is {objective}")
    return Step(model.maximize(penalised, params), stats, objective, loglik)


class Pace:
    """What the steps of a climb tell of the way ahead.

    Near an optimum an EM step leaves a share ``rho`` of the distance in each direction and ``rho^2`` of its part of the
    gap in the objective. So after a plain step that gained ``g``, at most ``g rho^2 / (1 - rho^2)`` is left, with the
    ``rho`` of the slowest direction, the fraction of missing information. It is estimated from below in three ways, and
    the largest is believed: ratios of successive step lengths, of successive gains, and the Ritz values of the last few
    points, which see the slowest direction even where an accelerator has hidden it from the other two. A ``rho`` of 1
    or more means that the climb is leaving a saddle: then nothing can be said, and the gap is infinite.
    """

    def __init__(self, rounding: Rounding) -> None:
        self.idle = 0  # plain steps in a row that neither gained beyond rounding nor grew
        self.at_rest = False  # whether steps are so short that rounding of the objective can explain them
        self.fixed = False  # whether nothing moves
        self._rounding = rounding
        self._secants = Secants()
        self._ratio = np.nan
        self._length = 0.0
        self._gain: float | None = None  # of the last plain step

    def observe(self, x: Array, gx: Array, gain: float | None) -> None:
        """Take in the step from ``x`` to ``gx``, and the gain of the EM step that led to ``x`` (None: none did)."""
        self._secants.observe(x, gx)
        previous, self._length = self._length, float(np.linalg.norm(gx - x))
        earlier, self._gain = self._gain, gain
        self._ratio = np.nan
        if gain is None:
            return
        size = float(np.linalg.norm(x))
        self.at_rest = self._length <= np.sqrt(self._rounding.step) * size
        self.fixed = self._length <= self._rounding.step * size
        self._ratio = self._length / previous if previous > 0.0 else 1.0
        if earlier is not None and earlier > self._rounding.objective:
            self._ratio = max(self._ratio, np.sqrt(max(gain, 0.0) / earlier))
        self.idle = 0 if gain > self._rounding.objective else self.idle + int(self._length <= previous)

    @property
    def rate(self) -> float:
        """Share of the distance that an EM step leaves in the slowest direction seen; NaN: too early to say."""
        return float(np.fmax(self._ratio, self._secants.rate()))

    @property
    def gap(self) -> float:
        """At most how much is left to gain, in nats; infinite unless the last step was plain."""
        if self._gain is None:
            return np.inf
        if self.fixed:
            return 0.0
        kept = self.rate**2
        return max(self._gain, 0.0) * kept / (1.0 - kept) if kept < 1.0 else np.inf


@dataclass
class Progress:
    """A climb under way: the last accepted point, and all that decides how it goes on from there."""

    point: Params
    x: Array  # its coordinates in the model's charts
    accelerator: Accelerator
    pace: Pace
    worth_asking: float  # a gain of so little is worth plain steps, which tell how much is left
    confirmed: int = 0  # plain steps in a row that told: less than tol
    history: list[float] = field(default_factory=list)  # the objective at every accepted point
    gain: float = np.inf  # of the step that led to the point
    plain: bool = True  # whether it was a plain EM step
    n_steps: int = 0


class Watch(Protocol):
    """What sees every full climb, each by its number; never the race on a sketch. Climbs may run side by side."""

    def begin(self, number: int, progress: Progress) -> None:
        """Hear that a climb begins. An earlier climb goes on if ``progress`` is set to what it was."""

    def step(self, number: int, progress: Progress, turn: Step) -> bool:
        """See an accepted point and the step from it; give True to stop the climb."""

    def end(self, number: int, progress: Progress, ascent: Ascent) -> None:
        """See how a climb ended."""


# Why a climb was stopped: by the user's interrupt, which stops everything, or by whoever watches it.
INTERRUPTED, ASKED = "interrupted", "a callback asked to stop"


def climb(
    model: Model,
    blocks: Sequence[Data],
    params: Params,
    *,
    tol: float,
    max_iter: int,
    accelerate: Callable[[], Accelerator],
    run: Run[Stats] = serial,
    watch: Watch | None = None,
    number: int = 0,
) -> Ascent:
    """Iterate the EM map, accelerated, from ``params`` to a named status.

    Every point is evaluated by the step that leaves it. A proposal of the accelerator that lowers the objective, or has
    no answer, is dropped for the last image; the objective never falls beyond rounding, and the last step is plain EM.
    """
    rounding = Rounding(sum(model.rounding(block).objective for block in blocks), model.rounding(blocks[0]).step)
    close = max(tol, rounding.objective)
    at = Progress(params, pack(params, model.charts), accelerate(), Pace(rounding), close)
    if watch is not None:
        watch.begin(number, at)
    resumed = bool(at.history)
    accelerator, pace = at.accelerator, at.pace
    point, x, plain = at.point, at.x, at.plain
    gx = x
    here: Step | None = None  # the step from the last accepted point
    try:
        while True:
            turn = _try(model, blocks, point, run)
            if here is None and isinstance(turn, str):
                raise Degenerate(turn)
            if here is not None and (isinstance(turn, str) or turn.objective < here.objective - rounding.objective):
                if plain:  # the EM map itself has no answer, or fell
                    fell = ("stalled", "an EM step lowered the objective")
                    status, reason = ("degenerate", turn) if isinstance(turn, str) else fell
                    break
                accelerator.reject()
                point, x, plain, at.n_steps = here.image, gx, True, at.n_steps + 1
                continue
            assert isinstance(turn, Step)
            gx = pack(turn.image, model.charts)
            if resumed:
                _check_same(turn.objective, at.history[-1], rounding)
            else:
                at.gain = turn.objective - here.objective if here else np.inf
                pace.observe(x, gx, at.gain if here and plain else None)
                at.point, at.x, at.plain = point, x, plain
                at.history.append(turn.objective)
            here = turn
            if watch is not None and not resumed and watch.step(number, at, turn):
                status, reason = "stopped", ASKED
                break
            resumed = False
            asking = at.gain <= at.worth_asking
            if asking and plain:
                gap = pace.gap
                at.confirmed = at.confirmed + 1 if gap <= close else 0
                if at.confirmed > _CONFIRM or (at.confirmed and gap <= _CLEARLY * tol):
                    status, reason = "converged", ""
                    break
                if not at.confirmed:  # too early: accelerate until gains are much smaller
                    asking, at.worth_asking = False, max(at.worth_asking / 4.0, rounding.objective)
            if pace.idle >= _IDLE and (pace.at_rest or not at.confirmed):
                status, reason = (
                    ("converged", "")
                    if pace.at_rest
                    else ("stalled", "the objective no longer changes beyond rounding, but the steps do not shrink")
                )
                break
            if at.n_steps >= max_iter:
                status, reason = "max_iter", f"stopped after max_iter={max_iter} steps"
                break
            at.n_steps += 1
            proposal = accelerator.propose(x, gx)
            # Plain are the steps that ask, and the last.
            plain = asking or at.n_steps >= max_iter or proposal is None or not np.isfinite(proposal).all()
            x = gx if proposal is None or plain else proposal
            point = turn.image if plain else unpack(x, model.charts, turn.image)
    except KeyboardInterrupt:
        if here is None:
            raise
        status, reason = "stopped", INTERRUPTED
    assert here is not None
    collapsed = None if status == "stopped" else model.degenerate(at.point, here.stats)
    if collapsed is not None:
        status, reason = "degenerate", collapsed
    gap = rounding.objective if status == "converged" and pace.idle >= _IDLE else pace.gap
    record = (here.objective, here.loglik, np.array(at.history), at.n_steps, pace.rate, gap, status, reason)
    ascent = Ascent(at.point, here.stats, *record)
    if watch is not None:
        watch.end(number, at, ascent)
    return ascent


def _check_same(objective: float, recorded: float, rounding: Rounding) -> None:
    if abs(objective - recorded) > rounding.objective:
        raise ValueError(
            f"a checkpoint recorded the objective {recorded:.17g} where these data give {objective:.17g}: the data "
            "have changed; give back the same data, or delete the checkpoint to begin again"
        )


def _try(model: Model, blocks: Sequence[Data], point: Params, run: Run[Stats]) -> Step | str:
    """Take a step, or say why there is none."""
    try:
        # What cannot be computed at a proposal is not worth a warning: it is rejected.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return step(model, blocks, point, run=run)
    except (Degenerate, np.linalg.LinAlgError) as error:
        return str(error)


class Search(NamedTuple):
    """The best climb, and what became of every start."""

    best: Ascent
    restarts: list[dict[str, Any]]


# So many EM steps in a row must confirm that less than tol is left to gain, unless it is clearly so: this share of it.
_CONFIRM, _CLEARLY = 2, 1e-3
# So many steps in a row without a gain end a climb that does not otherwise converge.
_IDLE = 5
# The race: how many start; at each rung, how many steps they take and how many places there are in the next.
_RACERS, _RUNGS = 32, ((3, 12), (5, 6), (8, 3))
# Moves out of the best optimum: how many are tried at once; their rungs; how often, each time from a better optimum.
_MOVES, _MOVE_RUNGS, _ROUNDS = 16, ((6, 4), (40, 1)), 20
# Objectives of racers that differ by less, in nats, are the same.
_TIE = 1e-3
# A climb that takes longer than this, in seconds, is worth the price (some 20 ms) of handing the next ones to other
# workers.
_WORTH_SHARING = 0.1


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

    An integer ``n_init`` is that many full climbs. "auto" is a race: many starts take a few steps on a bounded sample
    of the data, the lower half drops out at each rung, and the last few are climbed on all of it; then the model's
    moves out of the best optimum race in the same way, until none of them pays. ``first``, if given, is the first start
    (with "auto" the only one); the others are the model's own, each from a child of ``seed`` drawn before any work.
    """
    blocks, sketch = model.split(data), model.sketch(data)
    restarts: list[dict[str, Any]] = []
    starts: dict[int, Params] = {} if first is None else {0: first}
    n_starts = n_init if n_init != "auto" else _RACERS if first is None else 1
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
                restarts.append(_fate(index, Degenerate(f"the same as start {twin}")) | {"status": "duplicate"})
        racing = n_init == "auto" and len(starts) > 1
        interrupted = False
        small = model.split(sketch) if racing else []
        if racing:
            finalists, interrupted = _race(model, small, starts, _RUNGS, restarts, n_workers, **climbing)
            starts = {index: ascent.params for index, ascent in finalists.items()}
        if interrupted:  # one step on all the data, so that what is returned has an objective
            climbing["max_iter"] = 1
        outcomes = _from_each(starts, climb, model, blocks, n_workers, **climbing)
        best = _best(outcomes, climbing["tol"])
        if racing and best is not None and not interrupted and best.status != "stopped":
            moved, interrupted = _move(model, sketch, small, best, n_workers, **climbing)
            if moved is not None:
                outcomes |= _from_each({n_starts: moved}, climb, model, blocks, n_workers, **climbing)
                best = _best(outcomes, climbing["tol"])
    restarts.extend(_fate(index, outcome) for index, outcome in outcomes.items())
    restarts.sort(key=itemgetter("start"))
    if best is None:
        reasons = dict.fromkeys(row["reason"] for row in restarts if row["status"] == "failed")
        raise FitFailedError(f"every start failed ({'; '.join(reasons)})")
    if interrupted:
        best = best._replace(status="stopped", reason=INTERRUPTED)
    return Search(best, restarts)


def _race(
    model: Model,
    blocks: Sequence[Data],
    starts: dict[int, Params],
    rungs: Sequence[tuple[int, int]],
    restarts: list[dict[str, Any]],
    n_workers: int,
    **climbing: Any,
) -> tuple[dict[int, Ascent], bool]:
    """Successive halving: the finalists, the best first, and whether the user interrupted; others are recorded."""
    climbing |= {"watch": None}
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
        restarts += [_fate(index, running[index]) | {"status": "outrun", "reason": ""} for index in order[places:]]
        finalists = {index: running[index] for index in order[:places]}
        starts = {index: running[index].params for index in sorted(finalists)}
        if interrupted:
            break
    return finalists, interrupted


def _move(
    model: Model, sketch: Data, blocks: Sequence[Data], best: Ascent, n_workers: int, **climbing: Any
) -> tuple[Params | None, bool]:
    """Leave the best optimum for better ones as long as moves pay; None if none did. And whether it was interrupted."""
    climbing |= {"watch": None}
    # Where the best optimum lies on the sketch.
    here = _attempt(climb, model, blocks, best.params, **climbing | {"max_iter": _MOVE_RUNGS[-1][0]})
    moved = None
    if isinstance(here, Exception):
        return moved, False
    for _ in range(_ROUNDS):
        moves = dict(enumerate(islice(model.moves(here.params, sketch), _MOVES)))
        if not moves:
            break
        finalists, interrupted = _race(model, blocks, moves, _MOVE_RUNGS, [], n_workers, **climbing)
        winner = next((a for a in finalists.values() if a.status != "degenerate"), None)
        if interrupted or winner is None or not _better(winner, here, _TIE):
            return moved, interrupted
        here, moved = winner, winner.params
    return moved, False


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
    blocks: Sequence[Data],
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
        parallel = Parallel(n_jobs=n_workers, prefer="threads")
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


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(_equal, one, other))
    return np.array_equal(one, other)


def _better(one: Ascent, other: Ascent, tol: float) -> bool:
    """Whether a later climb beats an earlier one: regular before degenerate, then higher than by what ``tol`` left."""
    if (one.status == "degenerate") != (other.status == "degenerate"):
        return other.status == "degenerate"
    return one.objective > other.objective + tol
