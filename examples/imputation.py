"""
Imputation
==========

New York's air in the summer of 1973: a quarter of the ozone readings are missing. Predict the temperature from the
rest, in a pipeline, with four imputers side by side; then look at what was imputed.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import RepeatedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emkit import EMImputer
from emkit.datasets import load_airquality
from emkit.display import MissingPatternDisplay, OverimputationDisplay

air = load_airquality(as_frame=True).data
X, y = air.drop(columns="Temp"), air["Temp"]

# %%
# Four imputers
# -------------
# Each stands in a pipeline before a linear regression, and is judged by the cross-validated R2 of the predictions; then
# again with a third of all cells hidden. Those were known: the last column says how far the imputed ones are from them.

imputers = {
    "mean": SimpleImputer(),
    "5 neighbours": KNNImputer(),
    "iterative": IterativeImputer(random_state=0, max_iter=50),
    "EM": EMImputer(),
}
folds = RepeatedKFold(n_splits=5, n_repeats=2, random_state=0)
hidden = np.random.default_rng(0).random(X.shape) < 1 / 3
thinned = X.mask(hidden)
known = hidden & X.notna().to_numpy()
print(f"{'imputer':>14}{'R2':>10}{'R2, a third hidden':>22}{'error of hidden cells':>25}")
for name, imputer in imputers.items():
    # The scaler comes first: neighbours need common units; it passes missing cells on.
    pipeline = make_pipeline(StandardScaler(), imputer, LinearRegression())
    scores = [cross_val_score(pipeline, table, y, cv=folds).mean() for table in (X, thinned)]
    scaler = StandardScaler().fit(thinned)
    filled = scaler.inverse_transform(imputer.fit_transform(scaler.transform(thinned)))
    error = np.sqrt(np.mean(((filled - X.to_numpy()) / X.std().to_numpy())[known] ** 2))
    print(f"{name:>14}{scores[0]:>10.3f}{scores[1]:>22.3f}{error:>20.3f} s.d.")

# %%
# What the imputer knows
# ----------------------
# It estimates a mean and a covariance from the holes and all, says how certain they are, and whether the holes could
# have been made by chance alone.

imputer = EMImputer(tol=1e-6).fit(air)
print(f"{imputer.status_} after {imputer.n_iter_} steps; log-likelihood {imputer.log_likelihood_:.4f}")
print(f"worst fraction of missing information: {imputer.missing_information(air):.3f}")
test = imputer.little_mcar_test(air)
print(f"missing completely at random? Little's test: {test.statistic:.2f} on {test.df} df, p = {test.pvalue:.4f}")
errors = imputer.standard_errors(air)
print(f"mean ozone {imputer.mean_[0]:.2f} +- {errors.mean_[0]:.2f} (of the observed alone {air['Ozone'].mean():.2f})")

# %%
# What was imputed
# ----------------
# On the left, which cells are missing together. On the right the test of the model: each observed cell is held out in
# turn and predicted. Points should follow the diagonal, and 95 % intervals hold 95 % of them.

figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
MissingPatternDisplay.from_estimator(imputer, ax=axes[0])
display = OverimputationDisplay.from_estimator(imputer, air, ax=axes[1])
plt.show()
inside = display.coverage[~np.isnan(display.coverage)]
print("95 % intervals of held-out cells cover", ", ".join(f"{share:.0%}" for share in inside))

# %%
# Cells filled in once serve to predict. To conclude something from the filled table, see
# :doc:`multiple_imputation`.
