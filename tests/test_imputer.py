"""What is peculiar to imputation, and the inputs that broke other imputers.

A comment cites the row of the catalogue of failures (a letter and a number) and where the failure was seen, as an issue
(sk = scikit-learn, other repositories in full) or as the release it was observed with.
"""

import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from effort import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from emkit import EMGaussianMixture, EMImputer, datasets, normal, pool
from emkit.display import MissingPatternDisplay, OverimputationDisplay
from emkit.exceptions import DataWarning
from emkit.normal import MissingNormal

rng = np.random.default_rng(0)
M = rng.multivariate_normal([0, 0, 0], [[1, 0.9, 0.5], [0.9, 1, 0.5], [0.5, 0.5, 1]], 60)
M[rng.random(M.shape) < 0.3] = np.nan
M = M[~np.isnan(M).all(axis=1)]


def complete(n=80, p=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + rng.normal(size=p)


def holes(n=80, p=3, share=0.2, seed=0):
    X = complete(n, p, seed)
    X[np.random.default_rng(seed + 1).random(X.shape) < share] = np.nan
    return X[~np.isnan(X).all(axis=1)]


# Input ----------------------------------------------------------------------------------------------------


def spellings():
    X = np.round(holes(), 3)
    objects = X.astype(object)
    objects[np.isnan(X)] = None
    nullable = pd.DataFrame(X).convert_dtypes()
    mixed = pd.DataFrame(X).astype(object).where(~np.isnan(X), pd.NA)
    mixed.iloc[int(np.flatnonzero(np.isnan(X[:, 0]))[0]), 0] = pd.NaT
    return {
        "None in an array": objects,
        "None in lists": objects.tolist(),
        "pandas": pd.DataFrame(X),
        "nullable": nullable,
        "NA and NaT in object columns": mixed,
        "polars": pl.DataFrame(objects.tolist(), schema=[f"c{j}" for j in range(3)], orient="row"),
        "masked": np.ma.masked_invalid(X),
        "F order": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
    }


@pytest.mark.parametrize("spelling", spellings())
def test_missing_means_missing(spelling):  # G6: sk#27349, sk#21112, sk#17525, sk#10177, evalml#1075
    X = spellings()[spelling]
    expected = EMImputer(random_state=0).fit_transform(np.round(holes(), 3))
    np.testing.assert_allclose(EMImputer(random_state=0).fit_transform(X), expected, rtol=1e-12)


def test_a_number_may_stand_for_missing():
    X = np.round(holes(), 3)
    coded = np.where(np.isnan(X), -999.0, X)
    expected = EMImputer().fit_transform(X)
    np.testing.assert_array_equal(EMImputer(missing_values=-999).fit_transform(coded), expected)


def test_integers_in_floats_out():  # G11: sk 1.9.1
    frame = pd.DataFrame({"a": pd.array([1, 2, None, 4, 5], "Int64"), "b": pd.array([2, 4, 6, 8, 11], "Int64")})
    out = EMImputer().set_output(transform="pandas").fit_transform(frame)
    assert list(out.dtypes) == [np.float64, np.float64]
    assert out["b"].tolist() == [2, 4, 6, 8, 11]
    assert EMImputer().fit_transform(np.array([[1, 2], [3, 5], [4, 4]])).dtype == np.float64


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"a": [1, np.nan, 3], "b": ["x", None, "z"]}),
            "column 'b' of X holds text.*row 0 holds 'x'",
        ),  # G6
        (pl.DataFrame({"a": [1, None], "b": ["x", None]}), "column 'b' of X holds text"),
        (np.array([[1, "x"], [2, None]], dtype=object), "column 1 of X holds text"),
        (pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None])}), "column 't' of X holds datetime64"),
        ([[1.0, np.inf], [2.0, 3.0]], "infinity at row 0, column 1"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, -np.inf]}), "infinity at row 1, column 'b'"),
        ([[np.nan], [np.nan]], "every cell of X is missing"),
        (M[:1], "n_samples = 1"),  # G10: sk 1.9.1
        ([[1.0, 1e200], [2.0, 3.0]], "column 1 has values up to 1e\\+200"),
    ],
)
def test_what_cannot_be_imputed_is_named(frame, message):
    with pytest.raises(ValueError, match=message):
        EMImputer().fit(frame)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prior": "lasso"}, "'prior' parameter of EMImputer must be one of None, 'auto', 'ridge'"),
        ({"prior": np.eye(2)}, r"prior has shape \(2, 2\), but X has 3 features"),
        ({"prior": -np.eye(3)}, "without negative eigenvalues"),
        ({"prior_strength": -1.0}, "prior_strength"),
        ({"min_value": [0.0, 1.0]}, r"min_value has shape \(2,\), but X has 3 features"),
        ({"min_value": 2.0, "max_value": 1.0}, "min_value=2 is not below max_value=1 for column 0"),
        ({"tol": -1}, "tol"),
        ({"acceleration": "warp"}, "acceleration"),
        ({"min_value": 10**400}, r"'min_value' parameter of EMImputer must be a number.*an int beyond 1.8e\+308"),
        ({"max_value": [1, 10**400, 3]}, "max_value must be an array of numbers"),
        ({"missing_values": 10**400}, r"missing_values.*beyond 1.8e\+308"),
        ({"prior": [[10**400]]}, "prior must be an array of numbers"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        EMImputer(**parameters).fit(M)


# Columns ----------------------------------------------------------------------------------------------------


def test_a_column_without_values():  # G1: sk#16977
    X = np.c_[M[:, 0], np.full(len(M), np.nan), M[:, 1:]]
    frame = pd.DataFrame(X, columns=list("abcd"))
    with pytest.warns(DataWarning, match="without any observed value are dropped.*'b'"):
        dropping = EMImputer(add_indicator=True).fit(frame)
    with pytest.warns(DataWarning, match="filled with 0"):
        keeping = EMImputer(keep_empty_features=True).fit(frame)
    assert dropping.get_feature_names_out().tolist() == [
        "a", "c", "d", "missingindicator_a", "missingindicator_c", "missingindicator_d"
    ]  # fmt: skip
    assert dropping.transform(frame).shape == (len(M), 6)
    filled = keeping.transform(frame)
    assert keeping.get_feature_names_out().tolist() == list("abcd")
    assert (filled[:, 1] == 0.0).all()
    np.testing.assert_allclose(filled[:, [0, 2, 3]], dropping.transform(frame)[:, :3], rtol=0, atol=1e-12)
    back = dropping.inverse_transform(dropping.transform(frame))
    np.testing.assert_array_equal(back, X)


def test_a_constant_column():
    X = np.c_[M, np.full(len(M), 7.0)]
    X[3, 3] = np.nan
    with pytest.warns(DataWarning, match="do not vary"):
        imputer = EMImputer().fit(X)
    assert imputer.transform(X)[3, 3] == 7.0
    np.testing.assert_allclose(imputer.transform(X)[:, :3], EMImputer().fit_transform(M), atol=1e-4)
    assert np.isfinite(imputer.precision_).all()
    assert np.isfinite(imputer.score_samples(X)).all()
    assert imputer.covariance_[3].tolist() == [0.0] * 4


@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
def test_only_constant_columns():
    X = np.array([[1.0, 2.0], [1.0, np.nan], [np.nan, 2.0]])
    assert EMImputer().fit_transform(X).tolist() == [[1.0, 2.0]] * 3


def test_a_row_without_values_gets_the_means_and_is_flagged():  # G9: sk 1.9.1, R Amelia
    X = M.copy()
    X[3] = np.nan
    with pytest.warns(DataWarning, match="1 rows have no observed cell .the first is row 3"):
        imputer = EMImputer().fit(X)
    with pytest.warns(DataWarning, match="row 3"):
        np.testing.assert_allclose(imputer.transform(X)[3], imputer.mean_)
    with pytest.warns(DataWarning, match="row 3"):
        np.testing.assert_allclose(EMImputer().fit_transform(X)[3], imputer.mean_)
    without = EMImputer().fit(np.delete(X, 3, axis=0))
    np.testing.assert_allclose(imputer.covariance_, without.covariance_)


def test_indicators_never_share_a_name():  # G5: sk#21078, sk#28313
    frame = pd.DataFrame(M, columns=["a", "missingindicator_a", "b"])
    imputer = EMImputer(add_indicator=True).set_output(transform="pandas").fit(frame)
    out = imputer.transform(frame)
    assert out.columns.tolist() == imputer.get_feature_names_out().tolist()
    assert out.columns.is_unique
    assert "missingindicator_a_" in out.columns
    np.testing.assert_array_equal(out["missingindicator_a_"], np.isnan(M[:, 0]))
    np.testing.assert_array_equal(imputer.inverse_transform(out), M)


def test_columns_complete_in_fit_go_through_the_model():
    X = complete()
    X[:20, 0] = np.nan
    imputer = EMImputer().fit(X)
    new = complete(seed=5)
    new[:, 2] = np.nan
    filled = imputer.transform(new)[:, 2]
    assert filled.std() > 0.1
    assert imputer.indicator_features_.tolist() == [0]


def test_inverse_transform_needs_indicators():
    imputer = EMImputer().fit(M)
    with pytest.raises(ValueError, match="add_indicator=True"):
        imputer.inverse_transform(imputer.transform(M))


# Estimation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "reason"),
    [
        (complete(6, 8), "8 columns cannot be told apart by 6 rows"),
        (np.array([[1, 2, np.nan], [2, 1, np.nan], [4, np.nan, 2], [3, np.nan, 5], [1.5, 3, np.nan]]), "never seen"),
        (np.c_[M, 2 * M[:, 0]], "singular"),
        (datasets.load_marijuana().data, "singular"),
    ],
    ids=["more columns than rows", "columns never together", "collinear", "marijuana"],
)
def test_a_ridge_is_announced_where_one_is_needed(X, reason):  # A-rows; R norm2 needs the user to know
    with pytest.warns(DataWarning, match=f"prior='ridge' .*because .*{reason}"):
        imputer = EMImputer().fit(X)
    assert imputer.prior_ == "ridge"
    assert imputer.status_ == "converged"
    assert np.isfinite(imputer.transform(X)).all()
    assert (np.diff(imputer.history_) >= -1e-8).all()
    assert np.linalg.eigvalsh(imputer.covariance_)[0] > 0.0


def test_a_ridge_is_not_used_where_none_is_needed():
    assert EMImputer().fit(M).prior_ is None


def test_insisting_on_maximum_likelihood_is_answered():
    with pytest.warns(ConvergenceWarning, match="degenerate.*singular"):
        imputer = EMImputer(prior=None).fit(datasets.load_marijuana().data)
    assert imputer.status_ == "degenerate"
    assert np.isfinite(imputer.transform(datasets.load_marijuana().data)).all()
    with pytest.raises(ValueError, match="combination of others; drop it, or set prior='ridge'"):
        EMImputer(prior=None).fit(np.c_[complete(), complete()[:, 0]])


@pytest.mark.parametrize("unit", [1e-150, 1e-6, 1e6, 1e150])
def test_a_fit_commutes_with_units(unit):  # G7: fancyimpute#18, fancyimpute#96
    units = np.array([unit, 1.0, 1.0 / unit])
    one, two = EMImputer(tol=1e-8).fit(M), EMImputer(tol=1e-8).fit(M * units)
    np.testing.assert_allclose(two.mean_, one.mean_ * units, rtol=1e-4)
    np.testing.assert_allclose(two.transform(M * units), one.transform(M) * units, rtol=1e-4)
    ridge = [EMImputer(prior="ridge", tol=1e-8).fit(X).covariance_[0, 1] for X in (M, M * units)]
    np.testing.assert_allclose(ridge[1], ridge[0] * unit, rtol=1e-5)
    assert two.status_ == "converged"
    assert np.isfinite(two.precision_).all()


def test_far_from_the_origin():
    one, two = EMImputer(tol=1e-6).fit(M), EMImputer(tol=1e-6).fit(M + 1e8)
    np.testing.assert_allclose(two.covariance_, one.covariance_, rtol=1e-4)


@given(seed=st.integers(0, 10_000), p=st.integers(1, 5), share=st.floats(0.0, 0.6))
@examples(25)
def test_weights_are_repetitions(seed, p, share):  # G12: sk 1.9.1
    X = holes(40, p, share, seed)
    weight = np.random.default_rng(seed).integers(0, 4, len(X)).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = EMImputer(tol=1e-7).fit(X, sample_weight=weight)
        two = EMImputer(tol=1e-7).fit(np.repeat(X, weight.astype(int), axis=0))
    assert one.prior_ == two.prior_
    assume(one.converged_ and two.converged_)  # a climb cut short may be anywhere on its way
    np.testing.assert_allclose(one.log_likelihood_, two.log_likelihood_, rtol=1e-5)
    if one.worst_missing_information_ < 0.9:
        np.testing.assert_allclose(one.covariance_, two.covariance_, rtol=1e-3, atol=1e-5)


@given(seed=st.integers(0, 10_000), n=st.integers(5, 60), p=st.integers(1, 6), share=st.floats(0.0, 0.7))
@examples(40)
def test_whatever_the_holes_everything_is_finite(seed, n, p, share):
    X = holes(n, p, share, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            imputer = EMImputer(keep_empty_features=True).fit(X)
        except ValueError as error:
            assert any(text in str(error) for text in ("rows are needed", "every cell", "0 sample"))
            return
        filled = imputer.transform(X)
        scores = imputer.score_samples(X)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    for name in ("mean_", "covariance_", "precision_", "objective_", "rate_", "worst_missing_information_"):
        assert np.isfinite(getattr(imputer, name)).all(), name
    slack = 1e-8 * (1.0 + abs(imputer.objective_))
    assert (np.diff(imputer.history_) >= -slack).all()
    np.testing.assert_allclose(scores.sum(), imputer.log_likelihood_, rtol=1e-9, atol=1e-9)


def test_the_same_for_every_number_of_threads(monkeypatch):
    monkeypatch.setattr(normal, "_BLOCK_WORK", 2**17)
    X = holes(20_000, 12, 0.3)
    model = MissingNormal()
    assert len(model.split(model.prepare(X))) > 1
    fits = [EMImputer(n_jobs=n_jobs).fit(X) for n_jobs in (1, 2, None)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.covariance_, fits[0].covariance_)
        np.testing.assert_array_equal(other.transform(X), fits[0].transform(X))


def test_warm_start_continues_or_complains():
    X = holes(300, 5, 0.4)
    imputer = EMImputer(prior=None, max_iter=3, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        imputer.fit(X)
    first = imputer.objective_
    imputer.set_params(max_iter=500).fit(X)
    assert imputer.history_[0] == pytest.approx(first, rel=1e-9)
    assert imputer.objective_ >= first
    with pytest.raises(ValueError, match="warm_start=True continues a fit with 5"):
        imputer.fit(X[:, :4])


def test_the_inverse_wishart_prior_is_in_the_users_units_and_follows_dropped_columns():
    scale = np.diag([1.0, 2.0, 3.0])
    one = EMImputer(prior=scale, prior_strength=4.0, tol=1e-8).fit(M)
    assert one.prior_ == "inverse_wishart"
    X = np.c_[M[:, :1], np.full(len(M), np.nan), M[:, 1:]]
    with pytest.warns(DataWarning):
        two = EMImputer(prior=np.diag([1.0, 9.0, 2.0, 3.0]), prior_strength=4.0, tol=1e-8).fit(X)
    np.testing.assert_allclose(two.covariance_, one.covariance_)


def test_fit_leaves_the_input_alone():
    X = holes()
    X.setflags(write=False)
    before = X.copy()
    EMImputer(add_indicator=True).fit_transform(X)
    np.testing.assert_array_equal(X, before)


def test_float32_stays_float32():
    X = holes().astype(np.float32)
    out = EMImputer().fit_transform(X)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, EMImputer().fit_transform(X.astype(float)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("p", [40, 70])
def test_more_columns_than_a_word_has_bits(p):  # R norm overflows at p > 31
    X = holes(400, p, 0.1) + np.random.default_rng(1).normal(size=(400, p))
    imputer = EMImputer().fit(X)
    patterns = np.unique(np.isnan(X), axis=0)
    assert len(imputer.missing_patterns_.counts) == len(patterns)
    assert imputer.missing_patterns_.counts.sum() == len(X)
    assert np.isfinite(imputer.transform(X)).all()


def test_memory_of_many_columns():  # G2: sk#17234, G3: sk#23701; law 12
    X = np.random.default_rng(0).normal(size=(2000, 3)) @ np.random.default_rng(1).normal(size=(3, 500))
    X += np.random.default_rng(2).normal(size=X.shape)
    X[np.random.default_rng(3).random(X.shape) < 0.05] = np.nan
    imputer = EMImputer(prior="ridge", tol=1.0, max_iter=10)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        imputer.fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6
    assert len(pickle.dumps(imputer)) < 20e6


# Draws ----------------------------------------------------------------------------------------------------


def test_bounds():
    means = EMImputer(min_value=[-np.inf, -0.1, 0.0], max_value=0.2).fit_transform(M)
    gone = np.isnan(M)
    assert (means[gone] <= 0.2).all()
    assert (means[:, 1][gone[:, 1]] >= -0.1).all()
    np.testing.assert_array_equal(means[~gone], M[~gone])
    drawn = EMImputer(min_value=-0.5, max_value=0.5, sample_posterior=True, random_state=0).fit_transform(M)
    assert (np.abs(drawn[gone]) <= 0.5).all()


def test_draws_repeat_with_a_seed_and_vary_without():
    again = [EMImputer(sample_posterior=True, random_state=7).fit_transform(M) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    imputer = EMImputer(sample_posterior=True).fit(M)
    assert not np.array_equal(imputer.transform(M), imputer.transform(M))


@pytest.mark.parametrize("method", ["posterior", "bootstrap"])
def test_multiple_imputation(method):
    imputer = EMImputer().fit(M)
    before = clone(imputer).get_params()
    draws = imputer.multiple_impute(M, 4, method=method, random_state=1)
    assert draws.shape == (4, *M.shape)
    assert np.isfinite(draws).all()
    gone = np.isnan(M)
    np.testing.assert_array_equal(draws[:, ~gone], np.repeat(M[~gone][None], 4, axis=0))
    assert (draws[:, gone].std(axis=0) > 0).all()
    np.testing.assert_array_equal(draws, imputer.multiple_impute(M, 4, method=method, random_state=1))
    assert imputer.get_params() == before
    with pytest.raises(ValueError, match="method must be"):
        imputer.multiple_impute(M, method="guess")
    with pytest.raises(ValueError, match="n_imputations"):
        imputer.multiple_impute(M, 0)


def test_resamples_without_a_regular_fit_are_drawn_again(monkeypatch):
    X = datasets.load_nhanes().data
    draws = EMImputer().fit(X).multiple_impute(X, 10, method="bootstrap", random_state=0)
    assert np.isfinite(draws).all()
    few = complete(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        imputer = EMImputer(prior=None).fit(few)
        monkeypatch.setattr("emkit._incomplete_analysis._REDRAWS", 1)
        with pytest.raises(ValueError, match="method='posterior', or fit with prior='ridge'"):
            imputer.multiple_impute(few, 50, method="bootstrap", random_state=0)


def test_sample():
    imputer = EMImputer().fit(M)
    rows = imputer.sample(50_000, random_state=0)
    np.testing.assert_allclose(rows.mean(axis=0), imputer.mean_, atol=0.03)
    np.testing.assert_allclose(np.cov(rows.T), imputer.covariance_, atol=0.03)
    np.testing.assert_array_equal(imputer.sample(3, random_state=1), imputer.sample(3, random_state=1))
    assert not np.array_equal(imputer.sample(3), imputer.sample(3))
    with pytest.raises(ValueError, match="n_samples"):
        imputer.sample(0)


def test_the_spread_of_the_draws_is_that_of_the_estimates():
    """Means of completed data sets vary by what the holes cost, between and beyond conditional variance."""
    X = holes(400, 3, 0.3, seed=3)
    imputer = EMImputer(prior=None, tol=1e-8).fit(X)
    draws = imputer.multiple_impute(X, 150, random_state=0)
    pooled = pool(draws.mean(axis=1), draws.var(axis=1, ddof=1) / len(X))
    np.testing.assert_allclose(pooled.standard_error, imputer.standard_errors(X).mean_, rtol=0.15)
    np.testing.assert_allclose(pooled.estimate, imputer.mean_, atol=0.5 * pooled.standard_error.max())


def test_imputations_are_of_the_rows_of_the_fit():
    X = holes(200, 3, 0.2, seed=4)
    weight = np.arange(len(X)) % 2 + 1.0
    for other in (100.0 * X, X[:150]):
        with pytest.raises(ValueError, match=r"but that of the fit was .*: give the rows of the fit"):
            EMImputer().fit(X).multiple_impute(other, 2)
    weighted = EMImputer().fit(X, sample_weight=weight)
    assert weighted.multiple_impute(X, 2, sample_weight=weight).shape == (2, *X.shape)
    with pytest.raises(ValueError, match="with its sample_weight"):
        weighted.multiple_impute(X, 2)


def test_pool_by_hand():
    pooled = pool([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    assert pooled.estimate == 2.0
    assert pooled.standard_error == pytest.approx(np.sqrt(0.5 + 4 / 3))
    assert pooled.missing_information == pytest.approx((4 / 3) / (0.5 + 4 / 3))
    assert pooled.df == pytest.approx(2 / ((4 / 3) / (0.5 + 4 / 3)) ** 2)
    low, high = pooled.interval(0.9)
    assert low < 2.0 < high
    for confidence in (0.0, 1.5, 95, np.nan):
        with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
            pooled.interval(confidence)
    assert pool([1.0, 1.0], [0.5, 0.5], df_complete=10).df == pytest.approx(11 / 13 * 10)
    np.testing.assert_array_equal(pool(np.ones((3, 2)), np.zeros((3, 2))).standard_error, [0.0, 0.0])


@pytest.mark.parametrize(
    ("estimates", "variances", "df", "message"),
    [
        ([1.0], [1.0], 3, "two imputations or more"),
        ([1.0, 2.0], [1.0], 3, "shape"),
        ([1.0, np.nan], [1.0, 1.0], 3, "finite"),
        ([1.0, 2.0], [1.0, -1.0], 3, "not negative"),
        ([1.0, 2.0], [1.0, 1.0], 0, "df_complete=0"),
    ],
)
def test_pool_refuses(estimates, variances, df, message):
    with pytest.raises(ValueError, match=message):
        pool(estimates, variances, df)


def test_complete_data():
    X = complete()
    imputer = EMImputer().fit(X)
    np.testing.assert_array_equal(imputer.transform(X), X)
    np.testing.assert_allclose(imputer.covariance_, np.cov(X.T, bias=True))
    assert imputer.worst_missing_information_ == 0.0
    assert imputer.little_mcar_test(X) == (0.0, 0, 1.0)


def test_intervals_cover():
    """95 % intervals of cells hide 95 % of the values (a simulated normal, 6000 cells)."""
    whole = complete(10_000, 4)
    X = np.where(np.random.default_rng(9).random(whole.shape) < 0.15, np.nan, whole)
    some = ~np.isnan(X).all(axis=1)
    X, whole = X[some], whole[some]
    mean, std = EMImputer().fit(X).conditional(X)
    gone = np.isnan(X)
    inside = np.abs(whole - mean)[gone] <= 1.959964 * std[gone]
    assert 0.94 < inside.mean() < 0.96


# In scikit-learn ----------------------------------------------------------------------------------------------------


def test_in_a_pipeline_under_every_output():  # G4: sk#24923
    frame = pd.DataFrame(M, columns=list("abc"))
    y = np.nansum(M, axis=1)
    for output, kind in [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]:
        with sklearn.config_context(transform_output=output):
            imputer = EMImputer(add_indicator=True).fit(frame)
            assert isinstance(imputer.transform(frame), kind)
            assert isinstance(imputer.fit_transform(frame), kind)
            assert imputer.conditional(frame).mean.shape == M.shape
            assert imputer.multiple_impute(frame, 2, random_state=0).shape == (2, *M.shape)
            make_pipeline(EMImputer(), Ridge()).fit(frame, y).predict(frame)
    done = cross_validate(make_pipeline(EMImputer(), Ridge()), M, y, error_score="raise")
    assert np.isfinite(done["test_score"]).all()


def test_grid_search_over_the_strength_of_the_prior():
    X = holes(40, 12, 0.2)
    search = GridSearchCV(EMImputer(prior="ridge"), {"prior_strength": [0.1, 3.0, 1000.0]}, error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["prior_strength"] < 1000.0


def test_criteria_count_means_and_covariances():
    imputer = EMImputer().fit(M)
    loglik = imputer.score_samples(M).sum()
    assert imputer.aic(M) == pytest.approx(-2 * loglik + 2 * 9)
    assert imputer.bic(M) == pytest.approx(-2 * loglik + 9 * np.log(len(M)))
    assert imputer.score(M) == pytest.approx(loglik / len(M))


def test_attributes_set_by_hand_are_used():
    imputer = EMImputer().fit(M)
    imputer.mean_, imputer.covariance_ = np.array([5.0, 6.0, 7.0]), np.eye(3)
    gone = np.isnan(M)
    np.testing.assert_allclose(imputer.transform(M)[gone], np.broadcast_to([5.0, 6.0, 7.0], M.shape)[gone])


def test_pickle():
    imputer = EMImputer().fit(M)
    again = pickle.loads(pickle.dumps(imputer))
    np.testing.assert_array_equal(again.transform(M), imputer.transform(M))


@pytest.mark.parametrize("name", datasets.__all__)
def test_every_data_set_can_be_imputed(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        X = getattr(datasets, name)().data
        imputer = EMImputer().fit(X)
        assert imputer.converged_
        assert np.isfinite(imputer.transform(X)).all()


# Pictures ----------------------------------------------------------------------------------------------------


def test_displays():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    frame = datasets.load_airquality(as_frame=True).data
    imputer = EMImputer().fit(frame)
    display = MissingPatternDisplay.from_estimator(imputer, max_patterns=3)
    assert "1 rarer patterns" in display.ax_.get_title()
    assert display.feature_names[0] == "Ozone"
    display.plot()
    display = OverimputationDisplay.from_estimator(imputer, frame, max_rows=100)
    assert np.isfinite(display.coverage).tolist() == [True, True, False, False, False, False]
    with pytest.raises(ValueError, match="confidence"):
        OverimputationDisplay.from_estimator(imputer, frame, confidence=95)
    plt.close("all")


def test_a_refit_that_fails_leaves_the_old_fit():
    imputer = EMImputer().fit(M)
    for refit in (imputer.fit, imputer.fit_transform):
        with pytest.raises(ValueError, match="sample_weight has shape"):
            refit(M[:, :2], sample_weight=np.ones(3))
        assert imputer.transform(M).shape == M.shape


def test_a_warm_start_on_other_columns_begins_anew():
    flat = M.copy()
    flat[:, 1] = 5.0
    with pytest.warns(DataWarning, match="do not vary"):
        imputer = EMImputer(warm_start=True).fit(flat)
    np.testing.assert_allclose(imputer.fit(M).mean_, EMImputer().fit(M).mean_, rtol=1e-6)


def test_what_is_asked_after_a_fit_belongs_to_the_fit():
    imputer = EMImputer(prior="ridge", prior_strength=5.0).fit(M)
    before = imputer.missing_information(M)
    imputer.set_params(prior=None, prior_strength=1.0)
    assert imputer.missing_information(M) == before


def test_fields_of_records_are_read():
    records = np.zeros(len(M), dtype=[("tag", "i1"), ("rows", "f8", (M.shape[1],))])
    records["rows"] = M
    np.testing.assert_array_equal(EMImputer().fit_transform(records["rows"]), EMImputer().fit_transform(M))


# Weights and names in everything that is told of a fit ---------------------------------------------------------------


def test_whole_weights_are_repetitions_in_every_analysis():
    rng = np.random.default_rng(11)
    X = rng.multivariate_normal([0.0, 1.0, 2.0], np.eye(3) + 0.5, 60)
    X[rng.random(X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    weight = rng.integers(0, 4, len(X)).astype(float)
    again = np.repeat(X, weight.astype(int), axis=0)
    one = EMImputer(prior=None, tol=1e-8).fit(X, sample_weight=weight)
    two = EMImputer(prior=None, tol=1e-8).fit(again)
    np.testing.assert_allclose(one.little_mcar_test(X, weight), two.little_mcar_test(again), rtol=1e-6)
    np.testing.assert_allclose(one.missing_information(X, weight), two.missing_information(again), rtol=1e-3)
    for method in ("posterior", "bootstrap"):
        draws = one.multiple_impute(X, 40, method=method, sample_weight=weight, random_state=0)
        others = two.multiple_impute(again, 40, method=method, random_state=1)
        holes = np.isnan(X[:, 0]) & (weight > 0)
        between = draws[:, holes, 0].mean(axis=1).std(), others[:, np.isnan(again[:, 0]), 0].mean(axis=1).std()
        assert 0.5 < between[0] / between[1] < 2.0
    with pytest.raises(ValueError, match="whole numbers"):
        one.multiple_impute(X, 2, sample_weight=weight + 0.5)


def test_rows_of_weight_zero_are_absent():
    X = np.array([[1.0, np.nan], [2.0, 1.0], [3.0, np.nan], [4.0, np.nan]])
    with pytest.raises(ValueError, match="column 1 was only observed in rows whose sample_weight is 0"):
        EMImputer().fit(X, sample_weight=[1.0, 0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="fewer than 2 rows"):
        EMImputer().fit(X, sample_weight=[2.0, 0.0, 0.0, 0.0])


def test_messages_call_columns_what_the_user_calls_them():
    rng = np.random.default_rng(12)
    X = pd.DataFrame(rng.normal(size=(40, 4)), columns=["never", "one", "twice", "other"])
    X["never"] = np.nan
    X["twice"] = 2.0 * X["one"]
    X.iloc[:3, 3] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.raises(ValueError, match=r"'twice'|'one'"):
            EMImputer(prior=None).fit(X)
        X["twice"] = rng.normal(size=40)
        X.loc[:19, "one"] = np.nan
        X.loc[20:, "twice"] = np.nan
    with pytest.warns(DataWarning, match="columns 'one' and 'twice' are never seen in the same row"):
        EMImputer().fit(X.drop(columns="never"))
    with pytest.warns(DataWarning, match="no unique maximum, because columns 'one' and 'twice'"):
        EMImputer(prior=None).fit(X.drop(columns="never"))


def test_a_date_further_down_is_named():
    X = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, pd.Timestamp("2020-01-01")]], dtype=object)
    with pytest.raises(ValueError, match="row 2 holds"):
        EMImputer().fit(X)


def test_draws_are_truncated_beside_a_constant_outside_the_bounds():
    rng = np.random.default_rng(13)
    X = np.column_stack([rng.normal(size=200), np.full(200, 5.0)])
    X[:100] = np.nan
    X[:50, 1] = 5.0
    imputer = EMImputer(min_value=-1.0, max_value=1.0, sample_posterior=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        filled = imputer.fit_transform(X)[50:100]
    assert np.unique(filled[:, 0]).size > 40  # draws inside, not values of a bound
    assert (filled[:, 1] == 1.0).all()


@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_nearly_collinear_columns(apart, share):
    """The rounding of the log-likelihood grows with the condition of the covariance, and the climb knows it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    X = np.column_stack([x, x[:, 0] + apart * rng.normal(size=len(x))])
    X[:, 1:][rng.random((len(X), 2)) < share] = np.nan
    imputer = EMImputer(prior=None).fit(X)
    assert imputer.status_ == "converged"
    left = imputer.covariance_[2, 2] - 2 * imputer.covariance_[0, 2] + imputer.covariance_[0, 0]
    assert left == pytest.approx(apart**2, rel=0.05)
    fall = -min(0.0, np.diff(imputer.history_).min())
    assert fall <= max(imputer.gap_, 1e-9)


def test_the_condition_tells_the_rounding():
    """At the maximum, parameters that differ in the last digits differ in the log-likelihood by rounding alone."""
    rng = np.random.default_rng(0)
    for apart in (1.0, 1e-2, 1e-4):
        x = rng.normal(size=(2_000, 2))
        X = np.column_stack([x, x[:, 0] + apart * rng.normal(size=len(x))])
        X[:, 1:][rng.random((len(X), 2)) < 0.1] = np.nan
        imputer = EMImputer(prior=None, tol=1e-9).fit(X)
        model, data, params = imputer._at_optimum(X)
        logliks = [
            model.expect(params._replace(cholesky=params.cholesky * jitter), data).loglik
            for jitter in 1 + 2e-16 * rng.normal(size=(10, 3, 3))
        ]
        assert np.ptp(logliks) <= model.rounding(data).objective * model.condition(params)


DIGITS = np.array([["1.5", "2"], ["2.5", "nan"], ["0.5", "7"]])


@pytest.mark.parametrize(
    "X",
    [
        DIGITS,
        DIGITS.astype(object),
        DIGITS.astype("S"),
        DIGITS.tolist(),
        pd.DataFrame(DIGITS),
        [["1.5", 2.0], [1.0, 3.0]],
    ],
    ids=["array", "objects", "bytes", "lists", "frame", "mixed list"],
)
def test_text_is_refused_even_where_it_spells_numbers(X):
    """scikit-learn asks for an explicit conversion of text too (``check_array`` with ``dtype="numeric"``)."""
    for estimator in (EMImputer(), EMGaussianMixture()):
        with pytest.raises(ValueError, match=r"column 0 of X holds text, not numbers.*astype"):
            estimator.fit(X)


def test_information_seen_and_computed():
    """What the climb has seen is no more than there is, and nothing where nothing is missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(300, 4))
    assert EMImputer().fit(X).worst_missing_information_ == 0.0
    X[:, 1:][rng.random((300, 3)) < 0.3] = np.nan
    imputer = EMImputer().fit(X)
    exact = imputer.missing_information(X)
    assert 0.5 * exact < imputer.worst_missing_information_ <= exact + 1e-3


def test_tiny_units_leave_a_precision_of_numbers():
    rng = np.random.default_rng(0)
    first = rng.normal(size=40)
    X = 4e-152 * np.column_stack([first, first + 1e-3 * rng.normal(size=40)])
    X[3, 1] = np.nan
    assert np.isfinite(EMImputer().fit(X).precision_).all()


def test_rows_out_of_sight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1)) @ [[1.0, 3.0]] + rng.normal(size=(200, 2))
    X[rng.random(len(X)) < 0.1, 1] = np.nan
    imputer = EMImputer().fit(X)
    far = np.array([[1e308, np.nan], [1e300, -1e300], [np.nan, -1e160]])
    assert np.isfinite(imputer.score_samples(far)).all()
    assert np.isfinite(imputer.transform(far)).all()
    assert np.isfinite(imputer.transform(np.array([[3e38, np.nan]], np.float32))).all()
