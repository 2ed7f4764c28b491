"""Pictures, in scikit-learn's Display style; matplotlib is imported only when one is drawn."""

from .convergence import ConvergenceDisplay
from .missing import MissingPatternDisplay, OverimputationDisplay
from .mixture import MixtureDisplay
from .path import StatePathDisplay
from .selection import SelectionDisplay
from .transition import TransitionDisplay

__all__ = [
    "ConvergenceDisplay",
    "MissingPatternDisplay",
    "MixtureDisplay",
    "OverimputationDisplay",
    "SelectionDisplay",
    "StatePathDisplay",
    "TransitionDisplay",
]
