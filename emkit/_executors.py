"""Where blocks are mapped: in the calling thread, on several threads, or where a source has them (``_sources``).

Same blocks, same order of summation.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import Any, TypeVar

import joblib
from joblib.parallel import get_active_backend
from threadpoolctl import LibController, ThreadpoolController

from ._sources import Blocks

T = TypeVar("T")
Run = Callable[[Callable[[Any], T], Any], Iterator[T]]


def serial(function: Callable[[Any], T], items: Any) -> Iterator[T]:
    """Map in the calling thread; blocks of a source, where they are."""
    return items.map(function, None) if isinstance(items, Blocks) else map(function, items)


@contextmanager
def workers(n_workers: int) -> Iterator[Run[Any]]:
    """Give a function that maps over ``n_workers`` threads, in order; one worker is the calling thread itself."""
    if n_workers == 1:
        yield serial
        return
    with ThreadPoolExecutor(n_workers) as pool:

        def run(function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
            if isinstance(items, Blocks):
                return items.map(function, pool)
            return _share(function, items, pool, n_workers - 1)

        yield run


def _share(function: Callable[[Any], T], items: Sequence[Any], pool: Executor, n_helpers: int) -> Iterator[T]:
    """Map, helped by threads of a pool: each takes the next item when it is free, the calling thread at once.

    To wake a thread can take as long as a short item: nothing waits for it.
    """
    waiting, done, n_given = deque(enumerate(items)), dict[int, T](), 0

    def take_one() -> bool:
        try:
            number, item = waiting.popleft()
        except IndexError:
            return False
        done[number] = function(item)
        return True

    def help_out() -> None:
        while take_one():
            pass

    def ready() -> Iterator[T]:
        nonlocal n_given
        while n_given in done:
            yield done.pop(n_given)
            n_given += 1

    helpers = [pool.submit(help_out) for _ in range(min(n_helpers, len(items) - 1))]
    try:
        while take_one():
            yield from ready()
    finally:
        waiting.clear()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    yield from ready()


def _affinity() -> frozenset[int]:
    """Processors this process is bound to, where that can be asked."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


@cache
def _cores(limit: str | None, affinity: frozenset[int]) -> int:
    """Count the cores this process may use; asked once, because files are read for it."""
    return int(joblib.cpu_count())


def count_workers(n_jobs: int | None) -> int:
    """How many threads ``n_jobs`` stands for: None is every core this process may use, one inside a joblib worker.

    ``joblib.parallel_config(n_jobs=...)`` and ``OMP_NUM_THREADS`` (of a list, the first) are respected when ``n_jobs``
    is None. Cores are counted by joblib: as many as affinity, cgroups and ``LOKY_MAX_CPU_COUNT`` leave to this process.
    """
    backend, configured = get_active_backend()
    if n_jobs is None and getattr(backend, "nesting_level", None):
        return 1
    if n_jobs is None:
        n_jobs = configured
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    cores = _cores(os.environ.get("LOKY_MAX_CPU_COUNT"), _affinity())
    if n_jobs is not None:
        return max(1, n_jobs if n_jobs > 0 else cores + 1 + n_jobs)
    return min(cores, int(limit)) if limit.isdigit() and int(limit) > 0 else cores


@cache
def _blas() -> list[LibController]:
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)  # scans the loaded libraries: once


class _OneBlasThread:
    """A limit of the whole process that many threads may ask for at once: the first sets it, the last lifts it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before: list[int] = []

    def renew_lock(self) -> None:
        """In a forked child: a thread that held the lock is not there to let it go."""
        self._lock = Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [library.get_num_threads() for library in _blas()]
                for library in _blas():
                    library.set_num_threads(1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, n_threads in zip(_blas(), self._before, strict=True):
                    library.set_num_threads(n_threads)


_ONE_BLAS_THREAD = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ONE_BLAS_THREAD.renew_lock)


def one_blas_thread() -> AbstractContextManager[None]:
    """Hold BLAS to one thread: the parallelism is over blocks and starts, and results do not depend on the machine."""
    return _ONE_BLAS_THREAD
