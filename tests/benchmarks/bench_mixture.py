"""Gaussian mixtures beside scikit-learn's: one run, same data, same starts, the same answer, and only then the clock.

``python tests/benchmarks/bench_mixture.py`` prints the tables and writes them to docs/benchmarks_mixture.md;
``--quick`` takes a tenth of the rows. Times are per EM iteration, all cores for both, medians of five pairs taken in
turn.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter

import joblib
import numpy as np
import sklearn
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from emkit import EMGaussianMixture, __version__, kernels
from emkit._em import step
from emkit._executors import one_blas_thread, workers
from emkit.finite_mixture import Parts

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks_mixture.md"
# shape, rows, columns, components, the ratio asked for
CASES = [
    ("full", 200_000, 2, 5, 20),
    ("full", 200_000, 10, 10, 40),
    ("full", 100_000, 32, 16, 20),
    ("full", 50_000, 64, 32, 25),
    ("tied", 200_000, 10, 10, 30),
    ("diag", 200_000, 16, 16, 12),
    ("spherical", 200_000, 10, 10, 12),
]
PAIRS, ITERATIONS = 5, 2


def draw(n, d, k, dtype=np.float64, apart=1.0):
    """Overlapping clusters: no row is settled early, so nothing can be skipped."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) + apart * rng.normal(size=(k, d))[rng.integers(k, size=n)]).astype(dtype)


def clock(work):
    began = perf_counter()
    work()
    return perf_counter() - began


def side_by_side(*tasks, pairs=PAIRS):
    """Median seconds of each task, and the median over pairs of the ratio of the last to the first."""
    for task in tasks:
        task()
    times = [[clock(task) for task in tasks] for _ in range(pairs)]
    return [median(t) for t in zip(*times, strict=True)], median(t[-1] / t[0] for t in times)


def peer(shape, X, k):
    """scikit-learn's mixture after two steps from the first rows and the data's own covariance."""
    d = X.shape[1]
    unit = {
        "full": np.repeat(np.eye(d)[None], k, axis=0),
        "tied": np.eye(d),
        "diag": np.ones((k, d)),
        "spherical": np.ones(k),
    }
    start = {"weights_init": np.full(k, 1 / k), "means_init": X[:k], "precisions_init": unit[shape] / X.var()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(k, covariance_type=shape, max_iter=2, **start).fit(X)


def iterate_peer(mixture, X):
    for _ in range(ITERATIONS):
        _, log_resp = mixture._e_step(X)
        mixture._m_step(X, log_resp)


def ours(shape, mixture, X):
    """Our model, data and parameters at the peer's."""
    estimator = EMGaussianMixture(mixture.n_components, covariance_type=shape, reg_covar=0.0)
    model = estimator._model()
    data = model.prepare(X)
    means, covariances = np.float64(mixture.means_), np.float64(mixture.covariances_)
    params = Parts(np.float64(mixture.weights_), model.law.from_covariances(means, covariances))
    return model, model.split(data), model.standardize(params, data), data


def iterate(model, blocks, params, run):
    for _ in range(ITERATIONS):
        params = step(model, blocks, params, run=run).image
    return params


def gemm_rate():
    """This machine's double-precision rate, all cores, in flops per second: the best of ten products."""
    a = np.random.default_rng(0).normal(size=(2000, 2000))
    return 2 * 2000**3 / min(clock(lambda: a @ a) for _ in range(10))


def bench_iterations(scale):
    yield "| covariances | n | d | K | scikit-learn, ms | emkit, ms | ratio | asked | share of GEMM rate |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for shape, n, d, k, asked in CASES:
        X = draw(n // scale, d, k)
        mixture = peer(shape, X, k)
        model, blocks, params, data = ours(shape, mixture, X)
        with workers(joblib.cpu_count()) as run:
            check_same_step(mixture, model, data, step(model, blocks, params, run=run), X)

            def mine(model=model, blocks=blocks, params=params, run=run):
                with one_blas_thread():
                    iterate(model, blocks, params, run)

            seconds, ratio = side_by_side(mine, lambda mixture=mixture, X=X: iterate_peer(mixture, X))
        ours_ms, theirs_ms = (1e3 * s / ITERATIONS for s in seconds)
        share = f"{len(X) * k * d * (d + 1) * 2 / (ours_ms / 1e3) / gemm_rate():.0%}" if shape == "full" else ""
        times = f"{theirs_ms:.1f} | {ours_ms:.2f} | **{ratio:.1f}** | {asked}"
        yield f"| {shape} | {len(X)} | {d} | {k} | {times} | {share} |"


def check_same_step(mixture, model, data, turn, X):
    """The answers first: one step of each, from the same parameters."""
    mean_loglik, log_resp = mixture._e_step(X)
    np.testing.assert_allclose(turn.loglik / len(X), mean_loglik, rtol=1e-8)
    before = mixture.means_.copy()
    mixture._m_step(X, log_resp)
    np.testing.assert_allclose(model.restore(turn.image, data).law.means, mixture.means_, rtol=1e-6, atol=1e-6)
    mixture.means_ = before


def bench_float32(scale):
    n, d, k = 100_000 // scale, 32, 16
    mixture = peer("full", draw(n, d, k), k)
    with workers(joblib.cpu_count()) as run, one_blas_thread():
        single, double = (ours("full", mixture, draw(n, d, k, dtype))[:3] for dtype in (np.float32, np.float64))
        _, ratio = side_by_side(lambda: iterate(*single, run), lambda: iterate(*double, run))
    yield f"float32 against float64, full {n} x {d}, K={k}: **{ratio:.2f}** times as fast (1.4 asked)."


def bench_prediction(scale):
    yield "| method | covariances | n | d | K | scikit-learn, ms | emkit, ms | ratio | asked |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for shape, n, d, k, _ in CASES:
        X = draw(n // scale, d, k)
        mixture = peer(shape, X, k)
        mine = EMGaussianMixture(k, covariance_type=shape)
        for name in ("weights_", "means_", "covariances_"):
            setattr(mine, name, getattr(mixture, name))
        mine.n_features_in_, mine.status_, mine._fitted_type = d, "converged", shape
        for method in ("score_samples", "predict"):
            np.testing.assert_allclose(getattr(mine, method)(X[:100]), getattr(mixture, method)(X[:100]), rtol=1e-6)
            tasks = [lambda m=m, method=method, X=X: getattr(m, method)(X) for m in (mine, mixture)]
            (ours_s, theirs_s), ratio = side_by_side(*tasks)
            row = f"{method} | {shape} | {len(X)} | {d} | {k} | {1e3 * theirs_s:.1f} | {1e3 * ours_s:.2f}"
            yield f"| {row} | **{ratio:.1f}** | 10 |"


def bench_iris(scale):
    X = load_iris().data
    (ours_s, theirs_s), ratio = side_by_side(
        lambda: EMGaussianMixture(3).fit(X), lambda: GaussianMixture(3).fit(X), pairs=41
    )
    worst = min(EMGaussianMixture(3, random_state=s).fit(X).log_likelihood_ for s in range(40))
    best = max(150 * GaussianMixture(3, random_state=s).fit(X).score(X) for s in range(40))
    times = f"emkit {1e3 * ours_s:.1f} ms, scikit-learn {1e3 * theirs_s:.1f} ms"
    yield f"Default fit of iris, K=3: {times} (ratio {ratio:.2f})."
    yield f"Over 40 seeds emkit's lowest log-likelihood is {worst:.4f}, scikit-learn's highest {best:.4f}."


def bench_memory(scale):
    """Peak growth of a whole fit beyond the data, in a fresh process."""
    code = f"""
import warnings
import numpy as np
from emkit import EMGaussianMixture
warnings.simplefilter("ignore")
small = np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32)
EMGaussianMixture(16, max_iter=2).fit(small)
X = np.empty(({2_000_000 // scale}, 16), np.float32)
for rows in np.array_split(X, 50):
    rows[:] = np.random.default_rng(len(rows)).normal(size=rows.shape)
def peak():  # of this process alone; what getrusage says begins at the peak of the parent
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
EMGaussianMixture(16, max_iter=3, random_state=0).fit(X)
print(peak() - before)
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    what = f"Peak memory of a fit of {2_000_000 // scale} x 16 float32, K=16, beyond the data"
    yield f"{what}: **{float(done.stdout):.0f} MB** (60 asked)."


SECTIONS = {
    "One EM iteration": bench_iterations,
    "Float32": bench_float32,
    "Prediction": bench_prediction,
    "Small data": bench_iris,
    "Memory": bench_memory,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and no file")
    parser.add_argument("sections", nargs="*", help=f"of {list(SECTIONS)}; all by default, and only then a file")
    options = parser.parse_args()
    lines = [
        "# Benchmarks of mixtures",
        "",
        "Generated by `python tests/benchmarks/bench_mixture.py`; ratios are medians of pairs, above 1 where emkit is "
        "faster.",
        "",
        f"emkit {__version__} ({kernels.BUILD}), scikit-learn {sklearn.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {joblib.cpu_count()} cores, {platform.machine()}; "
        f"matrix product {gemm_rate() / 1e9:.0f} Gflop/s in double precision.",
    ]
    print("\n".join(lines))
    for title in options.sections or SECTIONS:
        lines += ["", f"## {title}", ""]
        print(f"\n## {title}\n")
        for line in SECTIONS[title](10 if options.quick else 1):
            print(line, flush=True)
            lines.append(line)
    if not options.quick and not options.sections:
        REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
