"""What older versions of scikit-learn lack."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where there are no callbacks."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            """Refuse: nothing would call them."""
            raise ImportError("callbacks need scikit-learn 1.9 or later: pip install --upgrade scikit-learn")

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Add nothing but the call, so that warnings point to the same line."""
        return wraps(method)(lambda *args, **kwargs: method(*args, **kwargs))


try:
    from sklearn.utils._array_api import check_same_namespace
except ImportError:  # before 1.9

    def check_same_namespace(X: Any, estimator: Any, *, attribute: str, method: str) -> None:
        """Let rows of any library be told about: what they are told of is brought."""


__all__ = ["CallbackSupportMixin", "check_same_namespace", "with_callbacks"]
