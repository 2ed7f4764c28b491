"""Choice between candidates: what is chosen is what others publish, whatever the order and the number of workers."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import emkit
from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, datasets, select

FAITHFUL = datasets.load_faithful().data
SHAPES = ["full", "tied", "diag", "spherical"]
SEEDED = EMGaussianMixture(random_state=0)
ITS_COLUMNS = ["criterion", "log_likelihood", "n_parameters", "status", "reason", "seconds"]


def without_seconds(found):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found.results_]


@pytest.fixture(autouse=True)
def _candidates_that_fit_badly_may_say_so():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning, message=".*(did not converge|starts failed)")
        yield


def test_old_faithful_by_bic_is_mclust_s_choice():
    """mclust chooses EEE (tied) with 3 components: BIC -2314.316, log-likelihood -1126.326, 11 parameters (Scrucca,
    Fop, Murphy & Raftery 2016, The R Journal 8:289). It stops 0.01 nats early.
    """
    found = select(SEEDED, FAITHFUL, {"n_components": range(1, 7), "covariance_type": SHAPES})
    assert found.best_params_ == {"n_components": 3, "covariance_type": "tied"}
    row = found.results_[found.best_index_]
    assert row["criterion"] == pytest.approx(2314.316, abs=0.03)
    assert row["log_likelihood"] == pytest.approx(-1126.326, abs=0.015)
    assert row["n_parameters"] == 11
    assert len(found.results_) == 24
    assert list(found.results_[0]) == ["covariance_type", "n_components", *ITS_COLUMNS]
    assert pd.DataFrame(found.results_)["criterion"].idxmin() == found.best_index_


def test_icl_finds_clusters_that_are_apart():
    grid = {"n_components": [1, 2, 3, 4]}
    assert select(SEEDED, FAITHFUL, grid, criterion="icl").best_params_ == {"n_components": 2}
    assert select(SEEDED, FAITHFUL, grid, criterion="aic").best_params_["n_components"] >= 2


@pytest.mark.parametrize("criterion", ["aic", "bic", "icl"])
def test_the_table_holds_what_the_estimator_says(criterion):
    found = select(SEEDED, FAITHFUL, {"n_components": [1, 2, 3]}, criterion=criterion)
    for row in found.results_:
        alone = clone(SEEDED).set_params(n_components=row["n_components"]).fit(FAITHFUL)
        assert row["criterion"] == getattr(alone, criterion)(FAITHFUL)
        assert row["log_likelihood"] == alone.log_likelihood_
        assert row["status"] == alone.status_
    assert found.criterion == criterion
    assert found.results_[found.best_index_]["criterion"] == min(row["criterion"] for row in found.results_)
    assert not hasattr(SEEDED, "means_")


@pytest.mark.parametrize("seed", [0, np.random.default_rng(3), np.random.SeedSequence(5)])
def test_workers_and_order_change_nothing(seed):
    grid = [{"n_components": [4, 2], "covariance_type": ["diag", "full"]}, {"n_components": [3]}]
    mixture = EMGaussianMixture(n_init=4, random_state=seed)
    one = select(mixture, FAITHFUL, grid, n_jobs=1)
    for n_jobs in (2, 3, None):
        other = select(mixture, FAITHFUL, grid, n_jobs=n_jobs)
        assert without_seconds(other) == without_seconds(one)
        np.testing.assert_array_equal(other.best_estimator_.means_, one.best_estimator_.means_)
    back = select(mixture, FAITHFUL, grid[::-1], n_jobs=1)
    assert sorted(map(repr, without_seconds(back))) == sorted(map(repr, without_seconds(one)))


def test_no_more_threads_than_cores(monkeypatch):
    """Candidates side by side leave nothing to the blocks and starts of each."""
    seen = []
    real = emkit._mixin.count_workers
    monkeypatch.setattr("emkit._mixin.count_workers", lambda n_jobs: seen.append(real(n_jobs)) or seen[-1])
    select(SEEDED, FAITHFUL, {"n_components": [1, 2, 3]}, n_jobs=2)
    assert set(seen) == {1}


def test_weights_reach_fit_and_criterion():
    weight = np.random.default_rng(0).integers(0, 4, size=len(FAITHFUL)).astype(float)
    weighted = select(SEEDED, FAITHFUL, {"n_components": [1, 2]}, sample_weight=weight)
    repeated = select(SEEDED, np.repeat(FAITHFUL, weight.astype(int), axis=0), {"n_components": [1, 2]})
    for one, other in zip(weighted.results_, repeated.results_, strict=True):
        assert one["criterion"] == pytest.approx(other["criterion"], abs=1e-2)


def test_a_pipeline_by_its_last_step():
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(random_state=0))
    grid = {"emgaussianmixture__n_components": [1, 2, 3, 4], "emgaussianmixture__covariance_type": SHAPES}
    found = select(pipeline, FAITHFUL, grid)
    assert found.best_params_ == {
        "emgaussianmixture__n_components": 3,
        "emgaussianmixture__covariance_type": "tied",
    }
    best = found.best_estimator_
    assert isinstance(best, Pipeline)
    scaled = StandardScaler().fit_transform(FAITHFUL)
    assert found.results_[found.best_index_]["criterion"] == best[-1].bic(scaled)
    alone = clone(pipeline).set_params(**found.best_params_).fit(FAITHFUL)
    np.testing.assert_array_equal(best.predict(FAITHFUL), alone.predict(FAITHFUL))
    weight = np.ones(len(FAITHFUL))
    weight[:50] = 2.0
    weighted = select(pipeline, FAITHFUL, {"emgaussianmixture__n_components": [2]}, sample_weight=weight)
    alone.set_params(**{"emgaussianmixture__n_components": 2, "emgaussianmixture__covariance_type": "full"})
    alone.fit(FAITHFUL, emgaussianmixture__sample_weight=weight)
    np.testing.assert_allclose(weighted.best_estimator_[-1].means_, alone[-1].means_)


def test_a_pipeline_of_one_step():
    pipeline = Pipeline([("mixture", EMGaussianMixture(random_state=0))])
    found = select(pipeline, FAITHFUL, {"mixture__n_components": [1, 2]})
    assert found.best_params_ == {"mixture__n_components": 2}
    assert found.best_estimator_.predict(FAITHFUL).shape == (272,)


def test_earlier_steps_must_not_vary():
    pipeline = make_pipeline(PCA(2), EMGaussianMixture())
    with pytest.raises(ValueError, match=r"varies 'pca__n_components'.*cannot be compared"):
        select(pipeline, FAITHFUL, {"pca__n_components": [1, 2]})


@pytest.mark.parametrize("given", ["groups", "lengths", "list"])
def test_states_of_a_chain(given):
    X = datasets.load_earthquakes().data
    lengths = [50, 57]
    how = {"groups": np.repeat([0, 1], lengths)} if given == "groups" else {"lengths": lengths}
    rows = [X[:50], X[50:]] if given == "list" else X
    chain = EMHiddenMarkov(emission="poisson", random_state=0)
    found = select(chain, rows, {"n_states": [1, 2, 3]}, **({} if given == "list" else how))
    assert found.best_params_["n_states"] in (2, 3)
    alone = clone(chain).set_params(**found.best_params_).fit(X, lengths=lengths)
    assert found.results_[found.best_index_]["criterion"] == pytest.approx(alone.bic(X, lengths=lengths), rel=1e-12)


def test_an_imputer_over_the_strength_of_its_prior():
    X = datasets.load_nhanes().data
    found = select(EMImputer(prior="ridge"), X, {"prior_strength": [0.1, 1.0, 10.0]})
    assert len({row["n_parameters"] for row in found.results_}) == 1  # as many each: the most likely wins
    assert found.best_index_ == np.argmax([row["log_likelihood"] for row in found.results_])
    by_likelihood = GridSearchCV(EMImputer(prior="ridge"), {"prior_strength": [0.1, 1.0, 10.0]}, cv=KFold(5)).fit(X)
    assert np.isfinite(by_likelihood.cv_results_["mean_test_score"]).all()


def test_grid_search_by_score_agrees_on_old_faithful():
    grid = {"n_components": [1, 2, 3, 4], "covariance_type": SHAPES}
    search = GridSearchCV(SEEDED, grid, cv=KFold(5, shuffle=True, random_state=0)).fit(FAITHFUL)
    scores = dict(zip(map(repr, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True))
    assert search.best_params_["n_components"] == 3
    error = search.cv_results_["std_test_score"][search.best_index_] / np.sqrt(5)
    best, tied = search.best_score_, scores[repr({"covariance_type": "tied", "n_components": 3})]
    assert best - tied < error  # BIC's choice is as good, by the rule of one standard error (Breiman et al. 1984)
    assert best - scores[repr({"covariance_type": "tied", "n_components": 1})] > 3 * error


def test_grid_search_of_chains_by_groups():
    X = datasets.load_earthquakes().data
    groups = np.arange(len(X)) // 27
    chain = EMHiddenMarkov(emission="poisson", random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        chain.set_fit_request(groups=True).set_score_request(groups=True)
        search = GridSearchCV(chain, {"n_states": [1, 2]}, cv=GroupKFold(3)).fit(X, groups=groups)
    assert search.best_params_ == {"n_states": 2}


# What goes wrong -------------------------------------------------------------------------------------------------


def test_degenerate_candidates_cannot_win():
    """Rows on two points: two components collapse on them, with as high a likelihood as the prior lets them have."""
    rng = np.random.default_rng(0)
    X = np.concatenate([np.repeat([[0.0, 0.0], [9.0, 9.0]], 40, axis=0), rng.normal(size=(40, 2))])
    found = select(EMGaussianMixture(random_state=0), X, {"n_components": [1, 3]})
    assert found.best_params_ == {"n_components": 1}
    row = found.results_[1]
    assert row["status"] == "degenerate"
    assert row["criterion"] == np.inf
    assert "component" in row["reason"]


def test_failed_candidates_are_recorded():
    with pytest.warns(ConvergenceWarning, match="1 of 2 candidates failed.*n_components=500"):
        found = select(SEEDED, FAITHFUL, {"n_components": [500, 2]})
    assert found.best_params_ == {"n_components": 2}
    assert found.results_[0]["status"] == "failed"
    assert found.results_[0]["reason"].startswith("ValueError: n_components=500, but X has n_samples=272")


def test_it_fails_if_all_fail():
    with pytest.raises(ValueError, match=r"no candidate has a regular fit .*n_components=500.*n_components=600"):
        select(SEEDED, FAITHFUL, {"n_components": [500, 600]})


@pytest.mark.parametrize(
    ("estimator", "criterion", "message"),
    [
        (SEEDED, "BIC", "criterion of EMGaussianMixture must be one of 'aic', 'bic', 'icl'. Got 'BIC'"),
        (SEEDED, "loo", r"LeaveOneOut\(\)"),
        (EMImputer(), "icl", "criterion of EMImputer must be one of 'aic', 'bic'. Got 'icl'"),
        (StandardScaler(), "bic", r"StandardScaler is none; for others use GridSearchCV"),
    ],
)
def test_unknown_criteria(estimator, criterion, message):
    with pytest.raises(ValueError, match=message):
        select(estimator, FAITHFUL, {}, criterion=criterion)


def test_what_select_is_not_for():
    with pytest.raises(ValueError, match=r"sklearn\.mixture\..*GaussianMixture is none; for others use GridSearchCV"):
        select(GaussianMixture(), FAITHFUL, {"n_components": [1]})
    with pytest.raises(ValueError, match="param_grid is empty: give at least one candidate"):
        select(SEEDED, FAITHFUL, [])
    for name in ("weights", "groups"):
        with pytest.raises(ValueError, match=f"to fit of EMGaussianMixture: .*unexpected .*{name!r}"):
            select(SEEDED, FAITHFUL, {"n_components": [1]}, **{name: np.ones(272)})


def test_unknown_parameters():
    with pytest.raises(ValueError, match="'n_component', which is not a parameter of EMGaussianMixture"):
        select(SEEDED, FAITHFUL, {"n_component": [1]})
    with pytest.raises(ValueError, match="'n_jobs' parameter of select"):
        select(SEEDED, FAITHFUL, {"n_components": [1]}, n_jobs=0)
