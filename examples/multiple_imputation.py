"""
Multiple imputation
===================

Fill the holes once, analyse as usual, and the result looks more certain than it is: the analysis cannot tell invented
cells from measured ones. Fill them several times, and the differences between the results say what the holes cost.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import linregress, t

from emkit import EMImputer, pool
from emkit.datasets import load_nhanes
from emkit.display import MissingPatternDisplay

X = load_nhanes(as_frame=True).data
imputer = EMImputer().fit(X)
print(f"{X.isna().sum().sum()} of {X.size} cells are missing; the imputer {imputer.status_} in {imputer.n_iter_} steps")
MissingPatternDisplay.from_estimator(imputer)
plt.show()

# %%
# The analysis
# ------------
# Does cholesterol rise with the body mass index, and with hypertension? Any analysis will do that takes a complete
# table and gives estimates with their variances; here it is least squares.

names = ["body mass index", "hypertension"]


def regress(table):
    """Coefficients of cholesterol on body mass index and hypertension, and their variances."""
    A = np.column_stack([np.ones(len(table)), table[:, [1, 2]]])
    inverse = np.linalg.inv(A.T @ A)
    coefficients = inverse @ A.T @ table[:, 3]
    noise = np.sum((table[:, 3] - A @ coefficients) ** 2) / (len(A) - A.shape[1])
    return coefficients[1:], noise * np.diag(inverse)[1:]


df = len(X) - 3  # rows minus coefficients

# %%
# Once, and a hundred times
# -------------------------
# ``transform`` puts the most likely value into each hole. ``multiple_impute`` draws values, each time from other
# parameters that the data allow as well; :func:`emkit.pool` combines what the analysis makes of them, by Rubin's rules.

single, variance = regress(imputer.transform(X))
half = t.ppf(0.975, df) * np.sqrt(variance)
draws = imputer.multiple_impute(X, 100, random_state=0)
estimates, variances = zip(*map(regress, draws), strict=True)
pooled = pool(estimates, variances, df_complete=df)
low, high = pooled.interval()
for j, name in enumerate(names):
    print(f"{name}: cholesterol per unit, 95 % interval")
    print(f"  imputed once      {single[j]:>6.1f}  ({single[j] - half[j]:.1f} to {single[j] + half[j]:.1f})")
    print(f"  100 times, pooled {pooled.estimate[j]:>6.1f}  ({low[j]:.1f} to {high[j]:.1f})", end="")
    print(f"; {pooled.missing_information[j]:.0%} of its variance is due to the holes")

# %%
# Imputed once, the effect of hypertension seems to be there: its interval leaves zero out. Pooled, it does not, and
# that is the honest answer of 25 people.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for j, (ax, name) in enumerate(zip(axes, names, strict=True)):
    points = np.array(estimates)[:, j]
    ax.plot(points, 2 + np.linspace(-0.25, 0.25, len(points)), ".", color="0.6")
    ax.errorbar(single[j], 1, xerr=half[j], fmt="s", capsize=5, color="#d55e00")
    middle = pooled.estimate[j]
    ax.errorbar(middle, 0, xerr=[[middle - low[j]], [high[j] - middle]], fmt="o", capsize=5, color="#0072b2")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(title=name, xlabel="cholesterol per unit", yticks=[0, 1, 2], ylim=(-0.6, 2.6))
axes[0].set_yticklabels(["pooled", "imputed once", "each of the 100"])
axes[1].set_yticklabels([])
plt.show()

# %%
# Why wider
# ---------
# The pooled variance is the mean of the hundred variances, which is what any one analysis knows of, plus the variance
# between the hundred estimates (times 1.01, since there are only a hundred). Two things are in the second part: nobody
# knows where in its spread the missing cell lies, and nobody knows that spread well either. Moreover, cells filled with
# their most likely value lie on the regression line itself, so that even the first part comes out too small for them.

within = np.mean(variances, axis=0)
between = np.var(estimates, axis=0, ddof=1)
print("standard errors   once  within  between  pooled")
for j, name in enumerate(names):
    parts = (np.sqrt(variance[j]), np.sqrt(within[j]), np.sqrt(1.01 * between[j]), pooled.standard_error[j])
    print(f"{name:<16}" + "".join(f"{part:>8.2f}" for part in parts))

# %%
# Which one is right? Where the truth is known, count how often intervals that claim 95 % hold it. The truth is a slope
# of 0.6 between two columns; two fifths of the cells of one are hidden; two hundred times.


def slope(table):
    """Slope of the first column on the second, and its variance."""
    line = linregress(table[:, 1], table[:, 0])
    return line.slope, line.stderr**2


rng = np.random.default_rng(0)
inside = {"imputed once": 0, "pooled": 0}
for _ in range(200):
    Z = rng.multivariate_normal([0, 0, 0], [[1, 0.6, 0.4], [0.6, 1, 0.3], [0.4, 0.3, 1]], size=60)
    Z[rng.random(60) < 0.4, 0] = np.nan
    model = EMImputer().fit(Z)
    once, spread = slope(model.transform(Z))
    half = t.ppf(0.975, 58) * np.sqrt(spread)
    inside["imputed once"] += once - half < 0.6 < once + half
    low, high = pool(*zip(*map(slope, model.multiple_impute(Z, 10, random_state=0)), strict=True), 58).interval()
    inside["pooled"] += low < 0.6 < high
print("; ".join(f"{name}: {count / 200:.1%} of the intervals hold the truth" for name, count in inside.items()))

# %%
# What to do with it: impute once to *predict*, as in a pipeline; impute many times to *conclude*. Twenty imputations do
# for an estimate, a hundred for an interval that should not depend on ``random_state``.
