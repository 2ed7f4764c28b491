"""emkit: expectation-maximisation for people who use scikit-learn."""

from ._show_versions import __version__, show_versions
from .imputer import EMImputer
from .markov import EMHiddenMarkov
from .mixture import EMGaussianMixture
from .pooling import pool
from .selection import select

__all__ = [
    "EMGaussianMixture",
    "EMHiddenMarkov",
    "EMImputer",
    "__version__",
    "pool",
    "select",
    "show_versions",
]
