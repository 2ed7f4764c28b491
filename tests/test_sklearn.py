"""scikit-learn's own checks, and the ways its users hold an estimator."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from emkit import EMGaussianMixture
from emkit.exceptions import DataWarning

CONFIGURATIONS = [
    EMGaussianMixture(),
    EMGaussianMixture(covariance_type="tied"),
    EMGaussianMixture(covariance_type="diag", n_init=3),
    EMGaussianMixture(covariance_type="spherical", init_params="random_from_data"),
    EMGaussianMixture(3, init_params="kmeans", acceleration=None, n_jobs=2),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(CONFIGURATIONS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
