"""
Quickstart
==========

Cluster Old Faithful's eruptions and Fisher's irises: a mixture at the end of a pipeline, its number of components and
the shape of its covariances chosen by BIC in a grid search.
"""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emkit import EMGaussianMixture, show_versions
from emkit.datasets import load_faithful

show_versions()

# %%
# Choose
# ------
# Every number of components and every shape is fitted to all rows; BIC charges for the parameters.

SHAPES = ["full", "tied", "diag", "spherical"]


def negative_bic(pipeline, X, y=None):
    """Score a pipeline by its last step; grid search looks for the largest."""
    return -pipeline[-1].bic(pipeline[:-1].transform(X))


def choose(X):
    """Search the grid without holding rows out."""
    grid = {"emgaussianmixture__n_components": range(2, 6), "emgaussianmixture__covariance_type": SHAPES}
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(random_state=0))
    everything = [(np.arange(len(X)), np.arange(len(X)))]
    return GridSearchCV(pipeline, grid, scoring=negative_bic, cv=everything).fit(X)


faithful, iris = load_faithful(), load_iris()
eruptions, flowers = choose(faithful.data), choose(iris.data)

# %%
# Compare
# -------


def print_table(name, search):
    """One line for each number of components, one column for each shape."""
    results = search.cv_results_
    print(f"\n{name}: BIC (lower is better; inf: a component collapsed)")
    print(f"{'components':>12}" + "".join(f"{shape:>12}" for shape in SHAPES))
    for k in sorted(set(results["param_emgaussianmixture__n_components"])):
        row = [
            -score
            for shape in SHAPES
            for score, params in zip(results["mean_test_score"], results["params"], strict=True)
            if set(params.values()) == {k, shape}
        ]
        print(f"{k:>12}" + "".join(f"{bic:>12.1f}" for bic in row))
    best = search.best_estimator_[-1]
    print(
        f"chosen: {best.n_components} components, {best.covariance_type}; log-likelihood {best.log_likelihood_:.3f}, "
        f"{best.status_} after {best.n_iter_} steps"
    )


print_table("Old Faithful", eruptions)
print_table("Iris", flowers)
agreement = adjusted_rand_score(iris.target, flowers.predict(iris.data))
print(f"agreement with the species (adjusted Rand index): {agreement:.3f}")

# %%
# Look
# ----
# :doc:`choosing_k` says more about criteria, and does the same with less code.


def draw(panels, path):
    """One panel per data set: rows in the colour of their component, and each component's ellipse of two deviations."""
    import matplotlib

    matplotlib.use("Agg")  # draw to a file
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4.5), layout="constrained")
    circle = np.array([np.cos(t := np.linspace(0, 2 * np.pi, 100)), np.sin(t)])
    for ax, (name, names, X, search) in zip(axes, panels, strict=True):
        pipeline, (i, j) = search.best_estimator_, (0, X.shape[1] - 1)
        scaler, mixture = pipeline
        ax.scatter(X[:, i], X[:, j], c=pipeline.predict(X), cmap="viridis", s=14, alpha=0.7)
        factors = np.linalg.cholesky(as_matrices(mixture)[:, [[i], [j]], [i, j]])
        for mean, factor in zip(mixture.means_[:, [i, j]], factors, strict=True):
            ellipse = mean[:, None] + 2 * factor @ circle
            ax.plot(*(ellipse * scaler.scale_[[i, j], None] + scaler.mean_[[i, j], None]), color="black", lw=1)
        ax.set(title=name, xlabel=names[i], ylabel=names[j])
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def as_matrices(mixture):
    """Covariances of any shape as one matrix for each component."""
    k, d = mixture.means_.shape
    covariances = mixture.covariances_
    if mixture.covariance_type == "full":
        return covariances
    if mixture.covariance_type == "tied":
        return np.repeat(covariances[None], k, axis=0)
    return covariances.reshape(k, -1)[:, :, None] * np.eye(d)


try:
    import matplotlib  # noqa: F401
except ImportError:
    print("no picture: matplotlib is not installed (pip install 'emkit[plot]')")
else:
    draw(
        [
            ("Old Faithful", faithful.feature_names, faithful.data, eruptions),
            ("Iris", iris.feature_names, iris.data, flowers),
        ],
        "quickstart.png",
    )
