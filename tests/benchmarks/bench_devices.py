"""Mixtures and chains of torch tensors: seconds per EM iteration on a device, beside those of NumPy arrays.

``SCIPY_ARRAY_API=1 python tests/benchmarks/bench_devices.py`` measures the best device that torch finds and writes
docs/benchmarks_devices.md; a processor alone does well with ``--rows 100000``.
"""

import argparse
import warnings
from pathlib import Path
from time import perf_counter

import joblib
import numpy as np
import sklearn
import torch
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from emkit import EMGaussianMixture, EMHiddenMarkov, kernels
from emkit._em import step
from emkit._executors import one_blas_thread, workers
from emkit._sequences import arrange

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks_devices.md"
STEPS = 5
# sequences, rows of each, states, columns
CHAINS = [(1, 100_000, 4, 4), (1, 100_000, 16, 8), (100, 1_000, 8, 8), (5_000, 20, 8, 8)]


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work, repeats=5):
    work()
    times = []
    for _ in range(repeats):
        synchronise()
        began = perf_counter()
        work()
        synchronise()
        times.append(perf_counter() - began)
    return min(times)


def iteration(model, X, n_workers=1):
    """Seconds of one of the engine on all rows, from the same start wherever they are, and its log-likelihood."""
    data = model.prepare(X)
    model = model.calibrate(data)
    params = model.start(model.sketch(data), np.random.default_rng(0))
    blocks = model.split(data)
    with one_blas_thread(), workers(n_workers) as run:
        return seconds(lambda: step(model, blocks, params, run=run)), step(model, blocks, params, run=run).loglik


def mixture(means, shape):
    k, d = means.shape
    precisions = {"full": np.array([np.eye(d)] * k), "diag": np.ones((k, d))}[shape]
    given = {"weights_init": np.full(k, 1.0 / k), "means_init": means, "precisions_init": precisions}
    return EMGaussianMixture(k, covariance_type=shape, **given)._model()


def chain(k):
    """That whose states are drawn from the data."""
    estimator = EMHiddenMarkov(k, covariance_type="full", n_jobs=1)
    estimator.emission_ = estimator._law()
    return estimator._model()


def sklearn_iteration(X, means, shape):
    """Of whole fits: that of more steps less that of fewer."""
    k, d = means.shape

    def there(array):
        return torch.asarray(array, dtype=X.dtype, device=X.device)

    precisions = {"full": np.array([np.eye(d)] * k), "diag": np.ones((k, d))}[shape]
    given = {"weights_init": np.full(k, 1.0 / k), "means_init": means, "precisions_init": precisions}
    given = {name: there(array) for name, array in given.items()}

    def fit(n):
        GaussianMixture(k, covariance_type=shape, tol=0.0, max_iter=n, init_params="random_from_data", **given).fit(X)

    return (seconds(lambda: fit(1 + STEPS), 3) - seconds(lambda: fit(1), 3)) / STEPS


def gemm_rate(dtype, device):
    """Arithmetic operations per second of a large square product."""
    a = torch.randn(4096, 4096, dtype=dtype, device=device)
    return 2 * 4096**3 / seconds(lambda: a @ a)


def mixtures(say, n, device):
    d, k, n_cores = 32, 32, joblib.cpu_count()
    rng = np.random.default_rng(0)
    means = 3.0 * rng.normal(size=(k, d))
    rows = means[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    say(
        f"\n## Mixtures\n\n{n} x {d}, {k} components, seconds per EM iteration; NumPy arrays on one core and on "
        f"{n_cores}. *Share*: of the arithmetic of a 4096 x 4096 product, counting the 4 d^2 K operations per row that "
        "whitening and second moments take.\n"
    )
    say(
        "| covariances | type | emkit, there | scikit-learn, there | ratio | NumPy, one | ratio | all | ratio | share |"
    )
    say("|---|---|---|---|---|---|---|---|---|---|")
    for shape, dtype in ((shape, dtype) for shape in ("full", "diag") for dtype in (torch.float32, torch.float64)):
        X = torch.asarray(rows, dtype=dtype, device=device)
        name = str(dtype).removeprefix("torch.")
        model, local = mixture(means, shape), rows.astype(name)
        mine, there = iteration(model, X)
        rival = sklearn_iteration(X, means, shape)
        (one, here), (every, _) = (iteration(model, local, n_workers) for n_workers in (1, n_cores))
        print(f"log-likelihoods there and here: {there}, {here}")
        share = f"{4 * d * d * k * n / mine / gemm_rate(dtype, device):.0%}" if shape == "full" else ""
        say(
            f"| {shape} | {name} | {mine:.4f} | {rival:.4f} | **{rival / mine:.1f}** | {one:.4f} | "
            f"**{one / mine:.2f}** | {every:.4f} | **{every / mine:.2f}** | {share} |"
        )


def chains(say, device):
    say(
        "\n## Chains\n\nFull covariances, float64, seconds per EM iteration. *Difference*: of the log-likelihoods, "
        "relative.\n"
    )
    say("| sequences | rows of each | states | columns | emkit, there | emkit, NumPy | ratio | difference |")
    say("|---|---|---|---|---|---|---|---|")
    for N, n, k, d in CHAINS:
        rng = np.random.default_rng(0)
        states = np.cumsum(rng.random(N * n) < 0.1) % k
        rows = 2.0 * rng.normal(size=(k, d))[states] + rng.normal(size=(N * n, d))
        there, here = (
            iteration(chain(k), arrange(X, None, np.full(N, n))) for X in (torch.asarray(rows, device=device), rows)
        )
        say(
            f"| {N} | {n} | {k} | {d} | {there[0]:.4f} | {here[0]:.4f} | **{here[0] / there[0]:.2f}** | "
            f"{abs(there[1] / here[1] - 1.0):.0e} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    torch.backends.cuda.matmul.allow_tf32 = False
    lines = []

    def say(line):
        print(line, flush=True)
        lines.append(line)

    say("# Rows on another device\n\nGenerated by `SCIPY_ARRAY_API=1 python tests/benchmarks/bench_devices.py`.\n")
    if device == "cpu":
        torch.set_num_threads(1)
        say(
            '**No GPU was available**: "there" are torch tensors in the memory of the processor. The tables tell what '
            "the array API costs there, beside the compiled kernels that NumPy arrays get, other work going on.\n"
        )
    say(
        f"Shortest times. {name}, torch {torch.__version__}, scikit-learn {sklearn.__version__}; processor: "
        f"kernels {kernels.BUILD}. A ratio above 1 is in favour of emkit, there."
    )
    with warnings.catch_warnings(), config_context(array_api_dispatch=True):
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixtures(say, args.rows, device)
        chains(say, device)
    REPORT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
