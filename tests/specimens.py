"""One small problem per family: a model, and data drawn from a truth that suits it. All laws are tested on all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emkit._model import Emission, Model
from emkit.emissions import Bernoulli, Categorical, Exponential, Poisson
from emkit.emissions._by_mean import Means
from emkit.emissions.categorical import Tables
from emkit.emissions.gaussian import Diagonal, Full, Gaussian, Spherical, Tied
from emkit.mixture import Mixture
from emkit.normal import MissingNormal


@dataclass(frozen=True)
class Specimen:
    model: Model
    X: Any
    rows_are_units: bool = True  # rows may be repeated, weighted and permuted one by one
    any_units: bool = True  # False: hyperparameters, or the data themselves, have units of their own
    any_origin: bool = True  # False: 0 has a meaning

    @property
    def family(self) -> type:
        return type(self.model)


def blobs(rng: np.random.Generator, n: int = 240, d: int = 3, k: int = 3, apart: float = 4.0) -> np.ndarray:
    """Correlated clusters with different shapes."""
    centres = apart * rng.normal(size=(k, d))
    mixing = rng.normal(size=(k, d, d)) / np.sqrt(d) + np.eye(d)
    labels = rng.integers(k, size=n)
    return centres[labels] + np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(n, d)))


def with_holes(rng: np.random.Generator, share: float = 0.2, **shape: Any) -> np.ndarray:
    """The same, with cells missing; the first column more often, so that one pattern has many rows."""
    X = blobs(rng, **shape)
    X[rng.random(X.shape) < share] = np.nan
    X[: len(X) // 4, 0] = np.nan
    return X


def from_law(rng: np.random.Generator, law: Emission, params: Any, n: int = 240, share: float = 0.15) -> np.ndarray:
    """Rows that a law draws from parameters in the user's units, some cells missing."""
    X = law.sample(params, rng.integers(len(law.mean(params)) if hasattr(params, "means") else 3, size=n), rng)
    X[rng.random(X.shape) < share] = np.nan
    return X


LAWS: list[type[Gaussian]] = [Full, Tied, Diagonal, Spherical]


def specimens() -> dict[str, Specimen]:
    rng = np.random.default_rng(20)
    data = blobs(rng)
    found = {f"mixture-{law.kernel}": Specimen(Mixture(law(), 3), data) for law in LAWS}
    found |= {f"mixture-{law.kernel}-strong-prior": Specimen(Mixture(law(0.3), 4), data) for law in LAWS}
    found["mixture-full-float32"] = Specimen(Mixture(Full(), 3), data.astype(np.float32))
    gaps = with_holes(rng, d=3, k=3)
    found |= {f"mixture-{law.kernel}-holes": Specimen(Mixture(law(), 3), gaps) for law in LAWS}
    counts = Means(np.array([[1.0, 30.0], [4.0, 2.0], [12.0, 9.0]]))
    of_its_own = {"any_units": False, "any_origin": False}
    found["mixture-poisson"] = Specimen(Mixture(Poisson(), 3), from_law(rng, Poisson(), counts), **of_its_own)
    shares = Means(rng.random((3, 6)))
    found["mixture-bernoulli"] = Specimen(Mixture(Bernoulli(), 3), from_law(rng, Bernoulli(), shares), **of_its_own)
    times = from_law(rng, Exponential(), counts)
    found["mixture-exponential"] = Specimen(Mixture(Exponential(), 3), times, any_origin=False)
    for pseudocount in (0.0, 0.5):
        law = Categorical([list("abcd"), list("xyz"), list("no")], pseudocount=pseudocount)
        tables = Tables(rng.dirichlet(np.full(4, 0.5), size=(3, 3)) * law._inside + 1e-300)
        symbols = from_law(rng, law, tables)
        found[f"mixture-categorical-{pseudocount:g}"] = Specimen(Mixture(law, 3), symbols, **of_its_own)
    holes = with_holes(rng, d=4, k=1)
    found["missing-normal"] = Specimen(MissingNormal(), holes)
    found["missing-normal-ridge"] = Specimen(MissingNormal("ridge", 5.0), holes)
    wishart = tuple(map(tuple, np.diag([1.0, 2.0, 3.0, 4.0]).tolist()))
    found["missing-normal-wishart"] = Specimen(MissingNormal(wishart, 2.0), holes, any_units=False)
    found["missing-normal-float32"] = Specimen(MissingNormal(), holes.astype(np.float32))
    return found


SPECIMENS = specimens()
