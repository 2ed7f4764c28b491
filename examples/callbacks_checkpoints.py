"""
Callbacks and checkpoints
=========================

A fit that takes hours should not be lost when the machine goes down, and need not go on when nothing is gained any more.
Callbacks look after both. They are scikit-learn's own, of version 1.9 and later; its progress bar works too.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from emkit import EMGaussianMixture
from emkit.callbacks import Checkpoint, EarlyStopping

X = PCA(10, random_state=0).fit_transform(load_digits().data)
rng = np.random.default_rng(0)
held_out = rng.random(len(X)) < 0.3
