"""
Choosing K and the shape
========================

How many components, and what shape of covariances? Anybody sees two kinds of eruptions of Old Faithful, and yet careful
methods differ, because they answer different questions. Here they are side by side.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, KFold

from emkit import EMGaussianMixture, select
from emkit.datasets import load_faithful
from emkit.display import MixtureDisplay

X = load_faithful().data
# No "spherical": minutes of eruption and minutes of waiting are not on one scale.
grid = {"n_components": [1, 2, 3, 4], "covariance_type": ["full", "tied", "diag"]}
mixture = EMGaussianMixture(random_state=1)


def say(question, params):
    print(f"{question:>14}: {params['n_components']} components, {params['covariance_type']}")


# %%
# By a criterion, from all rows
# -----------------------------
# A criterion takes the log-likelihood of all rows and charges for every parameter. :func:`emkit.select` fits each
# candidate once; the table of all of them is ``results_``.

chosen = {criterion: select(mixture, X, grid, criterion=criterion) for criterion in ("bic", "icl")}
for criterion, found in chosen.items():
    say(criterion, found.best_params_)

# %%
# By rows that were held out
# --------------------------
# Cross-validation charges nothing. It scores rows that the fit has not seen, and pays with a fit for each fold. What it
# compares is ``score``, the mean log-density of a row, as for every estimator of emkit.

search = GridSearchCV(mixture, grid, cv=KFold(5, shuffle=True, random_state=1)).fit(X)
say("held-out rows", search.best_params_)

# %%
# What differs, and why
# ---------------------
# Lower is better for the criteria, higher for the held-out score; a ring marks the best of each panel.


def curves(ax, title, rows):
    """One line for each shape; ``rows`` are (K, shape, value, error)."""
    for shape, marker, colour in zip(grid["covariance_type"], "os^", ("#0072b2", "#d55e00", "#009e73"), strict=True):
        k, _, value, error = zip(*(row for row in rows if row[1] == shape), strict=True)
        ax.errorbar(k, value, error, marker=marker, color=colour, capsize=3, label=shape)
    ax.set(title=title, xlabel="components", xticks=grid["n_components"])


figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, name in zip(axes, ("bic", "icl"), strict=False):
    table = [(row["n_components"], row["covariance_type"], row["criterion"], 0.0) for row in chosen[name].results_]
    curves(ax, f"{name.upper()} (lower is better)", table)
    best = min(table, key=lambda row: row[2])
    ax.plot(best[0], best[2], "o", markersize=16, fillstyle="none", color="black")
    ax.set_ylim(2300, 2480)  # one component is far above
results = search.cv_results_
scores = np.array([results[f"split{fold}_test_score"] for fold in range(5)])
errors = scores.std(axis=0, ddof=1) / np.sqrt(5)
table = [
    (params["n_components"], params["covariance_type"], mean, error)
    for params, mean, error in zip(results["params"], scores.mean(axis=0), errors, strict=True)
]
curves(axes[2], "held-out log-density (higher is better)", table)
best = table[search.best_index_]
axes[2].plot(best[0], best[2], "o", markersize=16, fillstyle="none", color="black")
axes[2].set_ylim(-4.4, -4.1)
axes[0].legend()
plt.show()

# %%
# Is the winner of the third panel better, or was it lucky? All share the folds, so the differences from it tell most:

print("behind the best, in nats per row, with standard error")
for index in np.argsort(-scores.mean(axis=0))[1:6]:
    behind = scores[:, search.best_index_] - scores[:, index]
    k, shape, _, _ = table[index]
    print(f"  {k} {shape:<5} {behind.mean():.4f} +- {behind.std(ddof=1) / np.sqrt(5):.4f}")

# %%
# - **BIC** finds the mixture whose *density* is closest to the one behind the data, with more certainty the more rows
#   there are. The long eruptions are not quite normal, so two components share them: three, of one shape.
# - **ICL** adds a charge for rows that lie between components. Those two overlap, so it wants *groups* that are apart:
#   two, which is what one sees.
# - **Held-out rows** say how well rows to come are predicted, and how sure that is: here the best five differ by less
#   than a standard error. Rows decide nothing among them; take the smallest.
#
# The winners of BIC and ICL, with ellipses of two standard deviations:

figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for ax, name in zip(axes, ("bic", "icl"), strict=True):
    MixtureDisplay.from_estimator(chosen[name].best_estimator_, X, ax=ax)
    ax.set(title=name.upper(), xlabel="eruption (minutes)", ylabel="waiting (minutes)")
plt.show()

# %%
# So: ICL for groups that will be named and counted; BIC for a density, or when in doubt; held-out rows for what no
# criterion sees, such as the strength of a prior or another step of a pipeline, and where there is time for the folds.
