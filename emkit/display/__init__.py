"""Pictures, in scikit-learn's Display style; matplotlib is imported only when one is drawn."""

from .convergence import ConvergenceDisplay
from .missing import MissingPatternDisplay, OverimputationDisplay

__all__ = ["ConvergenceDisplay", "MissingPatternDisplay", "OverimputationDisplay"]
