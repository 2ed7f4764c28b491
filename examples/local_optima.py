"""
Local optima
============

EM climbs to the nearest top, which need not be the highest. Two hundred crabs show how much that matters. They are of
four kinds, blue or orange, male or female, and size hides the kinds: a large crab is large in all its measurements.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from emkit import EMGaussianMixture
from emkit.datasets import load_crabs
from emkit.display import ConvergenceDisplay

X, kind = load_crabs(return_X_y=True)

# %%
# One start, twenty times
# -----------------------
# First each start by itself, with seeds 0 to 19: scikit-learn from k-means, its default, and from random
# responsibilities; emkit from seeds spread over whitened columns. A small ``tol`` makes sure that nobody stops halfway.


def climb(estimator, **parameters):
    """Log-likelihoods that twenty seeds lead to."""
    models = [estimator(4, n_init=1, random_state=seed, **parameters).fit(X) for seed in range(20)]
    return np.array([len(X) * model.score(X) for model in models])


with threadpool_limits(1):  # with so few rows, threads mostly wait for each other
    tops = {
        "scikit-learn, k-means": climb(GaussianMixture, tol=1e-6, max_iter=5000),
        "scikit-learn, random": climb(GaussianMixture, tol=1e-6, max_iter=5000, init_params="random"),
        "emkit, one start": climb(EMGaussianMixture),
    }
print(f"{'log-likelihood':<22}{'best':>10}{'median':>10}{'worst':>10}")
for name, heights in tops.items():
    print(f"{name:<22}{heights.max():>10.1f}{np.median(heights):>10.1f}{heights.min():>10.1f}")

# %%
# Nobody is safe with one start: tops differ by more than a hundred nats, and at the lowest crabs are sorted by size.
#
# The search
# ----------
# By default emkit does not trust one start. It lets 32 race for a few steps and drops those that fall behind; then it
# leaves the best top found for a better one, by taking a component away where two share a group and putting it where
# one holds two groups; and it says so, by a warning, if the best top was found only once. scikit-learn's remedy is
# ``n_init``, which keeps the best of so many.

searched = EMGaussianMixture(4, random_state=1).fit(X)
with threadpool_limits(1):
    restarted = GaussianMixture(4, n_init=20, random_state=0, tol=1e-6, max_iter=5000).fit(X)
found = {"scikit-learn, best of 20": restarted, "emkit, default": searched}
for name, model in found.items():
    agreement = adjusted_rand_score(kind, model.predict(X))
    print(f"{name:<25} log-likelihood {len(X) * model.score(X):.1f}, agreement with the kinds {agreement:.2f}")
print(f"another seed of emkit: {EMGaussianMixture(4, random_state=2).fit(X).log_likelihood_:.1f}")

# %%
# Agreement is the adjusted Rand index, 1 for the four kinds and 0 for chance. The picture leaves size, the first
# principal component, out: the kinds then lie apart, and one sees who found them.

shape = PCA(3).fit_transform(X)[:, 1:]
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
colours = np.array(["#0072b2", "#d55e00", "#009e73", "#cc79a7"])
for ax, (name, model) in zip(axes, found.items(), strict=False):
    labels = model.predict(X)
    for component, (colour, marker) in enumerate(zip(colours, "os^D", strict=True)):
        ax.scatter(*shape[labels == component].T, c=colour, marker=marker, s=18)
    ax.set(title=f"{name}: {len(X) * model.score(X):.1f} nats", xlabel="principal component 2")
axes[0].set_ylabel("principal component 3")
for row, heights in enumerate(tops.values()):
    axes[2].plot(heights, np.full(20, row), "|", markersize=22, color="black")
axes[2].axvline(searched.log_likelihood_, color="#d55e00", label="emkit, default")
axes[2].set(yticks=range(3), ylim=(-0.6, 3.2), title="where twenty single starts end", xlabel="log-likelihood")
axes[2].set_xticks([-1375, -1325, -1275, -1225])
axes[2].set_yticklabels([name.replace(", ", "\n") for name in tops])
axes[2].legend(loc="upper left")
plt.show()

# %%
# What became of every start, and how the best one climbed:

ConvergenceDisplay.from_estimator(searched)
plt.show()

# %%
# What to do with it: keep ``n_init="auto"``, and if the warning comes, try another ``random_state`` or a larger
# ``n_init`` and compare ``log_likelihood_``. With scikit-learn whiten the columns first, so that k-means does not sort
# by size, and try many starts.
