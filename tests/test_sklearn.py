"""scikit-learn's own checks, and the ways its users hold an estimator."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer

CONFIGURATIONS = [
    EMGaussianMixture(),
    EMGaussianMixture(covariance_type="tied"),
    EMGaussianMixture(covariance_type="diag", n_init=3),
    EMGaussianMixture(covariance_type="spherical", init_params="random_from_data"),
    # Neither "full" nor a race: on the 12 rows and 30 columns of one check the winner is a matter of rounding.
    EMGaussianMixture(3, covariance_type="diag", init_params="kmeans", n_init=2, acceleration=None, n_jobs=2),
    EMHiddenMarkov(),
    EMHiddenMarkov(3, covariance_type="diag", algorithm="map", acceleration=None, n_jobs=2),
    EMImputer(),
    EMImputer(add_indicator=True, keep_empty_features=True, n_jobs=2),
    EMImputer(prior="ridge", acceleration=None, min_value=-1e6, max_value=1e6),
]
# What a model of sequences cannot do, because its rows have an order.
IMPOSSIBLE = {
    EMHiddenMarkov: {
        "check_methods_sample_order_invariance": "rows depend on the rows before them",
        "check_methods_subset_invariance": "rows depend on the rows before them",
        "check_sample_weights_not_overwritten": "the rows of one sequence have one weight",
        "check_sample_weight_equivalence_on_dense_data": "the rows of one sequence have one weight",
    }
}
IRIS = load_iris().data


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(CONFIGURATIONS, expected_failed_checks=lambda estimator: IMPOSSIBLE.get(type(estimator), {}))
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_grid_search_in_a_pipeline_by_held_out_likelihood():
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(random_state=0))
    grid = {"emgaussianmixture__n_components": [1, 2, 3], "emgaussianmixture__covariance_type": ["tied", "diag"]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(IRIS[np.random.default_rng(0).permutation(150)])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["emgaussianmixture__n_components"] == 3
    assert search.predict(IRIS).shape == (150,)


def test_weights_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        mixture = EMGaussianMixture(3, covariance_type="diag", random_state=0)
        mixture.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        weight = np.random.default_rng(0).integers(1, 4, size=150).astype(float)
        order = np.random.default_rng(1).permutation(150)
        done = cross_validate(mixture, IRIS[order], params={"sample_weight": weight}, cv=3, error_score="raise")
    assert np.isfinite(done["test_score"]).all()


def test_pickle_and_clone():
    mixture = EMGaussianMixture(3, means_init=IRIS[[0, 60, 120]].tolist(), random_state=0)
    assert clone(mixture).get_params() == mixture.get_params()
    mixture.fit(IRIS)
    again = pickle.loads(pickle.dumps(mixture))
    np.testing.assert_array_equal(again.predict_proba(IRIS), mixture.predict_proba(IRIS))
    assert mixture.means_init == IRIS[[0, 60, 120]].tolist()  # as given


def test_feature_names():
    frame = pd.DataFrame(IRIS, columns=list("abcd"))
    mixture = EMGaussianMixture(3, random_state=0).fit(frame)
    assert mixture.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        mixture.predict(frame[list("dcba")])


def test_every_public_name_of_gaussian_mixture_exists():
    """Replacing the import is enough: parameters, attributes, methods."""
    ours, theirs = EMGaussianMixture(3, random_state=0).fit(IRIS), GaussianMixture(3, random_state=0).fit(IRIS)
    renamed = {"verbose_interval"}  # how often to print is what verbose=1 and 2 say
    assert set(theirs.get_params()) - set(ours.get_params()) == renamed
    names = {name for name in dir(theirs) if not name.startswith("_")} - renamed
    missing = {name for name in names if not hasattr(ours, name)}
    assert missing == set()
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
def test_the_same_numbers_as_gaussian_mixture_at_the_same_parameters(shape):
    theirs = GaussianMixture(3, covariance_type=shape, random_state=0).fit(IRIS)
    ours = EMGaussianMixture(3, covariance_type=shape, random_state=0).fit(IRIS)
    for name in ("weights_", "means_", "covariances_"):
        setattr(ours, name, getattr(theirs, name))  # attributes set by hand are used
    close = {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(ours.score_samples(IRIS), theirs.score_samples(IRIS), **close)
    np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), **close)
    np.testing.assert_array_equal(ours.predict(IRIS), theirs.predict(IRIS))
    np.testing.assert_allclose(
        [ours.bic(IRIS), ours.aic(IRIS), ours.score(IRIS)], [theirs.bic(IRIS), theirs.aic(IRIS), theirs.score(IRIS)]
    )


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
def test_one_step_from_the_same_start_is_gaussian_mixture_s(shape):
    from sklearn.exceptions import ConvergenceWarning

    theirs = GaussianMixture(3, covariance_type=shape, random_state=0).fit(IRIS)
    start = {"weights_init": theirs.weights_, "means_init": IRIS[[0, 60, 120]], "precisions_init": theirs.precisions_}
    options = {"covariance_type": shape, "max_iter": 1, "reg_covar": 0.0} | start
    fits = []
    for mixture in (GaussianMixture(3, **options), EMGaussianMixture(3, **options)):
        with pytest.warns(ConvergenceWarning):
            fits.append(mixture.fit(IRIS))
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(fits[1], name), getattr(fits[0], name), rtol=1e-7, atol=1e-9)
