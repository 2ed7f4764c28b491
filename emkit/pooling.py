"""Combine the analyses of several imputed data sets into one, by Rubin's rules."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

Array = NDArray[Any]


class Pooled(NamedTuple):
    """One estimate with its uncertainty; every field has the shape of one estimate."""

    estimate: Array
    standard_error: Array
    df: Array  # degrees of freedom of the t distribution
    missing_information: Array  # share of the variance that is due to the missing cells

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Lower and upper end of the interval that covers the truth with the given probability.

        Parameters
        ----------
        confidence : float, default=0.95
            The probability.

        Returns
        -------
        low, high : ndarray
            Of the shape of one estimate.

        Raises
        ------
        ValueError
            For a confidence that is no probability between 0 and 1.

        Examples
        --------
        >>> from emkit import pool
        >>> pooled = pool([1.0, 1.2, 0.9, 1.1], [0.04, 0.05, 0.04, 0.05], df_complete=20)
        >>> low, high = pooled.interval()
        >>> print(f"{low:.2f} to {high:.2f}")
        0.47 to 1.63
        """
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must lie between 0 and 1. Got {confidence!r} instead.")
        half = t.ppf(0.5 + 0.5 * confidence, self.df) * self.standard_error
        return self.estimate - half, self.estimate + half


def pool(estimates: Any, variances: Any, df_complete: float = np.inf) -> Pooled:
    """Pool estimates of the same quantities from several imputed data sets.

    Parameters
    ----------
    estimates : array-like of shape (n_imputations, ...)
        What each completed data set says.
    variances : array-like of shape (n_imputations, ...)
        Squared standard error of each estimate.
    df_complete : float, default=inf
        Degrees of freedom the estimate would have if nothing were missing, for example rows minus coefficients.

    Returns
    -------
    Pooled
        ``estimate``, ``standard_error``, ``df``, ``missing_information``, and a method ``interval(confidence)``.

    References
    ----------
    Rubin, D. (1987). *Multiple Imputation for Nonresponse in Surveys*. Wiley.
    Barnard, J. & Rubin, D. (1999). Small-sample degrees of freedom with multiple imputation. *Biometrika* 86, 948-955.

    Examples
    --------
    >>> from emkit import pool
    >>> pooled = pool([1.0, 1.2, 0.9, 1.1], [0.04, 0.05, 0.04, 0.05], df_complete=20)
    >>> print(f"{pooled.estimate:.2f} +- {pooled.standard_error:.2f}, {pooled.df:.1f} degrees of freedom")
    1.05 +- 0.26, 8.8 degrees of freedom
    """
    values, within = np.asarray(estimates, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if values.shape != within.shape or values.ndim == 0 or len(values) < 2:
        raise ValueError(
            f"estimates have shape {values.shape} and variances {within.shape}: give one of each "
            "for two imputations or more"
        )
    if not np.isfinite(values).all() or not (np.isfinite(within) & (within >= 0.0)).all():
        raise ValueError("estimates must be finite, and variances finite and not negative")
    if not df_complete > 0.0:
        raise ValueError(f"df_complete={df_complete}: degrees of freedom are positive")
    m = len(values)
    between = (1.0 + 1.0 / m) * values.var(axis=0, ddof=1)
    whole = within.mean(axis=0) + between
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(whole > 0.0, between / whole, 0.0)
        df = (m - 1.0) / share**2
        if np.isfinite(df_complete):
            observed = (df_complete + 1.0) / (df_complete + 3.0) * df_complete * (1.0 - share)
            df = 1.0 / (1.0 / df + 1.0 / observed)
    return Pooled(values.mean(axis=0), np.sqrt(whole), df, share)
