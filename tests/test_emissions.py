"""Laws of observation one by one: densities against scipy, M-steps against perturbations, holes against brute force."""

import numpy as np
import pytest
from scipy import stats

from emkit._charts import pack, unpack
from emkit._model import add
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

K, N = 2, 60
RNG = np.random.default_rng(0)
GROUP = RNG.integers(K, size=N)
NUMBERS = 3.0 * GROUP[:, None] + RNG.normal(size=(N, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
POSITIVE = RNG.gamma(2.0, np.array([[1.0, 9.0], [6.0, 2.0]])[GROUP])
COUNTS = RNG.poisson(np.array([[1.0, 9.0, 4.0], [6.0, 2.0, 4.0]])[GROUP]).astype(float)
BINARY = (RNG.random((N, 3)) < np.array([[0.2, 0.7, 0.5], [0.9, 0.4, 0.5]])[GROUP]).astype(float)
SYMBOLS = np.array(list("abcd"))[RNG.integers(3, size=N) + (GROUP == 1)][:, None]

PROBLEMS = {
    **{f"gaussian-{shape}": (law(), NUMBERS) for shape, law in SHAPES.items()},
    "poisson": (Poisson(), COUNTS),
    "bernoulli": (Bernoulli(), BINARY),
    "exponential": (Exponential(), POSITIVE),
    "gamma": (Gamma(), POSITIVE),
    "categorical": (Categorical(), SYMBOLS),
    "multinomial": (Multinomial(), COUNTS),
    "student-t": (StudentT(), NUMBERS),
    "gaussian-mixture": (MixedGaussian(2), NUMBERS),
    "columns": (
        Columns([("poisson", [0, 2]), ("gamma", [1, 3])]),
        np.hstack([COUNTS[:, :2], POSITIVE])[:, [0, 2, 1, 3]],
    ),
}
every = pytest.mark.parametrize("name", PROBLEMS)


def problem(name, holes=False):
    """A law that has learned, its rows, responsibilities, and parameters that fit them somewhat."""
    law, X = PROBLEMS[name]
    law = law.learn(X)
    x = law.read(X).copy()
    if holes:
        rng = np.random.default_rng(1)
        hole = rng.random(x.shape) < 0.3
        x[np.broadcast_to(hole[:, :1], x.shape) if name == "multinomial" else hole] = np.nan
        x[0] = np.nan
    rows = law.prepare(x, None)
    resp = np.random.default_rng(2).dirichlet(np.ones(K), size=N)
    resp = 0.5 * resp + 0.5 * np.eye(K)[GROUP]
    return law, rows, resp, law.start(rows, resp)


def leaves(tree):
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [np.asarray(tree)]


def assert_close(one, other, **how):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **how)


def densities(name, law, params, x):
    """Log-density of each cell or row under each component, by scipy."""
    shapes = {
        "poisson": lambda p, k: stats.poisson(p.lambdas[k]).logpmf(x),
        "bernoulli": lambda p, k: stats.bernoulli(p.probs[k]).logpmf(x),
        "exponential": lambda p, k: stats.expon(scale=p.scales[k]).logpdf(x),
        "gamma": lambda p, k: stats.gamma(p.shapes[k], scale=p.scales[k]).logpdf(x),
        "categorical": lambda p, k: np.log(p.emissionprob[k][x[:, 0].astype(int)])[:, None],
        "multinomial": lambda p, k: stats.multinomial.logpmf(x, x.sum(axis=1).astype(int), p.emissionprob[k])[:, None],
    }
    return np.stack([shapes[name](params, k).sum(axis=1) for k in range(K)], axis=1)


@pytest.mark.parametrize("name", ["poisson", "bernoulli", "exponential", "gamma", "categorical", "multinomial"])
def test_densities_are_those_of_scipy(name):
    law, rows, _, params = problem(name)
    np.testing.assert_allclose(law.log_prob(params, rows), densities(name, law, params, rows.X), rtol=1e-9)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", [*(f"gaussian-{shape}" for shape in SHAPES), "student-t", "gaussian-mixture"])
def test_densities_of_the_observed_cells(name, holes):
    law, rows, _, params = problem(name, holes)
    outside = law.restore(params, rows)
    x, found = rows.X, law.log_prob(params, rows)
    published = law.publish(outside)
    for i, k in np.ndindex(N, K):
        seen = ~np.isnan(x[i])
        if not seen.any():
            assert abs(found[i, k]) < 1e-12
            continue
        if name == "student-t":
            matrix, degrees = published["scales_"][k], published["dofs_"][k]
            law_k = stats.multivariate_t(published["means_"][k, seen], matrix[np.ix_(seen, seen)], degrees)
            expected = law_k.logpdf(x[i, seen])
        elif name == "gaussian-mixture":
            parts = [
                stats.multivariate_normal(m[seen], c[np.ix_(seen, seen)]).logpdf(x[i, seen])
                for m, c in zip(published["means_"][k], published["covariances_"][k], strict=True)
            ]
            expected = np.logaddexp.reduce(np.log(published["weights_"][k]) + parts)
        else:
            matrix = law.full(outside)[k]
            expected = stats.multivariate_normal(outside.means[k, seen], matrix[np.ix_(seen, seen)]).logpdf(x[i, seen])
        np.testing.assert_allclose(found[i, k], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["poisson", "bernoulli", "exponential", "gamma", "categorical"])
def test_a_missing_cell_leaves_the_density_of_the_others(name):
    law, rows, _, params = problem(name, holes=True)
    whole = law.prepare(law.read(PROBLEMS[name][1]), None)
    total = np.zeros((N, K))
    for column in range(rows.X.shape[1]):
        alone = np.full_like(rows.X, np.nan)
        alone[:, column] = whole.X[:, column]
        density = law.log_prob(params, law.prepare(alone, None))
        total += np.where(np.isnan(rows.X[:, column])[:, None], 0.0, density)
    np.testing.assert_allclose(law.log_prob(params, rows), total, atol=1e-9)


@every
@pytest.mark.parametrize("holes", [False, True])
def test_sums_add_and_weights_are_copies(name, holes):
    law, rows, resp, params = problem(name, holes)
    whole = law.summarize(params, rows, resp)
    parts = [law.summarize(params, law.block(rows, cut), resp[cut]) for cut in (slice(0, 17), slice(17, N))]
    assert_close(tuple(a + b for a, b in zip(*map(leaves, parts), strict=True)), flat(whole), rtol=1e-8, atol=1e-9)
    twice = np.repeat(np.arange(N), 2)
    copied = law.summarize(params, law.block(rows, twice), resp[twice])
    assert_close(flat(copied), flat(law.summarize(params, rows, 2.0 * resp)), rtol=1e-8, atol=1e-9)


def flat(tree):
    return tuple(leaves(tree))


@every
@pytest.mark.parametrize("holes", [False, True])
def test_the_m_step_raises_what_the_e_step_expects(name, holes):
    """EM with fixed responsibilities must not lower their expected log-density, nor may a step in any direction."""
    law, rows, resp, params = problem(name, holes)

    def value(p):
        penalty = law.prior(p)
        with np.errstate(all="ignore"):
            return float((resp * law.log_prob(p, rows)).sum()) + (0.0 if penalty is None else float(penalty[0]))

    def em(p):
        return law.maximize(add(law.summarize(p, rows, resp), law.prior(p)), p)

    before = value(params)
    for _ in range(60):
        params = em(params)
        after = value(params)
        assert after >= before - 1e-8 * abs(before)
        before = after
    if any(np.any(np.abs(leaf) > 1e5) for leaf in leaves(params)):
        return
    free = pack(params, law.charts)
    rng = np.random.default_rng(3)
    for _ in range(20):
        tried = unpack(free + 1e-2 * rng.normal(size=len(free)), law.charts, params)
        assert value(tried) <= before + 1e-4 * abs(before)


@every
def test_components_can_be_reordered_and_published(name):
    law, rows, resp, params = problem(name)
    swapped = law.take(params, np.array([1, 0]))
    np.testing.assert_allclose(law.log_prob(swapped, rows), law.log_prob(params, rows)[:, ::-1], rtol=1e-10)
    assert sorted(law.order(params).tolist()) == [0, 1]
    outside = law.restore(params, rows)
    again = law.recall(law.publish(outside), outside)
    assert_close(again, outside, rtol=1e-9)
    assert_close(law.standardize(outside, rows), params, rtol=1e-9, atol=1e-12)
    assert law.n_parameters(params) > 0
    assert resp.shape == law.log_prob(params, rows).shape


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name not in ("multinomial",)])
def test_draws_have_the_mean_and_the_distribution_that_are_promised(name):
    law, rows, _, params = problem(name)
    params = law.restore(params, rows)
    labels = np.repeat([0, 1], 40_000)
    drawn = law.sample(params, labels, np.random.default_rng(4))
    if name == "categorical":
        for k in range(K):
            shares = [(drawn[labels == k, 0] == symbol).mean() for symbol in law.categories]
            np.testing.assert_allclose(shares, params.emissionprob[k], atol=0.015)
        return
    drawn = drawn.astype(float)
    for k in range(K):
        one = drawn[labels == k]
        tolerance = 6 * one.std(axis=0) / np.sqrt(len(one))
        assert (np.abs(one.mean(axis=0) - law.mean(params)[k]) <= tolerance).all()
        for column in range(drawn.shape[1]):
            at = np.quantile(one[:, column], [0.2, 0.5, 0.9])
            empirical = (one[:, column, None] <= at).mean(axis=0)
            np.testing.assert_allclose(law.cdf(params, column, at)[:, k], empirical, atol=0.02)


@every
def test_a_component_without_rows_keeps_its_parameters(name):
    law, rows, resp, params = problem(name)
    resp = np.c_[resp.sum(axis=1), np.zeros(N)]
    after = law.maximize(add(law.summarize(params, rows, resp), law.prior(params)), params)
    alone = np.array([1])
    if name == "gaussian-tied":
        np.testing.assert_array_equal(after.means[1], params.means[1])
        return
    assert_close(law.take(after, alone), law.take(params, alone), rtol=1e-9)


def test_every_name_makes_a_law():
    assert set(LAWS) == {
        "gaussian",
        "categorical",
        "bernoulli",
        "multinomial",
        "poisson",
        "exponential",
        "gamma",
        "student-t",
        "gaussian-mixture",
    }


def test_heavy_tails_are_told_from_light_ones():
    law = StudentT()
    rng = np.random.default_rng(5)
    for truth in (3.0, 8.0):
        X = rng.standard_t(truth, size=(20_000, 1))
        rows = law.prepare(X, None)
        resp = np.ones((len(X), 1))
        params = law.start(rows, resp)
        for _ in range(200):
            params = law.maximize(law.summarize(params, rows, resp), params)
        np.testing.assert_allclose(params.dofs, truth, rtol=0.15)


def test_a_partly_missing_multinomial_row_is_refused():
    with pytest.raises(ValueError, match="make the whole row missing"):
        Multinomial().read([[1.0, np.nan], [2.0, 3.0]])
