"""Written and read again: the same answers to the last bit, and never anything but a ValueError for what is damaged."""

import copy
import io
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import emkit
from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, _persistence, datasets
from emkit.emissions import (
    Bernoulli,
    Categorical,
    Columns,
    Emission,
    Exponential,
    Gamma,
    MixedGaussian,
    Multinomial,
    Poisson,
    StudentT,
)
from emkit.exceptions import InconsistentVersionWarning

IRIS = load_iris().data
RNG = np.random.default_rng(0)
STATE = np.repeat([0, 1, 0, 1, 1, 0], 20)
HOLES = np.where(RNG.random(IRIS.shape) < 0.1, np.nan, IRIS)
NAMED = pd.DataFrame(HOLES, columns=list("abcd"))
COUNTS = RNG.poisson(np.array([[2.0, 9.0], [8.0, 1.0]])[STATE]).astype(float)
WORDS = np.array([["ö", "ab"], ["c", "ab"]])[STATE, RNG.integers(2, size=len(STATE))][:, None]
NUMBERS = 5.0 * STATE[:, None] + RNG.normal(size=(len(STATE), 2))


class Geometric(Emission):
    """The law of the guide: a class of the user's own, and a record of its parameters."""

    def log_prob(self, params, rows):
        chance = np.clip(params.chances, 1e-9, 1 - 1e-9)
        return np.log(chance) + (rows.X - 1) * np.log1p(-chance)

    def summarize(self, params, rows, resp):
        return Totals(0.0, resp.sum(axis=0), resp.T @ rows.X[:, 0])

    def maximize(self, stats, params):
        return Chances(stats.counts / np.maximum(stats.days, 1e-9))


class Chances(NamedTuple):
    chances: np.ndarray


class Totals(NamedTuple):
    loglik: float
    counts: np.ndarray
    days: np.ndarray


def chain(emission, **more):
    return EMHiddenMarkov(2, emission=emission, n_init=3, random_state=0, **more)


MANY = Columns([("categorical", [0]), (StudentT("diag"), [1, 2]), ("poisson", [3]), ("gaussian", [4])])
TABLE = pd.DataFrame({"w": WORDS[:, 0], "x": NUMBERS[:, 0], "y": NUMBERS[:, 1], "n": COUNTS[:, 0], "z": NUMBERS[:, 0]})
# Every estimator, shape and law, and every kind of parameter a dictionary must hold.
FITTED = {
    **{
        f"mixture-{shape}": (EMGaussianMixture(3, covariance_type=shape, random_state=0), IRIS)
        for shape in ("full", "tied", "diag", "spherical")
    },
    "mixture-names": (EMGaussianMixture(2, random_state=np.random.RandomState(3)), NAMED.dropna()),
    "mixture-inits": (
        EMGaussianMixture(2, means_init=IRIS[[0, 140]], weights_init=[0.5, 0.5], random_state=np.random.default_rng(1)),
        IRIS,
    ),
    "mixture-float32": (EMGaussianMixture(2, random_state=7), IRIS.astype(np.float32)),
    "imputer": (EMImputer(), HOLES),
    "imputer-names": (EMImputer(prior="ridge", add_indicator=True, min_value=[0.0, 0.0, -np.inf, 0.0]), NAMED),
    "imputer-wishart": (EMImputer(prior=np.eye(4), missing_values=-1.0), HOLES),
    "imputer-constant": (EMImputer(keep_empty_features=True), np.column_stack([HOLES, np.ones(150), [np.nan] * 150])),
    **{
        f"chain-{shape}": (chain("gaussian", covariance_type=shape), NUMBERS)
        for shape in ("full", "tied", "diag", "spherical")
    },
    "chain-categorical": (chain("categorical"), WORDS),
    "chain-categorical-ints": (chain(Categorical((0.0, 1.0, 2.0), "ignore")), np.minimum(COUNTS[:, :1], 2.0)),
    "chain-bernoulli": (chain(Bernoulli()), (COUNTS > 4.0) * 1.0),
    "chain-multinomial": (chain(Multinomial()), np.column_stack([COUNTS, 60.0 - COUNTS.sum(axis=1)])),
    "chain-poisson": (chain("poisson", transmat_mask=np.ones((2, 2), bool)), COUNTS),
    "chain-exponential": (chain(Exponential()), COUNTS + 0.5),
    "chain-gamma": (chain(Gamma(1e-3)), COUNTS + 0.5),
    "chain-student-t": (chain(StudentT(), start="stationary"), NUMBERS),
    "chain-gaussian-mixture": (chain(MixedGaussian(2, "diag"), algorithm="map"), NUMBERS),
    "chain-columns": (chain(MANY), TABLE),
    "chain-list": (chain("gaussian"), [NUMBERS[:30], NUMBERS[30:]]),
}


@pytest.fixture(scope="module")
def fits():
    """Each of them fitted, on demand, once."""
    made = {}

    def fit(name):
        if name not in made:
            estimator, X = FITTED[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[name] = clone(estimator).fit(X)
        return made[name], FITTED[name][1]

    return fit


def answers(estimator, X):
    """Everything a user can ask of rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ("predict", "predict_proba", "score_samples", "transform", "bic", "icl")
        return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same(again, estimator, X):
    ours, theirs = answers(again, X), answers(estimator, X)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert_equal(ours[name], value)
    assert vars(again).keys() == vars(estimator).keys()
    for name, value in vars(estimator).items():
        if name.endswith("_"):
            assert_equal(getattr(again, name), value)
    assert {n: repr(v) for n, v in again.get_params().items() if n != "random_state"} == {
        n: repr(v) for n, v in estimator.get_params().items() if n != "random_state"
    }


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, tuple | list):
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


def through_json(estimator, **more):
    text = json.dumps(estimator.to_dict(), allow_nan=False)
    return type(estimator).from_dict(json.loads(text), **more)


def through_skops(estimator):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(estimator)
    types = skops.get_untrusted_types(data=data)
    public = {f"{c.__module__}.{c.__name__}" for c in (EMGaussianMixture, EMHiddenMarkov, EMImputer)}
    public |= {f"{c.__module__}.{c.__name__}" for c in vars(emkit.emissions).values() if isinstance(c, type)}
    public |= {f"{c.__module__}.{c.__name__}" for c in emkit.emissions.SHAPES.values()}
    assert set(types) <= public | {"emkit.imputer.MissingPatterns"}
    return skops.loads(data, trusted=types)


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "joblib": through_joblib,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "skops": through_skops,
    "dict": lambda estimator: type(estimator).from_dict(estimator.to_dict()),
    "json": through_json,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FITTED)
def test_round_trip(fits, name, way):
    estimator, X = fits(name)
    assert_same(WAYS[way](estimator), estimator, X)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FITTED)
def test_round_trip_before_the_fit(fits, name, way):
    estimator, X = FITTED[name]
    again = WAYS[way](clone(estimator))
    assert vars(again).keys() == vars(estimator).keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again.fit(X)
    other, _ = fits(name)
    assert again.log_likelihood_ == other.log_likelihood_
    np.testing.assert_array_equal(again.history_, other.history_)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("make", "X"), [(EMGaussianMixture, IRIS), (EMImputer, HOLES), (EMHiddenMarkov, IRIS)])
def test_a_stream_goes_on(way, make, X):
    order = np.random.default_rng(0).permutation(150)
    stream = make().set_params(random_state=0).partial_fit(X[order])
    again = WAYS[way](stream)
    for estimator in (stream, again):
        estimator.partial_fit(X[order][:50]).partial_fit(X[order][50:])
    np.testing.assert_array_equal(again.score_samples(X), stream.score_samples(X))
    assert again.log_likelihood_ == stream.log_likelihood_


@pytest.mark.parametrize("way", ["pickle", "json"])
def test_a_warm_start_goes_on(way):
    mixture = EMGaussianMixture(3, random_state=0, warm_start=True).fit(IRIS)
    again = WAYS[way](mixture)
    np.testing.assert_array_equal(again.fit(IRIS).means_, mixture.fit(IRIS).means_)


@pytest.mark.parametrize("way", ["pickle", "json"])
def test_standard_errors_can_be_asked_later(way):
    mixture = EMGaussianMixture(2, random_state=0, tol=1e-8).fit(datasets.load_faithful().data)
    X = datasets.load_faithful().data
    np.testing.assert_array_equal(WAYS[way](mixture).standard_errors(X).means_, mixture.standard_errors(X).means_)


def test_a_law_of_the_users_own():
    X = np.random.default_rng(0).geometric(np.repeat([0.5, 0.02], 100))[:, None].astype(float)
    model = chain(Geometric()).fit(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    again = through_json(model, classes=[Geometric, Chances])
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    with pytest.raises(ValueError, match=r"parameters\.emission\.class is 'Geometric'.*classes="):
        EMHiddenMarkov.from_dict(model.to_dict())


@pytest.mark.parametrize("way", ["pickle", "dict", "json"])
@pytest.mark.parametrize(
    "seed",
    [np.random.SeedSequence(2**90, spawn_key=(1,)), np.random.RandomState(3), np.random.default_rng(1)]
    + [np.random.Generator(bits(2)) for bits in (np.random.MT19937, np.random.Philox, np.random.SFC64)],
    ids=lambda seed: type(getattr(seed, "bit_generator", seed)).__name__,
)
def test_seeds_of_every_kind(way, seed):
    mixture = EMGaussianMixture(3, random_state=copy.deepcopy(seed), n_init=2)
    again = WAYS[way](mixture)
    for _ in range(2):  # a generator moves on
        np.testing.assert_array_equal(again.fit(IRIS).history_, mixture.fit(IRIS).history_)


def test_output_settings_are_kept():
    imputer = EMImputer().set_output(transform="pandas").fit(NAMED)
    pd.testing.assert_frame_equal(through_json(imputer).transform(NAMED), imputer.transform(NAMED))


def test_callbacks_stay_behind():
    pytest.importorskip("sklearn.callback")
    from emkit.callbacks import EarlyStopping

    mixture = EMGaussianMixture(2, random_state=0).set_callbacks(EarlyStopping(IRIS)).fit(IRIS)
    assert "callback" not in json.dumps(mixture.to_dict())
    assert through_json(mixture).fit(IRIS).converged_


def test_requests_of_metadata_stay_behind():
    with sklearn.config_context(enable_metadata_routing=True):
        mixture = EMGaussianMixture(2, random_state=0).set_fit_request(sample_weight=True)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(mixture)).fit(IRIS).means_, mixture.fit(IRIS).means_)
        np.testing.assert_array_equal(through_json(mixture).means_, mixture.means_)


def test_in_a_pipeline():
    pipeline = make_pipeline(EMImputer(), StandardScaler(), EMGaussianMixture(3, random_state=0)).fit(HOLES)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(HOLES), pipeline.predict(HOLES))


@pytest.mark.parametrize("name", ["mixture-full", "imputer", "chain-full"])
def test_nothing_of_the_rows_is_kept_but_labels(name):
    """Sizes for n and 10 n rows, labels apart, differ by what a few more steps record."""
    estimator, X = FITTED[name]
    sizes = []
    for copies in (1, 10):
        fitted = clone(estimator).set_params(max_iter=5, acceleration=None, tol=1e9).fit(np.tile(X, (copies, 1)))
        fitted.__dict__.pop("labels_", None)
        sizes.append((len(pickle.dumps(fitted)), len(json.dumps(fitted.to_dict()))))
    assert max(sizes[1][0] - sizes[0][0], sizes[1][1] - sizes[0][1]) < 400
    assert max(sizes[1]) < 20_000


def test_numbers_without_a_json_spelling():
    mixture = EMGaussianMixture(1, random_state=2**70).fit(IRIS)
    written = mixture.to_dict()
    assert written["parameters"]["random_state"] == {"type": "int", "value": str(2**70)}
    assert EMImputer().to_dict()["parameters"]["missing_values"] == {"type": "float", "value": "nan"}
    assert through_json(mixture).random_state == 2**70
    law = chain(Categorical(("a", None)))
    assert through_json(law).emission == law.emission


def test_what_cannot_be_written_is_named():
    with pytest.raises(ValueError, match=r"parameters\.verbose is a function"):
        EMGaussianMixture(verbose=lambda: 0).to_dict()
    with pytest.raises(ValueError, match=r"parameters\.means_init is an array of complex128"):
        EMGaussianMixture(means_init=np.ones((2, 2), complex)).to_dict()


def test_the_page_of_the_documentation_works(tmp_path, monkeypatch):
    """Its code runs, and it names every type that skops asks about."""
    pytest.importorskip("skops")
    page = (Path(__file__).parent.parent / "docs" / "persistence.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "persistence.md", "exec"), names)
    for cls in (EMGaussianMixture, EMHiddenMarkov, EMImputer, Poisson, type(EMImputer().fit(HOLES).missing_patterns_)):
        assert f"`{cls.__module__}.{cls.__name__}`" in page
    assert set(names["unknown"]) == {"emkit.mixture.EMGaussianMixture"}


# Versions ---------------------------------------------------------------------------------------------------------


def test_another_version_is_told(monkeypatch):
    mixture = EMGaussianMixture(2, random_state=0).fit(IRIS)
    data, written = pickle.dumps(mixture), mixture.to_dict()
    monkeypatch.setattr("emkit._persistence.__version__", "99.0")
    with pytest.warns(InconsistentVersionWarning, match=r"EMGaussianMixture was saved by emkit .* read by emkit 99\.0"):
        pickle.loads(data)
    with pytest.warns(InconsistentVersionWarning, match=r"99\.0"):
        EMGaussianMixture.from_dict(written)


def test_a_pickle_without_a_version_is_told():
    mixture = EMGaussianMixture()
    state = mixture.__getstate__()
    del state["_emkit_version"]
    with pytest.warns(InconsistentVersionWarning, match="unknown version"):
        EMGaussianMixture().__setstate__(state)


# Damage -----------------------------------------------------------------------------------------------------------


def damaged(**changes):
    return EMGaussianMixture(2).to_dict() | changes


@pytest.mark.parametrize(
    ("dictionary", "message"),
    [
        ([], "dictionary is a list, not a dict"),
        ({}, "dictionary lacks 'class', 'emkit_version', 'fitted', 'format', 'parameters'"),
        (damaged(format=2), "format is 2; this version of emkit reads format 1"),
        (damaged(**{"class": "EMImputer"}), "class is 'EMImputer'"),
        (damaged(more=1), "'more', which does not belong there"),
        (damaged(parameters={"n_components": 2}), "parameters lacks 'acceleration'"),
        (damaged(fitted={"predict": 1}), r"fitted\.predict is not an attribute that a fit sets"),
        (damaged(fitted={"__class__": 1}), r"fitted\.__class__ is not an attribute"),
        (damaged(fitted={"means_": {"type": "eval", "value": "1"}}), r"fitted\.means_\.type is 'eval'"),
        (
            damaged(fitted={"means_": {"type": "object", "class": "os.system", "fields": {"command": "true"}}}),
            r"fitted\.means_\.class is 'os\.system', which is not a class of emkit's",
        ),
        (
            damaged(fitted={"x_": {"type": "object", "class": "emkit._em.Progress", "fields": {}}}),
            r"fitted\.x_\.class is 'emkit\._em\.Progress'",
        ),
        (damaged(fitted={"x_": float("nan")}), r"fitted\.x_ is nan, which JSON does not have"),
        (
            damaged(fitted={"x_": {"type": "array", "dtype": "float64", "shape": [3], "data": [1.0]}}),
            r"fitted\.x_\.data has 1 entries, but shape \[3\] needs 3",
        ),
        (
            damaged(fitted={"x_": {"type": "array", "dtype": "float64", "shape": [2], "data": [1.0, "one"]}}),
            r"fitted\.x_\.data\[1\] is 'one', which is not of dtype float64",
        ),
        (
            damaged(fitted={"x_": {"type": "array", "dtype": "int8", "shape": [1], "data": [300]}}),
            r"fitted\.x_\.data does not fit into dtype int8",
        ),
        (damaged(checksum="0"), "checksum does not belong to the rest"),
    ],
)
def test_damage_is_named(dictionary, message):
    with pytest.raises(ValueError, match=message):
        EMGaussianMixture.from_dict(dictionary)


def test_a_parameter_is_checked_as_in_fit():
    written = EMGaussianMixture(2).to_dict()
    written["parameters"]["tol"] = -1.0
    del written["checksum"]
    with pytest.raises(ValueError, match="The 'tol' parameter of EMGaussianMixture must be"):
        EMGaussianMixture.from_dict(written)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("weights_", lambda found: found["data"].__setitem__(0, 2.0)),
        ("weights_", lambda found: found["data"].__setitem__(0, -0.5)),
        ("covariances_", lambda found: found["data"].__setitem__(0, -1.0)),
        ("means_", lambda found: found.update(shape=[4, 2])),
        ("means_", lambda found: found["data"].__setitem__(0, "nan")),
        ("_fitted_type", None),
    ],
)
def test_what_does_not_belong_together_is_refused_without_a_checksum_too(field, change):
    written = EMGaussianMixture(2, random_state=0).fit(IRIS).to_dict()
    del written["checksum"]
    if change is None:
        del written["fitted"][field]
    else:
        change(written["fitted"][field])
    with pytest.raises(ValueError, match=r"fitted attributes"):
        EMGaussianMixture.from_dict(written)


def entry(name, value, i=0):
    """Change one entry of a fitted array."""
    return lambda fitted: fitted[name]["data"].__setitem__(i, value)


def setting(name, value):
    return lambda fitted: fitted.__setitem__(name, value)


def many(name, value):
    """Change a fitted array as a whole."""
    return lambda fitted: fitted[name].update(data=value, shape=[len(value)])


ALL = ("mixture-full", "mixture-tied", "imputer-names", "imputer-constant", "chain-full", "chain-columns")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (name, change, message)
        for name in ALL
        for change, message in [
            (setting("n_features_in_", -1), "'n_features_in_'"),
            (setting("n_features_in_", "x"), "'n_features_in_'"),
            (setting("n_features_in_", None), "'n_features_in_'"),
            (setting("n_features_in_", 3), "."),
            (setting("n_features_in_", 10**12), "'n_features_in_'"),
            (setting("n_iter_", 0.5), "'n_iter_'"),
            (setting("status_", "fine"), "'status_'"),
            (setting("converged_", 1), "'converged_'"),
            (setting("history_", "x"), "'history_'"),
            (setting("labels_", "x"), "'labels_'"),
            (setting("restarts_", 3), "'restarts_'"),
            (setting("log_likelihood_", "x"), "'log_likelihood_'"),
            (setting("_stream", {"type": "tuple", "items": []}), "'_stream'"),
            (setting("_skl_callbacks", ["x"]), "_skl_callbacks is not an attribute that a fit sets"),
            (setting("_callback_error", "x"), "_callback_error is not an attribute that a fit sets"),
            (lambda fitted: fitted.pop("lower_bounds_"), "'lower_bounds_'"),
        ]
    ]
    + [
        ("mixture-full", entry("precisions_", 100.0), "precisions_ contradicts"),
        ("mixture-tied", entry("precisions_cholesky_", 100.0), "precisions_cholesky_ contradicts"),
        ("mixture-full", entry("covariances_", -1.0), "."),
        ("mixture-full", entry("covariances_", 0.0, 1), "."),
        ("mixture-full", setting("_fitted_type", "diag"), "."),
        ("mixture-full", setting("_fitted_type", "round"), "'_fitted_type'"),
        ("mixture-names", many("feature_names_in_", ["a"]), "."),
        ("imputer-names", entry("mean_", "inf"), "mean lies outside its range"),
        ("imputer-names", entry("mean_", 0.0), "statistics_ contradicts"),
        ("imputer-names", entry("covariance_", "nan"), "covariance_ contradicts"),
        ("imputer-names", entry("covariance_", -1.0), "covariance_ contradicts"),
        ("imputer-names", entry("precision_", 0.0), "precision_ contradicts"),
        ("imputer-names", lambda fitted: fitted.pop("_kept"), "'_kept'"),
        ("imputer-names", setting("_kept", None), "'_kept'"),
        ("imputer-names", setting("_kept", "0123"), "'_kept'"),
        ("imputer-names", entry("_kept", -1), "_kept is"),
        ("imputer-names", entry("_kept", 1), "_kept is"),
        ("imputer-names", many("_kept", [0, 1, 2]), "."),
        ("imputer-names", entry("indicator_features_", 9, -1), "indicator_features_ is"),
        ("imputer-names", many("feature_names_in_", ["a"]), "."),
        ("imputer-names", entry("feature_names_in_", 3), "feature_names_in_"),
        ("chain-columns", entry("feature_names_in_", []), "feature_names_in_"),
        ("imputer-names", setting("missing_patterns_", 1), "'missing_patterns_'"),
        ("chain-full", setting("_is_stationary", True), "_is_stationary contradicts"),
        ("chain-full", setting("_published", {"type": "tuple", "items": ["means_"]}), "."),
        ("chain-full", entry("means_", "inf"), "."),
        ("chain-full", entry("covariances_", 9.0, 1), "."),
        ("chain-columns", entry("lambdas_", -1.0), "."),
        ("chain-categorical", entry("categories_", "b"), "categories_ contradicts"),
    ],
)
def test_fitted_attributes_of_the_wrong_kind_are_refused(fits, name, change, message):
    written = copy.deepcopy(fits(name)[0].to_dict())
    del written["checksum"]
    change(written["fitted"])
    with pytest.raises(ValueError, match=rf"fitted.*{message}"):
        type(fits(name)[0]).from_dict(written)


@pytest.mark.parametrize("name", FITTED)
def test_whatever_a_fit_sets_is_accepted_without_a_checksum(fits, name):
    estimator, X = fits(name)
    written = estimator.to_dict()
    del written["checksum"]
    assert_same(type(estimator).from_dict(json.loads(json.dumps(written))), estimator, X)


def test_symbols_that_cannot_be_looked_up_are_refused(fits):
    written = copy.deepcopy(fits("chain-categorical")[0].to_dict())
    del written["checksum"]
    written["fitted"]["emission_"]["fields"]["categories"]["items"][0] = ["ab"]
    with pytest.raises(ValueError, match=r"fitted\.emission_\.fields cannot be used: categories must be .* hashable"):
        EMHiddenMarkov.from_dict(written)


@pytest.mark.parametrize("size", [3, 10**8, "4"])
def test_a_pool_of_entropy_has_a_size(size):
    written = EMGaussianMixture(random_state=np.random.SeedSequence(1)).to_dict()
    del written["checksum"]
    written["parameters"]["random_state"]["fields"]["pool_size"] = size
    with pytest.raises(ValueError, match=r"parameters\.random_state.*pool_size is"):
        EMGaussianMixture.from_dict(written)


@pytest.mark.parametrize("classes", [[1], None, 3, "Geometric", [Geometric()]])
def test_classes_that_are_none_are_named(classes):
    with pytest.raises(TypeError, match=r"classes must be a list of classes, but holds"):
        EMImputer.from_dict(EMImputer().to_dict(), classes=classes)


def test_a_list_that_holds_itself_cannot_be_written():
    inner: list = []
    inner.append(inner)
    with pytest.raises(ValueError, match=r"parameters\.means_init is nested without end"):
        EMGaussianMixture(means_init=inner).to_dict()


STATES = {
    "MT19937": {"state.pos": [-1, 625, 2**30, None, True], "state.key": [[1] * 623, [0] * 624]},
    "PCG64": {"state.state": [-1, 2**128], "state.inc": [-1, 2**128, 4], "has_uint32": [2], "uinteger": [-1, 2**32]},
    "PCG64DXSM": {"state.state": [2**128, 0.5], "state.inc": [0], "has_uint32": ["1"], "uinteger": [2**32]},
    "Philox": {
        "buffer_pos": [-(2**30), 5],
        "buffer": [[1] * 3],
        "state.counter": [[1] * 5],
        "state.key": [[1]],
        "has_uint32": [-1],
        "uinteger": [2**32],
    },
    "SFC64": {"state.state": [[1] * 3, 1], "has_uint32": [2], "uinteger": [-1]},
}


@pytest.mark.parametrize(
    ("kind", "bits", "field", "value"),
    [
        (kind, bits, field, value)
        for kind in ("Generator", "RandomState")
        for bits, found in STATES.items()
        for field, values in found.items()
        for value in values
    ]
    + [("RandomState", "MT19937", "has_gauss", 2), ("RandomState", "MT19937", "gauss", np.inf)],
)
def test_a_state_that_no_bit_generator_can_have_is_named(kind, bits, field, value):
    """NumPy takes most of them as they are, and then reads outside its memory or draws without end."""
    written = EMGaussianMixture(2, random_state=getattr(np.random, kind)(getattr(np.random, bits)(0))).to_dict()
    del written["checksum"]
    *way, last = field.split(".")
    state = written["parameters"]["random_state"]["fields"]["state"]["items"]
    for step in way:
        state = state[step]["items"]
    if isinstance(value, list):
        state[last] |= {"shape": [len(value)], "data": value}
    else:
        state[last] = _persistence.describe(value, field)
    with pytest.raises(ValueError, match=rf"parameters\.random_state\.state\.{field}"):
        EMGaussianMixture.from_dict(written)


def test_a_change_by_hand_needs_no_checksum():
    mixture = EMGaussianMixture(2, random_state=0).fit(IRIS)
    written = mixture.to_dict()
    del written["checksum"]
    written["fitted"]["means_"]["data"][0] += 1.0
    again = EMGaussianMixture.from_dict(written)
    np.testing.assert_array_equal((again.means_ - mixture.means_).ravel()[1:], 0.0)


def places(value, path=()):
    """Every place of a nested dictionary."""
    yield path
    if isinstance(value, dict):
        for name, part in value.items():
            yield from places(part, (*path, name))
    elif isinstance(value, list):
        for i, part in enumerate(value[:3]):
            yield from places(part, (*path, i))


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["emkit.mixture.Mixture", "builtins.eval", "object", "array", "emkit.chain.Given", [], {}, [[]]]),
    st.fixed_dictionaries({"type": st.sampled_from(["array", "dict", "float", "int", "object", "tuple", "code"])}),
)
BOUNDED = settings(examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
WRITTEN = ["mixture-tied", "imputer-names", "chain-columns", "chain-student-t"]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("checked", [True, False])
@BOUNDED
@given(data=st.data())
def test_tampering_raises_a_value_error_or_changes_nothing(fits, name, checked, data):
    estimator, _ = fits(name)
    written = json.loads(json.dumps(estimator.to_dict()))
    path = data.draw(st.sampled_from([place for place in places(written) if place]))
    *way, last = path
    holder = written
    for step in way:
        holder = holder[step]
    if data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = data.draw(WRONG)
    if not checked:  # one who knows the format
        written.pop("checksum", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            again = type(estimator).from_dict(written)
    except ValueError:
        return
    if checked and path[0] != "emkit_version":
        assert_same(again, estimator, FITTED[name][1])


@BOUNDED
@given(st.floats(0.0, 1.0, exclude_max=True))
def test_truncated_text_raises_a_value_error(share):
    text = json.dumps(EMImputer(prior="ridge").fit(HOLES).to_dict())
    with pytest.raises(ValueError, match=r"."):
        EMImputer.from_dict(json.loads(text[: int(share * len(text))]))


def test_nesting_without_end_raises_a_value_error():
    inner: list = []
    for _ in range(100_000):
        inner = [inner]
    with pytest.raises(ValueError, match="nested too deeply"):
        EMImputer.from_dict(EMImputer().to_dict() | {"fitted": {"x_": inner}})
