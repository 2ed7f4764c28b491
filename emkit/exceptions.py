"""What emkit raises and warns with."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# Whose lines are no help to who reads a warning.
_LIBRARIES = {"emkit", "sklearn", "joblib", "importlib"}
# What the columns are called to which messages give numbers: innermost last.
_NAMES: ContextVar[tuple[Sequence[Any], ...]] = ContextVar("names", default=())


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter has a value it cannot have."""


class DataWarning(UserWarning):
    """The data allow a fit but not everything asked of it: a constant column, collinear columns, too few rows."""


class InconsistentVersionWarning(UserWarning):
    """An estimator was saved by another version of emkit than the one that reads it."""


class KernelWarning(UserWarning):
    """The compiled kernels are missing; the slower NumPy reference runs."""


@contextmanager
def columns_named(names: Sequence[Any] | None) -> Iterator[None]:
    """Let warnings and errors of what follows call columns by their names, not by their numbers."""
    if names is None:
        yield
        return
    before = _NAMES.set((*_NAMES.get(), names))
    try:
        yield
    except (ValueError, TypeError) as error:
        error.args = tuple(with_names(each, names) if isinstance(each, str) else each for each in error.args)
        raise
    finally:
        _NAMES.reset(before)


def with_names(message: str, names: Sequence[Any]) -> str:
    """Give the names of columns instead of their numbers."""

    def named(found: re.Match[str]) -> str:
        numbers = map(int, found[2].split(", "))
        own = [names[j] if j < len(names) else j for j in numbers]
        return found[1] + ", ".join(repr(name) if isinstance(name, str) else str(name) for name in own)

    return re.sub(r"(\bcolumns?:? )(\d+(?:, \d+)*)\b(?!\.\d)", named, message)


def warn(message: str, category: type[Warning]) -> None:
    """Warn of the line that led here from outside of the libraries."""
    for names in reversed(_NAMES.get()):
        message = with_names(message, names)
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
