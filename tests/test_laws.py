"""The laws of ``emkit._model``, for every model and law of observation found by walking the package."""

import importlib
import inspect
import pickle
import pkgutil
from itertools import pairwise

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from specimens import SPECIMENS

import emkit
from emkit._accelerate import ACCELERATORS
from emkit._blocks import by_values
from emkit._charts import Cholesky, Positive, Real, Simplex, pack, unpack
from emkit._em import climb, step, total
from emkit._executors import serial
from emkit._model import Emission, Model, add
from emkit._search import search
from emkit._standard_errors import Neighbourhood
from emkit.finite_mixture import Mixture

EVERY = pytest.mark.parametrize("name", SPECIMENS)
MIXTURES = pytest.mark.parametrize("name", [name for name, s in SPECIMENS.items() if isinstance(s.model, Mixture)])


def leaves(tree):
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [np.asarray(tree)]


def assert_close(one, other, rtol=1e-9, atol=1e-11):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * max(1.0, np.abs(b).max(initial=0.0)))


def concrete(kind):
    """Final classes of a kind, in every module of the package."""
    found = set()
    for module in pkgutil.walk_packages(emkit.__path__, "emkit."):
        if ".kernels._" in module.name:
            continue  # compiled
        for _, thing in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(thing, kind) and not inspect.isabstract(thing) and thing.__module__ == module.name:
                found.add(thing)
    return found


def setup(name, seed=0, weight=None):
    specimen = SPECIMENS[name]
    data = specimen.model.prepare(specimen.X, weight)
    model = specimen.model.calibrate(data)
    return model, data, model.start(model.sketch(data), np.random.default_rng(seed))


def n_units(data):
    """Rows, or whatever else the data may be cut between."""
    for units in ("lengths", "counts", "X"):
        if hasattr(data, units):
            return len(getattr(data, units))
    raise AssertionError(data)


def cut(model, data, units):
    if hasattr(data, "lengths"):
        return model.block(data, units)
    return model.law.block(data, units) if hasattr(model, "law") else data.cut(units)


def location(model, params):
    return model.law.mean(params.law) if hasattr(params, "law") else params.mean


def tolerance(name):
    return 1e-4 if "float32" in name else 1e-9


def test_every_model_and_every_law_has_a_specimen():
    models = {type(s.model) for s in SPECIMENS.values()}
    laws = {type(s.model.law) for s in SPECIMENS.values() if hasattr(s.model, "law")}
    assert concrete(Model) == models
    assert concrete(Emission) == laws


@EVERY
@given(seed=st.integers(0, 1000))
@examples(5)
def test_statistics_are_additive(name, seed):
    model, data, params = setup(name, seed)
    whole = model.expect(params, data)
    rng = np.random.default_rng(seed)
    n = n_units(data)
    edges = [0, *sorted(rng.choice(np.arange(1, n), 3, replace=False).tolist()), n]
    parts = [cut(model, data, slice(a, b)) for a, b in pairwise(edges)]
    assert_close(total(model.expect(params, part) for part in parts), whole, rtol=tolerance(name), atol=tolerance(name))


@EVERY
@given(seed=st.integers(0, 1000))
@examples(5)
def test_plain_em_never_lowers_the_objective(name, seed):
    weight = np.random.default_rng(seed).exponential(size=SPECIMENS[name].n_units)
    model, data, params = setup(name, seed, weight)
    blocks = model.split(data)
    objectives = []
    for _ in range(30):
        turn = step(model, blocks, params)
        objectives.append(turn.objective)
        params = turn.image
    slack = 10 * model.rounding(data).objective
    assert (np.diff(objectives) >= -slack).all()


@EVERY
def test_the_score_is_the_gradient_of_the_objective(name):
    """Fisher's identity: the slope of ``q_value`` where its expectation was taken is that of the objective."""
    model, data, params = setup(name, 6)
    for _ in range(3):
        params = step(model, [data], params).image
    here = Neighbourhood(model, [data], params, serial)
    nowhere = np.zeros(here.size)
    slopes = here.gradient(lambda near: step(model, [data], near).objective, nowhere)
    scale = max(1.0, np.abs(slopes).max())
    np.testing.assert_allclose(here.score(nowhere), slopes, atol=scale * (1e-2 if "float32" in name else 1e-5))


@EVERY
@pytest.mark.parametrize("acceleration", ACCELERATORS)
def test_a_climb_never_accepts_less_and_its_record_is_of_what_it_returns(name, acceleration):
    model, data, params = setup(name, 1)
    blocks = model.split(data)
    ascent = climb(model, blocks, params, tol=1e-8, max_iter=400, accelerate=ACCELERATORS[acceleration])
    slack = model.rounding(data).objective
    assert (np.diff(ascent.history) >= -slack).all()
    assert ascent.objective == ascent.history[-1]
    assert step(model, blocks, ascent.params).objective == ascent.objective


@EVERY
def test_acceleration_reaches_the_optimum_of_plain_em(name):
    model, data, params = setup(name, 2)
    for _ in range(30):  # into the reach of one optimum
        params = step(model, [data], params).image
    ends = [
        climb(model, model.split(data), params, tol=1e-9, max_iter=5000, accelerate=accelerate).objective
        for accelerate in ACCELERATORS.values()
    ]
    assert max(ends) - min(ends) <= 1e-5 + 100 * model.rounding(data).objective


@pytest.mark.parametrize("n_values", [1, 3, 10**9])
@pytest.mark.parametrize("d", [1, 3])
def test_rows_are_ordered_by_their_values(n_values, d):
    rng = np.random.default_rng(0)
    X = rng.integers(n_values, size=(300, d)).astype(float)
    for missing in (0.0, 0.3):
        X[rng.random(X.shape) < missing] = np.nan
        np.testing.assert_array_equal(by_values(X), np.lexsort(X.T[::-1]))


@EVERY
def test_weights_are_repetitions_starts_included(name):
    specimen = SPECIMENS[name]
    rng = np.random.default_rng(3)
    weight = rng.integers(0, 4, size=specimen.n_units).astype(float)
    repeated = specimen.repeated(weight, rng)
    weighted = setup(name, 4, weight)
    model = specimen.model
    again = model.prepare(repeated, None)
    model = model.calibrate(again)
    start = model.start(model.sketch(again), np.random.default_rng(4))
    rtol = tolerance(name)
    assert_close(model.restore(weighted[2], weighted[1]), model.restore(start, again), rtol=1e-6, atol=1e-6)
    once = step(model, model.split(weighted[1]), weighted[2])
    more = step(model, model.split(again), model.standardize(model.restore(weighted[2], weighted[1]), again))
    np.testing.assert_allclose(once.loglik, more.loglik, rtol=rtol)
    assert_close(model.restore(once.image, weighted[1]), model.restore(more.image, again), rtol=1e-6, atol=10 * rtol)


@EVERY
def test_charts_are_inverse(name):
    model, _, params = setup(name)
    free = pack(params, model.charts)
    assert_close(unpack(free, model.charts, params), params, rtol=1e-12, atol=1e-14)
    assert len(pack(unpack(free, model.charts, params), model.charts)) == len(free)


@EVERY
@given(seed=st.integers(0, 1000))
@examples(5)
def test_any_free_vector_unpacks_to_valid_parameters(name, seed):
    model, data, params = setup(name)
    size = len(pack(params, model.charts))
    valid = unpack(np.random.default_rng(seed).normal(size=size), model.charts, params)
    stats = model.expect(valid, data)
    assert all(np.isfinite(leaf).all() for leaf in leaves(stats))


@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_charts_one_by_one(numbers):
    free = np.array(numbers)
    assert (Real().unpack(free, np.empty((2, 3))).ravel() == free).all()
    assert (Positive().unpack(free, np.empty(6)) >= 0).all()
    weights = Simplex().unpack(free, np.empty((2, 3)))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    factor = Cholesky().unpack(free, np.empty((3, 3)))
    assert (np.diagonal(factor) >= 0).all()
    assert (np.triu(factor, 1) == 0).all()


@EVERY
def test_a_fit_commutes_with_units(name):
    specimen = SPECIMENS[name]
    if not specimen.any_units:
        pytest.skip("its units have a meaning")
    single = specimen.cells.dtype == np.float32
    params, ascent = fit(specimen.model, specimen.X)
    cells = np.count_nonzero(~np.isnan(specimen.cells))
    rtol = max(1e-6, tolerance(name))
    for unit in np.float32([1e-10, 1e-3, 1e10]) if single else (1e-150, 1e-3, 1e150):
        other, again = fit(specimen.model, specimen.hold(specimen.cells * unit))
        np.testing.assert_allclose(ascent.loglik, again.loglik + cells * np.log(unit), rtol=rtol)
        before, after = location(specimen.model, params), location(specimen.model, other)
        assert_close(before * unit, after, rtol=1e-3, atol=1e-4)


@EVERY
def test_a_fit_commutes_with_shifts(name):
    specimen = SPECIMENS[name]
    if not specimen.any_origin:
        pytest.skip("its zero has a meaning")
    cells = specimen.cells
    offset = 1e8 if cells.dtype == np.float64 else 16.0
    found = [fit(specimen.model, X) for X in (specimen.X, specimen.hold(cells + cells.dtype.type(offset)))]
    np.testing.assert_allclose(found[0][1].loglik, found[1][1].loglik, rtol=1e-4)
    before, after = (location(specimen.model, params) for params, _ in found)
    np.testing.assert_allclose(before, after - offset, atol=1e-2)


def fit(model, X):
    data = model.prepare(X)
    model = model.calibrate(data)
    seed = np.random.SeedSequence(5)
    best = search(
        model, data, n_init="auto", seed=seed, n_workers=1, tol=1e-5, max_iter=500, accelerate=ACCELERATORS["auto"]
    ).best
    return model.canonical(model.restore(best.params, data)), best


@EVERY
def test_models_are_frozen_and_picklable(name):
    model = SPECIMENS[name].model
    assert repr(pickle.loads(pickle.dumps(model))) == repr(model)
    with pytest.raises(AttributeError):
        model.k = 7


@MIXTURES
def test_parts_of_a_posterior_agree(name):
    model, data, params = setup(name)
    out = model.outputs(data, ("log_density", "responsibilities", "labels"))
    model.infer(params, data, out)
    rtol = tolerance(name)
    np.testing.assert_allclose(out.responsibilities.sum(axis=1), 1.0, rtol=max(1e-12, rtol))
    np.testing.assert_allclose(out.log_density.sum(), model.expect(params, data).loglik, rtol=rtol)
    best = out.responsibilities.max(axis=1)
    np.testing.assert_allclose(np.take_along_axis(out.responsibilities, out.labels[:, None], axis=1)[:, 0], best)


@MIXTURES
def test_the_fused_step_is_the_law_applied_twice(name):
    """Responsibilities from ``log_prob``, summed by ``summarize``: what the fused kernel does in one pass."""
    model, data, params = setup(name)
    joint = np.log(params.weights) + model.law.log_prob(params.law, data)
    density = np.logaddexp.reduce(joint, axis=1)
    stats = model.law.summarize(params.law, data, np.exp(joint - density[:, None]))
    fused = model.expect(params, data)
    rtol = max(1e-9, tolerance(name))
    np.testing.assert_allclose(density.sum(), fused.loglik, rtol=rtol)
    assert_close(stats, fused.law, rtol=100 * rtol, atol=rtol)


def test_addition_walks_nested_statistics():
    model, data, params = setup("mixture-full")
    stats = model.expect(params, data)
    law = stats.law._make(2 * field for field in stats.law)
    assert_close(add(stats, stats), stats._make([2 * stats.loglik, 2 * stats.counts, law]))
    assert add(stats, None) is stats
