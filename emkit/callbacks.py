"""Callbacks for ``estimator.set_callbacks(...)``: checkpoints and early stopping. They need scikit-learn 1.9 or later.

Any callback of scikit-learn's protocol works too, its ``ProgressBar`` among them. The tasks of a fit are ``fit``, below
it one ``init`` for each climb on all the data, below that one ``iter`` for each accepted set of parameters. A callback
that raises stops the fit; the estimator keeps the best parameters so far, and the exception is raised again.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from ._em import Progress
from ._snapshot import describe, rebuild

__all__ = ["Checkpoint", "EarlyStopping"]

_FORMAT = 1
# Parameters that do not change the answer.
_FREE = {"n_jobs", "verbose"}


class _Callback:
    """The hooks of scikit-learn's protocol, doing nothing."""

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Never stop."""
        return False


class Checkpoint(_Callback):
    """Save a fit while it runs, so that the same call goes on after the process has died.

    When ``fit`` finds the file, it goes on from there to the answer it would have reached, bit for bit on the same
    machine; the file must belong to the same estimator, parameters and data. A fit that ends removes its file. One path
    serves one fit at a time: do not set a checkpoint on an estimator that a grid search clones.

    The file holds arrays and JSON, nothing that could be executed, and is replaced in one move: whenever the process is
    killed, the last whole checkpoint is there.

    Parameters
    ----------
    path : str or path-like
        File to write; its folder must exist.
    every : float, default=60.0
        Seconds between two checkpoints of a climb.

    Examples
    --------
    >>> from emkit import EMGaussianMixture
    >>> from emkit.callbacks import Checkpoint
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> mixture = EMGaussianMixture(3, random_state=0).set_callbacks(Checkpoint("iris.checkpoint"))
    >>> mixture.fit(X).converged_
    True
    """

    def __init__(self, path: str | os.PathLike[str], *, every: float = 60.0) -> None:
        if not every >= 0.0:
            raise ValueError(f"every={every!r} must be a number of seconds, 0 or more")
        self.path = Path(path)
        self.every = every

    def open(self, estimator: Any, seed: np.random.SeedSequence, n_rows: int) -> np.random.SeedSequence:
        """Begin, or go on; give the seed of the fit that goes on."""
        if not self.path.absolute().parent.is_dir():
            raise ValueError(f"the folder of the checkpoint {str(self.path)!r} does not exist; create it first")
        self._fit: dict[str, Any] = {
            "format": _FORMAT,
            "estimator": type(estimator).__name__,
            "shape": [n_rows, estimator.n_features_in_],
            "parameters": {
                name: _fingerprint(value) for name, value in estimator.get_params().items() if name not in _FREE
            },
        }
        self._climbs: dict[int, tuple[Any, list[Any]]] = {}
        self._written: dict[int, float] = {}
        if self.path.exists():
            seed = self._read(seed)
        self._fit["seed"] = [seed.entropy, list(seed.spawn_key)]
        return seed

    def recall(self, number: int, progress: Progress) -> None:
        """Set the progress of a climb to what it was, if there is a record of it."""
        self._written[number] = monotonic()
        if number in self._climbs:
            rebuild(*self._climbs[number], progress)

    def save(self, number: int, progress: Progress, now: bool = False) -> None:
        """Write the file if it is time."""
        if not now and monotonic() - self._written[number] < self.every:
            return
        arrays: list[Any] = []
        description = describe(progress, arrays)
        self._climbs[number] = (description, [array.copy() for array in arrays])
        self._write()
        self._written[number] = monotonic()

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        header = self._fit | {"climbs": {number: description for number, (description, _) in self._climbs.items()}}
        named = {f"{number}.{i}": a for number, (_, arrays) in self._climbs.items() for i, a in enumerate(arrays)}
        with tempfile.NamedTemporaryFile(dir=self.path.absolute().parent, prefix=self.path.name, delete=False) as file:
            try:
                np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **named)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                os.unlink(file.name)
                raise
        os.replace(file.name, self.path)

    def _read(self, seed: np.random.SeedSequence) -> np.random.SeedSequence:
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                for number, description in header.pop("climbs").items():
                    n_arrays = sum(name.startswith(f"{number}.") for name in file.files)
                    self._climbs[int(number)] = (description, [file[f"{number}.{i}"] for i in range(n_arrays)])
            entropy, spawn_key = header.pop("seed")
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{str(self.path)!r} is not a checkpoint that can be read ({error}); delete it to begin again"
            ) from error
        for name, ours in self._fit.items():
            theirs = header.get(name)
            if theirs != ours:
                if name == "parameters" and isinstance(theirs, dict):
                    name = next(key for key in ours if theirs.get(key) != ours[key])
                    theirs, ours = theirs.get(name), ours[name]
                raise ValueError(
                    f"the checkpoint {str(self.path)!r} belongs to another fit: its {name} is {theirs}, not {ours}; "
                    "delete it or give another path"
                )
        return np.random.SeedSequence(entropy, spawn_key=spawn_key)


class EarlyStopping(_Callback):
    """Stop a climb when the score of held-out data no longer rises.

    The fit then ends with ``status_ = "stopped"`` and the parameters of its last step. Each climb is stopped
    for itself.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Held-out rows, scored by ``estimator.score`` after every step: mean log-density, in nats.
    patience : int, default=3
        So many steps in a row may fail to raise the best score.
    tol : float, default=0.0
        A rise of at most this much, in nats per row, counts as none.
    **score_params : dict
        Passed on to ``score``: ``sample_weight``, ``groups``.

    Examples
    --------
    >>> from emkit import EMGaussianMixture
    >>> from emkit.callbacks import EarlyStopping
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> mixture = EMGaussianMixture(8, n_init=1, random_state=0).set_callbacks(EarlyStopping(X[1::2]))
    >>> mixture.fit(X[::2]).status_
    'stopped'
    """

    def __init__(self, X: Any, *, patience: int = 3, tol: float = 0.0, **score_params: Any) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience!r} must be 1 or more")
        self.X = X
        self.patience = patience
        self.tol = tol
        self.score_params = score_params

    def setup(self, estimator: Any, context: Any) -> None:
        """Forget earlier fits."""
        self._best: dict[int, tuple[float, int]] = {}

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> bool:
        """Score the held-out rows; True if they have not gained for too long."""
        if context.task_name != "iter":
            return False
        best, waited = self._best.get(context.parent.task_id, (-np.inf, 0))
        score = fitted_estimator.score(self.X, **self.score_params)
        rose = score > best + self.tol
        self._best[context.parent.task_id] = (max(score, best), 0 if rose else waited + 1)
        return not rose and waited + 1 >= self.patience


def _fingerprint(value: Any) -> str:
    """Text that two equal values of a parameter share."""
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return type(value).__name__
    if isinstance(value, list | tuple | np.ndarray) and np.size(value):
        array = np.asarray(value)
        if array.dtype != object:
            return f"{array.dtype}{array.shape} {blake2b(array.tobytes(), digest_size=8).hexdigest()}"
    return repr(value)
