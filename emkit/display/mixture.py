"""Picture of a mixture of normals: rows, and where the components are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from .._arrays import bring
from .._sources import is_source, opened
from .._validation import Interval, check_parameter, generator
from ..mixture import EMGaussianMixture
from ._drawing import GREY, check_shown, colours, column_number, feature_names, panels

Array = NDArray[Any]

# So many columns are drawn against each other unless some are chosen.
_MOST_COLUMNS = 4
# A component is drawn with so many points, over so many standard deviations on each side.
_POINTS, _REACH = 101, 4.0


class MixtureDisplay:
    """Rows in the colours of their components, and the components.

    Of one column, a histogram with the density of the mixture (black) and of each component, times its weight. Of two,
    the rows and an ellipse for each component. Of more, both for each column and each pair of columns: what is drawn is
    the marginal distribution, so ellipses are those of the chosen rows and columns of the covariances.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows; NaN where a cell is missing.
    labels : ndarray of int, of shape (n_samples,)
        Most probable component of each.
    weights : ndarray of shape (n_components,)
        Shares of the components.
    means : ndarray of shape (n_components, n_features)
        Their means.
    covariances : ndarray of shape (n_components, n_features, n_features)
        Their covariances, as matrices whatever their shape was.
    feature_names : list of str
        Names of the columns.

    Attributes
    ----------
    densities_ : list of matplotlib Line2D
        Of each column drawn, the components in turn and then the mixture.
    scatters_ : list of matplotlib PathCollection
        The rows, of each pair.
    ellipses_ : list of matplotlib Ellipse
        The components in turn, of each pair.
    ax_, axes_, figure_ : matplotlib Axes, ndarray of them, Figure
        Where it was drawn. Of more than two columns ``axes_`` is a square, pairs below its diagonal.

    Examples
    --------
    >>> from emkit import EMGaussianMixture
    >>> from emkit.datasets import load_faithful
    >>> from emkit.display import MixtureDisplay
    >>> X = load_faithful().data
    >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
    >>> display = MixtureDisplay.from_estimator(mixture, X)
    >>> [tuple(float(x) for x in ellipse.center) for ellipse in display.ellipses_] == list(map(tuple, mixture.means_))
    True
    """

    def __init__(
        self, X: Array, labels: Array, weights: Array, means: Array, covariances: Array, feature_names: list[str]
    ) -> None:
        self.X = X
        self.labels = labels
        self.weights = weights
        self.means = means
        self.covariances = covariances
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        features: Sequence[int | str] | None = None,
        n_std: float = 2.0,
        max_rows: int = 5000,
        random_state: Any = 0,
        ax: Any = None,
    ) -> Self:
        """Draw rows and the components of a fitted mixture.

        Parameters
        ----------
        estimator : EMGaussianMixture
            Fitted.
        X : array-like of shape (n_samples, n_features)
            Rows to draw.
        features : sequence of int or str, optional
            Numbers or names of the columns to draw; by default all, or the first four if there are more.
        n_std : float, default=2.0
            Radius of the ellipses in standard deviations; 2 holds 86 % of the rows of a component.
        max_rows : int, default=5000
            Most rows to draw; a random choice if there are more.
        random_state : int, RandomState, Generator, SeedSequence, default=0
            Seed of that choice.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        MixtureDisplay

        Examples
        --------
        >>> from emkit import EMGaussianMixture
        >>> from emkit.datasets import load_crabs
        >>> from emkit.display import MixtureDisplay
        >>> X = load_crabs().data
        >>> mixture = EMGaussianMixture(4, covariance_type="tied", random_state=0).fit(X)
        >>> display = MixtureDisplay.from_estimator(mixture, X, features=[0, 1, 3])
        >>> display.axes_.shape, len(display.scatters_)
        ((3, 3), 3)
        """
        check_shown("MixtureDisplay", estimator, EMGaussianMixture, "an EMGaussianMixture")
        check_parameter("MixtureDisplay", "max_rows", max_rows, (Interval(int, 1),))
        X = opened(X)
        if is_source(X):
            raise ValueError(f"X is a {type(X).__name__}, read in blocks: give the rows to draw as an array")
        labels, rows = bring(estimator.predict(X)), bring(X).astype(np.float64)
        if len(rows) > max_rows:
            chosen = np.sort(generator(random_state).choice(len(rows), max_rows, replace=False))
            labels, rows = labels[chosen], rows[chosen]
        weights, law = estimator._recall()
        covariances = estimator._fitted_model().law.full(law)
        names = feature_names(estimator, rows.shape[1])
        return cls(rows, labels, weights, law.means, covariances, names).plot(ax=ax, features=features, n_std=n_std)

    def plot(self, ax: Any = None, *, features: Sequence[int | str] | None = None, n_std: float = 2.0) -> Self:
        """Draw a histogram, a scatter plot, or a square of both.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; it is divided if there are more than two columns.
        features : sequence of int or str, optional
            Numbers or names of the columns to draw; by default all, or the first four if there are more.
        n_std : float, default=2.0
            Radius of the ellipses in standard deviations.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a column is not known, or named twice.

        Examples
        --------
        >>> import numpy as np
        >>> from emkit.display import MixtureDisplay
        >>> X, labels = np.array([[0.0, 1.0], [0.5, 2.0], [6.0, 9.0]]), np.array([0, 0, 1])
        >>> means, covariances = np.array([[0.0, 1.0], [6.0, 9.0]]), np.array([np.eye(2), 4.0 * np.eye(2)])
        >>> display = MixtureDisplay(X, labels, np.array([0.6, 0.4]), means, covariances, ["height", "age"])
        >>> [float(ellipse.width) for ellipse in display.plot(n_std=1.0).ellipses_]
        [2.0, 4.0]
        >>> len(display.plot(features=["age"]).densities_)
        3
        """
        check_parameter("MixtureDisplay", "n_std", n_std, (Interval(float, 0.0, open_low=True),))
        columns = self._columns(features)
        self.densities_: list[Any] = []
        self.scatters_: list[Any] = []
        self.ellipses_: list[Any] = []
        side = len(columns) if len(columns) > 2 else 1
        size = (6.4, 4.8) if side == 1 else (2.4 * side, 2.4 * side)
        self.axes_ = panels(ax, side, side, size=size, share={"sharex": "col"})
        self.ax_, self.figure_ = self.axes_[0, 0], self.axes_[0, 0].figure
        if len(columns) == 2:
            self._plot_pair(self.ax_, columns, n_std)
            self.ax_.set_xlabel(self.feature_names[columns[0]])
            self.ax_.set_ylabel(self.feature_names[columns[1]])
            return self
        for i, row in enumerate(columns):
            for j, column in enumerate(columns[:i]):
                self._plot_pair(self.axes_[i, j], [column, row], n_std)
                if j > 0:
                    self.axes_[i, j].sharey(self.axes_[i, 0])
                    self.axes_[i, j].tick_params(labelleft=False)
            self._plot_column(self.axes_[i, i], row)
            for beyond in self.axes_[i, i + 1 :]:
                beyond.set_axis_off()
            self.axes_[-1, i].set_xlabel(self.feature_names[row])
            self.axes_[i, 0].set_ylabel(self.feature_names[row] if i else "density")
        if side == 1:
            for k, line in enumerate(self.densities_[:-1]):
                highest = np.argmax(line.get_ydata())
                _number(self.ax_, line.get_xydata()[highest], k, line.get_color())
        else:
            for ax in np.diagonal(self.axes_):
                ax.set_yticks([])
        rest = len(self.feature_names) - len(columns)
        if rest and features is None:
            self.ax_.set_title(f"columns not shown: {rest}", loc="left", fontsize=10.0)
        return self

    def _columns(self, features: Sequence[int | str] | None) -> list[int]:
        """Numbers of the columns to draw."""
        names = self.feature_names
        if features is None:
            return list(range(min(len(names), _MOST_COLUMNS)))
        columns = [column_number(feature, names) for feature in features]
        if not columns or len(set(columns)) < len(columns):
            raise ValueError(f"features must name at least one column, and none twice. Got {list(features)!r} instead.")
        return columns

    def _plot_column(self, ax: Any, j: int) -> None:
        """Histogram, and densities."""
        values = self.X[:, j]
        ax.hist(values[~np.isnan(values)], bins="auto", density=True, color=GREY, alpha=0.4)
        means, deviations = self.means[:, j], np.sqrt(self.covariances[:, j, j])
        around = means[:, None] + deviations[:, None] * np.linspace(-_REACH, _REACH, _POINTS)
        edge = 0.1 * np.nanmax([np.nanmax(values) - np.nanmin(values), 2.0 * deviations.min()])
        x = np.unique(np.clip(around, np.nanmin(values) - edge, np.nanmax(values) + edge))
        parts = self.weights[:, None] * norm.pdf(x, means[:, None], deviations[:, None])
        for part, colour in zip(parts, colours(len(parts)), strict=True):
            self.densities_ += ax.plot(x, part, color=colour)
        self.densities_ += ax.plot(x, parts.sum(axis=0), color="black", linewidth=1.0)
        ax.set_ylim(bottom=0.0)

    def _plot_pair(self, ax: Any, pair: list[int], n_std: float) -> None:
        """Rows, ellipses, and the number of each component at its mean."""
        from matplotlib.patches import Ellipse

        palette = colours(len(self.means))
        colour = np.array([palette[label] for label in self.labels])
        self.scatters_.append(ax.scatter(*self.X[:, pair].T, s=12.0, c=colour, alpha=0.5, linewidths=0.0))
        for k, (mean, covariance) in enumerate(
            zip(self.means[:, pair], self.covariances[:, pair][:, :, pair], strict=True)
        ):
            variances, axes = np.linalg.eigh(covariance)
            minor, major = 2.0 * n_std * np.sqrt(np.maximum(variances, 0.0))
            angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
            ellipse = Ellipse(mean, major, minor, angle=angle, facecolor="none", edgecolor=palette[k], linewidth=2.0)
            self.ellipses_.append(ax.add_patch(ellipse))
            _number(ax, mean, k, palette[k])
        ax.autoscale_view()


def _number(ax: Any, at: Array, k: int, colour: Any) -> None:
    """Write the number of a component into a circle."""
    circle = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": colour, "alpha": 0.9}
    ax.text(*at, str(k), ha="center", va="center", fontsize=9.0, bbox=circle)
