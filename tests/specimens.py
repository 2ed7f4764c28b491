"""One small problem per family: a model, and data drawn from a truth that suits it. All laws are tested on all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emkit._model import Model
from emkit._sequences import Sequences
from emkit.chain import MarkovChain
from emkit.emissions import (
    Bernoulli,
    Categorical,
    Columns,
    Exponential,
    Gamma,
    MixedGaussian,
    Multinomial,
    Poisson,
    StudentT,
)
from emkit.emissions.gaussian import Gaussian
from emkit.emissions.shapes import Diagonal, Full, Spherical, Tied
from emkit.finite_mixture import Mixture
from emkit.normal import MissingNormal


@dataclass(frozen=True)
class Specimen:
    model: Model
    X: Any
    any_units: bool = True  # False: hyperparameters are in the units of the data, or these have a meaning
    any_origin: bool = True  # False: 0 has a meaning

    @property
    def cells(self) -> np.ndarray:
        return self.X.X if isinstance(self.X, Sequences) else self.X

    @property
    def n_units(self) -> int:
        """How many rows, or sequences, can be weighted by themselves."""
        return len(self.X.lengths) if isinstance(self.X, Sequences) else len(self.X)

    def hold(self, cells: np.ndarray) -> Any:
        """The same data with other numbers."""
        return self.X.hold(cells) if isinstance(self.X, Sequences) else cells

    def repeated(self, weight: np.ndarray, rng: np.random.Generator) -> Any:
        """Copies of units, in any order."""
        chosen = rng.permutation(np.repeat(np.arange(self.n_units), weight.astype(int)))
        if not isinstance(self.X, Sequences):
            return self.X[chosen]
        parts = np.split(self.X.X, self.X.ends[:-1])
        lengths = self.X.lengths[chosen]
        return Sequences(np.concatenate([parts[i] for i in chosen]), lengths, np.arange(len(lengths)))


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


def sequences(rng: np.random.Generator, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """States of a dozen short sequences, each state likely to last, and their lengths."""
    lengths = rng.integers(1, 40, size=12)
    leaves = rng.random(lengths.sum()) < 0.2
    return (np.cumsum(leaves * rng.integers(1, k, size=len(leaves))) + rng.integers(k)) % k, lengths


def chains() -> dict[str, Specimen]:
    """One for each law of observation, and for what a chain itself may be asked."""
    rng = np.random.default_rng(21)
    state, lengths = sequences(rng)
    names = np.arange(len(lengths))
    numbers = 4.0 * state[:, None] + rng.normal(size=(len(state), 2))
    counts = rng.poisson(np.array([[1.0, 8.0], [6.0, 8.0], [20.0, 2.0]])[state]).astype(float)
    binary = (rng.random((len(state), 3)) < np.array([[0.1, 0.9, 0.5], [0.9, 0.5, 0.1], [0.2, 0.1, 0.9]])[state]) * 1.0
    symbols = np.array(list("abcd"))[np.minimum(state + (rng.random(len(state)) < 0.3), 3)][:, None]
    waits = rng.exponential(np.array([[1.0], [10.0], [200.0]])[state])

    def some(X: np.ndarray) -> np.ndarray:
        """With holes, and a row without anything."""
        X = X.copy()
        X[rng.random(X.shape) < 0.15] = np.nan
        X[5] = np.nan
        return X

    def specimen(law: Any, X: Any, **chain: Any) -> Specimen:
        learned = law.learn(X)
        given = {name: chain.pop(name) for name in ("any_units", "any_origin") if name in chain}
        return Specimen(MarkovChain(learned, 3, **chain), Sequences(learned.read(X), lengths, names), **given)

    no = {"any_units": False, "any_origin": False}
    found = {f"chain-{law.kernel}": specimen(law(), numbers) for law in LAWS}
    found |= {f"chain-{law.kernel}-holes": specimen(law(), some(numbers)) for law in LAWS}
    found["chain-stationary"] = specimen(Full(), numbers, stationary=True)
    mask = np.array([[True, True, False], [False, True, True], [True, False, True]])
    found["chain-mask-prior"] = specimen(Full(), numbers, mask=mask, start_prior=2.0, trans_prior=1.5)
    found["chain-poisson"] = specimen(Poisson(), some(counts), **no)
    found["chain-bernoulli"] = specimen(Bernoulli(), some(binary), **no)
    found["chain-categorical"] = specimen(Categorical(), symbols, **no)
    heavy = 4.0 * state[:, None] + rng.standard_t(3.0, size=(len(state), 2))
    found["chain-student-t-tied"] = specimen(StudentT("tied"), heavy)
    found["chain-student-t-full-holes"] = specimen(StudentT(), some(heavy))
    two = numbers + 2.0 * rng.choice([-1, 1], size=(len(state), 1))
    found["chain-gaussian-mixture-full"] = specimen(MixedGaussian(2), two)
    found["chain-gaussian-mixture-holes"] = specimen(MixedGaussian(2, "diag"), some(two))
    found["chain-gamma"] = specimen(Gamma(), some(waits + 0.1), any_origin=False)
    trials = np.where(np.isnan(some(counts[:, :1])), np.nan, rng.multinomial(12, np.eye(4)[state] * 0.6 + 0.1))
    found["chain-multinomial"] = specimen(Multinomial(), trials, **no)
    found["chain-multinomial-holes"] = specimen(Multinomial(12), some(trials), **no)
    found["chain-exponential"] = specimen(Exponential(), some(waits), any_origin=False)
    law = Columns([("gaussian", [0, 1]), ("poisson", [2, 3])])
    found["chain-columns"] = specimen(law, some(np.column_stack([numbers, counts])), **no)
    return found


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
    found |= chains()
    # A mixture of the same laws, of the same rows whatever their order; one of mixtures would not be identified.
    for name in [name for name in found if name.startswith("chain-") and "mixture" not in name]:
        chain = found[name]
        if "full" in name or not isinstance(chain.model.law, Gaussian):
            mixture = Mixture(chain.model.law, 3)
            found[f"mixture-of-{name.removeprefix('chain-')}"] = replace(chain, model=mixture, X=chain.X.X)
    return found


SPECIMENS = specimens()
