"""EMMixin: what every estimator shares. The only file that knows scikit-learn's lifecycle.

An estimator adds its constructor and three hooks: ``_model`` (constructor parameters to a frozen model), ``_publish``
(parameters to fitted attributes) and ``_recall`` (its inverse). From there data flow one way::

    fit -> check -> model.prepare -> search (starts) -> climb (iterations) -> step (blocks) -> model.expect -> kernel
        -> model.restore -> _publish
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _num_samples, check_is_fitted

from ._accelerate import ACCELERATORS
from ._arrays import is_elsewhere, send
from ._compat import CallbackSupportMixin, check_same_namespace, with_callbacks
from ._em import ASKED
from ._executors import count_workers, one_blas_thread, workers
from ._model import Ascent, Data, Model, Params
from ._persistence import Persistent
from ._search import FitFailedError, Search, search
from ._sources import Source, blockwise, gathered, is_source, opened, read
from ._standard_errors import StandardErrors, standard_errors
from ._validation import (
    FLAG,
    NOTHING,
    SEED,
    Floats,
    Instance,
    Interval,
    Number,
    Options,
    Rules,
    Vector,
    check_parameter,
    check_parameters,
    check_rows,
    check_weight,
    generator,
    spawn,
)
from ._watch import Watcher
from .exceptions import columns_named, warn

Array = NDArray[Any]

_REMEDY = {
    "max_iter": "raise max_iter; about {gap:.3g} nats are left to gain (inf: too early to say)",
    "stalled": "the solution is as good as the arithmetic allows; float64 data may do better",
    "degenerate": "",
    "stopped": "the best parameters so far are kept",
}


class EMMixin(Persistent, CallbackSupportMixin):  # type: ignore[misc]
    """Fit by EM, and everything that follows from having done so."""

    tol: float
    max_iter: int
    n_init: int | Literal["auto"] = 1  # families with one start do not offer it
    acceleration: str | None
    warm_start: bool
    n_jobs: int | None
    random_state: Any
    verbose: int
    n_features_in_: int
    _used: Any  # the model of the fit
    _placed: ClassVar[str | None] = None  # a fitted array that is where the rows of the fit were

    _rules: ClassVar[Rules] = {
        "tol": (Interval(float, 0.0),),
        "max_iter": (Interval(int, 1),),
        "n_init": (Interval(int, 1), Options(("auto",))),
        "acceleration": (Options(tuple(ACCELERATORS)),),
        "warm_start": (FLAG,),
        "n_jobs": (NOTHING, Interval(int, 1), Interval(int, -np.inf, -1)),
        "random_state": SEED,
        "verbose": (FLAG, Interval(int, 0)),
    }

    # What a fit sets, whatever the family; what may be None may be absent.
    _fitted_rules: ClassVar[Rules] = {
        "n_features_in_": (Interval(int, 1, 1e7),),
        "log_likelihood_": (Number(),),
        "objective_": (Number(),),
        "history_": (Floats(),),
        "lower_bounds_": (Floats(),),
        "n_iter_": (Interval(int, 1),),
        "status_": (Options(("converged", "max_iter", "stalled", "degenerate", "stopped")),),
        "converged_": (FLAG,),
        "rate_": (Interval(float, 0.0),),
        "gap_": (Number(),),
        "restarts_": (Instance((list,), "a list"),),
        "labels_": (NOTHING, Vector("iu")),
        "_sklearn_output_config": (NOTHING, Instance((dict,), "a dict")),
    }

    # Hooks ------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _model(self) -> Model:
        """Build the frozen model that the constructor parameters describe."""

    @abstractmethod
    def _publish(self, params: Params) -> None:
        """Set the fitted attributes, from parameters in the user's units."""

    @abstractmethod
    def _recall(self) -> Params:
        """Give back the parameters in the user's units, from the fitted attributes."""

    def _fitted_model(self) -> Model:
        """Give the model that the fitted attributes belong to, whatever has been set since."""
        return self._model()

    def _check_rows(self, X: Any, *, reset: bool) -> Any:
        """Turn what the user hands in into rows of floats; with ``reset`` also learn their number and names."""
        return check_rows(self, X, reset=reset)

    def _check_block(self, X: Any, *, reset: bool) -> Any:
        """Turn a block of a source into rows of floats; with ``reset`` also learn the number and names of columns."""
        return self._check_rows(X, reset=reset)

    def _check_source(self, X: Source, *, reset: bool) -> Source:
        """Look at all blocks together, after each has been checked."""
        return X

    def _read(self, X: Any, *, reset: bool) -> Any:
        """Check what the user hands in: an array as a whole, a source block by block."""
        X = opened(X)
        if not is_source(X):
            return self._check_rows(X, reset=reset)
        return self._check_source(read(X, partial(self._check_next, reset)), reset=reset)

    def _check_next(self, reset: bool, X: Any, first: bool) -> Any:
        return self._check_block(X, reset=reset and first)

    def _form(self, method: str) -> tuple[tuple[int, ...], Any]:
        """Shape, but for the number of rows, and type of what a method says of rows."""
        if method.endswith("proba"):
            model: Any = self._fitted_model()
            return (model.k,), np.float64
        return (), np.int64 if method == "predict" else np.float64

    def _check_place(self, X: Any, method: str) -> None:
        """Refuse rows of another library or device than those of the fit, where such rows are read."""
        check_is_fitted(self)
        if self._placed is not None:
            check_same_namespace(X, self, attribute=self._placed, method=method)

    def _check_start(self, X: Any, weight: Array | None) -> None:
        """Refuse starting values that do not fit the data, and data too few for the model."""

    def _continues(self, data: Data) -> bool:
        """Whether the fitted parameters are a start for these data."""
        return True

    def _seen(self, X: Any, sample_weight: Any) -> dict[str, Any]:
        """Give the data as callbacks see them."""
        return {"X": X, "metadata": {"sample_weight": sample_weight}}

    def _fixed(self) -> dict[str, Any]:
        """Give the parameters that must stay what they were, with their values, where a fit goes on."""
        return {}

    def _refuse_changes(self, what: str, remedy: str) -> None:
        for parameter, fitted in self._fixed().items():
            given = getattr(self, parameter)
            if given != fitted:
                raise ValueError(
                    f"{parameter}={given!r}, but {what} continues a fit with {fitted!r}; {remedy} to start anew, or "
                    f"{parameter}={fitted!r} to continue"
                )

    def _settle(self, params: Params, X: Any) -> Params:
        """Have the last word on the parameters, in the user's units, before they are published."""
        return params

    # Lifecycle --------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Self:
        """Estimate the parameters by expectation-maximisation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source
            Rows of numbers, float32 or float64, an imputer's with missing cells; neither copied nor changed. The path
            of a .npy file is the array in it. A source is read block by block, in every pass: any iterable of blocks
            that can be begun anew, or a function that gives one; the path of a zarr or Parquet file; a zarr array, a
            dataset of pyarrow; a dask array or dataframe.
        y : None
            Ignored; present for the sake of pipelines.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts: an integer weight is that many copies, 0 is absence.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters, cells, weights or starting values that cannot be used; the message names them.
        TimeoutError
            If a cluster of dask has no workers, or does not answer in the time that ``emkit.timeout`` of dask's
            configuration allows.

        Examples
        --------
        >>> import numpy as np
        >>> from emkit import EMGaussianMixture, EMImputer
        >>> X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        >>> mixture = EMGaussianMixture(2, covariance_type="tied", random_state=0)
        >>> mixture.fit(X, sample_weight=[1, 1, 1, 3, 3, 3]).weights_
        array([0.25, 0.75])
        >>> EMImputer().fit(X, sample_weight=[1, 1, 1, 3, 3, 3]).mean_
        array([8.5])
        """
        self._fit(X, sample_weight)
        return self

    def _fit(self, X: Any, sample_weight: Any) -> None:
        with one_blas_thread(), self._unless_it_fails():
            self._estimate(X, sample_weight)

    @contextmanager
    def _unless_it_fails(self) -> Iterator[None]:
        """Leave the estimator as it was if what follows fails or is interrupted before there is anything to keep."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        error = self.__dict__.pop("_callback_error", None)
        if error is not None:
            raise error

    @with_callbacks  # type: ignore[untyped-decorator]
    def _estimate(self, X: Any, sample_weight: Any) -> tuple[Array, Data]:
        """Fit; return the checked rows and what the model made of them."""
        check_parameters(self, self._rules)
        warm = self.warm_start and hasattr(self, "status_")
        if warm and not is_source(X) and np.shape(X)[1:] not in ((), (self.n_features_in_,)):
            raise ValueError(
                f"X has {np.shape(X)[1]} features, but warm_start=True continues a fit with {self.n_features_in_}; "
                "set warm_start=False"
            )
        if warm:
            self._refuse_changes("warm_start=True", "set warm_start=False")
        X = self._read(X, reset=True)
        weight = check_weight(sample_weight, _num_samples(X))
        with self._columns_named():
            self._check_start(X, weight)
            model = self._model()
            data = model.prepare(X, weight)
        model = model.calibrate(data)
        first = model.standardize(self._recall(), data) if warm and self._continues(data) else None
        seed, watcher = spawn(self.random_state), None
        if self.verbose or hasattr(self, "_skl_callbacks"):
            watcher = Watcher(self, seed, _num_samples(X), self._seen(X, sample_weight))
            seed = watcher.seed
        try:
            found = self._search(model, data, first, seed, watcher)
            reason = found.best.reason if found.best.status == "degenerate" else ""
        except FitFailedError as error:
            found, reason = None, str(error)
        rescue = model.rescue(data, reason) if reason else None
        if rescue is not None:
            model, found = rescue, self._search(rescue, data, None, seed, watcher)
        if found is None:
            raise ValueError(f"{type(self).__name__}: {reason}")
        self._record(found, model)
        n_rows = _num_samples(X) if weight is None else weight.sum()
        self.lower_bounds_ = [float(objective / n_rows) for objective in self.history_]
        params = model.restore(found.best.params, data)
        self._publish(self._settle(params if warm else model.canonical(params), X))
        self.__dict__.pop("_stream", None)  # what a stream taught is of another time
        rows = getattr(X, "X", X)  # those of sequences
        if is_elsewhere(rows):
            self._follow(rows)
        if watcher is not None:
            watcher.close(found.best)
            self._callback_error = watcher.error
            if watcher.error is not None:
                why = f"a callback raised {type(watcher.error).__name__}: {watcher.error}"
                found = found._replace(best=found.best._replace(reason=why))
        with self._columns_named():
            self._announce(found)
        return X, data

    def _search(
        self,
        model: Model,
        data: Data,
        first: Params | None,
        seed: np.random.SeedSequence | None = None,
        watcher: Watcher | None = None,
    ) -> Search:
        if watcher is not None:
            watcher.enter(partial(self._reconstruct, model, data))
        return search(
            model,
            data,
            n_init=self.n_init,
            seed=spawn(self.random_state) if seed is None else seed,
            n_workers=count_workers(self.n_jobs),
            first=first,
            tol=self.tol,
            max_iter=self.max_iter,
            accelerate=ACCELERATORS[self.acceleration],
            watch=watcher,
        )

    def _reconstruct(self, model: Model, data: Data, ascent: Ascent) -> dict[str, Any]:
        """Give the attributes that a fit would have if it ended here."""
        fitted = copy(self)
        fitted._record(Search(ascent, []), model)
        fitted._publish(model.restore(ascent.params, data))
        return {name: value for name, value in vars(fitted).items() if vars(self).get(name) is not value}

    def _follow(self, X: Any) -> None:
        """Put fitted arrays where the rows are."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and name.endswith("_") and name != "feature_names_in_":
                setattr(self, name, send(value, X))

    def _record(self, found: Search, model: Model) -> None:
        best = found.best
        self._used = model  # with the priors of the fit, whatever parameters are set later
        self.log_likelihood_ = float(best.loglik)
        self.objective_ = float(best.objective)
        self.history_ = best.history.tolist()
        self.n_iter_ = max(1, best.n_steps)
        self.status_ = best.status
        self.converged_ = best.status == "converged"
        self.rate_ = max(0.0, float(np.nan_to_num(best.rate, nan=0.0)))
        self.gap_ = float(best.gap)
        self.restarts_ = found.restarts

    def _columns_named(self) -> AbstractContextManager[None]:
        return columns_named(getattr(self, "feature_names_in_", None))

    def _announce(self, found: Search) -> None:
        if not self.converged_ and found.best.reason != ASKED:
            remedy = _REMEDY[self.status_].format(gap=self.gap_)
            message = f"{type(self).__name__} did not converge ({self.status_}): {found.best.reason}"
            warn(f"{message}; {remedy}" if remedy else message, ConvergenceWarning)
        if found.is_lone and self.status_ != "degenerate":
            warn(
                f"{type(self).__name__} found its optimum only once, other starts led to lower ones: there may be a "
                "higher one; restarts_ tells of each start, a larger n_init or another random_state tries more",
                ConvergenceWarning,
            )
        failed = [row for row in found.restarts if row["status"] == "failed"]
        if failed:
            warn(
                f"{len(failed)} of {len(found.restarts)} starts failed and were passed over; restarts_ says why",
                ConvergenceWarning,
            )

    # After the fit ----------------------------------------------------------------------------------------------------

    def _infer(self, X: Any, *wanted: str) -> tuple[Array, ...]:
        """Check X, then let the model fill the wanted quantities of each row, over blocks and threads."""
        check_is_fitted(self)
        return self._fill(self._check_rows(X, reset=False), self._recall(), *wanted)

    def _fill(self, X: Any, params: Params, *wanted: str) -> tuple[Array, ...]:
        model = self._fitted_model()
        return self._spread(model, model.frame(params, X), params, *wanted)

    def _spread(self, model: Model, data: Data, params: Params, *wanted: str) -> tuple[Array, ...]:
        """Fill the wanted quantities of a frame, its portions spread over the workers."""
        inside = model.standardize(params, data)
        out = model.outputs(data, wanted)
        portions = model.portions(data, out)
        n_workers = min(len(portions), count_workers(self.n_jobs)) if len(portions) > 1 else 1
        with one_blas_thread(), workers(n_workers) as run:
            for _ in run(lambda portion: model.infer(inside, *portion), portions):
                pass
        return tuple(getattr(out, name) for name in wanted)

    def standard_errors(
        self,
        X: Any,
        *,
        method: Literal["information", "sandwich", "bootstrap"] = "information",
        sample_weight: Any = None,
        n_resamples: int = 200,
        random_state: Any = None,
    ) -> StandardErrors:
        """Standard errors of the fitted attributes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows of the fit.
        method : {"information", "sandwich", "bootstrap"}, default="information"
            From the observed information, right if the model is, in two passes over the data for each parameter; the
            sandwich, right also if the model is wrong, in six; or the spread of the estimates of resampled rows, each
            climbed to from the estimate.
        sample_weight : array-like of shape (n_samples,), optional
            The weights of the fit.
        n_resamples : int, default=200
            How often the bootstrap draws.
        random_state : int, RandomState, Generator, SeedSequence, optional
            Seed of the bootstrap: its own, not the estimator's.

        Returns
        -------
        StandardErrors
            An array for each attribute under its name, such as ``means_`` of a mixture and ``mean_`` of an imputer, of
            its shape; and ``intervals(level)``. An estimate on the boundary, a probability of 0, is held there and has
            the error 0; a warning names it.

        Raises
        ------
        ValueError
            If the estimate is not a regular maximum for these rows: they are not those of the fit, or it ended early.

        References
        ----------
        Jamshidian, M. & Jennrich, R. (2000). Standard errors for EM estimation. *JRSS B* 62, 257-270. White, H. (1982).
        Maximum likelihood estimation of misspecified models. *Econometrica* 50, 1-25.

        Examples
        --------
        >>> from emkit import EMGaussianMixture, EMImputer, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> errors = mixture.standard_errors(X)
        >>> errors.weights_.round(3)
        array([0.029, 0.029])
        >>> low, high = errors.intervals(0.95).weights_
        >>> low.round(2), high.round(2)
        (array([0.3 , 0.59]), array([0.41, 0.7 ]))
        >>> X = datasets.load_cholesterol().data
        >>> EMImputer().fit(X).standard_errors(X).mean_.round(2)
        array([8.85, 8.72, 9.22])
        """
        return self._errors(X, method, sample_weight, n_resamples, random_state)

    def _errors(self, X: Any, method: str, sample_weight: Any, n_resamples: int, random_state: Any) -> StandardErrors:
        check_is_fitted(self)
        for name, value, allowed in (
            ("method", method, (Options(("information", "sandwich", "bootstrap")),)),
            ("n_resamples", n_resamples, (Interval(int, 2),)),
            ("random_state", random_state, SEED),
        ):
            check_parameter("standard_errors", name, value, allowed)
        X = self._read(X, reset=False)
        if isinstance(getattr(X, "X", X), Source) and method != "information":
            raise ValueError(f"method={method!r} needs the rows in memory; of a source, method='information' is known")
        rng = generator(random_state)
        with one_blas_thread():
            return standard_errors(self, X, check_weight(sample_weight, _num_samples(X)), method, n_resamples, rng)

    @blockwise
    def score_samples(self, X: Any) -> Any:
        """Log-density of each row, of its observed cells if some are missing.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or source

        Returns
        -------
        ndarray of shape (n_samples,)
            Natural logarithms of densities, in nats. A density may exceed 1.

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> mixture.score_samples([[2.0, 55.0], [9.0, 10.0]]).round(1)  # the second is like no eruption
        array([  -3.3, -217.9])
        """
        return self._infer(X, "log_density")[0]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-density of the rows, in nats: larger is better, so grid search can use it as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts.

        Returns
        -------
        float

        Examples
        --------
        >>> from emkit import EMGaussianMixture, datasets
        >>> X = datasets.load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> round(mixture.score(X), 3)
        -4.155
        """
        log_density = gathered(self.score_samples(X))
        return float(np.average(log_density, weights=check_weight(sample_weight, len(log_density))))

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike's information criterion on X, weighted as in ``fit``: lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts.

        Returns
        -------
        float

        Examples
        --------
        >>> from emkit import EMGaussianMixture, EMImputer, datasets
        >>> X = datasets.load_faithful().data
        >>> [round(EMGaussianMixture(k, random_state=0).fit(X).aic(X), 1) for k in (1, 2, 3)]
        [2589.6, 2282.5, 2262.9]
        >>> X = datasets.load_cholesterol().data
        >>> round(EMImputer().fit(X).aic(X), 1)
        771.8
        """
        return self._criterion(X, sample_weight, lambda rows: 2.0)

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Schwarz's information criterion on X, weighted as in ``fit``: lower is better.

        Infinite for a degenerate fit, whose likelihood is as high as the regularisation lets it be and says nothing
        about the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts.

        Returns
        -------
        float

        Examples
        --------
        >>> from emkit import EMGaussianMixture, EMImputer, datasets
        >>> X = datasets.load_faithful().data
        >>> [round(EMGaussianMixture(k, random_state=0).fit(X).bic(X), 1) for k in (1, 2, 3)]
        [2607.6, 2322.2, 2324.2]
        >>> X = datasets.load_cholesterol().data
        >>> round(EMImputer().fit(X).bic(X), 1)
        783.8
        """
        return self._criterion(X, sample_weight, np.log)

    def _criterion(self, X: Any, sample_weight: Any, price: Callable[[float], float]) -> float:
        log_density = gathered(self.score_samples(X))
        return self._information(price, log_density, check_weight(sample_weight, len(log_density)))

    def _information(self, price: Callable[[float], float], log_density: Array, weight: Array | None) -> float:
        if self.status_ == "degenerate":
            return float("inf")
        if weight is None:
            weight = np.ones(len(log_density))
        n_parameters = self._fitted_model().n_parameters(self._recall())
        return float(-2.0 * weight @ log_density + n_parameters * price(float(weight.sum())))
