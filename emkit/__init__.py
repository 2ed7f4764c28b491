"""emkit: expectation-maximisation for people who use scikit-learn."""

from ._show_versions import __version__, show_versions
from .mixture import EMGaussianMixture

__all__ = ["EMGaussianMixture", "__version__", "show_versions"]
