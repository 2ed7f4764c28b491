"""How often the search reaches the best optimum: many normals in the plane, and every optimum that mclust published.

``python tests/benchmarks/bench_search.py`` prints the tables and writes them to docs/benchmarks_search.md.
"""

import argparse
import sys
import warnings
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from sklearn.mixture import GaussianMixture

from emkit import EMGaussianMixture
from emkit._accelerate import ACCELERATORS
from emkit._em import climb
from emkit.emissions.shapes import Full
from emkit.finite_mixture import Mixture, Parts

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "benchmarks_search.md"
sys.path.append(str(ROOT / "tests"))
K = 15


# Least distance between two centres and side of the square they are drawn in, both in units of the separation.
LAYOUTS = {"apart": (1.0, 1.4 * np.sqrt(K)), "crowded": (0.7, 0.8 * np.sqrt(K))}


def normals(separation, layout, seed):
    """15 bivariate normals with axes of .4 to 1.6 standard deviations."""
    rng = np.random.default_rng(seed)
    (least, side), centres = separation * np.array(LAYOUTS[layout]), []
    while len(centres) < K:
        candidate = rng.uniform(0, side, 2)
        if all(np.hypot(*(candidate - other)) >= least for other in centres):
            centres.append(candidate)
    covariances = []
    for angle, axes in zip(rng.uniform(0, np.pi, K), rng.uniform(0.4, 1.6, (K, 2)), strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        covariances.append(turn * axes**2 @ turn.T)
    weights = rng.dirichlet(np.full(K, 10.0))
    labels = rng.choice(K, rng.integers(1000, 5001), p=weights)
    noise = np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[labels], rng.normal(size=(len(labels), 2)))
    return np.array(centres)[labels] + noise, weights, np.array(centres), np.array(covariances)


def objective(mixture, X, reg_covar=1e-6):
    """What emkit maximises, at scikit-learn's or emkit's estimate: the one measure for both."""
    model = Mixture(Full(reg_covar), len(mixture.weights_))
    data = model.prepare(X)
    model = model.calibrate(data)
    params = Parts(mixture.weights_, model.law.from_covariances(mixture.means_, mixture.covariances_))
    params = model.standardize(params, data)
    return float(model.expect(params, data)[0] + model.prior(params)[0])


def from_the_truth(X, weights, centres, covariances):
    model = Mixture(Full(1e-6), K)
    data = model.prepare(X)
    model = model.calibrate(data)
    start = model.standardize(Parts(weights, model.law.from_covariances(centres, covariances)), data)
    return climb(model, model.split(data), start, tol=1e-3, max_iter=5000, accelerate=ACCELERATORS["auto"]).objective


@contextmanager
def rows_counted(owner, name, position):
    """Count the rows that a method is handed."""
    original, seen = getattr(owner, name), [0]

    def counting(self, *args, **kwargs):
        rows = args[position]
        seen[0] += len(rows.X if hasattr(rows, "X") else rows)
        return original(self, *args, **kwargs)

    setattr(owner, name, counting)
    yield seen
    setattr(owner, name, original)


def fit(estimator, X):
    """Seconds and passes over the data."""
    ours = isinstance(estimator, EMGaussianMixture)
    where = (Mixture, "expect", 1) if ours else (GaussianMixture, "_e_step", 0)
    with warnings.catch_warnings(), rows_counted(*where) as seen:
        warnings.simplefilter("ignore")
        began = perf_counter()
        estimator.fit(X)
        return perf_counter() - began, seen[0] / len(X)


def many_normals(n_sets, say):
    say(
        f"\n## {K} normals in the plane\n\n{n_sets} data sets of 1000 to 5000 rows for each line; standard deviations "
        "are .4 to 1.6 along random axes. Centres are drawn in a square. *Apart*: no two are nearer than the "
        "separation. *Crowded*: the square has a third of the area, and two may be as near as .7 of the separation. A "
        "hit is an objective at most 1 nat below that of EM started at the truth. Passes and seconds are medians; a "
        "pass is as many rows evaluated as there are.\n\n"
        "| separation | layout | search | hits | median gap | worst | passes | seconds |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for separation, layout in product((5.0, 3.5), LAYOUTS):
        rows = {"emkit, default": [], "scikit-learn, default": [], "scikit-learn, n_init=10": []}
        for seed in range(n_sets):
            X, *truth = normals(separation, layout, seed)
            goal = from_the_truth(X, *truth)
            estimators = (
                EMGaussianMixture(K, random_state=seed),
                GaussianMixture(K, random_state=seed),
                GaussianMixture(K, n_init=10, random_state=seed),
            )
            for name, estimator in zip(rows, estimators, strict=True):
                seconds, passes = fit(estimator, X)
                rows[name].append((objective(estimator, X) - goal, passes, seconds))
        for name, found in rows.items():
            gaps, passes, seconds = zip(*found, strict=True)
            hits = sum(gap >= -1.0 for gap in gaps)
            say(
                f"| {separation} | {layout} | {name} | {hits} of {n_sets} | {median(gaps):+.2f} | "
                f"{min(gaps):+.1f} | {median(passes):.0f} | {median(seconds):.2f} |"
            )


def published_optima(n_seeds, say):
    from test_anchors import DATA, TABLE

    say(
        f"\n## The optima that mclust published\n\nSeeds, of {n_seeds}, whose default fit reaches mclust's "
        "log-likelihood or a better one, less 0.01 nats, without a degenerate component. Only the cells of the table "
        "where mclust's own solution is regular.\n\n"
        "| data | shape | G = 1 | 2 | 3 | 4 | 5 |\n|---|---|---|---|---|---|---|"
    )
    missed = total = 0
    for data, shape, *numbers in TABLE:
        cells = []
        for k, number in enumerate(numbers, start=1):
            if number is None:
                cells.append("")
                continue
            hits = 0
            for seed in range(n_seeds):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    mixture = EMGaussianMixture(k, covariance_type=shape, random_state=seed).fit(DATA[data])
                hits += mixture.log_likelihood_ >= number - 1e-2 and mixture.status_ != "degenerate"
            cells.append(str(hits))
            missed, total = missed + n_seeds - hits, total + n_seeds
        say(f"| {data} | {shape} | " + " | ".join(cells) + " |")
    say(f"\n{total - missed} of {total} fits.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few data sets and seeds, and no file")
    options = parser.parse_args()
    lines = ["# Searching for the best optimum", "", "Generated by `python tests/benchmarks/bench_search.py`."]

    def say(text):
        print(text, flush=True)
        lines.append(text)

    many_normals(4 if options.quick else 40, say)
    published_optima(2 if options.quick else 40, say)
    if not options.quick:
        REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
