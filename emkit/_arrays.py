"""Arrays that are not NumPy's: rows stay where the user put them, parameters are NumPy's throughout.

Such arrays (torch, cupy) come in under ``sklearn.config_context(array_api_dispatch=True)``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._array_api import _convert_to_numpy

Array = NDArray[Any]


def is_elsewhere(X: Any) -> bool:
    """Whether this is an array of another library than NumPy."""
    return hasattr(X, "device") and not isinstance(X, np.ndarray)


def namespace(*arrays: Any) -> Any:
    """Functions of the array API standard for the library of the arrays."""
    return _compat().array_namespace(*arrays)


def _compat() -> Any:
    return import_module("sklearn.externals.array_api_compat")  # when it is needed: it takes time to load


def bring(array: Any) -> Array:
    """Give a NumPy array of the same numbers."""
    if not is_elsewhere(array):
        return np.asarray(array)
    if hasattr(array, "detach"):  # torch may remember gradients
        array = array.detach()
    brought: Array = _convert_to_numpy(array, namespace(array))
    return brought


def pick(X: Any, rows: Array) -> Any:
    """Give some rows, by their numbers."""
    return namespace(X).take(X, send(rows, X), axis=0) if is_elsewhere(X) else X[rows]


def argmax(X: Any) -> Any:
    """Give the column of the largest number of each row."""
    return namespace(X).argmax(X, axis=1) if is_elsewhere(X) else X.argmax(axis=1)


def send(array: Array, like: Any, dtype: Any = None) -> Any:
    """Give an array of the same numbers on the device, and of the library, of another."""
    if not is_elsewhere(like):
        return array if dtype is None else array.astype(dtype, copy=False)
    return namespace(like).asarray(np.ascontiguousarray(array), dtype=dtype, device=_compat().device(like))


def blank(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Give an array to be filled, where another is."""
    if not is_elsewhere(like):
        return np.empty(shape, dtype)
    xp = namespace(like)
    return xp.empty(shape, dtype=getattr(xp, np.dtype(dtype).name), device=_compat().device(like))
