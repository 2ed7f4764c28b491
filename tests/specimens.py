"""One small problem per family: a model, and data drawn from a truth that suits it. All laws are tested on all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emkit._model import Model
from emkit.emissions.gaussian import Diagonal, Full, Gaussian, Spherical, Tied
from emkit.mixture import Mixture
from emkit.normal import MissingNormal


@dataclass(frozen=True)
class Specimen:
    model: Model
    X: Any
    rows_are_units: bool = True  # rows may be repeated, weighted and permuted one by one
    any_units: bool = True  # False: hyperparameters are in the units of the data

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


LAWS: list[type[Gaussian]] = [Full, Tied, Diagonal, Spherical]


def specimens() -> dict[str, Specimen]:
    rng = np.random.default_rng(20)
    data = blobs(rng)
    found = {f"mixture-{law.kernel}": Specimen(Mixture(law(), 3), data) for law in LAWS}
    found |= {f"mixture-{law.kernel}-strong-prior": Specimen(Mixture(law(0.3), 4), data) for law in LAWS}
    found["mixture-full-float32"] = Specimen(Mixture(Full(), 3), data.astype(np.float32))
    holes = with_holes(rng, d=4, k=1)
    found["missing-normal"] = Specimen(MissingNormal(), holes)
    found["missing-normal-ridge"] = Specimen(MissingNormal("ridge", 5.0), holes)
    wishart = tuple(map(tuple, np.diag([1.0, 2.0, 3.0, 4.0]).tolist()))
    found["missing-normal-wishart"] = Specimen(MissingNormal(wishart, 2.0), holes, any_units=False)
    found["missing-normal-float32"] = Specimen(MissingNormal(), holes.astype(np.float32))
    return found


SPECIMENS = specimens()
