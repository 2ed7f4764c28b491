"""Cores that a grid search over mixtures takes: CPU seconds, its workers' too, for each second that passes.

And how many threads want to run, sampled from /proc (Linux), which says more where there are no more than two cores.
"""

import argparse
import os
import resource
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV

from emkit import EMGaussianMixture


def cpu_seconds():
    """Of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def family(pid):
    """Number of a process and of all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def wanting():
    """How many threads of this process and its descendants are running or waiting for a core, but for the caller's."""
    count = 0
    for pid in family(os.getpid()):
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            if int(stat.parent.name) == threading.get_native_id():
                continue
            try:
                count += stat.read_text().rpartition(")")[2].split()[0] == "R"
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
    return count


@contextmanager
def sampled(counts):
    """Append how many threads want to run, a hundred times a second."""
    over = threading.Event()

    def sample():
        while not over.wait(0.01):
            try:
                counts.append(wanting())
            except (FileNotFoundError, ProcessLookupError):
                continue

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        over.set()
        sampler.join()


def searched(X, n_jobs_inside):
    """Cores taken by a grid search with two workers, and threads that wanted to run: mean and largest number."""
    grid = {"covariance_type": ["full", "diag"], "n_components": [4, 8]}
    mixture = EMGaussianMixture(random_state=0, n_init=4, n_jobs=n_jobs_inside)
    GridSearchCV(mixture, grid, cv=2, n_jobs=2).fit(X[:1000])  # workers start, modules load
    get_reusable_executor().shutdown(wait=True)
    counts, cpu, began = [], cpu_seconds(), time.perf_counter()
    with sampled(counts):
        GridSearchCV(mixture, grid, cv=3, n_jobs=2).fit(X)
    seconds = time.perf_counter() - began
    get_reusable_executor().shutdown(wait=True)  # only children that have ended are counted
    return (cpu_seconds() - cpu) / seconds, float(np.mean(counts)), max(counts)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(arguments.rows, 4)) + 3.0 * rng.integers(0, 4, (arguments.rows, 1))
    print("| n_jobs of the mixture | cores taken | threads that want to run, mean | most |\n|---|---|---|---|")
    for inside in (None, 2):
        cores, mean, most = searched(X, inside)
        print(f"| {inside} | {cores:.2f} | {mean:.2f} | {most} |")


if __name__ == "__main__":
    main()
