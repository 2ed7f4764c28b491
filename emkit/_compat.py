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


__all__ = ["CallbackSupportMixin", "with_callbacks"]
