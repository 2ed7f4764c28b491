"""
A law of one's own
==================

Waiting times in days that are never zero: a geometric law, which emkit does not have. Three methods make it one; with
charts, rows to draw and means it also accelerates well, samples and forecasts.
"""

from typing import NamedTuple

import numpy as np

from emkit import EMHiddenMarkov
from emkit.emissions import Emission

# %%
# The law
# -------
# Parameters and sums are named tuples of arrays. ``log_prob`` is the E-step's, ``summarize`` and ``maximize`` are the
# M-step's: they make a complete law, and what is optional comes last.


class Chances(NamedTuple):
    """Parameters of the states: arrays with the states along the first axis."""

    chances: np.ndarray


class Totals(NamedTuple):
    """What the M-step needs: sums over rows, the log-likelihood first."""

    loglik: float
    counts: np.ndarray
    days: np.ndarray


class Geometric(Emission):
    """Days until something happens that has the same chance every day."""

    def log_prob(self, params, rows):
        """Log-probability (n, k) of every row under every state."""
        chance = np.clip(params.chances, 1e-9, 1.0 - 1e-9)
        return np.log(chance) + (rows.X - 1.0) * np.log1p(-chance)

    def summarize(self, params, rows, resp):
        """Sum what the M-step needs; ``resp`` (n, k) holds the probabilities of the states, times weights."""
        return Totals(0.0, resp.sum(axis=0), resp.T @ rows.X[:, 0])

    def maximize(self, stats, params):
        """One event in so many days."""
        return Chances(stats.counts / np.maximum(stats.days, 1e-9))

    # What is below is optional.

    def order(self, params):
        """Rare events first."""
        return np.argsort(params.chances)

    def sample(self, params, labels, rng):
        """Draw a row for each label."""
        return rng.geometric(params.chances[labels])[:, None].astype(float)

    def mean(self, params):
        """Mean of each state, with columns along the second axis."""
        return 1.0 / params.chances[:, None]


# %%
# Two seasons, simulated and found again
# --------------------------------------

rng = np.random.default_rng(0)
season = np.cumsum(rng.random(1000) < 0.02) % 2
X = rng.geometric(np.array([0.5, 0.05])[season])[:, None].astype(float)
model = EMHiddenMarkov(2, emission=Geometric(), random_state=0).fit(X)
print(f"{model.status_}; chances {model.chances_.round(3)} (truth 0.05, 0.5)")
print(f"{100 * np.mean((model.predict(X) == 0) == season):.1f} % of the days are in the right season")
print(f"the next wait is expected to take {model.forecast(X, 1).mean[0, 0]:.1f} days")
