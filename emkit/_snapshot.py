"""State as plain numbers: nested tuples, lists, arrays and objects to a JSON-able description and a list of arrays.

Reading never executes anything: it only puts numbers into objects that exist already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def describe(value: Any, arrays: list[Array]) -> Any:
    """Describe a value in JSON's terms; its arrays are appended to ``arrays`` and referred to by their place."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple | list):
        return {type(value).__name__ if type(value) in (tuple, list) else "tuple": [describe(v, arrays) for v in value]}
    return {"object": {name: describe(v, arrays) for name, v in vars(value).items()}}


def rebuild(description: Any, arrays: list[Array], like: Any) -> Any:
    """Undo ``describe``. ``like`` has the types: objects are filled in place, named tuples made anew."""
    if not isinstance(description, dict):
        return description
    ((kind, content),) = description.items()
    if kind == "array":
        return arrays[content]
    if kind == "object":
        for name, part in content.items():
            setattr(like, name, rebuild(part, arrays, getattr(like, name)))
        return like
    named = hasattr(like, "_make")
    parts = [rebuild(v, arrays, like[i] if named else None) for i, v in enumerate(content)]
    return parts if kind == "list" else like._make(parts) if named else tuple(parts)
