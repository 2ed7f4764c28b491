"""
Callbacks and checkpoints
=========================

A fit that takes hours should not be lost when the machine goes down, and need not go on when nothing is gained any
more. Callbacks look after both. They are scikit-learn's own, so its progress bar works too, and need its version 1.9.
"""

import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from emkit import EMGaussianMixture
from emkit.callbacks import Checkpoint, EarlyStopping

if find_spec("sklearn.callback") is None:
    print("no callbacks: they need scikit-learn 1.9 or later (pip install --upgrade scikit-learn)")
    sys.exit()

X = PCA(5, random_state=0).fit_transform(load_digits().data)
is_held_out = np.random.default_rng(0).random(len(X)) < 0.3
train, held_out = X[~is_held_out], X[is_held_out]
# Thirty components are many for these rows, and one start makes for a long climb: something to watch.
parameters = {"n_components": 30, "n_init": 1, "random_state": 0}

# %%
# Watch
# -----
# A callback is any object with these four methods. A fit has a task "fit", below it an "init" for each climb, below
# that an "iter" for each step. This one writes down how well the rows of the fit and the held-out ones are doing.


class Scores:
    """Mean log-density of two sets of rows after each step."""

    def setup(self, estimator, context):
        self.train, self.held_out = [], []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "iter":
            self.train.append(fitted_estimator.score(train))
            self.held_out.append(fitted_estimator.score(held_out))
        return False  # True would stop the climb


scores = Scores()
whole = EMGaussianMixture(**parameters).set_callbacks(scores).fit(train)
print(f"{whole.status_} after {whole.n_iter_} steps")
print(f"rows of the fit {whole.score(train):.2f} nats, held-out rows {whole.score(held_out):.2f}")

# %%
# Stop early
# ----------
# Rows of the fit gain at every step; held-out rows soon lose, because the components fit themselves to single rows.
# ``EarlyStopping`` ends the climb when held-out rows have not gained for ``patience`` steps.

stopped = EMGaussianMixture(**parameters).set_callbacks(EarlyStopping(held_out, patience=3)).fit(train)
print(f"{stopped.status_} after {len(stopped.history_)} of {len(whole.history_)} accepted steps")
print(f"rows of the fit {stopped.score(train):.2f} nats, held-out rows {stopped.score(held_out):.2f}")

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.plot(scores.train, color="#0072b2", label="rows of the fit")
ax.plot(scores.held_out, color="#d55e00", linestyle="--", label="held-out rows")
ax.axvline(len(stopped.history_) - 1, color="black", linewidth=1, label="stopped early")
ax.set(xlabel="accepted step", ylabel="mean log-density (nats)")
ax.legend()
plt.show()

# %%
# The fit keeps the parameters of its last step, here three past the best. What to do with it: stop early where every
# step is dear. It is no cure for a model that is too large: :doc:`choosing_k` shows how to choose.
#
# Be interrupted, and go on
# -------------------------
# ``Checkpoint`` writes the state of the fit to a file, here after every step, otherwise once a minute. A callback that
# raises plays the power cut.


class PowerCut(Scores):
    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        super().on_fit_task_end(estimator, context, fitted_estimator=fitted_estimator)
        if len(self.train) == 25:
            raise OSError("the power is gone")
        return False


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.checkpoint"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # "stopped: a callback raised OSError"
            EMGaussianMixture(**parameters).set_callbacks(Checkpoint(path, every=0), PowerCut()).fit(train)
    except OSError as error:
        print(f"{error}; what is left is a file of {path.stat().st_size / 1000:.0f} kB")

    # The same call again: it finds the file and goes on from there.
    rest = Scores()
    resumed = EMGaussianMixture(**parameters).set_callbacks(Checkpoint(path), rest).fit(train)
    print(f"{len(rest.train)} more steps: {resumed.status_}; the file is removed: {not path.exists()}")
print("same bits as without the power cut:", np.array_equal(resumed.covariances_, whole.covariances_))

# %%
# The file belongs to one estimator, one set of parameters and one data set: with others ``fit`` says what differs and
# does not touch it. It holds numbers only, nothing that could be executed.
