"""How many passes over the data each accelerator needs, from the same starts.

``python tests/benchmarks/bench_ascent.py`` prints the table and writes it to docs/benchmarks_ascent.md. Numbers are
passes until the objective is within 1e-2 and within 1e-6 nats of the highest that any method reached from that start;
they do not depend on the machine.
"""

import argparse
import warnings
from pathlib import Path
from statistics import median

import numpy as np

from emkit import datasets
from emkit._accelerate import ACCELERATORS
from emkit._em import climb
from emkit._sequences import Sequences
from emkit.chain import Chain, MarkovChain
from emkit.emissions import Categorical, Poisson
from emkit.emissions.shapes import Full
from emkit.finite_mixture import Mixture
from emkit.normal import MissingNormal

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks_ascent.md"
METHODS = (None, "squarem", "anderson", "momentum", "auto")
NEAR = (1e-2, 1e-6)
MOST = 20_000


def started(name, model, X, seeds, weight=None):
    """One problem for each start."""
    data = model.prepare(X, weight)
    model = model.calibrate(data)
    sketch = model.sketch(data)
    for seed in seeds:
        yield f"{name}, start {seed}", model, data, model.start(sketch, np.random.default_rng(seed))


def overlapping(n, apart):
    rng = np.random.default_rng(5)
    centres = apart * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.9]])
    return centres[rng.integers(3, size=n)] + rng.normal(size=(n, 2)) @ np.array([[1.0, 0.3], [0.0, 0.8]])


def symbols():
    """A chain of 3 states and 6 symbols, some of them rare; 2000 rows, and a start that knows little."""
    rng = np.random.default_rng(7)
    transmat = np.array([[0.95, 0.04, 0.01], [0.02, 0.97, 0.01], [0.001, 0.02, 0.979]])
    emission = np.array(
        [[0.6, 0.3, 0.09, 0.01, 0, 0], [0.01, 0.2, 0.5, 0.28, 0.01, 0], [0, 0.001, 0.1, 0.2, 0.3, 0.399]]
    )
    state, rows = 0, []
    for _ in range(2000):
        rows.append(rng.choice(6, p=emission[state]))
        state = rng.choice(3, p=transmat[state])
    law = Categorical(categories=tuple(range(6)))
    model = MarkovChain(law, 3)
    X = Sequences(law.read(np.array(rows)[:, None]), np.array([2000]), np.array([0]))
    start = Chain(
        np.full(3, 1 / 3),
        np.full((3, 3), 0.1) + 0.7 * np.eye(3),
        type(model.start(model.prepare(X), rng).law)(rng.dirichlet(np.ones(6), size=3)),
    )
    return "chain of 6 symbols", model, model.prepare(X), start


def problems(quick):
    deaths = np.repeat(np.arange(10.0), [162, 267, 271, 185, 111, 61, 27, 8, 3, 1])[:, None]
    yield from started("Poisson mixture (Hasselblad)", Mixture(Poisson(), 2), deaths, range(5))
    for name, apart in (("little", 4.0), ("much", 1.7)):
        yield from started(
            f"Gaussian mixture, {name} overlap", Mixture(Full(0.0), 3), overlapping(1000, apart), range(5)
        )
    rng = np.random.default_rng(1)
    X = rng.normal(np.where(rng.random(2000) < 0.75, 0.0, 1.8), 1.0)[:, None]
    yield from started("two normals, .75/.25", Mixture(Full(0.0), 2), X, range(3))
    for load in ("cholesterol", "airquality", "cement_missing", "nhanes"):
        table = getattr(datasets, f"load_{load}")().data
        yield from started(f"imputer, {load}", MissingNormal(), table, [0])
    yield from started("imputer, marijuana, ridge", MissingNormal("ridge", 0.5), datasets.load_marijuana().data, [0])
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(400, 8))
    X[rng.random(X.shape) < 0.5] = np.nan
    yield from started("imputer, half missing", MissingNormal(), X, [0])
    quakes = datasets.load_earthquakes().data
    X = Sequences(quakes, np.array([len(quakes)]), np.array([0]))
    yield from started("chain, earthquakes", MarkovChain(Poisson(), 3), X, range(3))
    yield symbols()
    if not quick:
        yield from started("Gaussian mixture, 200000 rows", Mixture(Full(0.0), 3), overlapping(200_000, 1.7), [0])
        X = overlapping(200_000, 2.5)
        X[np.random.default_rng(0).random(X.shape) < 0.3] = np.nan
        yield from started("imputer, 200000 rows", MissingNormal(), X[~np.isnan(X).all(axis=1)], [0])


class Passes:
    """Watches a climb: passes made, and the objective then."""

    def __init__(self):
        self.seen = []

    def begin(self, number, progress):
        pass

    def step(self, number, progress, turn):
        self.seen.append((progress.n_steps + 1, turn.objective))
        return False

    def end(self, number, progress, ascent):
        pass


def passes(model, data, start, method, tol=1e-8):
    """The climb's objective after each pass."""
    watch = Passes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        climb(
            model,
            model.split(data),
            start,
            tol=tol,
            max_iter=MOST,
            accelerate=ACCELERATORS[method],
            watch=watch,
        )
    return watch.seen


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the larger problems, and no file")
    options = parser.parse_args()
    lines = [
        "# Passes over the data",
        "",
        "Generated by `python tests/benchmarks/bench_ascent.py`: passes until the objective is within 1e-2 / 1e-6 nats "
        "of the highest that any of the methods reached from the same start. `-`: it climbed to a lower optimum.",
        "",
        "| problem | plain | SQUAREM | Anderson | momentum | **auto** | auto / best | plain / auto |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    worst, gains, worse = [], [], 0
    for name, model, data, start in problems(options.quick):
        runs = [passes(model, data, start, method) for method in METHODS]
        best = max(objective for run in runs for _, objective in run)
        needed = [[next((n for n, o in run if o >= best - near), None) for near in NEAR] for run in runs]
        cells = [" / ".join("-" if n is None else str(n) for n in pair) for pair in needed]
        plain, auto = needed[0][1], needed[-1][1]
        others = [pair[1] for pair in needed if pair[1] is not None]
        to_best = "" if auto is None else f"{auto / min(others):.2f}"
        gain = "" if auto is None or plain is None else f"{plain / auto:.1f}"
        if auto is not None:
            worst.append(auto / min(others))
        if auto is not None and plain is not None:
            worse += auto > plain
            if plain > 200:
                gains.append(plain / auto)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {to_best} | {gain} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        f"To 1e-6 nats, auto needs at most {max(worst):.2f} times the passes of the best method (median "
        f"{median(worst):.2f}), more than plain EM in {worse} of {len(worst)} problems, and where plain EM needs more "
        f"than 200 passes, {median(gains):.1f} times fewer than it in the median.",
    ]
    print(lines[-1])
    if not options.quick:
        REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
