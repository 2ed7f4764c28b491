"""
Imputation
==========

New York's air in the summer of 1973: a quarter of the ozone readings are missing. Predict the temperature from the
rest, in a pipeline, with four imputers side by side; then with a third of the cells gone; then look at what was
imputed, and pool an analysis over several imputations.
"""

import matplotlib

matplotlib.use("Agg")  # draw to files

import matplotlib.pyplot as plt
import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import RepeatedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emkit import EMImputer, pool
from emkit.datasets import load_airquality
from emkit.display import MissingPatternDisplay, OverimputationDisplay

IMPUTERS = {
    "mean": SimpleImputer(),
    "5 neighbours": KNNImputer(),
    "iterative": IterativeImputer(random_state=0, max_iter=50),
    "EM": EMImputer(),
}


def compare(X, y):
    """Cross-validated R2 of a linear regression behind each imputer, and how far imputed cells are from the hidden."""
    folds = RepeatedKFold(n_splits=5, n_repeats=4, random_state=0)
    hidden = np.random.default_rng(0).random(X.shape) < 1 / 3
    thinned = X.mask(hidden)
    known = hidden & X.notna().to_numpy()
    spread = X.std().to_numpy()
    print(f"{'imputer':>14}{'R2':>10}{'R2, a third hidden':>22}{'error of hidden cells':>25}")
    for name, imputer in IMPUTERS.items():
        # The scaler comes first: neighbours need common units; it passes missing cells on.
        pipeline = make_pipeline(StandardScaler(), imputer, LinearRegression())
        scores = [cross_val_score(pipeline, Z, y, cv=folds).mean() for Z in (X, thinned)]
        scaler = StandardScaler().fit(thinned)
        filled = scaler.inverse_transform(imputer.fit_transform(scaler.transform(thinned)))
        error = np.sqrt(np.mean(((filled - X.to_numpy()) / spread)[known] ** 2))
        print(f"{name:>14}{scores[0]:>10.3f}{scores[1]:>22.3f}{error:>20.3f} s.d.")


def show(X):
    """Fit, report, draw."""
    imputer = EMImputer(tol=1e-6).fit(X)
    print(f"\n{imputer.status_} after {imputer.n_iter_} steps; log-likelihood {imputer.log_likelihood_:.4f}")
    print(f"worst fraction of missing information: {imputer.missing_information(X):.3f}")
    test = imputer.little_mcar_test(X)
    print(f"missing completely at random? Little's test: {test.statistic:.2f} on {test.df} df, p = {test.pvalue:.4f}")
    errors = imputer.standard_errors(X)
    print(f"mean ozone {imputer.mean_[0]:.2f} +- {errors.mean_[0]:.2f} (of the observed alone {X['Ozone'].mean():.2f})")

    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    MissingPatternDisplay.from_estimator(imputer, ax=axes[0])
    display = OverimputationDisplay.from_estimator(imputer, X, ax=axes[1])
    figure.tight_layout()
    figure.savefig("imputation.png", dpi=100)
    inside = display.coverage[~np.isnan(display.coverage)]
    print("95 % intervals of held-out cells cover", ", ".join(f"{share:.0%}" for share in inside))
    print("picture: imputation.png")
    return imputer


def regress(table):
    """Slope of temperature on ozone with the wind held fixed, and its variance."""
    Z = np.column_stack([np.ones(len(table)), table[:, [0, 2]]])
    inverse = np.linalg.inv(Z.T @ Z)
    coef = inverse @ Z.T @ table[:, 3]
    variance = np.sum((table[:, 3] - Z @ coef) ** 2) / (len(Z) - 3) * inverse[1, 1]
    return coef[1], variance


def main():
    air = load_airquality(as_frame=True).data
    compare(air.drop(columns="Temp"), air["Temp"])
    imputer = show(air)
    estimates, variances = zip(*map(regress, imputer.multiple_impute(air, 50, random_state=0)), strict=True)
    pooled = pool(estimates, variances, df_complete=len(air) - 3)
    low, high = pooled.interval()
    print(
        f"\ntemperature per ppb of ozone, 50 imputations pooled: {pooled.estimate:.3f} (95 %: {low:.3f} to {high:.3f}),"
    )
    print(f"{pooled.missing_information:.0%} of its variance is due to the missing cells")


if __name__ == "__main__":
    main()
