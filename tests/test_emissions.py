"""What every law of observation obeys, a user's own included: add a `Case` to `CASES` to put one through it."""

import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from scipy.special import digamma, logsumexp
from sklearn.exceptions import ConvergenceWarning

from emkit import EMHiddenMarkov
from emkit._charts import pack, unpack
from emkit._model import Emission, add
from emkit.emissions import (
    LAWS,
    SHAPES,
    Bernoulli,
    Categorical,
    Columns,
    Exponential,
    Gamma,
    MixedGaussian,
    Multinomial,
    Poisson,
    StudentT,
)
from emkit.emissions._digamma import shape_from_gap, stirling
from emkit.exceptions import InvalidParameterError

K = 3


@dataclass(frozen=True)
class Case:
    law: Emission
    X: Any  # rows as the user has them, some cells missing if the law allows it
    log_density: Callable[[Any, int, np.ndarray], float]  # of the observed cells of one row, parameters as published
    holes: bool = True
    one_step: bool = True  # whether the M-step is the maximum; otherwise it only climbs


def gaussian(means, covariance):
    return lambda a, j, x: reference.multivariate_normal(
        means(a)[j][~np.isnan(x)], covariance(a, j)[np.ix_(~np.isnan(x), ~np.isnan(x))]
    ).logpdf(x[~np.isnan(x)])


def matrix(covariances, j, d, tied=False):
    """A covariance matrix, whatever the shape."""
    if tied:
        return covariances
    one = covariances[j]
    return one if one.ndim == 2 else np.diag(np.broadcast_to(one, d))


def by_column(density):
    """Columns are independent."""
    return lambda a, j, x: sum(density(a, j, c, value) for c, value in enumerate(x) if not np.isnan(value))


def all_completions(a, j, x, n_trials=4):
    """Sum over every way to complete the missing counts."""
    holes = np.flatnonzero(np.isnan(x))
    logs = []
    for counts in product(range(n_trials + 1), repeat=len(holes)):
        whole = x.copy()
        whole[holes] = counts
        if whole.sum() == n_trials:
            logs.append(reference.multinomial.logpmf(whole, n_trials, a["emissionprob_"][j]))
    return logsumexp(logs)


def mixed(a, j, x):
    d = len(x)
    parts = [
        np.log(w) + gaussian(lambda a: a["means_"][j], lambda a, i: matrix(a["covariances_"][j], i, d))(a, i, x)
        for i, w in enumerate(a["weights_"][j])
    ]
    return logsumexp(parts)


def normal_and_count(a, j, x):
    """Columns 0 and 2 normal, column 1 Poisson."""
    normal = gaussian(lambda a: a["means_"], lambda a, j: a["covariances_"][j])
    log_density = 0.0 if np.isnan(x[1]) else reference.poisson.logpmf(x[1], a["lambdas_"][j, 0])
    return log_density if np.isnan(x[[0, 2]]).all() else log_density + normal(a, j, x[[0, 2]])


def student(tied):
    def log_density(a, j, x):
        seen = ~np.isnan(x)
        scatter = matrix(a["scales_"], j, len(x), tied)[np.ix_(seen, seen)]
        return reference.multivariate_t(a["means_"][j][seen], scatter, a["dofs_"][j]).logpdf(x[seen])

    return log_density


def geometric():
    """The law of the example on laws of one's own."""
    path = Path(__file__).parent.parent / "examples" / "custom_emission.py"
    spec = importlib.util.spec_from_file_location("custom_emission", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Geometric()


def some(rng, X, share=0.2):
    """The same with holes; one row without anything."""
    X = np.array(X, dtype=np.float64)
    X[rng.random(X.shape) < share] = np.nan
    X[7] = np.nan
    return X


def cases():
    rng = np.random.default_rng(3)
    state = rng.integers(K, size=120)
    normal = np.array([[0.0, 3.0], [4.0, 1.0], [9.0, 7.0]])[state] + rng.normal(size=(120, 2)) @ [
        [1.0, 0.5],
        [0.0, 1.0],
    ]
    counts = rng.poisson(np.array([[1.0, 9.0], [5.0, 2.0], [20.0, 4.0]])[state])
    positive = rng.gamma(np.array([[1.0, 9.0], [5.0, 2.0], [20.0, 4.0]])[state])
    binary = rng.random((120, 4)) < rng.random((3, 4))[state]
    trials = some(rng, rng.multinomial(4, rng.dirichlet(np.ones(3), 3)[state]))
    rows = np.isnan(trials).any(axis=1)
    whole = np.where(rows[:, None], np.nan, trials)
    trials[np.isnan(trials).sum(axis=1) == 1] = np.nan  # what a single hole held is known
    symbols = np.array(list("abdx"), dtype=object)[np.minimum(counts[:, :1], 3)]
    symbols[5] = None
    found = {}
    for shape, law in SHAPES.items():
        tied = shape == "tied"
        density = gaussian(lambda a: a["means_"], lambda a, j, tied=tied: matrix(a["covariances_"], j, 2, tied))
        found[f"gaussian-{shape}"] = Case(law(), some(rng, normal), density, one_step=False)
        found[f"gaussian-{shape}-complete"] = Case(law(), normal, density)
        found[f"student-t-{shape}"] = Case(StudentT(shape), some(rng, normal), student(tied), one_step=False)
    found["student-t-complete"] = Case(StudentT(), normal, student(False), one_step=False)
    for shape in ("full", "diag", "spherical"):
        found[f"gaussian-mixture-{shape}"] = Case(MixedGaussian(2, shape), some(rng, normal), mixed, one_step=False)
    density = by_column(lambda a, j, c, x: reference.poisson.logpmf(x, a["lambdas_"][j, c]))
    found["poisson"] = Case(Poisson(), some(rng, counts), density)
    density = by_column(lambda a, j, c, x: reference.bernoulli.logpmf(x, a["probs_"][j, c]))
    found["bernoulli"] = Case(Bernoulli(), some(rng, binary), density)
    density = by_column(lambda a, j, c, x: reference.expon.logpdf(x, scale=a["scales_"][j, c]))
    found["exponential"] = Case(Exponential(), some(rng, positive), density)
    density = by_column(lambda a, j, c, x: reference.gamma.logpdf(x, a["shapes_"][j, c], scale=a["scales_"][j, c]))
    found["gamma"] = Case(Gamma(), some(rng, positive), density)
    found["multinomial"] = Case(Multinomial(4), trials, all_completions, one_step=False)
    found["multinomial-own-trials"] = Case(
        Multinomial(), whole, lambda a, j, x: reference.multinomial.logpmf(x, x.sum(), a["emissionprob_"][j])
    )
    found["categorical"] = Case(Categorical(), symbols, lambda a, j, x: np.log(a["emissionprob_"][j, int(x[0])]))
    found["columns"] = Case(
        Columns([("gaussian", [0, 2]), ("poisson", [1])]),
        np.column_stack([some(rng, normal)[:, 0], some(rng, counts)[:, 0], some(rng, normal)[:, 1]]),
        normal_and_count,
        one_step=False,
    )
    found["own"] = Case(
        geometric(),
        1.0 + counts[:, :1],
        lambda a, j, x: reference.geom.logpmf(x[0], a["chances_"][j]),
        holes=False,
    )
    return found


CASES = cases()
EVERY = pytest.mark.parametrize("name", CASES)


def begin(name, seed=0, k=K):
    """A law that has learned, its rows, responsibilities times weights, and parameters that belong to neither."""
    case = CASES[name]
    law = case.law.learn(case.X)
    rows = law.prepare(np.ascontiguousarray(law.read(case.X)), None)
    rng = np.random.default_rng(seed)
    resp, other = (rng.dirichlet(np.ones(k), len(rows.X)) * rng.exponential(size=(len(rows.X), 1)) for _ in range(2))
    return law, rows, resp, law.start(rows, np.ascontiguousarray(other))


def q(law, params, rows, resp):
    """What an M-step maximises, and EM with responsibilities that stay the same does not lower."""
    prior = law.prior(params)
    return float((resp * law.log_prob(params, rows)).sum()) + (0.0 if prior is None else float(prior[0]))


def m_step(law, params, rows, resp):
    return law.maximize(add(law.summarize(params, rows, resp), law.prior(params)), params)


def leaves(tree):
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [np.asarray(tree)]


def assert_same(one, other, rtol=1e-9, atol=1e-10):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * max(1.0, np.abs(b).max(initial=0.0)))


def test_every_named_law_is_among_the_cases():
    assert {type(case.law) for case in CASES.values()} >= set(LAWS.values()) | set(SHAPES.values()) | {Columns}


# Densities
# ----------------------------------------------------------------------------------------------------------------------


@EVERY
def test_log_prob_is_the_density_of_the_observed_cells(name):
    law, rows, _, params = begin(name)
    published = law.publish(law.restore(params, rows))
    got = law.log_prob(params, rows)
    assert got.dtype == np.float64 and got.flags.c_contiguous and got.shape == (len(rows.X), K)
    for i in range(0, len(rows.X), 3):
        x = rows.X[i].astype(float)
        for j in range(K):
            expected = 0.0 if np.isnan(x).all() else CASES[name].log_density(published, j, x)
            assert got[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@EVERY
def test_a_row_without_cells_says_nothing(name):
    if not CASES[name].holes:
        pytest.skip("it has no missing cells")
    law, rows, resp, params = begin(name)
    empty = np.isnan(rows.X).all(axis=1)
    if not empty.any():
        pytest.skip("there is none")
    np.testing.assert_allclose(law.log_prob(params, rows)[empty], 0.0, atol=1e-12)
    without = np.where(empty[:, None], 0.0, resp)
    assert_same(m_step(law, params, rows, resp), m_step(law, params, rows, without))


@EVERY
def test_prediction_units_give_the_same_densities(name):
    law, rows, _, params = begin(name)
    outside = law.restore(params, rows)
    assert_same(law.standardize(outside, rows), params)
    frame = law.frame(outside, rows.X)
    inside = law.standardize(outside, frame)
    np.testing.assert_allclose(law.log_prob(inside, frame), law.log_prob(params, rows), rtol=1e-8, atol=1e-8)


# Sums
# ----------------------------------------------------------------------------------------------------------------------


@EVERY
@given(seed=st.integers(0, 1000))
@examples(5)
def test_sums_add_up(name, seed):
    law, rows, resp, params = begin(name, seed)
    n = len(rows.X)
    cut = int(np.random.default_rng(seed).integers(1, n))
    order = np.random.default_rng(seed).permutation(n)
    whole = law.summarize(params, rows, resp)
    halves = [law.summarize(params, law.block(rows, s), resp[s]) for s in (slice(0, cut), slice(cut, n))]
    assert_same(add(*halves), whole)
    assert_same(law.summarize(params, law.block(rows, order), np.ascontiguousarray(resp[order])), whole)


@EVERY
def test_weights_are_repetitions(name):
    law, rows, resp, params = begin(name)
    counts = np.random.default_rng(0).integers(0, 4, size=len(resp))
    chosen = np.repeat(np.arange(len(resp)), counts)
    repeated = law.summarize(params, law.block(rows, chosen), np.ascontiguousarray(resp[chosen]))
    assert_same(law.summarize(params, rows, resp * counts[:, None]), repeated)


@EVERY
def test_components_may_be_renamed(name):
    law, rows, resp, params = begin(name)
    order = np.array([2, 0, 1])
    renamed = law.take(params, order)
    np.testing.assert_allclose(law.log_prob(renamed, rows), law.log_prob(params, rows)[:, order], rtol=1e-12)
    again = m_step(law, renamed, rows, np.ascontiguousarray(resp[:, order]))
    assert_same(again, law.take(m_step(law, params, rows, resp), order))
    assert sorted(law.order(params)) == [0, 1, 2]


# M-steps
# ----------------------------------------------------------------------------------------------------------------------


@EVERY
@given(seed=st.integers(0, 1000))
@examples(5)
def test_a_step_never_lowers_what_it_maximises(name, seed):
    law, rows, resp, params = begin(name, seed)
    values = [q(law, params, rows, resp)]
    for _ in range(5):
        params = m_step(law, params, rows, resp)
        values.append(q(law, params, rows, resp))
    assert (np.diff(values) >= -1e-9 * abs(values[-1])).all()


@EVERY
def test_no_parameters_nearby_are_better(name):
    law, rows, resp, params = begin(name)
    params = m_step(law, params, rows, resp)
    if not CASES[name].one_step:  # only the end of the climb is a maximum
        for _ in range(600):
            params = m_step(law, params, rows, resp)
    best, free = q(law, params, rows, resp), pack(params, law.charts)
    rng = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(10):
            nearby = unpack(free * (1.0 + size * rng.normal(size=free.shape)), law.charts, params)
            with np.errstate(all="ignore"):
                other = q(law, nearby, rows, resp)
            assert not other > best + 1e-7 * abs(best)


@EVERY
def test_a_component_without_rows_keeps_what_it_has(name):
    law, rows, resp, params = begin(name)
    resp[:, 1] = 0.0
    found = m_step(law, params, rows, resp)
    one = np.array([1])
    if "tied" in name:  # it shares the covariance with the others
        assert all(np.isfinite(leaf).all() for leaf in leaves(found))
        return
    if name == "own":  # three methods are enough to have; they need not keep anything
        return
    assert_same(law.take(found, one), law.take(params, one), rtol=1e-6, atol=1e-6)


@EVERY
def test_sums_that_stream_imply_the_same_parameters_wherever_they_are_told(name):
    law, rows, resp, params = begin(name)
    if not law.streams:
        assert name == "own"  # three methods do not promise it
        return
    resp = np.ascontiguousarray(resp)
    elsewhere = m_step(law, params, rows, np.ascontiguousarray(resp[:, ::-1]))
    sums = law.summarize(params, rows, resp)
    moved = law.recentre(sums, params, elsewhere)
    assert_same(law.maximize(moved, elsewhere), law.maximize(sums, params), rtol=1e-7, atol=1e-8)
    assert_same(law.recentre(moved, elsewhere, params), sums, rtol=1e-7, atol=1e-8)


@EVERY
@pytest.mark.parametrize("rows_of_a_kind", [1, 40])
def test_rows_that_hardly_say_anything_do_not_break_a_law(name, rows_of_a_kind):
    """One row, or many that are equal: numbers stay finite, or the law says that it has collapsed."""
    law, rows, _, params = begin(name)
    full = np.flatnonzero(~np.isnan(rows.X.astype(float)).any(axis=1))[:1]
    few = law.block(rows, np.repeat(full, rows_of_a_kind))
    resp = np.random.default_rng(0).dirichlet(np.ones(K), rows_of_a_kind)
    for _ in range(20):
        params = m_step(law, params, few, resp)
        assert all(np.isfinite(leaf).all() for leaf in leaves(params))
        log_prob = law.log_prob(params, few)
        assert not np.isnan(log_prob).any() and (log_prob < np.inf).all()


def test_the_shape_of_a_gamma_solves_its_equation():
    shapes = np.geomspace(1e-3, 1e9, 200)
    with np.errstate(all="ignore"):
        small = shapes < 1e4
        np.testing.assert_allclose(
            shape_from_gap(np.log(shapes[small]) - digamma(shapes[small])), shapes[small], rtol=1e-8
        )
    large = shapes[~small]
    np.testing.assert_allclose(shape_from_gap(0.5 / large + 1.0 / (12.0 * large**2)), large, rtol=1e-8)
    edge = np.array([999.999999, 1000.0])  # where the formulas change
    assert np.diff(stirling(edge))[0] == pytest.approx(0.5 * np.log(edge[1] / edge[0]), rel=1e-2, abs=1e-11)


# Prediction
# ----------------------------------------------------------------------------------------------------------------------


@EVERY
def test_what_is_sampled_is_found_again(name):
    law, rows, _, params = begin(name, 4)
    outside = law.restore(m_step(law, params, rows, soft_labels(law, params, rows)), rows)
    labels = np.repeat(np.arange(K), 6000)
    try:
        X = law.sample(outside, labels, np.random.default_rng(5))
    except ValueError as error:
        assert "n_trials" in str(error)
        return
    assert X.shape == (len(labels), rows.X.shape[1])
    data = law.prepare(np.ascontiguousarray(law.read(X)), None)
    resp = np.eye(K)[labels]
    found = law.standardize(outside, data)
    truth = q(law, found, data, resp)
    for _ in range(200 if not CASES[name].one_step else 1):
        found = m_step(law, found, data, resp)
    # Wilks: the maximum is above the truth by about half the number of parameters.
    assert -1e-6 * abs(truth) <= q(law, found, data, resp) - truth < 3.0 * law.n_parameters(found) + 10.0


def soft_labels(law, params, rows):
    """Responsibilities of the components as they are."""
    log_prob = law.log_prob(params, rows)
    return np.exp(log_prob - logsumexp(log_prob, axis=1, keepdims=True))


@EVERY
def test_means_and_distribution_functions_are_those_of_samples(name):
    law, rows, _, params = begin(name, 6)
    outside = law.restore(m_step(law, params, rows, soft_labels(law, params, rows)), rows)
    for question in ("mean", "cdf"):
        if getattr(type(law), question) is getattr(Emission, question):
            pytest.skip(f"it has no {question}")
    labels = np.repeat(np.arange(K), 20_000)
    try:
        X = law.sample(outside, labels, np.random.default_rng(7))
    except ValueError:
        pytest.skip("n_trials is not known")
    for column in range(X.shape[1]):
        for j in range(K):
            x = X[labels == j, column]
            assert abs(x.mean() - law.mean(outside)[j, column]) < 6.0 * x.std() / np.sqrt(len(x)) + 1e-12
            points = np.quantile(x, [0.1, 0.5, 0.9])
            got = law.cdf(outside, column, points)[:, j]
            np.testing.assert_allclose(got, [(x <= p).mean() for p in points], atol=0.02)
    assert (np.diff(law.cdf(outside, 0, np.linspace(-50.0, 50.0, 201)), axis=0) >= 0.0).all()


@EVERY
def test_filling_leaves_what_is_observed(name):
    law, rows, resp, params = begin(name)
    outside = law.restore(params, rows)
    if not CASES[name].holes:
        pytest.skip("it has no missing cells")
    frame = law.frame(outside, rows.X)
    filled = law.fill(outside, frame, resp / resp.sum(axis=1, keepdims=True))
    if name == "categorical":
        assert set(filled[:, 0]) <= set(law.categories)
        return
    seen = ~np.isnan(rows.X)
    assert (filled[seen] == rows.X[seen]).all()
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_holes_are_filled_with_conditional_means(shape):
    law, rows, resp, params = begin(f"gaussian-{shape}")
    outside = law.restore(params, rows)
    resp = resp / resp.sum(axis=1, keepdims=True)
    filled = law.fill(outside, law.frame(outside, rows.X), resp)
    covariances = law.full(outside)
    for i, x in enumerate(rows.X):
        o, m = ~np.isnan(x), np.isnan(x)
        if m.any() and o.any():
            parts = [
                mean[m] + covariance[np.ix_(m, o)] @ np.linalg.solve(covariance[np.ix_(o, o)], x[o] - mean[o])
                for mean, covariance in zip(outside.means, covariances, strict=True)
            ]
            np.testing.assert_allclose(filled[i, m], resp[i] @ np.array(parts), rtol=1e-8)
        elif m.any():
            np.testing.assert_allclose(filled[i], resp[i] @ outside.means, rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_variances_and_determinants_are_those_of_the_matrices(shape):
    law, _, _, params = begin(f"gaussian-{shape}")
    matrices = law.full(params)
    np.testing.assert_allclose(law.variances(params), np.diagonal(matrices, axis1=1, axis2=2), rtol=1e-12)
    np.testing.assert_allclose(law.log_determinants(params), np.linalg.slogdet(matrices)[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_sums_with_holes_are_expectations(shape):
    """Sums over rows completed many times from their conditional law."""
    law, rows, resp, params = begin(f"gaussian-{shape}")
    exact = law.summarize(params, rows, resp)
    rng, draws = np.random.default_rng(8), 4000
    z = (rows.X - rows.center) / rows.scale
    covariances = law.full(params)
    counts, firsts = np.zeros(K), np.zeros((K, 2))
    seconds = np.zeros((K, 2, 2))
    for j in range(K):
        for x, r in zip(z, resp[:, j], strict=True):
            o, m = ~np.isnan(x), np.isnan(x)
            if not o.any():
                continue
            y = np.tile(x - params.means[j], (draws if m.any() else 1, 1))
            if m.any():
                gain = covariances[j][np.ix_(m, o)] @ np.linalg.inv(covariances[j][np.ix_(o, o)])
                left = covariances[j][np.ix_(m, m)] - gain @ covariances[j][np.ix_(o, m)]
                y[:, m] = y[:, o] @ gain.T + rng.normal(size=(draws, m.sum())) @ np.linalg.cholesky(left).T
            counts[j] += r
            firsts[j] += r * y.mean(axis=0)
            seconds[j] += r * y.T @ y / len(y)
    np.testing.assert_allclose(exact.counts, counts)
    np.testing.assert_allclose(exact.firsts, firsts, atol=0.5)
    np.testing.assert_allclose(exact.seconds, law._fold(seconds, firsts, counts, params), atol=0.02 * counts.sum())


@EVERY
def test_attributes_are_parameters(name):
    law, rows, _, params = begin(name)
    outside = law.restore(params, rows)
    published = law.publish(outside)
    assert all(attribute.endswith("_") for attribute in published)
    assert_same(law.recall(published, outside), outside)


@EVERY
def test_laws_are_frozen_and_survive_a_pickle(name):
    law, rows, _, params = begin(name)
    again = pickle.loads(pickle.dumps(law)) if name != "own" else law
    np.testing.assert_array_equal(again.log_prob(params, rows), law.log_prob(params, rows))
    assert law.n_parameters(params) > 0


# What cannot be observed
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "X", "message"),
    [
        (Poisson(), [[1.0], [-2.0]], "-2 at row 1, column 0; .*count"),
        (Poisson(), [[1.0, 2.5]], r"2\.5 at row 0, column 1; .*whole number"),
        (Bernoulli(), [[0.0], [0.5]], r"0\.5 at row 1, column 0"),
        (Exponential(), [[1.0], [-1.0]], "-1 at row 1, column 0"),
        (Gamma(), [[1.0], [0.0]], "0 at row 1, column 0; .*positive"),
        (Multinomial(), [[1.0, 2.0], [np.nan, 2.0]], "row 1.*n_trials"),
        (Multinomial(3), [[1.0, 2.0], [2.0, 2.0]], "4 trials at row 1, not n_trials=3"),
        (Multinomial(), [[1.0, -1.0]], "-1 at row 0, column 1"),
        (Categorical(("a", "b")), [["a"], ["c"]], "'c' at row 1.*handle_unknown"),
        (
            Columns([("gaussian", [0]), ("poisson", [1])]),
            np.array([[0.5, 1.0], [0.5, 1.5]]),
            r"1\.5 at row 1, column 1",
        ),
    ],
)
def test_what_cannot_be_observed_is_named(law, X, message):
    with pytest.raises(ValueError, match=message):
        law.read(X)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StudentT("round"),
        lambda: MixedGaussian(2, "round"),
        lambda: MixedGaussian(0),
        lambda: Multinomial(-1),
        lambda: Categorical(("a", "a", "b", "c")),
        lambda: Categorical(([1], [2])),
    ],
)
def test_hyperparameters_that_cannot_be_are_named(make):
    with pytest.raises(InvalidParameterError, match="must be"):
        make()


def test_alphabets():
    """Gaps, strings, numbers, unknown symbols."""
    law = Categorical().learn(np.array([[1], [2], [4], [1]]))
    assert law.categories == (1, 2, 4)
    np.testing.assert_array_equal(law.read(np.array([[4], [1]])), [[2.0], [0.0]])
    with pytest.raises(ValueError, match="3 at row 0"):
        law.read(np.array([[3]]))
    lenient = Categorical(handle_unknown="ignore").learn([["b"], ["a"], [None]])
    np.testing.assert_array_equal(lenient.read([["a"], ["z"], [None]]), [[0.0], [np.nan], [np.nan]])


def test_outliers_pull_a_student_less():
    rng = np.random.default_rng(9)
    X = np.concatenate([rng.normal(size=(200, 2)), [[50.0, 50.0]] * 5])
    ends = []
    for law in (SHAPES["full"](), StudentT()):
        rows = law.prepare(X, None)
        params = law.start(rows, np.ones((205, 1)))
        for _ in range(200):
            params = m_step(law, params, rows, np.ones((205, 1)))
        ends.append(law.mean(law.restore(params, rows))[0])
    assert np.abs(ends[1]).max() < 0.2 < np.abs(ends[0]).max()


def test_heavy_tails_are_told_from_light_ones():
    law, rng = StudentT(), np.random.default_rng(5)
    for truth in (3.0, 8.0):
        rows = law.prepare(rng.standard_t(truth, size=(20_000, 1)), None)
        resp = np.ones((len(rows.X), 1))
        params = law.start(rows, resp)
        for _ in range(200):
            params = m_step(law, params, rows, resp)
        np.testing.assert_allclose(params.dofs, truth, rtol=0.15)


def test_a_gamma_that_collapses_onto_equal_numbers_says_so():
    law, X = Gamma(), np.concatenate([np.random.default_rng(6).gamma(2.0, size=200), np.full(20, 7.0)])[:, None]
    rows, resp = law.prepare(X, None), np.repeat(np.eye(2), [200, 20], axis=0)
    params = law.start(rows, resp)
    for _ in range(2):
        params = m_step(law, params, rows, resp)
    reason = law.degenerate(params, law.summarize(params, rows, resp))
    assert "component 1 has collapsed onto 20 numbers of column 0" in reason


def test_what_collapses_in_columns_is_a_column_of_the_data():
    rng = np.random.default_rng(7)
    state = np.repeat(rng.integers(0, 2, 40), 10)
    third = np.where(state == 1, 2.0, rng.gamma(2.0, 1.0, 400))
    X = np.column_stack([rng.normal(20.0 * state, 1.0), rng.gamma(2.0, 1.0, 400), third])
    law = Columns([("gaussian", [0]), ("gamma", [2, 1])])
    with pytest.warns(ConvergenceWarning, match=r"collapsed onto \d+ numbers of column 2 "):
        EMHiddenMarkov(2, emission=law, random_state=0).fit(X)


@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
def test_a_state_of_parts_that_begins_empty():
    with pytest.warns(ConvergenceWarning, match="degenerate"):
        fitted = EMHiddenMarkov(2, emission=MixedGaussian(2), random_state=0).fit(np.zeros((3, 1)))
    assert np.isfinite(fitted.means_).all()
