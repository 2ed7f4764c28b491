"""What emkit raises and warns with."""

from __future__ import annotations

import inspect
import warnings

# Whose lines are no help to who reads a warning.
_LIBRARIES = {"emkit", "sklearn", "joblib", "importlib"}


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter has a value it cannot have."""


class DataWarning(UserWarning):
    """The data allow a fit but not everything asked of it: a constant column, collinear columns, too few rows."""


class InconsistentVersionWarning(UserWarning):
    """An estimator was saved by another version of emkit than the one that reads it."""


class KernelWarning(UserWarning):
    """The compiled kernels are missing; the slower NumPy reference runs."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn of the line that led here from outside of the libraries."""
    frame = inspect.currentframe()
    while frame and frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame = frame.f_back
    assert frame is not None  # Python tells its frames
    of_module = frame.f_globals
    registry = of_module.setdefault("__warningregistry__", {})
    warnings.warn_explicit(
        message, category, frame.f_code.co_filename, frame.f_lineno, of_module.get("__name__"), registry
    )


__all__ = ["DataWarning", "InconsistentVersionWarning", "InvalidParameterError", "KernelWarning"]
