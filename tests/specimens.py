"""One small problem per family: a model, and data drawn from a truth that suits it. All laws are tested on all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emkit._model import Model
from emkit.emissions.gaussian import Diagonal, Full, Gaussian, Spherical, Tied
from emkit.mixture import Mixture


@dataclass(frozen=True)
class Specimen:
    model: Model
    X: Any
    rows_are_units: bool = True  # rows may be repeated, weighted and permuted one by one

    @property
    def family(self) -> type:
        return type(self.model)


def blobs(rng: np.random.Generator, n: int = 240, d: int = 3, k: int = 3, apart: float = 4.0) -> np.ndarray:
    """Correlated clusters with different shapes."""
    centres = apart * rng.normal(size=(k, d))
    mixing = rng.normal(size=(k, d, d)) / np.sqrt(d) + np.eye(d)
    labels = rng.integers(k, size=n)
    return centres[labels] + np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(n, d)))


LAWS: list[type[Gaussian]] = [Full, Tied, Diagonal, Spherical]


def specimens() -> dict[str, Specimen]:
    rng = np.random.default_rng(20)
    data = blobs(rng)
    found = {f"mixture-{law.kernel}": Specimen(Mixture(law(), 3), data) for law in LAWS}
    found |= {f"mixture-{law.kernel}-strong-prior": Specimen(Mixture(law(0.3), 4), data) for law in LAWS}
    found["mixture-full-float32"] = Specimen(Mixture(Full(), 3), data.astype(np.float32))
    return found


SPECIMENS = specimens()
