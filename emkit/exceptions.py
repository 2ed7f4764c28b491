"""What emkit raises and warns with."""

from __future__ import annotations


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter has a value it cannot have."""


class DataWarning(UserWarning):
    """The data allow a fit but not everything asked of it: a constant column, collinear columns, too few rows."""


class InconsistentVersionWarning(UserWarning):
    """An estimator was saved by another version of emkit than the one that reads it."""


class KernelWarning(UserWarning):
    """The compiled kernels are missing; the slower NumPy reference runs."""


__all__ = ["DataWarning", "InconsistentVersionWarning", "InvalidParameterError", "KernelWarning"]
