"""Observation laws, one per file, shared by mixtures and chains."""

from .._model import Emission
from .bernoulli import Bernoulli
from .categorical import Categorical
from .columns import Columns
from .exponential import Exponential
from .gamma import Gamma
from .gaussian import Gaussian
from .mixed_gaussian import MixedGaussian
from .multinomial import Multinomial
from .poisson import Poisson
from .shapes import SHAPES
from .student_t import StudentT

__all__ = [
    "LAWS",
    "SHAPES",
    "Bernoulli",
    "Categorical",
    "Columns",
    "Emission",
    "Exponential",
    "Gamma",
    "Gaussian",
    "MixedGaussian",
    "Multinomial",
    "Poisson",
    "StudentT",
]

# Laws by name; "gaussian" is one of `SHAPES`, by covariance_type.
LAWS: dict[str, type[Emission]] = {
    "gaussian": SHAPES["full"],
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "multinomial": Multinomial,
    "poisson": Poisson,
    "exponential": Exponential,
    "gamma": Gamma,
    "student-t": StudentT,
    "gaussian-mixture": MixedGaussian,
}
