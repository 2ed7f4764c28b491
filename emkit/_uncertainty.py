"""Of a normal with holes: the pace of EM at its estimate, and draws of the parameters from their posterior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._charts import pack, unpack
from ._em import step
from ._model import Data, Model, Params
from .normal import MissingNormal, Normal, factor

Array = NDArray[Any]


def slowest_rate(model: Model, blocks: Sequence[Data], params: Params, *, tol: float = 1e-5, most: int = 40) -> float:
    """Largest eigenvalue of the EM map's Jacobian at a fixed point, by Arnoldi's method on central differences.

    It is the share of the distance that one EM step leaves, and the largest fraction of missing information of any
    function of the parameters.

    References
    ----------
    Meng, X.-L. & Rubin, D. (1994). On the global and componentwise rates of convergence of the EM algorithm. *Linear
    Algebra and its Applications* 199, 413-425.
    """
    x = pack(params, model.charts)
    h = 1e-5 * max(1.0, float(np.linalg.norm(x)) / np.sqrt(max(1, len(x))))

    def image(free: Array) -> Array:
        return pack(step(model, blocks, unpack(free, model.charts, params)).image, model.charts)

    most = min(most, len(x))
    basis = np.zeros((most + 1, len(x)))
    hessenberg = np.zeros((most + 1, most))
    basis[0] = np.random.default_rng(0).standard_normal(len(x))
    basis[0] /= np.linalg.norm(basis[0])
    rate = 0.0
    for k in range(most):
        w = (image(x + h * basis[k]) - image(x - h * basis[k])) / (2.0 * h)
        for _ in range(2):  # once more: rounding
            overlap = basis[: k + 1] @ w
            w -= overlap @ basis[: k + 1]
            hessenberg[: k + 1, k] += overlap
        hessenberg[k + 1, k] = np.linalg.norm(w)
        previous, rate = rate, float(np.abs(np.linalg.eigvals(hessenberg[: k + 1, : k + 1])).max())
        if hessenberg[k + 1, k] < 1e-8 or (k >= 3 and abs(rate - previous) < tol):
            break
        basis[k + 1] = w / hessenberg[k + 1, k]
    return rate


def posterior_draws(
    model: MissingNormal, X: Array, params: Normal, rng: np.random.Generator, n_steps: int
) -> Iterator[Normal]:
    """Draw parameters from their posterior, one after every ``n_steps`` of data augmentation, starting at the mode.

    The prior is the model's own for the covariance (Jeffreys' where it has none) and flat for the mean.

    References
    ----------
    Tanner, M. & Wong, W. (1987). The calculation of posterior distributions by data augmentation. *JASA* 82, 528-540.
    Schafer, J. (1997). *Analysis of Incomplete Multivariate Data*, section 5.4. Chapman & Hall.
    """
    frame = model.frame(params, X[~np.isnan(X).all(axis=1)])
    here = model.standardize(params, frame)
    n, p = frame.X.shape
    scatter, df = np.zeros((p, p)), n - 1.0
    if model.kind == "ridge":
        scatter, df = model.strength * np.eye(p), df + model.strength
    elif model.kind is not None:
        whole = np.array(model.kind)[np.ix_(frame.columns, frame.columns)]
        scatter, df = whole / frame.scale[:, None] / frame.scale, df + model.strength
    if df < p:
        raise ValueError(
            f"the posterior of {p} columns needs more than {p} rows or degrees of freedom, but has {df:g}; "
            "raise prior_strength, or use method='bootstrap'"
        )
    while True:
        for _ in range(n_steps):
            noisy = frame._replace(noise=rng.standard_normal((n, p)))
            out = model.outputs(noisy, ("filled",))
            for portion in model.portions(noisy, out):
                model.infer(here, *portion)
            assert out.filled is not None
            z = (out.filled - frame.center) / frame.scale
            middle = z.mean(axis=0)
            z -= middle
            root = factor(z.T @ z + scatter)
            # The inverse of a Wishart matrix, by Bartlett's decomposition.
            bartlett = np.tril(rng.standard_normal((p, p)), -1)
            np.fill_diagonal(bartlett, np.sqrt(rng.chisquare(df - np.arange(p))))
            half = root @ np.linalg.inv(bartlett).T
            cholesky = factor(half @ half.T)
            here = Normal(middle + cholesky @ rng.standard_normal(p) / np.sqrt(n), cholesky)
        mean, whole = params.mean.copy(), np.zeros_like(params.cholesky)
        mean[frame.columns] = here.mean * frame.scale + frame.center
        whole[np.ix_(frame.columns, frame.columns)] = here.cholesky * frame.scale[:, None]
        yield Normal(mean, whole)
