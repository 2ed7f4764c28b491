"""
Quickstart
==========

Cluster Old Faithful's eruptions and Fisher's irises: a mixture at the end of a pipeline, its number of components and
the shape of its covariances chosen by BIC.
"""

from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emkit import EMGaussianMixture, select, show_versions
from emkit.datasets import load_faithful
from emkit.display import MixtureDisplay

show_versions()

# %%
# Choose
# ------
# Every number of components and every shape is fitted to all rows; BIC charges for the parameters.

SHAPES = ["full", "tied", "diag", "spherical"]
K, SHAPE = "emgaussianmixture__n_components", "emgaussianmixture__covariance_type"

pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(random_state=0))
grid = {K: [2, 3, 4, 5], SHAPE: SHAPES}
faithful, iris = load_faithful(), load_iris()
eruptions, flowers = select(pipeline, faithful.data, grid), select(pipeline, iris.data, grid)

# %%
# Compare
# -------


def print_table(name, selection):
    """One line for each number of components, one column for each shape."""
    bic = {(row[K], row[SHAPE]): row["criterion"] for row in selection.results_}
    print(f"\n{name}: BIC (lower is better; inf: a component collapsed)")
    print(f"{'components':>12}" + "".join(f"{shape:>12}" for shape in SHAPES))
    for k in grid[K]:
        print(f"{k:>12}" + "".join(f"{bic[k, shape]:>12.1f}" for shape in SHAPES))
    best = selection.best_estimator_[-1]
    print(
        f"chosen: {best.n_components} components, {best.covariance_type}; log-likelihood {best.log_likelihood_:.3f}, "
        f"{best.status_} after {best.n_iter_} steps"
    )


print_table("Old Faithful", eruptions)
print_table("Iris", flowers)
agreement = adjusted_rand_score(iris.target, flowers.best_estimator_.predict(iris.data))
print(f"agreement with the species (adjusted Rand index): {agreement:.3f}")

# %%
# Look
# ----
# Rows in the colour of their component, and each component's ellipse of two deviations, in the units of the scaler.
# :doc:`choosing_k` says more about criteria.

try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no picture: matplotlib is not installed (pip install 'emkit[plot]')")
else:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for ax, name, selection, data in zip(
        axes, ("Old Faithful", "Iris"), (eruptions, flowers), (faithful, iris), strict=True
    ):
        best = selection.best_estimator_
        features = [0, data.data.shape[1] - 1]
        MixtureDisplay.from_estimator(best[-1], best[:-1].transform(data.data), features=features, ax=ax)
        ax.set(title=name, xlabel=data.feature_names[features[0]], ylabel=data.feature_names[features[1]])
    figure.savefig("quickstart.png", dpi=120)
    print("picture: quickstart.png")
