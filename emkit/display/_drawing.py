"""What pictures have in common: where they are drawn, and in which colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

Array = NDArray[Any]

# Colours that people with any kind of colour vision tell apart; black is kept for data. Okabe, M. & Ito, K. (2008).
# Color Universal Design. https://jfly.uni-koeln.de/color/
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
GREY = "#8C8C8C"


def check_shown(display: str, estimator: Any, kind: type, what: str) -> None:
    """Refuse what a display is not for, and what is not fitted."""
    if isinstance(estimator, Pipeline):
        raise TypeError(
            f"{display} shows an estimator, not a Pipeline: give pipeline[-1], and pipeline[:-1].transform(X) for X"
        )
    if not isinstance(estimator, kind):
        raise TypeError(f"{display} shows {what}, but this is of {type(estimator).__name__}")
    check_is_fitted(estimator)


def colours(n: int) -> list[Any]:
    """Give a colour to each of ``n`` parts; more than the palette has follow a map from dark to bright."""
    if n <= len(PALETTE):
        return list(PALETTE[:n])
    import matplotlib

    return [tuple(colour) for colour in matplotlib.colormaps["viridis"](np.linspace(0.0, 0.92, n))]


def panels(
    ax: Any,
    n_rows: int = 1,
    n_columns: int = 1,
    *,
    size: tuple[float, float] = (6.4, 4.8),
    share: Any = None,
    **grid: Any,
) -> Array:
    """Axes (n_rows, n_columns) to draw on: of a new figure, or in the place of ``ax``.

    ``share`` is what `subplots` of matplotlib takes as ``sharex`` and ``sharey``, ``grid`` what a grid of it takes.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install 'emkit[plot]'") from error
    if ax is None:
        place = plt.figure(figsize=size, layout="constrained").add_gridspec(n_rows, n_columns, **grid)
    elif n_rows == n_columns == 1:
        return np.array([[ax]])
    else:
        ax.set_axis_off()
        cell, box = ax.get_subplotspec(), ax.get_position()
        edges = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
        place = (
            ax.figure.add_gridspec(n_rows, n_columns, **edges, **grid)
            if cell is None
            else cell.subgridspec(n_rows, n_columns, **grid)
        )
    axes: Array = place.subplots(squeeze=False, **(share or {}))
    return axes


def feature_names(estimator: Any, n_features: int) -> list[str]:
    """Names of the columns that ``fit`` saw, as scikit-learn calls those without one."""
    names = getattr(estimator, "feature_names_in_", None)
    return [f"x{j}" for j in range(n_features)] if names is None else [str(name) for name in names]


def legend_beside(ax: Any, **how: Any) -> None:
    """Legend to the right of what was drawn, where it hides nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), **how)


def column_number(feature: int | str, names: list[str]) -> int:
    """Number of a column that the user named or numbered."""
    known = feature in names if isinstance(feature, str) else 0 <= feature < len(names)
    if not known:
        raise ValueError(f"there is no column {feature!r}; there are {len(names)}: {', '.join(names)}")
    return names.index(feature) if isinstance(feature, str) else int(feature)
