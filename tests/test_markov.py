"""EMHiddenMarkov as its users hold it, and the inputs on which other packages broke.

Names like E5 refer to known failures: hl is hmmlearn, pg pomegranate, with the number of the issue.
"""

import pickle
import tracemalloc
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emkit import EMGaussianMixture, EMHiddenMarkov, kernels
from emkit.chain import _stationary_step, stationary
from emkit.emissions import Categorical, Columns, Emission, MixedGaussian, Poisson
from emkit.exceptions import DataWarning

SHAPES = ["full", "tied", "diag", "spherical"]
shapes = pytest.mark.parametrize("shape", SHAPES)


# The kernels are compared with one another in test_kernels_chain; long sequences take minutes in NumPy.
compiled = pytest.mark.skipif(kernels.BUILD == "reference", reason="a long sequence, minutes in NumPy")


def chain(seed, lengths=(60, 1, 39), d=1):
    """Two regimes, 8 apart, in a few sequences; rows and the sequence of each."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    state = np.cumsum(rng.random(n) < 0.1) % 2
    return 8.0 * state[:, None] + rng.normal(size=(n, d)), np.repeat(np.arange(len(lengths)), lengths), state


def quiet(model, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*args, **kwargs)


def assert_same(one, other, rtol=1e-8):
    for name in ("startprob_", "transmat_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, atol=1e-12)


# Sequences ------------------------------------------------------------------------------------------------------------


def test_lists_lengths_and_groups_agree():  # E5: hl#249, hl#265, hl#102, hl#381, hl#231
    X, groups, _ = chain(0)
    lengths = [60, 1, 39]
    parts = np.split(X, np.cumsum(lengths)[:-1])
    by_groups = EMHiddenMarkov(random_state=0).fit(X, groups=groups)
    by_lengths = EMHiddenMarkov(random_state=0).fit(X, lengths=lengths)
    by_list = EMHiddenMarkov(random_state=0).fit(parts)
    assert_same(by_groups, by_lengths)
    assert_same(by_groups, by_list)
    together = by_list.predict_proba(X, groups=groups)
    apart = by_list.predict_proba(parts)
    assert isinstance(apart, list)
    np.testing.assert_allclose(np.concatenate(apart), together)
    np.testing.assert_allclose(by_list.score(parts), by_groups.score(X, groups=groups))
    np.testing.assert_array_equal(by_groups.labels_, by_groups.predict(X, groups=groups))


def as_frame(library, columns):
    module = pytest.importorskip(library)
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_of_listed_frames_go_by_their_names(library):
    one = as_frame(library, {"a": [1.0, 2, 3], "b": [10, 20, 27]})
    other = as_frame(library, {"b": [10.0, 20, 33], "a": [1, 2, 3]})
    model = EMHiddenMarkov(1).fit([one, other])
    np.testing.assert_allclose(model.means_, [[2.0, 20.0]])
    if library == "pandas" or tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8):  # names of others are new
        assert list(model.feature_names_in_) == ["a", "b"]
    other = as_frame(library, {"a": [1.0, 2, 3], "c": [10.0, 20, 30]})
    with pytest.raises(ValueError, match=r"sequence 1 of X has the columns \['a', 'c'\], but sequence 0 has"):
        model.fit([one, other])
    with pytest.raises(ValueError, match=f"sequence 1 of X is a numpy ndarray, but sequence 0 a {library}"):
        model.fit([one, np.ones((3, 2))])


def test_rows_of_a_group_of_an_arrow_table_need_not_be_together():
    X, _, _ = chain(1, (50, 50))
    groups = np.tile([0, 1], 50)
    table = as_frame("pyarrow", {"a": X[:, 0]})
    assert_same(*(EMHiddenMarkov(random_state=0).fit(rows, groups=groups) for rows in (X, table)))


def test_groups_of_several_kinds():
    X = np.random.default_rng(0).normal(size=(60, 1))
    with pytest.raises(ValueError, match=r"groups\[1\] is None; every row belongs to a sequence"):
        EMHiddenMarkov(1).fit(X, groups=["a", None] * 30)
    with pytest.raises(ValueError, match="groups mixes int, str: give all rows identifiers of one kind"):
        EMHiddenMarkov(1).fit(X, groups=np.array(["a", 1] * 30, dtype=object))


def test_masks_of_listed_arrays_are_kept():
    X, _, _ = chain(3)
    masked = np.ma.array(X, mask=X > 5)
    alone = EMHiddenMarkov(1).fit(masked)
    whole = int(np.argmin(X))  # a row without a mask
    for listed in ([masked], [masked[:30], masked[30:]], [masked[:whole], X[whole : whole + 1], masked[whole + 1 :]]):
        np.testing.assert_allclose(EMHiddenMarkov(1).fit(listed).means_, alone.means_, rtol=1e-10)


def test_masked_symbols_are_missing():
    for symbols in (["x", "z", "y"], [1, 2, 3], [1.0, 2.0, 3.0]):
        masked = np.ma.array(np.array(symbols * 5)[:, None], mask=[[0], [1], [0]] * 5)
        for X in (masked, [masked], [masked[:6], masked[6:]]):
            model = EMHiddenMarkov(1, emission="categorical").fit(X)
            assert model.categories_.tolist() == [symbols[0], symbols[2]]
            np.testing.assert_allclose(model.emissionprob_, [[0.5, 0.5]])


def test_rows_of_a_group_need_not_be_together():
    X, _, _ = chain(1, (50, 50))
    order = np.argsort(np.tile([0, 1], 50), kind="stable")
    shuffled, groups = np.empty_like(X), np.tile([0, 1], 50)
    shuffled[order] = X
    apart = EMHiddenMarkov(random_state=0).fit(shuffled, groups=groups)
    together = EMHiddenMarkov(random_state=0).fit(X, lengths=[50, 50])
    assert_same(apart, together)
    proba = apart.predict_proba(shuffled, groups=groups)
    np.testing.assert_allclose(proba[order], together.predict_proba(X, lengths=[50, 50]))


def test_statistics_add_over_sequences():  # D1: hl#410, hl#377, hl#417
    X, groups, _ = chain(2)
    model = EMHiddenMarkov(random_state=0).fit(X, groups=groups)
    parts = [X[groups == g] for g in np.unique(groups)]
    total = sum(model.score_samples(part).sum() for part in parts)
    np.testing.assert_allclose(model.log_likelihood_, total, rtol=1e-10)


def test_weights_are_repetitions_of_sequences():
    X, groups, _ = chain(3)
    parts = [X[groups == g] for g in range(3)]
    weighted = EMHiddenMarkov(random_state=0).fit(X, groups=groups, sample_weight=np.array([2.0, 0.0, 1.0])[groups])
    repeated = EMHiddenMarkov(random_state=0).fit([parts[0], parts[2], parts[0]])
    assert_same(weighted, repeated, rtol=1e-5)
    np.testing.assert_allclose(weighted.log_likelihood_, repeated.log_likelihood_)


@pytest.mark.parametrize("acceleration", ["auto", "squarem", "anderson", "momentum", None])
@pytest.mark.parametrize("n_init", [1, "auto"])
def test_what_is_impossible_stays_impossible(acceleration, n_init):
    mask = np.array([[False, True], [True, True]])
    given = {"transmat_mask": mask, "startprob_init": [1.0, 0.0], "acceleration": acceleration, "n_init": n_init}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(400, 1)) + 2.0 * (np.cumsum(rng.random(400) < 0.2) % 2)[:, None]
        model = EMHiddenMarkov(2, random_state=seed, **given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit([X[:200], X[200:]])
        assert model.transmat_[0, 0] == 0.0
        assert model.startprob_[1] == 0.0


def test_a_fit_goes_on_with_its_mask():
    X, _, _ = chain(4)
    model = EMHiddenMarkov(2, warm_start=True, random_state=0).fit(X)
    model.set_params(transmat_mask=[[True, True], [False, True]])
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match="transmat_mask is not that of the fit"):
            method(X)


def test_several_stationary_distributions():
    X, _, _ = chain(4)
    mask = np.array([[True, True, True], [False, True, False], [False, False, True]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = EMHiddenMarkov(3, transmat_mask=mask, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"states \[1\] and \[2\] are never left for others"):
        model.stationary_distribution()
    with pytest.raises(ValueError, match=r"states \[0\] and \[1\] .*set start='free'"):
        EMHiddenMarkov(2, transmat_mask=np.eye(2), start="stationary").fit(X)
    with pytest.raises(ValueError, match="leave startprob_init out"):
        EMHiddenMarkov(2, startprob_init=[0.5, 0.5], start="stationary").fit(X)


def test_the_step_of_a_stationary_chain_with_a_state_left_for_good():
    """The highest point there is, by a search over both free transitions."""
    starts, transitions = np.array([0.0, 9.0, 1.0]), np.array([[0.0, 0.0, 0.0], [0.0, 5.0, 5.0], [0.0, 5.0, 5.0]])

    def value(transmat):
        return xlogy(starts, stationary(transmat)).sum() + xlogy(transitions, transmat).sum()

    def lost(free):
        a, b = expit(free)
        return -value(np.array([[0.5, 0.5, 0.0], [0.0, 1.0 - a, a], [0.0, b, 1.0 - b]]))

    begun = np.array([[0.5, 0.5, 0.0], [0.0, 0.8, 0.2], [0.0, 0.3, 0.7]])
    reached = _stationary_step(starts, transitions, begun)
    np.testing.assert_allclose(value(reached), -minimize(lost, [0.0, 0.0]).fun, rtol=1e-9)
    np.testing.assert_array_equal(reached[0], begun[0])


def test_a_positional_y_is_ignored():  # E7: hl reads it as lengths
    X, _, _ = chain(4)
    assert_same(EMHiddenMarkov(random_state=0).fit(X, np.ones(100, int)), EMHiddenMarkov(random_state=0).fit(X))


@pytest.mark.parametrize("kind", [np.asarray, pd.Series])
@pytest.mark.parametrize("lengths", [(40, 40), (40, 30)])
def test_series_are_no_tables(kind, lengths):
    series = [kind(np.random.default_rng(n).normal(size=n)) for n in lengths]
    for method in (EMHiddenMarkov(2).fit, EMHiddenMarkov(2).partial_fit):
        with pytest.raises(ValueError, match=r"list of 2 arrays of one dimension, the first of 40 .* x\[:, None\]"):
            method(series)
    rows = list(np.random.default_rng(0).normal(size=(60, 2)))
    assert_same(EMHiddenMarkov(2, random_state=0).fit(rows), EMHiddenMarkov(2, random_state=0).fit(np.array(rows)))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"lengths": [50, 49]}, "lengths sum to 99, but X has 100 rows"),
        ({"lengths": [2**62] * 4 + [100]}, "lengths sum to 18446744073709551716, more rows than any X has"),
        ({"lengths": np.array([2**64 - 1, 101], np.uint64)}, "lengths sum to 18446744073709551716, more"),
        ({"lengths": [100, 0]}, r"lengths\[1\] is 0"),
        ({"lengths": [50.5, 49.5]}, "lengths must be a list of ints"),
        ({"groups": np.zeros(99)}, r"groups has shape \(99,\), but X has 100 rows"),
        ({"groups": np.r_[np.zeros(99), np.nan]}, r"groups\[99\] is nan; every row belongs"),
        ({"groups": np.zeros(100), "lengths": [100]}, "give one of them"),
        ({"sample_weight": np.arange(1.0, 101.0)}, "a sequence counts as a whole"),
    ],
)
def test_an_error_names_the_sequence(how, message):
    with pytest.raises(ValueError, match=message):
        EMHiddenMarkov().fit(chain(5)[0], **how)


def test_an_error_in_a_cell_names_its_sequence():
    X, _, _ = chain(5)
    X[70, 0] = np.inf
    with pytest.raises(ValueError, match=r"row 70 \(row 9 of sequence c\), column 0"):
        EMHiddenMarkov().fit(X, groups=np.repeat(["a", "b", "c"], [60, 1, 39]))
    with pytest.raises(ValueError, match="sequence 1 of X has 2 columns, but sequence 0 has 1"):
        EMHiddenMarkov().fit([X, np.c_[X, X]])
    with pytest.raises(ValueError, match="three dimensions"):
        EMHiddenMarkov().fit(np.zeros((2, 3, 4)))


def test_sequences_of_one_row():  # E2: hl#110, hl#18: all-zero transition matrix
    X, _, _ = chain(6)
    model = quiet(EMHiddenMarkov(random_state=0), X, lengths=np.ones(100, int))
    np.testing.assert_allclose(model.transmat_.sum(axis=1), 1.0)
    np.testing.assert_allclose(model.means_.ravel(), [0, 8], atol=1)


def test_few_rows_name_the_estimators_own_parameter():  # B4: hl#420
    with pytest.raises(ValueError, match="n_states=2, but X has n_samples=1"):
        EMHiddenMarkov().fit([[1.0]])


# scikit-learn ---------------------------------------------------------------------------------------------------------


def test_grid_search_over_states_by_groups_in_a_pipeline():  # J1, J5: hl: all fits fail
    X, groups, _ = chain(7, (30,) * 8)
    with sklearn.config_context(enable_metadata_routing=True):
        model = EMHiddenMarkov(covariance_type="diag", random_state=0)
        model.set_fit_request(groups=True).set_score_request(groups=True)
        pipeline = make_pipeline(StandardScaler(), model)
        search = GridSearchCV(pipeline, {"emhiddenmarkov__n_states": [1, 2]}, cv=GroupKFold(4), error_score="raise")
        search.fit(X, groups=groups)
    assert search.best_params_ == {"emhiddenmarkov__n_states": 2}
    with pytest.raises(ValueError, match=r"give groups, .* with metadata routing on, or a list of sequences"):
        cross_val_score(EMHiddenMarkov(), X, params={"lengths": [30] * 8}, error_score="raise")


def test_frames_names_pickle_and_clone():
    X, groups, _ = chain(8, d=2)
    frame = pd.DataFrame(X, columns=["left", "right"])
    model = EMHiddenMarkov(random_state=0).fit(frame, groups=pd.Series(groups))
    assert list(model.feature_names_in_) == ["left", "right"]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame, groups=groups), model.predict(frame, groups=groups))
    assert clone(model).get_params() == model.get_params()
    model = EMHiddenMarkov(random_state=0).fit(X)
    for method in ("predict", "predict_proba", "filter_proba", "score_samples", "decode", "transform"):
        with pytest.raises(ValueError, match="features"):  # S10: hl returns labels
            getattr(model, method)(np.ones((3, 3)))


@compiled
def test_the_result_does_not_depend_on_threads():
    X, groups, _ = chain(9, (400,) * 5, d=2)
    assert_same(*(EMHiddenMarkov(3, n_jobs=n, random_state=0).fit(X, groups=groups) for n in (1, 2)), rtol=0)
    assert_same(*(EMHiddenMarkov(3, n_jobs=n, random_state=0).fit(X) for n in (1, 2)), rtol=0)


def test_a_warm_start_continues():
    X, _, _ = chain(10)
    model = quiet(EMHiddenMarkov(warm_start=True, max_iter=1, n_init=1, acceleration=None, random_state=0), X)
    first = model.objective_
    assert not model.converged_
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        model.fit(X)
    assert model.objective_ > first


def test_states_have_a_stable_order():  # C7: hl#119, hl#177, hl#140
    X, groups, _ = chain(11)
    for seed in range(5):
        means = EMHiddenMarkov(random_state=seed).fit(X, groups=groups).means_
        assert means[0, 0] < means[1, 0]


# Priors, zeros, counts ------------------------------------------------------------------------------------------------


def test_zeros_stay_and_are_not_parameters():  # E1, E4: hl#186, hl#214, hl#317, hl#344
    rng = np.random.default_rng(12)
    state = np.repeat([0, 1, 2], 30)
    X = 3.0 * state[:, None] + rng.normal(size=(90, 1))
    band = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    model = EMHiddenMarkov(3, transmat_mask=band, startprob_init=[1, 0, 0], random_state=0).fit([X, X[10:]])
    assert (model.transmat_[band == 0] == 0.0).all()
    assert model.startprob_.tolist() == [1.0, 0.0, 0.0]
    assert (np.diff(model.predict(X)) >= 0).all()
    assert (np.diff(model.sample(200, random_state=0)[1]) >= 0).all()
    # 3 means, 3 variances, 2 free transitions, no free start
    loglik = model.score_samples(X).sum()
    np.testing.assert_allclose(model.aic(X), -2 * loglik + 2 * 8)
    np.testing.assert_allclose(model.bic(X), -2 * loglik + np.log(90) * 8)


def test_no_estimated_probability_becomes_an_absorbing_zero():
    X, groups, _ = chain(13)
    model = EMHiddenMarkov(random_state=0).fit(X, groups=groups)
    assert (model.transmat_ > 0.0).all()
    assert (model.startprob_ > 0.0).all()


def test_the_prior_is_in_the_objective():  # D5: probml/pmtk3#68: the objective falls
    X, groups, _ = chain(14)
    model = EMHiddenMarkov(3, transmat_prior=5.0, startprob_prior=[2.0, 1.0, 4.0], random_state=0)
    quiet(model, X, groups=groups)
    assert (np.diff(model.history_) >= -1e-8).all()
    prior = 4.0 * np.log(model.transmat_).sum() + np.array([1.0, 0.0, 3.0]) @ np.log(model.startprob_)
    floor = model.objective_ - model.log_likelihood_ - prior  # that of the covariances
    assert abs(floor) < 1e-3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"startprob_init": [0.5, 0.6]}, "sum of startprob_init is 1.1, not 1"),
        ({"transmat_init": [[0.5, 0.5], [0.2, 0.7]]}, "sum of row 1 of transmat_init is 0.9"),
        ({"transmat_init": [[1.5, -0.5], [0.2, 0.8]]}, "probabilities lie between 0 and 1"),
        ({"transmat_mask": [[1, 0], [0, 0]]}, "no way out of state 1"),
        ({"transmat_mask": [[1, 0], [np.nan, 1]]}, r"transmat_mask\[1, 0\] is nan; an entry is True"),
        ({"transmat_mask": [[1, -1], [0, 1]]}, r"transmat_mask\[0, 1\] is -1; an entry is True"),
        ({"transmat_mask": [[0.2, 0.8], [0, 1]]}, r"transmat_mask\[0, 0\] is 0.2; an entry is True"),
        ({"transmat_mask": [[1, 0], [0, 1]], "transmat_init": [[0.5, 0.5], [0, 1]]}, "forbids it"),
        ({"transmat_prior": 0.5}, "transmat_prior"),
        ({"emission": "normal"}, "'emission' parameter of EMHiddenMarkov must be one of 'gaussian'"),
    ],
)
def test_starting_values_are_checked(how, message):
    with pytest.raises(ValueError, match=message):
        EMHiddenMarkov(**how).fit(chain(15)[0])


# Degenerate data ------------------------------------------------------------------------------------------------------


@shapes
def test_constant_data_are_named_not_converged(shape):  # E19: hl: converged with invented variances
    with pytest.warns(DataWarning, match="constant columns: 0"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = EMHiddenMarkov(covariance_type=shape, random_state=0).fit(np.ones((50, 1)))
    assert model.status_ == "degenerate" or shape == "tied"
    assert all(np.isfinite(getattr(model, name)).all() for name in ("startprob_", "transmat_", "means_", "covars_"))


@shapes
@pytest.mark.parametrize("kind", ["equal columns", "many states", "tiny noise", "wide", "outlier", "small integers"])
def test_nothing_is_ever_nan(shape, kind):  # A1, A6, A7, A10, E2: hl#285, hl#361, hl#263, hl#569, hl#110
    rng = np.random.default_rng(16)
    X, k = {
        "equal columns": (np.repeat(chain(16)[0], 2, axis=1), 2),
        "many states": (chain(16, d=5)[0], 7),
        "tiny noise": (np.c_[5 + rng.normal(size=(100, 2)), 1e-7 * rng.normal(size=(100, 2))], 2),
        "wide": (rng.normal(size=(60, 24)), 3),
        "outlier": (np.r_[chain(16)[0], [[1e8]]], 2),
        "small integers": (np.array([5.0, 5, 5, 4, 5, 5, 4, 5, 3, 5] * 3)[:, None], 6),
    }[kind]
    model = quiet(EMHiddenMarkov(k, covariance_type=shape, random_state=0), X)
    for name in ("startprob_", "transmat_", "means_", "covars_"):
        assert np.isfinite(getattr(model, name)).all()
    np.testing.assert_allclose(model.transmat_.sum(axis=1), 1.0)
    assert np.isfinite(model.score(X))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


def test_units_do_not_matter():  # S9: hl: both means equal
    X, groups, _ = chain(17)
    one = EMHiddenMarkov(random_state=0).fit(X, groups=groups)
    for unit in (1e-6, 1e6):
        other = EMHiddenMarkov(random_state=0).fit(X * unit, groups=groups)
        np.testing.assert_allclose(other.means_ / unit, one.means_, rtol=1e-6)
        np.testing.assert_allclose(other.covars_ / unit**2, one.covars_, rtol=1e-5)


def test_float32_is_fitted_like_float64():  # A5: hl#2
    X, groups, _ = chain(18)
    X += 100.0
    one, other = (EMHiddenMarkov(random_state=0).fit(x, groups=groups) for x in (X, X.astype(np.float32)))
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-4)


@compiled
def test_a_long_sequence_does_not_underflow():  # E16: mlpack#160
    X, _, state = chain(19, (100_000,))
    model = EMHiddenMarkov(random_state=0).fit(X)
    assert (model.predict(X) == state).mean() > 0.999


@compiled
def test_memory_of_a_pass_is_one_array():  # E18: ssm#26: T x K x K
    X, k = np.random.default_rng(20).normal(size=(100_000, 4)), 10
    model = quiet(EMHiddenMarkov(k, covariance_type="diag", n_init=1, max_iter=1, n_jobs=1, random_state=0), X)
    model.set_params(warm_start=True)
    tracemalloc.start()
    quiet(model, X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * X.shape[0] * k * 8


def test_impossible_rows_say_so():
    X = np.array([["a"], ["b"], ["a"], ["b"]] * 5)
    model = quiet(EMHiddenMarkov(emission="categorical", random_state=0), X)
    model.transmat_ = model.emissionprob_ = np.eye(2)
    with pytest.raises(ValueError, match="sequence 0 is impossible"):
        model.predict(X)


# Missing cells and laws -----------------------------------------------------------------------------------------------


@shapes
def test_missing_cells_are_welcome(shape):  # E12, E13: hl#327, pg#1139
    X, groups, state = chain(21, (200, 100), d=3)
    holes = X.copy()
    holes[np.random.default_rng(0).random(X.shape) < 0.3] = np.nan
    holes[50:55] = np.nan
    model = EMHiddenMarkov(covariance_type=shape, random_state=0).fit(holes, groups=groups)
    assert (model.predict(holes, groups=groups) == state).mean() > 0.97
    filled = model.transform(holes, groups=groups)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])
    assert np.sqrt(np.mean((filled - X)[np.isnan(holes)] ** 2)) < 2.5
    objects = holes.astype(object)
    objects[np.isnan(holes)] = None
    assert_same(model, EMHiddenMarkov(covariance_type=shape, random_state=0).fit(objects, groups=groups))
    with pytest.raises(ValueError, match="column 1 of X has no observed value"):
        EMHiddenMarkov().fit(np.c_[X[:, :1], np.full(300, np.nan)])


@pytest.mark.parametrize("emission", ["multinomial", Columns([("categorical", [0]), ("poisson", [1])])])
def test_a_forecast_tells_what_the_law_can_say(emission):
    X = np.random.default_rng(0).integers(0, 4, size=(60, 2))
    told = EMHiddenMarkov(2, emission=emission, random_state=0, n_init=1).fit(X).forecast(X, 3)
    assert told.state_proba.shape == (3, 2)
    assert "quantiles" not in told
    assert ("mean" in told) == (emission == "multinomial")


def test_what_is_asked_of_one_sequence():
    X = chain(5, (60,))[0]
    model = EMHiddenMarkov(2, random_state=0).fit(X)
    asked = {
        "forecast": lambda X: model.forecast(X, 2).mean,
        "k_best_paths": lambda X: model.k_best_paths(X, 2)[1],
        "sample_paths": lambda X: model.sample_paths(X, 2, random_state=0),
    }
    for name, ask in asked.items():
        np.testing.assert_array_equal(ask([X]), ask(X))
        with pytest.raises(ValueError, match=f"{name} is asked of one sequence, but X is read in blocks"):
            ask(lambda: [X])
        with pytest.raises(ValueError, match=f"{name} is asked of one sequence, but X has 2"):
            ask([X, X])
        with pytest.raises(ValueError, match="n_samples=0"):
            ask(X[:0])


def test_words_and_symbols():  # E10: hl#74
    words = np.array([["the"], ["cat"], ["sat"], ["the"], ["dog"], ["ran"]] * 10)
    model = EMHiddenMarkov(3, emission="categorical", random_state=0).fit(words)
    assert model.categories_.tolist() == ["cat", "dog", "ran", "sat", "the"]
    np.testing.assert_allclose(model.emissionprob_.sum(axis=1), 1.0)
    assert model.predict(words[:6]).tolist()[:3] == model.predict(words[:6]).tolist()[3:]
    with pytest.raises(ValueError, match=r"'cow' at row 1, column 0, which is not in the alphabet"):
        model.predict([["the"], ["cow"]])
    lenient = EMHiddenMarkov(3, emission=Categorical(handle_unknown="ignore"), random_state=0).fit(words)
    assert len(lenient.predict([["the"], ["cow"]])) == 2
    assert lenient.transform(np.array([["the"], [None], ["sat"]], dtype=object))[1, 0] in {"cat", "dog"}
    drawn, _ = model.sample(5, random_state=0)
    assert set(drawn.ravel()) <= set(words.ravel())
    gaps = np.array([[2], [7], [100], [2]] * 5)
    assert quiet(EMHiddenMarkov(2, emission="categorical"), gaps).categories_.tolist() == [2, 7, 100]


@pytest.mark.parametrize(
    ("emission", "cell", "message"),
    [
        ("poisson", -1.0, "a count is a whole number"),
        ("poisson", 1.5, "a count is a whole number"),
        ("bernoulli", 2.0, "must be 0 or 1"),
        ("exponential", 0.0, "positive and finite"),
    ],
)
def test_what_a_law_cannot_have_observed_is_named(emission, cell, message):
    X = np.ones((20, 2))
    X[7, 1] = cell
    with pytest.raises(ValueError, match=f"X is {cell:g} at row 7, column 1; .*{message}"):
        EMHiddenMarkov(emission=emission).fit(X)


@compiled
def test_recovery_of_simulated_chains():  # C2: hl is wrong about half of the time
    rng, hits = np.random.default_rng(22), 0
    truth = np.array([[0.9, 0.1], [0.2, 0.8]])
    for _ in range(20):
        state = [0]
        for u in rng.random(999):
            state.append(int(u > truth[state[-1], 0]))
        X = (rng.random((1000, 3)) < np.array([[0.2, 0.3, 0.8], [0.9, 0.6, 0.3]])[state]).astype(float)
        model = EMHiddenMarkov(emission="bernoulli", random_state=0).fit(X)
        hits += np.abs(model.transmat_ - truth).max() < 0.1
    assert hits >= 19


def test_columns_must_all_have_a_law():
    with pytest.raises(ValueError, match=r"names the columns \[0\], but X has 2"):
        EMHiddenMarkov(emission=Columns([("gaussian", [0])])).fit(np.zeros((10, 2)))


class Geometric(NamedTuple):
    probs: np.ndarray


class Totals(NamedTuple):
    loglik: float
    counts: np.ndarray
    totals: np.ndarray


class OneColumnGeometric(Emission):
    """A user's own law: the three methods, and no more."""

    def log_prob(self, params, rows):
        return rows.X * np.log(1.0 - params.probs) + np.log(params.probs)

    def summarize(self, params, rows, resp):
        return Totals(0.0, resp.sum(axis=0), resp.T @ rows.X[:, 0])

    def maximize(self, stats, params):
        return Geometric(np.clip(stats.counts / (stats.counts + stats.totals), 1e-9, 1 - 1e-9))


@compiled
def test_three_methods_make_a_law():
    rng = np.random.default_rng(23)
    state = np.cumsum(rng.random(2000) < 0.05) % 2
    X = rng.geometric(np.array([0.6, 0.05])[state])[:, None] - 1.0
    model = EMHiddenMarkov(emission=OneColumnGeometric(), random_state=0).fit(X)
    assert model.status_ == "converged"
    np.testing.assert_allclose(np.sort(model.probs_), [0.05, 0.6], rtol=0.15)
    with pytest.raises(NotImplementedError, match="cannot be sampled"):
        model.sample(3)


def test_stopping_at_max_iter_is_not_convergence():
    X, groups, _ = chain(24)
    with pytest.warns(ConvergenceWarning, match=r"did not converge \(max_iter\)"):
        model = EMHiddenMarkov(n_init=1, max_iter=1, random_state=0, acceleration=None).fit(X, groups=groups)
    assert not model.converged_
    assert model.status_ == "max_iter"


def test_a_stream_is_told_what_its_state_must_be():
    X = np.random.default_rng(0).normal(size=(100, 1))
    model = EMHiddenMarkov(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"state has shape \(1,\)"):
        model.filter([0.0], [1.0])
    with pytest.raises(ValueError, match="sums to 2"):
        model.filter([0.0], [5.0, -3.0])


def test_a_row_far_out_leaves_the_states_that_can_be_reached():
    X = np.repeat([0.0, 50.0], 50)[:, None] + np.random.default_rng(0).normal(size=(100, 1))
    model = EMHiddenMarkov(2, transmat_mask=np.triu(np.ones((2, 2), bool)), random_state=0).fit(X)
    later = model.filter([50.0], model.filter([0.0]))
    np.testing.assert_array_equal(model.filter([-200.0], later), [0.0, 1.0])  # nobody comes back to the nearer one
    model.transmat_ = np.eye(2)
    model.startprob_ = np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="sums to 0"):
        model.filter([0.0], [0.0, 0.0])
    np.testing.assert_array_equal(model.filter([-200.0]), [0.0, 1.0])


def test_what_collapses_is_a_state_or_a_part_of_one():
    X = np.concatenate([np.random.default_rng(0).normal(size=(200, 1)), np.full((3, 1), 9.0)])
    with pytest.warns(ConvergenceWarning, match=r"state \d holds 3 rows.*use fewer states"):
        EMHiddenMarkov(2, random_state=0).fit(X)
    with pytest.warns(ConvergenceWarning, match=r"part \d of state \d .*use fewer parts"):
        EMHiddenMarkov(2, emission=MixedGaussian(2), random_state=0).fit(X)


def test_messages_call_columns_what_the_user_calls_them():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 4)), columns=["one", "same", "two", "none"])
    X["same"], X["none"] = 3.0, np.nan
    with pytest.raises(ValueError, match="column 'none' of X has no observed value"):
        EMHiddenMarkov(2).fit(X)
    X["none"] = 4.0
    two = Columns([("gaussian", [0, 2]), ("gaussian", [1, 3])])
    for fit in (EMGaussianMixture(2).fit, EMHiddenMarkov(2).fit, EMHiddenMarkov(2, emission=two).fit):
        with pytest.warns(DataWarning, match="constant columns: 'same', 'none'; they"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit(X)
    with pytest.warns(DataWarning, match="constant columns: 1, 3; they"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        EMHiddenMarkov(2, emission=two).fit(X.to_numpy())
    with pytest.raises(ValueError, match="X is -1 at row 7, column 'two'"):
        EMHiddenMarkov(2, emission="poisson").fit(X.assign(one=1, two=np.where(np.arange(60) == 7, -1, 5)))
    with pytest.raises(ValueError, match="X is -1 at row 7, column 'two'"):
        counts = Columns([("gaussian", [0, 1, 3]), ("poisson", [2])])
        EMHiddenMarkov(2, emission=counts).fit(X.assign(one=1, two=np.where(np.arange(60) == 7, -1, 5)))


@pytest.mark.filterwarnings("ignore:on the boundary")
def test_one_weight_for_each_sequence_of_a_list():
    X, weight = np.split(chain(90)[0][:90], [20, 50]), [1.0, 3.0, 2.0]
    each, row = weight, np.repeat(weight, [20, 30, 40])
    one, other = (EMHiddenMarkov(2, random_state=0).fit(X, sample_weight=w) for w in (each, row))
    np.testing.assert_array_equal(one.transmat_, other.transmat_)
    assert one.score(X, sample_weight=each) == other.score(X, sample_weight=row)
    assert one.bic(X, sample_weight=each) == other.bic(X, sample_weight=row)
    np.testing.assert_array_equal(
        one.standard_errors(X, sample_weight=each).transmat_, other.standard_errors(X, sample_weight=row).transmat_
    )
    one, other = (EMHiddenMarkov(2, random_state=0).partial_fit(X, sample_weight=w) for w in (each, row))
    np.testing.assert_array_equal(one.transmat_, other.transmat_)
    with pytest.raises(ValueError, match="sample_weight has shape"):
        one.fit(X, sample_weight=weight[:2])
    with pytest.raises(ValueError, match=r"sample_weight\[1\] is -3.0; weights count how often a sequence"):
        one.fit(X, sample_weight=[1.0, -3.0, 2.0])
    with pytest.raises(ValueError, match=r"sample_weight\[1\] is nan; weights count how often a sequence"):
        one.fit(X, sample_weight=[1.0, None, 2.0])
    with pytest.raises(ValueError, match="transmat_prior holds inf"):
        EMHiddenMarkov(2, transmat_prior=[[1.0, np.inf], [1.0, 1.0]]).fit(X)


@pytest.mark.parametrize("acceleration", ["auto", "squarem", "anderson"])
def test_the_prior_of_a_stationary_start_is_that_of_the_point(acceleration):
    rng = np.random.default_rng(0)
    X = [rng.normal(4 * (rng.random(30) < 0.5), 1)[:, None] for _ in range(10)]
    how = {"start": "stationary", "startprob_prior": [30.0, 1.0], "random_state": 1, "tol": 1e-6}
    model = EMHiddenMarkov(2, acceleration=acceleration, **how).fit(X)
    assert model.status_ == "converged"
    assert abs(model.objective_ - model.log_likelihood_ - 29.0 * np.log(model.startprob_[0])) < 1e-4
    plain = EMHiddenMarkov(2, acceleration=None, **how).fit(X)
    assert abs(model.objective_ - plain.objective_) < 1e-4


def test_the_mask_of_a_row_hides_its_cells_from_filter():
    X = np.repeat([[0.0, 0.0], [9.0, 9.0]], 100, axis=0) + np.random.default_rng(0).normal(size=(200, 2))
    model = EMHiddenMarkov(2, random_state=0).fit(X)
    row = np.ma.array([0.0, 9.0], mask=[True, False])
    np.testing.assert_allclose(model.filter(row), model.filter_proba(row[None])[0], atol=1e-12)


def test_a_sequence_of_weight_0_is_absent():
    X = [np.full((3, 2), [1.0, 5.0]), np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan]])]
    with pytest.raises(
        ValueError, match="column 1 of X has no observed value in a sequence whose sample_weight is pos"
    ):
        EMHiddenMarkov(1, emission="exponential").fit(X, sample_weight=[0, 1])
    symbols = [np.repeat([0, 1, 2], 5)[:, None]] * 5
    forth = {"startprob_init": [1, 0, 0], "transmat_init": [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]]}
    model = EMHiddenMarkov(3, emission="categorical", random_state=0, **forth).fit(symbols)
    model.emissionprob_ = np.eye(3)
    impossible = [symbols[0], np.array([[0], [2], [2]])]
    for ask in (model.score, model.aic, model.bic):
        assert ask(impossible, sample_weight=[1, 0]) == ask(symbols[:1])


def test_an_empty_state_is_seeded_anew_and_reported():
    X = np.repeat([0.0, 10.0, 20.0], 40)[:, None] + np.random.default_rng(0).normal(size=(120, 1))
    model = EMHiddenMarkov(3, n_init=1, warm_start=True, random_state=0).fit(X)
    height = model.log_likelihood_
    model.means_ = np.array([[0.0], [10.0], [1e6]])
    model.covariances_ = np.array([[[1.0]], [[100.0]], [[1.0]]])
    model.fit(X)
    empty, anew = model.restarts_
    assert empty["status"] == "degenerate"
    assert "state 2 is empty" in empty["reason"]
    assert anew["status"] == model.status_ == "converged"
    assert abs(model.log_likelihood_ - height) < 1e-2


def test_lengths_in_the_place_of_y_are_refused():
    X = np.random.default_rng(0).normal(size=(20, 1))
    with pytest.raises(ValueError, match=r"y has 2 entries, but X has 20 rows.*lengths="):
        EMHiddenMarkov(2).fit(X, [10, 10])
    EMHiddenMarkov(1).fit(X, np.zeros(20))  # a y of pipelines


def test_a_law_that_is_no_instance_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"Poisson.*give an instance, Poisson\(\)"):
        EMHiddenMarkov(2, emission=Poisson).fit(np.ones((9, 1)))


def test_a_stream_of_named_rows_is_read_by_name():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    model = EMHiddenMarkov(2, random_state=0).fit(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = model.filter(table.iloc[0])
        np.testing.assert_array_equal(model.filter(table.iloc[:1]), first)
    np.testing.assert_allclose(first, model.filter_proba(table)[0])
    with pytest.raises(ValueError, match="feature names"):
        model.filter(table.iloc[0][::-1])
    for x in (table.iloc[:2], 1.0):
        with pytest.raises(ValueError, match="filter takes one row at a time, but x has shape"):
            model.filter(x)


def test_filled_cells_come_as_asked():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    table.iloc[3, 1] = np.nan
    model = EMHiddenMarkov(2, random_state=0).fit(table).set_output(transform="pandas")
    filled = model.transform(table)
    assert list(filled.columns) == ["a", "b"]
    assert not filled.isna().any(axis=None)


def test_a_state_that_is_never_left_is_dwelt_in_forever():
    rng = np.random.default_rng(0)
    X = [np.repeat([0.0, 6.0], 6)[:, None] + rng.normal(size=(12, 1)) for _ in range(15)]
    dwells = EMHiddenMarkov(2, random_state=0).fit(X).expected_dwell_times()
    np.testing.assert_allclose(dwells[0], 6.0, rtol=0.05)
    assert dwells[1] == np.inf


def test_columns_say_what_they_do_not_know():
    for laws, message in (
        ([("gauss", [0])], "knows no law 'gauss'; give one of gaussian"),
        ([("gaussian", 0)], "list of numbers of columns"),
        ([("gaussian", ["a"])], "list of numbers of columns"),
    ):
        with pytest.raises(ValueError, match=message):
            Columns(laws)


def test_symbols_that_are_numbers_have_no_standard_errors():
    rng = np.random.default_rng(0)
    state = np.arange(400) // 20 % 2
    X = np.column_stack([3.0 * state + rng.normal(size=400), rng.integers(2, size=400) + state])
    model = EMHiddenMarkov(2, emission=Columns([("gaussian", [0]), ("categorical", [1])]), random_state=0, tol=1e-6)
    with pytest.warns(DataWarning, match="on the boundary"):
        errors = model.fit(X).standard_errors(X)
    assert not [name for name in errors if name.startswith("categories")]
