"""What an iteration costs on threads, on processes of a cluster, from files, and in Spark; and a model of that cost.

``python tests/benchmarks/bench_scale.py`` prints the tables and writes them to docs/benchmarks_scale.md. Needs dask,
distributed and pyarrow; Spark where pyspark and Java are installed.
"""

import argparse
import platform
import tempfile
import warnings
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from operator import add
from pathlib import Path
from time import perf_counter

import numpy as np

from emkit import EMGaussianMixture
from emkit._sources import read

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "benchmarks_scale.md"
SHORT, LONG = 2, 8  # iterations; their difference leaves out what is done once
CHUNKS, CHUNKS_EACH = 16, 4
SCALE = 0.1  # Spark adds 2e-16 to densities, which must therefore be large


def rows(n, d, k, seed=0):
    """Normals that overlap a little, so that no fit is over in a few iterations."""
    rng = np.random.default_rng(seed)
    centres = 2.0 * rng.normal(size=(k, d))
    X = rng.normal(size=(n, d))
    X += centres[rng.integers(k, size=n)]
    X *= SCALE
    return X


def start(X, k):
    """The same start for everyone: rows far from each other, unit covariances."""
    few = X[:: max(1, len(X) // k)][:k]
    return {
        "weights_init": np.full(k, 1.0 / k),
        "means_init": few,
        "precisions_init": np.repeat(np.eye(X.shape[1])[None] / SCALE**2, k, axis=0),
    }


def plain(k, begin, n_steps, n_jobs=None, reg_covar=0.0):
    return EMGaussianMixture(
        k, n_init=1, acceleration=None, tol=0.0, reg_covar=reg_covar, max_iter=n_steps, n_jobs=n_jobs, **begin
    )


def seconds(fit):
    """Of one iteration: the difference between a long and a short fit, the least of three."""
    best = []
    for n_steps in (SHORT, LONG):
        times = []
        for _ in range(3):
            began = perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit(n_steps)
            times.append(perf_counter() - began)
        best.append(min(times))
    return (best[1] - best[0]) / (LONG - SHORT)


@contextmanager
def cluster(n_workers):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", silence_logs="ERROR") as found,
        Client(found) as client,
    ):
        yield client


def scaling(X, k, folder):
    """Seconds per iteration by where the rows are and who works."""
    import dask
    import dask.array as da
    import pyarrow as pa
    import pyarrow.parquet

    n, d = X.shape
    begin = start(X, k)
    np.save(folder / "rows.npy", X)
    pa.parquet.write_table(
        pa.table({f"c{j}": column for j, column in enumerate(X.T)}),
        folder / "rows.parquet",
        row_group_size=2**18,
        compression="NONE",
        use_dictionary=False,
    )
    chunked = da.from_array(X, chunks=(-(-n // CHUNKS), d))
    table = {}
    for n_jobs in (1, 2):
        told = f"{n_jobs} thread{'s' * (n_jobs > 1)}"
        table["array in memory", told] = seconds(lambda s, j=n_jobs: plain(k, begin, s, j).fit(X))
        table["memory map of a .npy file", told] = seconds(
            lambda s, j=n_jobs: plain(k, begin, s, j).fit(folder / "rows.npy")
        )
        table["blocks of 65536 rows", told] = seconds(
            lambda s, j=n_jobs: plain(k, begin, s, j).fit(lambda: (X[i : i + 65536] for i in range(0, n, 65536)))
        )
        table["Parquet", told] = seconds(lambda s, j=n_jobs: plain(k, begin, s, j).fit(folder / "rows.parquet"))
        with dask.config.set(scheduler="threads", num_workers=n_jobs):
            table[f"dask array, {CHUNKS} chunks", told] = seconds(lambda s: plain(k, begin, s).fit(chunked))
    for n_workers in (1, 2):
        with cluster(n_workers):
            told = f"{n_workers} process{'es' * (n_workers > 1)}"
            table[f"dask array, {CHUNKS} chunks", told] = seconds(lambda s: plain(k, begin, s).fit(chunked))
    return table


def overheads(n_workers=2):
    """Seconds of a pass over next to nothing: for the pass, for each chunk, and for each byte that is moved."""
    import dask.array as da

    def one(n_chunks):
        X = rows(8 * n_chunks, 2, 2)
        return seconds(lambda s: plain(2, start(X, 2), s, 1, 1.0).fit(da.from_array(X, chunks=(8, 2))))

    with cluster(n_workers):
        few, many = one(8), one(128)
        source, size = read(da.zeros((8, 2), chunks=(1, 2)), as_it_is), 2**20
        small, large = (least(lambda n=n: source.fold(partial(echo, np.zeros(n)), add, None)) for n in (1, size))
    per_chunk = (many - few) / 120
    return {"pass": few - 8 * per_chunk, "chunk": per_chunk, "byte": (large - small) / moved(8 * size, 8, n_workers)}


def as_it_is(block, first):
    return block


def echo(params, X, weight):
    """What stands for an E-step: parameters came, sums of their size go back."""
    return params


def least(act):
    """Seconds, the least of five."""
    times = []
    for _ in range(5):
        began = perf_counter()
        act()
        times.append(perf_counter() - began)
    return min(times)


def moved(size, n_chunks, n_workers):
    """Bytes that are moved one after the other: sums up the tree, parameters from worker to worker."""
    depth = np.ceil(np.log(n_chunks) / np.log(8))
    return (8 * depth + np.ceil(np.log2(n_workers))) * size


def spark(X, k, folder):
    """Seconds per iteration of Spark ML, of emkit from Spark's own start, and how far the log-likelihoods differ."""
    from pyspark.ml.clustering import GaussianMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    found = {}
    for n_workers in (1, 2):
        session = (
            SparkSession.builder.master(f"local[{n_workers}]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.memory", "6g")
            .config("spark.log.level", "OFF")
            .getOrCreate()
        )
        frame = session.read.parquet(str(folder / "rows.parquet"))
        table = VectorAssembler(inputCols=frame.columns, outputCol="features").transform(frame).select("features")
        table = table.repartition(n_workers).cache()
        table.count()

        def fit(n_steps, table=table):
            return GaussianMixture(k=k, maxIter=n_steps, tol=0.0, seed=1).fit(table)

        begin = fit(0)
        normals = begin.gaussiansDF.collect()
        given = {
            "weights_init": np.array(begin.weights) / np.sum(begin.weights),
            "means_init": np.array([normal["mean"].toArray() for normal in normals]),
            "precisions_init": np.linalg.inv([normal["cov"].toArray() for normal in normals]),
        }
        theirs = seconds(fit)
        ours = seconds(lambda s, g=given, j=n_workers: plain(k, g, s, j).fit(X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mine = plain(k, given, LONG).fit(X)
        summary = fit(LONG).summary
        assert summary.numIter == LONG
        last = summary.logLikelihood  # of the parameters before the last step
        found[n_workers] = theirs, ours, last, mine.history_[LONG - 1]
        session.stop()
    return found


def predicted(n, d, k, n_workers, per_row, cost, n_chunks=None):
    """The model: seconds of one iteration."""
    n_chunks = n_chunks or CHUNKS_EACH * n_workers
    size = 8 * (1 + k + k * d + k * d * d)
    spent = cost["pass"] + n_chunks * cost["chunk"] + moved(size, n_chunks, n_workers) * cost["byte"]
    return n * per_row / n_workers + spent


def half(n, d, k, per_row, cost):
    """Workers up to which at least half of the time is spent on rows."""
    n_workers = 1
    while n * per_row / n_workers > 0.5 * predicted(n, d, k, n_workers, per_row, cost) and n_workers < 2**20:
        n_workers *= 2
    return n_workers // 2


def machine():
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), model)
    names = ("numpy", "scikit-learn", "dask", "distributed", "pyarrow", "pyspark")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except ImportError:
            found.append(f"no {name}")
    return f"{model}; Python {platform.python_version()}, {', '.join(found)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    lines = []

    def say(text=""):
        print(text, flush=True)
        lines.append(text)

    say("# Scale\n\nGenerated by `python tests/benchmarks/bench_scale.py`.\n")
    say(f"Machine: {machine()}.\n")
    say(
        f"Seconds of one plain EM iteration of a mixture with full covariances, everyone from the same start: the "
        f"difference between fits of {LONG} and {SHORT} iterations, the least of three each."
    )
    per_row, ratio, clusters = {}, [], []
    for d, k, share in ((8, 8, 1), (32, 32, 20)):
        n = arguments.rows // share
        X = rows(n, d, k)
        say(f"\n## {n} rows, {d} columns, {k} components\n")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table = scaling(X, k, folder)
            per_row[d, k] = table["array in memory", "1 thread"] / n
            for n_workers, told in ((1, "1 process"), (2, "2 processes")):
                clusters.append((n, d, k, n_workers, table[f"dask array, {CHUNKS} chunks", told]))
            columns = ["1 thread", "2 threads", "1 process", "2 processes"]
            say(f"| rows in | {' | '.join(columns)} |\n|---|---|---|---|---|")
            for where in dict.fromkeys(where for where, _ in table):
                cells = [f"{table[where, c]:.3f}" if (where, c) in table else "" for c in columns]
                say(f"| {where} | {' | '.join(cells)} |")
            try:
                found = spark(X, k, folder)
            except ImportError:
                say("\nSpark is not installed here.")
                continue
            for n_workers, (theirs, ours, their_value, our_value) in found.items():
                ratio.append((n, d, k, n_workers, theirs, ours, theirs / ours, abs(their_value / our_value - 1.0)))
    if ratio:
        say("\n## Beside Spark ML\n")
        say(
            "`pyspark.ml.clustering.GaussianMixture` in local mode, rows cached, and emkit on the same rows from "
            "Spark's own start, the same iterations. The last column compares the log-likelihoods that both report "
            "for the same iteration.\n"
        )
        say("| rows | columns | components | cores | Spark s | emkit s | ratio | difference |\n" + "|---" * 8 + "|")
        for n, d, k, n_workers, theirs, ours, times, apart in ratio:
            say(f"| {n} | {d} | {k} | {n_workers} | {theirs:.3f} | {ours:.3f} | {times:.0f} | {apart:.0e} |")
    model(say, per_row, overheads(), clusters)
    REPORT.write_text("\n".join(lines) + "\n")


def model(say, per_row, cost, clusters):
    size = 8 * (1 + 8 + 8 * 8 + 8 * 64)
    say("\n## A model of the cost\n")
    say(
        "One iteration on W workers that hold n rows in C chunks (four for each worker), with parameters and "
        "statistics of S = 8 (1 + K + K d + K d^2) bytes:\n\n"
        "    T(W) = n r / W  +  a  +  C t  +  (8 ceil(log8 C) + ceil(log2 W)) S b\n\n"
        "r: seconds per row in the E-step on one core; a: a pass over nothing; t: what one chunk costs the scheduler, "
        "which is one process; b: seconds per byte that is packed, sent and added. Parameters travel once to each "
        "worker, from worker to worker; sums are added eight at a time, where most of the eight are.\n"
    )
    say("| constant | measured here, 2 processes |\n|---|---|")
    for (d, k), r in per_row.items():
        say(f"| r, d={d}, K={k} | {1e9 * r:.0f} ns |")
    say(
        f"| a | {1e3 * cost['pass']:.1f} ms |\n| t | {1e3 * cost['chunk']:.2f} ms |\n"
        f"| b | {1e9 * cost['byte']:.2f} ns |"
    )
    say(f"| S, d=8, K=8 | {size} bytes |\n")
    say("| rows | d | K | W | measured s | the model's s |\n" + "|---" * 6 + "|")
    for n, d, k, n_workers, found in clusters:
        said = predicted(n, d, k, n_workers, per_row[d, k], cost, CHUNKS)
        say(f"| {n} | {d} | {k} | {n_workers} | {found:.3f} | {said:.3f} |")
    say()
    say(
        "It stops paying where the scheduler's C t, which grows with W, meets n r / W, which falls: at "
        "W = sqrt(n r / 4 t). The table has the seconds of an iteration, and the largest W (of powers of two) at which "
        "half of the time still goes into rows. r is scaled with K d^2 from the nearest one measured.\n"
    )
    say("| rows | d | K | size | half paid W | 16 workers | 64 | 256 | 1024 |\n" + "|---" * 9 + "|")
    for n in (10**7, 10**9, 10**12):
        for d, k in ((8, 8), (32, 32), (100, 100)):
            base = min(per_row, key=lambda shape: abs(np.log(shape[1] * shape[0] ** 2 / (k * d * d))))
            r = per_row[base] * k * d * d / (base[1] * base[0] ** 2)
            times = [f"{predicted(n, d, k, w, r, cost):.3g}" for w in (16, 64, 256, 1024)]
            bytes_ = 8.0 * n * d
            unit = f"{bytes_ / 1e12:.3g} TB" if bytes_ > 1e12 else f"{bytes_ / 1e9:.3g} GB"
            say(f"| {n:.0e} | {d} | {k} | {unit} | {half(n, d, k, r, cost)} | {' | '.join(times)} |")
    say(
        "\nWhat the model leaves out where it is too low: on this machine the workers share two cores with the client "
        "and the scheduler.\n\n"
        "Workers are cores; a machine of many cores is one worker process with as many threads. 10^9 rows fit the "
        "memory of one large machine or of a few: an iteration takes seconds, a fit (some 30 passes) minutes. 10^12 "
        "rows lie on the disks of hundreds of machines: workers of dask spill what their memory cannot hold, every "
        "pass reads it again, and the disks, not the scheduler, set the pace: with 1 GB/s for each of 256 machines, "
        "64 TB (d=8) take 250 s per pass. Such a fit is begun by `partial_fit` over a part of the rows, and its last "
        "passes (`warm_start=True`) see them all. Neither size was run.\n"
    )


if __name__ == "__main__":
    main()
