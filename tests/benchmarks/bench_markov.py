"""Hidden Markov models beside hmmlearn's: one run, same data, same parameters, the same likelihood, then the clock.

``python tests/benchmarks/bench_markov.py`` prints the tables and writes them to docs/benchmarks_markov.md; ``--quick``
takes a tenth of the rows. Times are per EM iteration of the public estimators, all cores for both, medians of pairs
taken in turn. Every section is a process of its own, since what one has freed would change what memory costs the next.
"""

import argparse
import platform
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import hmmlearn
import joblib
import numpy as np
from hmmlearn.hmm import CategoricalHMM, GaussianHMM

from emkit import EMHiddenMarkov, __version__, kernels
from emkit.emissions import Categorical

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks_markov.md"
# sequences, rows of each, states, columns, shape, ratio asked for against "scaling", against "log"
CASES = [
    (1, 100_000, 3, 1, "diag", 6, 15),
    (1, 100_000, 8, 4, "full", 15, 25),
    (1, 100_000, 32, 8, "diag", 12, 60),
    (1, 20_000, 100, 8, "diag", 10, 60),
    (50, 100, 2, 1, "diag", 15, None),
    (50, 100, 10, 1, "diag", 10, None),
    (20_000, 20, 5, 1, "diag", 50, None),
    (1, 100_000, 3, "symbols", None, 6, 15),
]
DECODING = [(100_000, 3, 5), (100_000, 32, 12)]
PAIRS = 5


def clock(work):
    began = perf_counter()
    work()
    return perf_counter() - began


def draw(n, k, d):
    """Rows of a slow chain whose states overlap."""
    rng = np.random.default_rng(0)
    state = np.cumsum(rng.random(n) < 0.1) % k
    if d == "symbols":
        return (state + rng.integers(2, size=n))[:, None] % 6
    return rng.normal(size=(n, d)) + 2.0 * rng.normal(size=(k, d))[state]


def pair(X, lengths, k, shape, implementation):
    """Both models at the same parameters, and how each iterates."""
    rng = np.random.default_rng(1)
    A = np.full((k, k), 0.1 / k) + 0.9 * np.eye(k)
    pi = np.full(k, 1 / k)
    common = {"startprob_": pi, "transmat_": A / A.sum(axis=1, keepdims=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if shape is None:
            ours = EMHiddenMarkov(
                k, emission=Categorical(categories=tuple(range(6))), n_init=1, max_iter=1, random_state=0
            )
            theirs = CategoricalHMM(k, implementation=implementation, init_params="", params="ste")
            law = {"emissionprob_": rng.dirichlet(np.ones(6), size=k)}
            theirs.n_features = 6
        else:
            ours = EMHiddenMarkov(k, covariance_type=shape, n_init=1, max_iter=1, random_state=0)
            theirs = GaussianHMM(k, covariance_type=shape, implementation=implementation, init_params="")
            d = X.shape[1]
            means = X[rng.choice(len(X), k, replace=False)]
            law = {"means_": means, "covars_": np.ones((k, d)) if shape == "diag" else np.repeat(np.eye(d)[None], k, 0)}
            theirs.n_features = d
        ours.fit(X[: max(200, 2 * k)])
    for name, value in {**common, **law}.items():
        setattr(theirs, name, value)
        setattr(ours, "covariances_" if name == "covars_" else name, value)
    ours.set_params(warm_start=True, acceleration=None, tol=0.0)

    def iterate(n_steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, value in {**common, **law}.items():
                setattr(ours, "covariances_" if name == "covars_" else name, value)
            ours.set_params(max_iter=n_steps).fit(X, lengths=lengths)

    def peer(n_steps):
        for name, value in {**common, **law}.items():
            setattr(theirs, name, value)
        theirs.n_iter, theirs.tol = n_steps, -np.inf
        theirs.fit(X, lengths)

    return ours, theirs, iterate, peer


def per_iteration(run, most):
    """Seconds of one iteration: the difference between many and one, so that what is done once does not count.

    After one that nobody times, so that neither finds the caches as the other library has left them.
    """
    run(1)
    few, many = clock(partial(run, 1)), clock(partial(run, 1 + most))
    return max(many - few, 1e-9) / most


def bench_iterations(scale):
    yield "| sequences x rows | K | columns | emkit, ms | scaling, ms | ratio (asked) | log, ms | ratio (asked) |"
    yield "|---|---|---|---|---|---|---|---|"
    for n_sequences, n, k, d, shape, *asked in CASES:
        n_sequences, n = (
            (max(1, n_sequences // scale), n) if n_sequences > 1000 else (n_sequences, max(100, n // scale))
        )
        X, lengths = draw(n_sequences * n, k, d), [n] * n_sequences
        line = [f"{n_sequences} x {n}", str(k), f"{d} {shape or ''}".strip()]
        for implementation, wanted in zip(("scaling", "log"), asked, strict=True):
            if wanted is None:
                line += ["", ""]
                continue
            ours, theirs, iterate, peer = pair(X, lengths, k, shape, implementation)
            mine = float(np.sum(ours.score_samples(X, lengths=lengths)))
            np.testing.assert_allclose(mine, theirs.score(X, lengths), rtol=1e-8)
            # An iteration of a millisecond is lost in the noise of what surrounds it unless many are taken.
            pairs, most = (PAIRS, 1) if len(X) * k > 200_000 else (15 * PAIRS, 10)
            times = [(per_iteration(iterate, 10), per_iteration(peer, most)) for _ in range(pairs)]
            if implementation == "scaling":
                line.append(f"{1e3 * median(t[0] for t in times):.3g}")
            ratio = median(b / a for a, b in times)
            line += [f"{1e3 * median(t[1] for t in times):.3g}", f"**{ratio:.1f}** ({wanted})"]
        yield "| " + " | ".join(line) + " |"


def bench_decoding(scale):
    yield "| rows | K | emkit, ms | hmmlearn, ms | ratio (asked) |"
    yield "|---|---|---|---|---|"
    for n, k, wanted in DECODING:
        X = draw(n // scale, k, 1)
        both = pair(X, [len(X)], k, "diag", "log")[:2]
        np.testing.assert_allclose(*(model.decode(X)[0] for model in both), rtol=1e-8)
        times = [[clock(partial(model.decode, X)) for model in both] for _ in range(3 * PAIRS)]
        mine, other = (1e3 * median(t[i] for t in times) for i in (0, 1))
        ratio = median(b / a for a, b in times)
        yield f"| {len(X)} | {k} | {mine:.3g} | {other:.3g} | **{ratio:.1f}** ({wanted}) |"


def bench_memory(scale):
    """Peak growth of a fit of one long sequence beyond the data, in a fresh process."""
    code = f"""
import warnings
import numpy as np
from emkit import EMHiddenMarkov
warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=({10_000_000 // scale}, 1)); X[::2] += 3
model = EMHiddenMarkov(4, covariance_type="diag", n_init=1, max_iter=1, random_state=0).fit(X[:1000])
from emkit._em import step
from emkit._sequences import arrange
chain = model._model()
data = chain.prepare(arrange(X, None, None))
blocks = chain.split(data)
params = chain.standardize(model._recall(), data)
def peak():  # of this process alone; what getrusage says begins at the peak of the parent
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
step(chain, blocks, params)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    yield (
        f"One EM pass through one sequence of {10_000_000 // scale} rows, K=4: **{float(done.stdout):.0f} MB** beyond "
        "the data (700 asked)."
    )


def bench_band(scale):
    """A left-right band of two among many states against a dense chain of few."""
    n = 1_000_000 // scale
    state = np.arange(n) * 64 // n  # from left to right, as such a chain goes
    X = 3.0 * state[:, None] + np.random.default_rng(0).normal(size=(n, 1))
    dense = pair(X, [n], 4, "diag", "scaling")[2]
    ours = pair(X, [n], 64, "diag", "scaling")[0]
    A = (1.0 - 64 / n) * np.eye(64) + 64 / n * np.eye(64, k=1)
    A[-1, -1] = 1.0

    def banded(n_steps):
        ours.set_params(max_iter=n_steps)  # zeros stay zero, as those of a mask
        ours.transmat_, ours.startprob_ = A, np.full(64, 1 / 64)
        ours.means_, ours.covariances_ = 3.0 * np.arange(64.0)[:, None], np.ones((64, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours.fit(X)

    times = [(per_iteration(dense, 2), per_iteration(banded, 2)) for _ in range(2 * PAIRS)]
    yield (
        f"T={n}: K=64 with a band of two costs **{median(b / a for a, b in times):.1f}** times K=4 dense (3 asked), "
        f"{1e3 * median(t[1] for t in times):.0f} ms against {1e3 * median(t[0] for t in times):.0f} ms, the "
        "log-densities of 64 states against 4 included."
    )


SECTIONS = {
    "One EM iteration": bench_iterations,
    "Viterbi": bench_decoding,
    "Memory": bench_memory,
    "Sparse transitions": bench_band,
}


def lines_of(title, scale):
    return list(SECTIONS[title](scale))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and no file")
    parser.add_argument("sections", nargs="*", help=f"of {list(SECTIONS)}; all by default, and only then a file")
    options = parser.parse_args()
    lines = [
        "# Benchmarks of hidden Markov models",
        "",
        "Generated by `python tests/benchmarks/bench_markov.py`; ratios are medians of pairs, above 1 where emkit is "
        "faster. Every section is a process of its own.",
        "",
        f"emkit {__version__} ({kernels.BUILD}), hmmlearn {hmmlearn.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {joblib.cpu_count()} cores, {platform.machine()}.",
    ]
    print("\n".join(lines))
    for title in options.sections or SECTIONS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            told = ["", f"## {title}", "", *fresh.submit(lines_of, title, 10 if options.quick else 1).result()]
        print("\n".join(told), flush=True)
        lines += told
    if not options.quick and not options.sections:
        REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
