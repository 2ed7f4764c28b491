"""
Regimes of a market
===================

Monthly returns of the S&P 500, 1950 to 2012, as a hidden Markov chain of calm and nervous regimes. What an investor
could have known at the time are the *filtered* probabilities; the smoothed ones look into the future. Then the number
of regimes is chosen, and the year ahead forecast.
"""

import matplotlib

matplotlib.use("Agg")  # draw to files

import matplotlib.pyplot as plt
import numpy as np

from emkit import EMHiddenMarkov
from emkit.datasets import load_sp500_monthly

X = load_sp500_monthly().data
YEARS = 1950 + (np.arange(len(X)) + 1) / 12


def choose():
    """Fit one to four regimes; the criterion prefers few."""
    print(f"{'regimes':>8}{'log-likelihood':>16}{'BIC':>10}")
    models = [EMHiddenMarkov(k, random_state=0).fit(X) for k in (1, 2, 3, 4)]
    for k, model in enumerate(models, start=1):
        print(f"{k:>8}{model.log_likelihood_:>16.3f}{model.bic(X):>10.1f}")
    return min(models, key=lambda model: model.bic(X))


def describe(model):
    """Regimes, how long they last, and what is ahead."""
    deviations = np.sqrt(model.covars_[:, 0, 0])
    rows = zip(
        model.means_[:, 0], deviations, model.expected_dwell_times(), model.stationary_distribution(), strict=True
    )
    for state, (mean, deviation, months, share) in enumerate(rows):
        print(
            f"regime {state}: {100 * mean:+.2f} % a month, s.d. {100 * deviation:.2f} %, lasts {months:.0f} months, "
            f"{100 * share:.0f} % of the time"
        )
    ahead = model.forecast(X, 12)
    low, middle, high = 100 * ahead.quantiles[:, [0, 11], 0]
    print(f"next month: {middle[0]:+.1f} % (90 %: {low[0]:+.1f} to {high[0]:+.1f}); in a year {middle[1]:+.1f} %")


def draw(model):
    """Draw returns and the probability of the most volatile regime, filtered and smoothed."""
    nervous = int(np.argmax(model.covars_[:, 0, 0]))
    figure, axes = plt.subplots(2, sharex=True, figsize=(9, 5), constrained_layout=True)
    axes[0].bar(YEARS, 100 * X[:, 0], width=1 / 12, color="0.4")
    axes[0].set_ylabel("return, % a month")
    axes[1].plot(YEARS, model.predict_proba(X)[:, nervous], color="0.7", label="smoothed: with hindsight")
    axes[1].plot(YEARS, model.filter_proba(X)[:, nervous], color="#d55e00", label="filtered: as known at the time")
    axes[1].set_ylabel("P(nervous)")
    axes[1].legend(loc="upper left", ncols=2)
    axes[1].set_ylim(0, 1.25)
    figure.savefig("regimes.png", dpi=120)
    print("picture: regimes.png")


if __name__ == "__main__":
    best = choose()
    describe(best)
    draw(best)
