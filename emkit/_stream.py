"""Stepwise EM: rows come once, in batches, and only running means of the statistics are kept."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _num_samples

from ._arrays import is_elsewhere
from ._em import total
from ._executors import count_workers, one_blas_thread, workers
from ._mixin import EMMixin
from ._model import Ascent, Data, Degenerate, Params, Stats, add, scale
from ._search import Search
from ._validation import NOTHING, Instance, Rules, check_parameters, check_weight

Array = NDArray[Any]

# New rows count by their share of the rows so far, to this power: less than 1, so that what was learned from poor
# parameters, or from another time, is forgotten; more than 1/2, so that the estimates settle.
_POWER = 0.6


class Stream(NamedTuple):
    """What is kept of a stream."""

    data: Data  # the coordinates of its first rows, and none of these
    params: Params
    stats: Stats | None = None  # means per row, about ``params``
    n_rows: float = 0.0
    n_batches: int = 0


def follow(model: Any, stream: Stream, X: Any, weight: Array | None, n_workers: int) -> tuple[Stream, Ascent]:
    """Take in the next rows: one pass over them, and one M-step.

    The model is one that can ``place`` rows in the coordinates of others, and ``recentre`` its statistics.
    """
    data = model.place(X, weight, stream.data)
    if not data.total:
        raise ValueError("no row has an observed cell and a positive sample_weight: there is nothing to learn from")
    blocks = model.split(data)
    with workers(max(1, min(len(blocks), n_workers))) as run:
        stats = total(run(partial(model.expect, stream.params), blocks))
    n_rows = stream.n_rows + data.total
    mean = scale(stats, 1.0 / data.total)
    if stream.stats is not None:
        share = (data.total / n_rows) ** _POWER
        mean = add(scale(stream.stats, 1.0 - share), scale(mean, share))
    whole = add(scale(mean, n_rows), model.prior(stream.params))
    params = model.maximize(whole, stream.params)
    loglik = float(stats[0])
    collapsed = model.degenerate(params, whole)
    status, reason = ("stopped", "the stream may go on") if collapsed is None else ("degenerate", collapsed)
    found = Ascent(
        params, stats, loglik, loglik, np.array([loglik]), stream.n_batches + 1, np.nan, np.inf, status, reason
    )
    return Stream(stream.data, params, model.recentre(mean, stream.params, params), n_rows, stream.n_batches + 1), found


class StreamMixin(EMMixin):
    """What an estimator that can follow a stream shares."""

    _fitted_rules: ClassVar[Rules] = {**EMMixin._fitted_rules, "_stream": (NOTHING, Instance((Stream,), "a Stream"))}

    def _check_stream(self) -> None:
        """Refuse what cannot be learned from batches."""

    def _learned_from(self, X: Any) -> None:
        """Publish what belongs to the rows last learned from."""

    def partial_fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Self:
        """Learn from the next rows of a stream, each seen only once, by stepwise EM.

        The first rows are fitted as by ``fit``, unless that was called before; give several hundred. From then on the
        running means of the statistics move towards those of the new rows by a share of ``(rows / rows so far)^0.6``,
        and one M-step follows. ``log_likelihood_`` is that of the new rows before they were learned from. Of columns
        that did not vary in the first rows an imputer learns nothing more; a mixture does, but begins with a variance
        near 0, so that a component may stay behind: better first rows are those in which every column varies.
        ``fit`` begins anew, and is called for where the number of components or the form of their law has been changed.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source
            The next rows; a source, as in ``fit``, is one batch, however many blocks it has.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts.

        Returns
        -------
        self

        References
        ----------
        Cappe, O. & Moulines, E. (2009). On-line expectation-maximization algorithm for latent data models. *JRSS B* 71,
        593-613.

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> stream = EMGaussianMixture(2, random_state=0)
        >>> for batch in (X[:100], X[100:200], X[200:]):
        ...     stream = stream.partial_fit(batch)
        >>> stream.means_.round(1)
        array([[ 2. , 53.9],
               [ 4.2, 79.5]])
        """
        self._take_in(X, sample_weight)
        return self

    def _take_in(self, X: Any, sample_weight: Any) -> None:
        with one_blas_thread(), self._unless_it_fails():
            check_parameters(self, self._rules)
            self._check_stream()
            if hasattr(self, "status_"):
                self._refuse_changes("partial_fit", "call fit")
            else:
                self._estimate(X, sample_weight)
            X = self._read(X, reset=False)
            weight = check_weight(sample_weight, _num_samples(X))
            model = self._used
            stream: Stream | None = self.__dict__.get("_stream")
            if stream is None:
                with self._columns_named():
                    data = model.prepare(X, weight)
                coordinates = deepcopy(data.cut(slice(0, 0)))  # a view would keep the rows in memory
                stream = Stream(coordinates, model.standardize(self._recall(), data))
            try:
                self._stream, found = follow(model, stream, X, weight, count_workers(self.n_jobs))
            except (Degenerate, np.linalg.LinAlgError) as error:
                raise ValueError(f"nothing was learned from these rows: {error}") from error
            self._record(Search(found, []), model)
            self._publish(model.restore(self._stream.params, self._stream.data))
            self._learned_from(X)
            rows = getattr(X, "X", X)  # those of sequences
            if is_elsewhere(rows):
                self._follow(rows)
