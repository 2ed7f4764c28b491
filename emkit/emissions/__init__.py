"""Observation laws, one per file, shared by mixtures and chains.

A law of one's own needs three methods, ``log_prob``, ``summarize`` and ``maximize``, of a class derived from
`Emission`.
"""

from .._model import Emission
from .bernoulli import Bernoulli
from .categorical import Categorical
from .exponential import Exponential
from .gaussian import Diagonal, Full, Spherical, Tied
from .poisson import Poisson

# By the names that estimators know; a Gaussian's shape is chosen among ``gaussian.SHAPES``.
LAWS: dict[str, type[Emission]] = {
    "gaussian": Full,
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "exponential": Exponential,
}

__all__ = [
    "LAWS",
    "Bernoulli",
    "Categorical",
    "Diagonal",
    "Emission",
    "Exponential",
    "Full",
    "Poisson",
    "Spherical",
    "Tied",
]
