"""EMImputer beside scikit-learn's imputers, and R Amelia where R is installed: one run, same data, same cells hidden.

``python tests/benchmarks/bench_imputer.py`` prints the tables and writes them to docs/benchmarks_imputer.md, with a
picture of the cost beside it; ``--quick`` takes a tenth of the rows and writes nothing. Sections may be
named.
"""

import argparse
import platform
import shutil
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
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from emkit import EMImputer, __version__, kernels, pool
from emkit._em import step
from emkit._executors import one_blas_thread, workers
from emkit.exceptions import DataWarning
from emkit.normal import MissingNormal

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks_imputer.md"
PAIRS = 9
# rows, columns, share missing, the ratio to IterativeImputer asked for
CASES = [(20_000, 20, 0.1, 150), (5_000, 50, 0.1, 150), (2_000, 10, 0.2, 40)]


def draw(n, p, share, seed=0):
    """Normal data with three factors, cells missing completely at random: the truth, and what is seen of it."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(n, 3)) @ rng.normal(size=(3, p)) + 0.5 * rng.normal(size=(n, p))
    return whole, np.where(rng.random(whole.shape) < share, np.nan, whole)


def clock(work, times=1):
    seconds = []
    for _ in range(times):
        began = perf_counter()
        result = work()
        seconds.append(perf_counter() - began)
    return median(seconds), result


def error(filled, whole, X):
    """Root mean squared error on the held-out cells."""
    return float(np.sqrt(np.mean((filled - whole)[np.isnan(X)] ** 2)))


def amelia(X):
    """R Amelia's EM without bootstrap: seconds of the call, and a filled table; None without R and Amelia."""
    script = """
suppressMessages(library(Amelia)); X <- as.matrix(read.csv("X.csv", header = FALSE))
began <- proc.time()[["elapsed"]]
a <- amelia(X, m = 1, p2s = 0, boot.type = "none", tolerance = 1e-4)
cat(proc.time()[["elapsed"]] - began)
"""
    if shutil.which("Rscript") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        np.savetxt(Path(folder) / "X.csv", X, delimiter=",", fmt="%.17g")
        Path(folder, "run.R").write_text(script, encoding="utf-8")
        done = subprocess.run(["Rscript", "run.R"], cwd=folder, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def bench_rivals(scale):
    yield "| n | p | missing | imputer | fit_transform, ms | times emkit's | asked | RMSE of held-out cells |"
    yield "|---|---|---|---|---|---|---|---|"
    for n, p, share, asked in CASES:
        whole, X = draw(n // scale, p, share)
        ours, filled = clock(lambda X=X: EMImputer().fit_transform(X), 15)
        rmse = error(filled, whole, X)
        head = f"| {len(X)} | {p} | {share:.0%} |"
        yield f"{head} EMImputer | {1e3 * ours:.1f} | 1 | | {rmse:.5f} |"
        for rival in (IterativeImputer(random_state=0), KNNImputer(), SimpleImputer()):
            # On small matrices, and beside other work, BLAS is faster on one thread: the rivals are given that.
            # In turn with it, because the speed of a machine changes.
            times, slow = [], isinstance(rival, KNNImputer)
            for _ in range(1 if slow else PAIRS):
                mine = clock(lambda X=X: EMImputer().fit_transform(X), 5)[0]
                with warnings.catch_warnings(), one_blas_thread():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    theirs, filled = clock(lambda rival=rival, X=X: rival.fit_transform(X))
                times.append((theirs, theirs / mine))
            theirs, ratio = (median(column) for column in zip(*times, strict=True))
            name, wanted = type(rival).__name__, asked if isinstance(rival, IterativeImputer) else ""
            rmse = error(filled, whole, X)
            yield f"{head} {name} | {1e3 * theirs:.1f} | **{ratio:.3g}** | {wanted} | {rmse:.5f} |"
        seconds = amelia(X)
        result = "not installed" if seconds is None else f"{1e3 * seconds:.1f} | {seconds / ours:.3g}"
        yield f"{head} R Amelia, boot.type='none' | {result} | | |"


def one_pass(X):
    """Seconds of one EM step, all cores, its data prepared; and of that preparation."""
    model = MissingNormal()
    with one_blas_thread():
        preparing, data = clock(lambda: model.prepare(X))
    blocks, params = model.split(data), model.start(data, None)
    with one_blas_thread(), workers(min(joblib.cpu_count(), len(blocks))) as run:
        step(model, blocks, params, run=run)
        return clock(lambda: step(model, blocks, params, run=run), 5)[0], preparing


def bench_million(scale):
    whole, X = draw(1_000_000 // scale, 20, 0.1)
    with one_blas_thread():
        product = clock(lambda: whole.T @ whole, 5)[0]
    passing, preparing = one_pass(X)
    yield (
        f"One EM pass over {len(X)} x 20, 10 % missing: {1e3 * passing:.1f} ms, **{passing / product:.2f}** times one "
        f"`X.T @ X` ({1e3 * product:.1f} ms; 25 asked). Preparing the rows, once: {1e3 * preparing:.0f} ms."
    )


def bench_columns(scale):
    """Many columns, in a fresh process: time, and peak growth beyond the data."""
    code = f"""
import time, warnings
from pathlib import Path
import numpy as np
from emkit import EMImputer
def peak():  # ru_maxrss would be inherited from the parent
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
small = rng.normal(size=(200, 20)); small[rng.random(small.shape) < 0.1] = np.nan
EMImputer().fit_transform(small)
X = np.empty(({2000 // scale}, 500))
loadings = rng.normal(size=(3, 500))
for row in X:
    row[:] = rng.normal(size=3) @ loadings + 0.5 * rng.normal(size=500)
    row[rng.random(500) < 0.05] = np.nan
before = peak()
began = time.perf_counter()
imputer = EMImputer(prior="ridge").fit(X)
imputer.transform(X)
growth = peak() - before
seconds = time.perf_counter() - began
print(f"{{seconds:.2f}} s, {{imputer.n_iter_}} steps, {{imputer.status_}}, peak beyond the data **{{growth:.0f}} MB**")
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    yield f"{2000 // scale} x 500, 5 % missing, prior='ridge': {done.stdout.strip()} (300 asked)."


def bench_cost(scale):
    """One EM pass against rows (50 patterns or any), columns and share missing."""
    lines = {"rows, any pattern": [], "rows, 50 patterns": [], "columns": [], "share missing": []}
    for n in (2_000, 10_000, 50_000, 250_000):
        whole, X = draw(n // scale, 20, 0.1)
        lines["rows, any pattern"].append((n // scale, one_pass(X)[0]))
        patterns = np.random.default_rng(1).random((50, 20)) < 0.1
        few = np.where(patterns[np.random.default_rng(2).integers(50, size=len(X))], np.nan, whole)
        lines["rows, 50 patterns"].append((n // scale, one_pass(few)[0]))
    lines["columns"] = [(p, one_pass(draw(10_000 // scale, p, 0.1)[1])[0]) for p in (5, 10, 20, 40, 80)]
    lines["share missing"] = [
        (s, one_pass(draw(10_000 // scale, 20, s)[1])[0]) for s in (0.01, 0.05, 0.1, 0.3, 0.5, 0.7)
    ]
    for name, points in lines.items():
        yield f"- {name}: " + ", ".join(f"{x:g}: {1e3 * y:.2f} ms" for x, y in points)
    if scale == 1:
        yield ""
        yield f"![Cost of one EM pass]({plot(lines).name})"


def plot(lines):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True)
    for ax, names in zip(
        axes, (("rows, any pattern", "rows, 50 patterns"), ("columns",), ("share missing",)), strict=True
    ):
        for name in names:
            ax.plot(*np.array([(x, 1e3 * y) for x, y in lines[name]]).T, marker="o", label=name)
        ax.set(xlabel=names[0].split(",")[0], yscale="log", xscale="linear" if "share" in names[0] else "log")
        ax.legend()
    axes[0].set_ylabel("one EM pass, ms")
    figure.tight_layout()
    path = REPORT.with_suffix(".png")
    figure.savefig(path, dpi=100)
    return path


def bench_coverage(scale):
    """Intervals of cells, and of pooled means and slopes at 30 % missing."""
    rng = np.random.default_rng(0)
    repetitions, n, p = 1000 // scale, 100, 3
    A = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.3, 0.5, 0.8]])
    slope = np.linalg.solve((A @ A.T)[1:, 1:], (A @ A.T)[1:, 0])
    cells, covered = [], {"posterior": [], "bootstrap": [], "nothing missing": []}
    for _ in range(repetitions):
        whole = rng.normal(size=(n, p)) @ A.T
        X = np.where(rng.random(whole.shape) < 0.3, np.nan, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            imputer = EMImputer(prior=None).fit(X)
            mean, std = imputer.conditional(X)
            gone = np.isnan(X)
            cells.append((np.abs(mean - whole) <= 1.959964 * std)[gone].mean())
            for method, hits in covered.items():
                if method in ("posterior", "bootstrap"):
                    draws = imputer.multiple_impute(X, 20, method=method, random_state=rng)
                else:  # the same intervals from the complete data: what the others can be expected to reach
                    draws = np.array([whole, whole])
                low, high = pool(draws.mean(axis=1), draws.var(axis=1, ddof=1) / n, n - 1).interval()
                inside = [(low <= 0.0) & (high >= 0.0)]
                fits = [regress(d) for d in draws]
                low, high = pool([f[0] for f in fits], [f[1] for f in fits], n - p).interval()
                hits.append(np.concatenate([*inside, (low <= slope) & (high >= slope)]))
    yield f"95 % intervals of missing cells, n={n}, parameters estimated: {np.mean(cells):.1%} of the values inside."
    whole, X = draw(20_000 // scale, 10, 0.2)
    mean, std = EMImputer().fit(X).conditional(X)
    share = (np.abs(mean - whole) <= 1.959964 * std)[np.isnan(X)].mean()
    yield f"The same for {len(X)} x 10, 20 % missing: {share:.1%} (94 to 96 asked)."
    error = np.sqrt(0.05 * 0.95 / repetitions)
    for method, hits in covered.items():
        shares = ", ".join(f"{h:.1%}" for h in np.mean(hits, axis=0))
        yield (
            f"Pooled 95 % intervals (20 imputations, {method}, n={n}, 30 % missing, {repetitions} runs) "
            f"of three means and two slopes cover {shares} (Monte-Carlo standard error {error:.1%})."
        )


def regress(X):
    """Slopes of the first column on the others, and their variances."""
    Z = np.column_stack([np.ones(len(X)), X[:, 1:]])
    inverse = np.linalg.inv(Z.T @ Z)
    coef = inverse @ Z.T @ X[:, 0]
    variance = np.sum((X[:, 0] - Z @ coef) ** 2) / (len(X) - Z.shape[1])
    return coef[1:], variance * np.diagonal(inverse)[1:]


SECTIONS = {
    "Rivals": bench_rivals,
    "A million rows": bench_million,
    "Many columns": bench_columns,
    "Cost of one pass": bench_cost,
    "Coverage": bench_coverage,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and no file")
    parser.add_argument("sections", nargs="*", help=f"of {list(SECTIONS)}; all by default, and only then a file")
    options = parser.parse_args()
    lines = [
        "# Benchmarks of imputation",
        "",
        "Generated by `python tests/benchmarks/bench_imputer.py`: normal data, three factors, cells missing at random.",
        "",
        f"emkit {__version__} ({kernels.BUILD}), scikit-learn {sklearn.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {joblib.cpu_count()} cores, {platform.machine()}.",
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
