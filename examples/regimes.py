"""
Regimes of a market
===================

Monthly returns of the S&P 500, 1950 to 2012, as a hidden Markov chain of calm and nervous regimes: how many there are,
what an investor could have known at the time, and what lies ahead.
"""

import matplotlib.pyplot as plt
import numpy as np

from emkit import EMHiddenMarkov
from emkit.datasets import load_sp500_monthly
from emkit.display import TransitionDisplay

X = load_sp500_monthly().data
years = 1950 + (np.arange(len(X)) + 1) / 12

# %%
# How many regimes
# ----------------
# BIC charges each regime for its parameters, and prefers few. Four regimes have many optima; with this seed the search
# finds the best one more than once. With another it may warn that it did not: fifty starts lead no higher.

models = [EMHiddenMarkov(k, random_state=1).fit(X) for k in (1, 2, 3, 4)]
print(f"{'regimes':>8}{'log-likelihood':>16}{'BIC':>10}")
for k, model in enumerate(models, start=1):
    print(f"{k:>8}{model.log_likelihood_:>16.3f}{model.bic(X):>10.1f}")
best = min(models, key=lambda model: model.bic(X))

# %%
# What they are
# -------------

states = zip(
    best.means_[:, 0],
    np.sqrt(best.covars_[:, 0, 0]),
    best.expected_dwell_times(),
    best.stationary_distribution(),
    strict=True,
)
for state, (mean, deviation, months, share) in enumerate(states):
    print(
        f"regime {state}: {100 * mean:+.2f} % a month, s.d. {100 * deviation:.2f} %, lasts {months:.0f} months, "
        f"{100 * share:.0f} % of the time"
    )

# %%
# One is nervous: returns spread almost twice as far and are lower on average. Both last: most of the probability lies
# on the diagonal.

TransitionDisplay.from_estimator(best)
plt.show()

# %%
# What could be known at the time
# -------------------------------
# The smoothed probabilities of a month look into its future, which nobody could. To judge a rule for investing use the
# *filtered* ones, which end with the month itself: they hesitate longer, and raise false alarms.

nervous = int(np.argmax(best.covars_[:, 0, 0]))
figure, axes = plt.subplots(2, sharex=True, figsize=(9, 5), layout="constrained")
axes[0].bar(years, 100 * X[:, 0], width=1 / 12, color="0.4")
axes[0].set_ylabel("return, % a month")
axes[1].plot(years, best.predict_proba(X)[:, nervous], color="0.6", label="smoothed: with hindsight")
axes[1].plot(years, best.filter_proba(X)[:, nervous], color="#d55e00", lw=1, label="filtered: as known at the time")
axes[1].set(ylabel="P(nervous)", ylim=(0, 1.25))
axes[1].legend(loc="upper left", ncols=2)
plt.show()

# %%
# What lies ahead
# ---------------
# Forecasts mix the regimes, each with its probability; the interval is of the return of that one month.

ahead = best.forecast(X, 12)
low, middle, high = 100 * ahead.quantiles[:, [0, 11], 0]
print(f"next month: {middle[0]:+.1f} % (90 %: {low[0]:+.1f} to {high[0]:+.1f})")
print(f"in a year:  {middle[1]:+.1f} % (90 %: {low[1]:+.1f} to {high[1]:+.1f})")
