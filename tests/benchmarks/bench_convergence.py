"""What a fit says is left to gain against what is left, and whole fits beside scikit-learn's and hmmlearn's.

``python tests/benchmarks/bench_convergence.py`` prints the tables and writes them to docs/benchmarks_convergence.md,
with a picture. The rivals start where emkit starts, and are stopped as soon as they reach what emkit reached, less 0.01
nats; whole fits, medians of pairs taken in turn.
"""

import argparse
import warnings
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from bench_ascent import overlapping
from hmmlearn.hmm import CategoricalHMM, GaussianHMM
from sklearn.base import clone
from sklearn.mixture import GaussianMixture

from emkit import EMGaussianMixture, EMHiddenMarkov

DOCS = Path(__file__).parents[2] / "docs"
NEAR = 1e-2
MOST_SECONDS = 120.0


class ReachedError(Exception):
    """The rival is there, or has taken too long."""


def two_normals(n, seed):
    """Weights .75 and .25, means 0 and 1.8, both variances 1."""
    rng = np.random.default_rng(seed)
    return rng.normal(np.where(rng.random(n) < 0.75, 0.0, 1.8), 1.0)[:, None]


def gaps(n_sets, say):
    """The slow case, over many data sets: reported gap and true gap."""
    say(
        f"## The slow mixture of two normals\n\nWeights .75 and .25, means 0 and 1.8, both variances 1, 5000 rows, "
        f"{n_sets} data sets; tol=1e-3 nats for emkit, the default 1e-3 nats per row for scikit-learn. True gaps are "
        "measured from where emkit ends at tol=1e-9.\n\n"
        "| data set | emkit: gap reported | gap true | weight | scikit-learn: gap true | weight |\n"
        "|---|---|---|---|---|---|"
    )
    found = []
    for seed in range(n_sets):
        X = two_normals(5000, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = EMGaussianMixture(2, random_state=seed).fit(X)
            best = EMGaussianMixture(
                2,
                weights_init=ours.weights_,
                means_init=ours.means_,
                precisions_init=ours.precisions_,
                n_init=1,
                tol=1e-9,
                max_iter=100_000,
            ).fit(X)
            theirs = GaussianMixture(2, random_state=seed).fit(X)
        true = best.objective_ - ours.objective_
        shortfall = best.log_likelihood_ - theirs.score(X) * len(X)
        found.append((ours.gap_, true, shortfall))
        say(
            f"| {seed} | {ours.gap_:.1e} | {true:.1e} | {ours.weights_.max():.3f} | {shortfall:.2f} | "
            f"{theirs.weights_.max():.3f} |"
        )
    within = sum(true <= max(reported, 1e-3) for reported, true, _ in found)
    say(f"\nemkit ends within the larger of the gap it reports and tol in {within} of {n_sets}.")
    return np.array(found)


def draw(found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    reported, true, theirs = np.maximum(found.T, 1e-8)
    axes.loglog(reported, true, "o", color="#0072b2", label="emkit, tol=1e-3")
    axes.loglog(np.full_like(theirs, 1e-3 * 5000), theirs, "^", color="#d55e00", label="scikit-learn, its own tol")
    ends = np.array([1e-8, 1e2])
    axes.loglog(ends, ends, color="0.6", linewidth=1, label="true = reported")
    axes.set(xlabel="gap reported, nats (scikit-learn: its tolerance x rows)", ylabel="true gap, nats")
    axes.set_title("What is left to gain when the fit stops")
    axes.legend(frameon=False)
    figure.savefig(DOCS / "benchmarks_convergence.png", dpi=120)


def chase(rival, X, target):
    """Seconds of a rival's fit until it reaches the target, how many passes, and what it lacks if it never does."""
    began = perf_counter()
    seen = []

    def look(objective):
        seen.append(objective)
        if objective >= target or perf_counter() - began > MOST_SECONDS:
            raise ReachedError

    with suppress(ReachedError):
        rival(look).fit(X)
    return perf_counter() - began, len(seen), max(0.0, target - max(seen))


def mixture_chasing(*args, **kwargs):
    class Chasing(GaussianMixture):
        def _e_step(self, X, **how):
            mean, log_resp = super()._e_step(X, **how)
            self.look(mean * len(X))
            return mean, log_resp

    def rival(look):
        model = Chasing(*args, **kwargs)
        model.look = look
        return model

    return rival


def chain_chasing(kind, start, **prior):
    class Chasing(kind):
        def _compute_lower_bound(self, curr_logprob):
            self.look(curr_logprob)
            return curr_logprob

    def rival(look):
        model = Chasing(3, tol=-np.inf, n_iter=10**9, init_params="", implementation="scaling", **prior)
        for name, value in start.items():
            setattr(model, name, value)
        model.look = look
        return model

    return rival


def mixtures(n):
    for name, apart, k in (("Gaussian mixture, little overlap", 4.0, 3), ("Gaussian mixture, much overlap", 1.7, 3)):
        yield name, overlapping(n, apart), k
    yield "two normals, .75/.25", two_normals(n, 5), 2


def chains(n):
    rng = np.random.default_rng(2)
    transmat = np.array([[0.95, 0.04, 0.01], [0.03, 0.95, 0.02], [0.02, 0.06, 0.92]])
    edges, states, state = transmat.cumsum(axis=1), np.empty(n, int), 0
    for t, u in enumerate(rng.random(n)):
        states[t] = state
        state = min(2, int(np.searchsorted(edges[state], u)))
    means = np.array([[0.0, 0.0], [1.0, 0.3], [0.4, 1.2]])
    X = means[states] + rng.normal(size=(n, 2))
    yield "chain of 3 Gaussian states, 2 columns", X
    emission = np.array(
        [[0.5, 0.3, 0.1, 0.05, 0.04, 0.01], [0.05, 0.1, 0.4, 0.4, 0.04, 0.01], [0.01, 0.09, 0.1, 0.2, 0.3, 0.3]]
    )
    symbols = (rng.random(n)[:, None] > emission.cumsum(axis=1)[states]).sum(axis=1)
    yield "chain of 3 states, 6 symbols", np.minimum(symbols, 5)[:, None]


def pairs(n):
    """Name, rival's name, what fits emkit (a fresh one each time), what lets the rival chase a target; rows."""
    for name, X, k in mixtures(n):
        rng = np.random.default_rng(0)
        start = {
            "weights_init": np.full(k, 1 / k),
            "means_init": X[rng.choice(len(X), k, replace=False)],
            "precisions_init": np.tile(np.linalg.inv(np.atleast_2d(np.cov(X.T))), (k, 1, 1)),
        }
        ours = EMGaussianMixture(k, reg_covar=0.0, tol=NEAR, n_init=1, max_iter=100_000, **start)
        theirs = mixture_chasing(k, reg_covar=0.0, tol=0.0, max_iter=10**9, **start)
        yield name, "scikit-learn", X, partial(clone, ours), theirs
    for name, X in chains(n):
        discrete = X.shape[1] == 1
        how = {"emission": "categorical"} if discrete else {"covariance_type": "diag"}
        warnings.simplefilter("ignore")
        first = EMHiddenMarkov(3, n_init=1, max_iter=1, random_state=0, **how).fit(X)
        first.set_params(warm_start=True, tol=NEAR, max_iter=100_000)
        start = {"startprob_": first.startprob_, "transmat_": first.transmat_}
        if discrete:
            kind, prior = CategoricalHMM, {}
            start["emissionprob_"] = first.emissionprob_
        else:
            kind, prior = GaussianHMM, {"covars_prior": 0.0, "covars_weight": 0.0}
            start |= {"means_": first.means_, "covars_": first.covariances_}
        yield name, "hmmlearn", X, partial(deepcopy, first), chain_chasing(kind, start, **prior)


def race(n, repeats, say):
    say(
        f"\n## Whole fits to the same objective\n\n{n} rows; emkit with tol=0.01 nats from one given start, the rival "
        "from the same start until it is within 0.01 nats of emkit's end, or "
        f"{MOST_SECONDS:.0f} seconds have passed. Checks of the input included; medians of {repeats} pairs.\n\n"
        "| problem | rival | emkit: passes | seconds | rival: passes | seconds | ratio | rival lacks, nats |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, other, X, fresh, theirs in pairs(n):
        seconds, rival = [], []
        for _ in range(repeats):
            model = fresh()
            began = perf_counter()
            model.fit(X)
            seconds.append(perf_counter() - began)
            rival.append(chase(theirs, X, model.log_likelihood_ - NEAR))
            if rival[-1][0] > MOST_SECONDS:
                break
        ratio = median(theirs[0] / ours for ours, theirs in zip(seconds, rival, strict=False))
        took, passes, lacks = rival[0]
        say(
            f"| {name} | {other} | {model.n_iter_ + 1} | {median(seconds):.2f} | {passes} | {took:.2f} | "
            f"{'> ' if lacks else ''}{ratio:.0f} | {f'{lacks:.2f}' if lacks else ''} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small data, and no file")
    options = parser.parse_args()
    lines = ["# Convergence", "", "Generated by `python tests/benchmarks/bench_convergence.py`.", ""]

    def say(text):
        print(text, flush=True)
        lines.append(text)

    found = gaps(3 if options.quick else 20, say)
    say("\n![Reported and true gaps](benchmarks_convergence.png)")
    race(10_000 if options.quick else 100_000, 1 if options.quick else 3, say)
    if not options.quick:
        draw(found)
        (DOCS / "benchmarks_convergence.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
