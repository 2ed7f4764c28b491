"""The engine: two loops, each written once, for every family (the third, over starts, is ``_search``).

``step`` goes over blocks, ``climb`` over iterations.

A step costs one pass over the data and gives the objective at the point it started from for free, so no safeguard here
ever needs a second evaluation. Its price is that the objective of the last image is not known until that image is
evaluated too: a climb of ``n`` steps makes ``n + 1`` passes, and the number it reports belongs to the parameters it
returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._accelerate import Accelerator, Secants
from ._charts import pack, unpack
from ._executors import Run, serial
from ._model import Ascent, Data, Degenerate, Model, Params, Rounding, Stats, add
from ._sources import Blocks, outlines

Array = NDArray[Any]
T = TypeVar("T")


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


def step(model: Model, blocks: Sequence[Data] | Blocks, params: Params, *, run: Run[Stats] = serial) -> Step:
    """Map, add, maximise: one pass over the data."""
    stats = total(run(partial(model.expect, params), blocks))
    loglik = float(stats[0])
    penalised = add(stats, model.prior(params))
    objective = float(penalised[0])
    if not math.isfinite(objective):
        why = "; a law of your own must give a number for a missing cell, too" if np.isnan(objective) else ""
        raise Degenerate(f"the objective is {objective}{why}")
    return Step(model.maximize(penalised, params), stats, objective, loglik)


# So many EM steps in a row must confirm that less than tol is left to gain, unless it is clearly so: this share of it.
_CONFIRM, _CLEARLY = 2, 1e-3
# So many steps in a row without a gain end a climb that does not otherwise converge.
_IDLE = 5


# The slowest direction is seen from below, and with it the gap: what is reported is so much larger than what is seen.
_ALLOWANCE = 16.0


def _length(vector: Array) -> float:
    return math.sqrt(vector @ vector)


class Pace:
    """What the steps of a climb tell of the way ahead.

    Near an optimum an EM step leaves a share ``rho`` of the distance in each direction and ``rho^2`` of its part of the
    gap in the objective. So after a plain step that gained ``g``, at most ``g rho^2 / (1 - rho^2)`` is left, with the
    ``rho`` of the slowest direction, the fraction of missing information. It is estimated from below in three ways, and
    the largest is believed: ratios of successive step lengths, of successive gains, and the Ritz values of the last few
    points, which see the slowest direction even where an accelerator has hidden it from the other two. A ``rho`` of 1
    or more means that the climb is leaving a saddle: then nothing can be said, and the gap is infinite.

    A model may tell what the step ahead promises to gain: in a direction with ``rho`` a share ``1 - rho`` of its part
    of the gap. So at most ``promise / (1 - rho)`` is left, wherever the point came from.
    """

    def __init__(self, rounding: Rounding) -> None:
        self.rounding = rounding  # at the last point
        self.idle = 0  # plain steps in a row that neither gained beyond rounding nor grew
        self.at_rest = False  # whether steps are so short that rounding of the objective can explain them
        self.fixed = False  # whether nothing moves
        self.secants = Secants()  # of the accepted points: the accelerator looks at them, too
        self._ratio = np.nan
        self._length = 0.0
        self._gain: float | None = None  # of the last plain step
        self._promise = np.nan
        self._rate: float | None = None  # as soon as somebody asks

    def observe(self, x: Array, gx: Array, gain: float | None, promise: float = np.nan) -> None:
        """Take in the step from ``x`` to ``gx``, its promise, and the gain of the EM step to ``x`` (None: none)."""
        self._promise, self._rate = promise, None
        step = gx - x
        previous, self._length = self._length, _length(step)
        size = _length(x)
        least = self.rounding.step * size
        if self._length > least:  # a shorter step is noise, which has no pace
            self.secants.observe(x, step)
        earlier, self._gain = self._gain, gain
        self._ratio = np.nan
        if gain is None:
            return
        self.at_rest = self._length <= math.sqrt(self.rounding.step) * size
        self.fixed = self._length <= least
        if not self.fixed:
            self._ratio = self._length / previous if previous > least else 1.0
            if earlier is not None and earlier > self.rounding.objective:
                self._ratio = max(self._ratio, math.sqrt(max(gain, 0.0) / earlier))
        self.idle = 0 if gain > self.rounding.objective else self.idle + int(self._length <= previous)

    @property
    def rate(self) -> float:
        """Share of the distance that an EM step leaves in the slowest direction seen; NaN: too early to say."""
        if self._rate is None:
            self._rate = float(np.fmax(self._ratio, self.secants.rate()))
        return self._rate

    @property
    def gap(self) -> float:
        """At most how much is left to gain, in nats; infinite if neither a promise nor a plain step tells."""
        if self._gain is not None and self.fixed:
            return 0.0
        if math.isfinite(self._promise):
            rate = self.rate
            return self._promise / (1.0 - rate) if rate < 1.0 else np.inf
        if self._gain is None:
            return np.inf
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
    blocks: Sequence[Data] | Blocks,
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
    noise = [model.rounding(block) for block in outlines(blocks)]
    least = Rounding(sum(each.objective for each in noise), noise[0].step)
    rounding = _rounding_at(params, model, least)
    charts = model.charts
    at = Progress(params, pack(params, charts), accelerate(), Pace(rounding), max(tol, rounding.objective))
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
            there = _rounding_at(point, model, least) if plain and not isinstance(turn, str) else None
            slack = max(rounding, there or rounding).objective  # the EM map may lead where rounding is larger
            if here is not None and (isinstance(turn, str) or turn.objective < here.objective - slack):
                if plain:  # the EM map itself has no answer, or fell
                    fell = ("stalled", "an EM step lowered the objective")
                    status, reason = ("degenerate", turn) if isinstance(turn, str) else fell
                    break
                accelerator.reject()
                point, x, plain, at.n_steps = here.image, gx, True, at.n_steps + 1
                continue
            assert isinstance(turn, Step)
            rounding = pace.rounding = there or _rounding_at(point, model, least)
            close = max(tol, rounding.objective)
            gx = pack(turn.image, charts)
            if resumed:
                _check_same(turn.objective, at.history[-1], rounding)
            else:
                at.gain = turn.objective - here.objective if here else np.inf
                near = at.gain <= _ALLOWANCE * close
                promise = model.promise(turn.image, turn.stats, point) if near else np.nan
                pace.observe(x, gx, at.gain if here and plain else None, promise)
                at.point, at.x, at.plain = point, x, plain
                at.history.append(turn.objective)
            here = turn
            if watch is not None and not resumed and watch.step(number, at, turn):
                status, reason = "stopped", ASKED
                break
            resumed = False
            asking = at.gain <= at.worth_asking
            if not plain and pace.gap <= close:  # a promise tells already: a first look
                asking, at.confirmed = True, 1
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
            accelerator.observe(x, gx)
            # Plain are the steps that ask, and the last.
            due = asking or at.n_steps >= max_iter
            proposal = None if due else accelerator.propose(x, gx, pace.secants)
            plain = proposal is None or not np.isfinite(proposal).all()
            x = gx if proposal is None or plain else proposal
            point = turn.image if plain else unpack(x, charts, turn.image)
    except KeyboardInterrupt:
        if here is None:
            raise
        status, reason = "stopped", INTERRUPTED
    assert here is not None
    collapsed = None if status == "stopped" else model.degenerate(at.point, here.stats)
    if collapsed is not None:
        status, reason = "degenerate", collapsed
    gap = _ALLOWANCE * pace.gap
    if status == "converged":
        gap = rounding.objective if pace.idle >= _IDLE else min(max(gap, rounding.objective), close)
    # 1 or more, at rest: that of a saddle left on the way.
    rate = np.nan if status == "converged" and pace.rate >= 1.0 else pace.rate
    record = (here.objective, here.loglik, np.array(at.history), at.n_steps, rate, gap, status, reason)
    ascent = Ascent(at.point, here.stats, *record)
    if watch is not None:
        watch.end(number, at, ascent)
    return ascent


def _rounding_at(params: Params, model: Model, least: Rounding) -> Rounding:
    condition = model.condition(params)
    return least if condition == 1.0 else least._replace(objective=least.objective * condition)


def _check_same(objective: float, recorded: float, rounding: Rounding) -> None:
    if abs(objective - recorded) > rounding.objective:
        raise ValueError(
            f"a checkpoint recorded the objective {recorded:.17g} where these data give {objective:.17g}: the data "
            "have changed; give back the same data, or delete the checkpoint to begin again"
        )


def _try(model: Model, blocks: Sequence[Data] | Blocks, point: Params, run: Run[Stats]) -> Step | str:
    """Take a step, or say why there is none."""
    try:
        # What cannot be computed at a proposal is not worth a warning: it is rejected.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return step(model, blocks, point, run=run)
    except (Degenerate, np.linalg.LinAlgError) as error:
        return str(error)
