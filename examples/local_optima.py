"""
Local optima
============

EM climbs to the nearest top, which need not be the highest. Two hundred crabs show how much that can matter: four kinds,
blue or orange, male or female, that any measure of size hides, since large crabs are large in everything.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from emkit import EMGaussianMixture
from emkit.datasets import load_crabs

X, kind = load_crabs(return_X_y=True)

# %%
# Thirty starts
# -------------
# First, each start by itself: one climb from k-means (scikit-learn's default), one from random responsibilities, and one
# of emkit's, whose seeds are spread over whitened columns. ``tol`` is tightened, so that nobody stops on the way.

exact = {"tol": 1e-7, "max_iter": 5000}
starts = {
    "scikit-learn, k-means": [GaussianMixture(4, random_state=seed, **exact) for seed in range(30)],
    "scikit-learn, random": [
        GaussianMixture(4, init_params="random", random_state=seed, **exact) for seed in range(30)
    ],
    "emkit, one start": [EMGaussianMixture(4, n_init=1, random_state=seed) for seed in range(30)],
}
tops = {name: np.array([len(X) * model.fit(X).score(X) for model in models]) for name, models in starts.items()}
for name, heights in tops.items():
    print(f"{name:>22}: best {heights.max():.1f}, median {np.median(heights):.1f}, worst {heights.min():.1f}")
