"""Watching a fit: what the engine tells of its climbs reaches messages, scikit-learn's callbacks and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

from ._em import ASKED, INTERRUPTED, Progress, Step
from ._model import Ascent
from .callbacks import Checkpoint


class Watcher:
    """Sees the climbs of one fit.

    The tasks are ``fit``, below it one ``init`` for each climb on all the data, below that one ``iter`` for each
    accepted point. A callback's exception stops the search like the user's interrupt; ``error`` holds it until the best
    parameters have been published.
    """

    def __init__(self, estimator: Any, seed: np.random.SeedSequence, n_rows: int, seen: dict[str, Any]) -> None:
        callbacks = getattr(estimator, "_skl_callbacks", [])
        self.error: Exception | None = None
        self._estimator = estimator
        self._seen = seen  # what every hook may ask for: the data, the metadata
        self._lock = Lock()  # climbs run side by side, callbacks one after the other
        self._tasks: dict[int, Any] = {}
        self._first = 0  # number of this search's first climb
        self._checkpoint = next((c for c in callbacks if isinstance(c, Checkpoint)), None)
        self.seed = seed if self._checkpoint is None else self._checkpoint.open(estimator, seed, n_rows)
        self._root = None
        if callbacks:
            self._root = estimator._init_callback_context(max_subtasks=None, sequential_subtasks=False)
            self._root.call_on_fit_task_begin(estimator=estimator, **seen)

    def enter(self, reconstruct: Callable[[Ascent], dict[str, Any]]) -> None:
        """Hear that a search begins, whose climbs ``reconstruct`` turns into fitted attributes."""
        self._reconstruct = reconstruct
        self._first = len(self._tasks)

    def begin(self, number: int, progress: Progress) -> None:
        """Open the climb's task and go on from its checkpoint if there is one."""
        number += self._first
        with self._lock:
            if self._checkpoint is not None:
                self._checkpoint.recall(number, progress)
            self._tasks[number] = None
            if self._root is not None:
                n_points = self._estimator.max_iter + 1
                task = self._root.subcontext(task_name="init", task_id=number, max_subtasks=n_points)
                self._tasks[number] = task
                self._guard(task.call_on_fit_task_begin)

    def step(self, number: int, progress: Progress, turn: Step) -> bool:
        """Tell everyone of an accepted point."""
        number += self._first
        with self._lock:
            self._say(progress, turn)
            stop = False
            if self._root is not None:
                task = self._tasks[number].subcontext(task_name="iter")
                self._guard(task.call_on_fit_task_begin)
                stop = self._guard(
                    task.call_on_fit_task_end,
                    reconstruction_attributes=lambda: self._reconstruct(_as_if_stopped(progress, turn)),
                )
            if self._checkpoint is not None:
                self._checkpoint.save(number, progress)
            if self.error is not None:
                raise KeyboardInterrupt
            return stop

    def end(self, number: int, progress: Progress, ascent: Ascent) -> None:
        """Close the climb's task."""
        number += self._first
        with self._lock:
            if self._checkpoint is not None and ascent.status in ("converged", "max_iter"):
                self._checkpoint.save(number, progress, now=True)
            if self._root is not None:
                self._guard(
                    self._tasks[number].call_on_fit_task_end,
                    reconstruction_attributes=lambda: self._reconstruct(ascent),
                )

    def close(self, best: Ascent) -> None:
        """Hear that the estimator is fitted."""
        if self._root is not None:
            self._guard(self._root.call_on_fit_task_end, reconstruction_attributes={})
        if self._checkpoint is not None and self.error is None and best.reason != INTERRUPTED:
            self._checkpoint.remove()

    def _guard(self, hook: Callable[..., Any], **more: Any) -> bool:
        """Call a hook unless one has failed already; keep its exception for later."""
        if self.error is not None:
            return False
        try:
            return bool(hook(estimator=self._estimator, **self._seen, **more))
        except Exception as error:  # whatever a user's callback raises; it is raised again after the fit
            self.error = error
            return False

    def _say(self, progress: Progress, turn: Step) -> None:
        verbose, n_accepted = self._estimator.verbose, len(progress.history)
        if verbose > 1 or (verbose and n_accepted % 10 == 1):
            print(f"{type(self._estimator).__name__}: step {progress.n_steps}, objective {turn.objective:.6f}")


def _as_if_stopped(progress: Progress, turn: Step) -> Ascent:
    history, pace = np.array(progress.history), progress.pace
    ending = (progress.n_steps, pace.rate, pace.gap, "stopped", ASKED)
    return Ascent(progress.point, turn.stats, turn.objective, turn.loglik, history, *ending)
