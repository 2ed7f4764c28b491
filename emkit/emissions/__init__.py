"""Observation laws, one per file, shared by mixtures and chains."""

from .._model import Emission
from .bernoulli import Bernoulli
from .categorical import Categorical
from .columns import Columns
from .exponential import Exponential
from .gaussian import SHAPES, Gaussian
from .poisson import Poisson

__all__ = [
    "LAWS",
    "SHAPES",
    "Bernoulli",
    "Categorical",
    "Columns",
    "Emission",
    "Exponential",
    "Gaussian",
    "Poisson",
]

# Laws by name; "gaussian" is one of `SHAPES`, by covariance_type.
LAWS: dict[str, type[Emission]] = {
    "gaussian": SHAPES["full"],
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "exponential": Exponential,
}
