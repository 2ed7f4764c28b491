"""The kernels of rows with holes: compiled == reference, to rounding."""

from itertools import pairwise

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from emkit import kernels
from emkit._patterns import Patterns, group
from emkit.kernels import reference
from emkit.normal import MissingNormal, inverse

COMPILED = [name for name in kernels.available() if name != "reference"]
builds = pytest.mark.parametrize(
    "build", COMPILED or [pytest.param("none", marks=pytest.mark.skip(reason="not compiled"))]
)
problems = given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 60),
    p=st.integers(1, 19),
    share=st.floats(0.0, 0.8),
    dtype=st.sampled_from([np.float32, np.float64]),
    order=st.sampled_from("CF"),
)


def table(seed, n, p, share, dtype, order):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 10 * rng.normal(size=p)
    X[rng.random(X.shape) < share] = np.nan
    return np.asarray(X, dtype=dtype, order=order)


def assert_close(found, expected, rtol=1e-9):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * max(1.0, np.abs(other).max(initial=0.0)))


def precision(p, seed):
    A = np.random.default_rng(seed).normal(size=(p, 2 * p))
    return np.linalg.inv(A @ A.T / (2 * p) + 0.1 * np.eye(p))


@builds
@problems
@examples(30)
def test_expect(build, seed, n, p, share, dtype, order):
    rng = np.random.default_rng(seed)
    data = MissingNormal().prepare(table(seed, n, p, share, dtype, order), rng.integers(0, 4, n) + rng.random(n))
    d = len(data.scale)
    arguments = (*data[:6], 0.3 * rng.normal(size=d), precision(d, seed))
    expected = reference.expect_missing(*arguments, None)
    for sums in (None, data.summed().sums):
        assert_close(kernels.load(build).expect_missing(*arguments, sums), expected)


@builds
@problems
@examples(30)
def test_infer(build, seed, n, p, share, dtype, order):
    rng = np.random.default_rng(seed)
    X = table(seed, n, p, share, dtype, order)
    patterns = group(X)
    arguments = (X, *patterns, rng.normal(size=p), rng.uniform(0.5, 2, p), rng.normal(size=p), precision(p, seed))
    noise = rng.normal(size=(n, p)) if seed % 2 else None
    found = []
    for kernel in (kernels.load(build), reference):
        out = [np.array(X, dtype=np.float64, order="C"), np.zeros((n, p)), np.zeros(n), np.zeros(n)]
        kernel.infer_missing(*arguments, noise, *out)
        found.append(out)
        only = np.zeros(n)
        kernel.infer_missing(*arguments, None, None, None, only, None)
        np.testing.assert_array_equal(only, out[2])
    assert_close(*found, rtol=1e-7)


@builds
@problems
@examples(30)
def test_preparation(build, seed, n, p, share, dtype, order):
    X = table(seed, n, p, share, dtype, order)
    rng = np.random.default_rng(seed)
    middle, unit, weight = rng.normal(size=p), rng.uniform(0.5, 2, p), rng.random(n)
    rows = rng.permutation(n)[: n // 2]
    found = []
    for kernel in (kernels.load(build), reference):
        z = np.empty((len(rows), p))
        kernel.standardize_missing(X, rows, middle, unit, z)
        low, high = kernel.range_missing(X)
        np.testing.assert_array_equal(np.isinf(low), np.isnan(X).all(axis=0))
        found.append(
            [*kernel.moments_missing(X, None, middle, unit), *kernel.moments_missing(X, weight, middle, unit), z]
        )
        found[-1] += [np.where(np.isinf(low), 0.0, low), np.where(np.isinf(high), 0.0, high)]
    assert_close(*found, rtol=1e-11)


@builds
@pytest.mark.parametrize("p", [1, 7, 8, 9, 56, 57, 64, 65, 130])
@pytest.mark.parametrize("order", "CF")
def test_grouping(build, p, order):
    """Exactly the same order; patterns differ, those that miss less come first, rows of one pattern as they came."""
    X = table(p, 200, p, 0.5 / p, np.float64, order)
    X[::7] = np.nan
    found, expected = kernels.load(build).group_missing(X), reference.group_missing(X)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    rows, starts, missing = found
    np.testing.assert_array_equal(np.isnan(X[rows]), np.repeat(missing, np.diff(starts), axis=0))
    assert len(np.unique(missing, axis=0)) == len(missing)
    assert (np.diff(missing.sum(axis=1)) >= 0).all()
    for begin, end in pairwise(starts):
        assert (np.diff(rows[begin:end]) > 0).all()
    np.testing.assert_array_equal(Patterns(*found).empty_rows(), np.flatnonzero(np.isnan(X).all(axis=1)))


@builds
@pytest.mark.parametrize("kind", ["regular", "a constant column", "collinear columns"])
def test_condensing(build, kind):
    """What stands for the rows of a large pattern has their sums; what lies beyond the end is not read."""
    rng = np.random.default_rng(0)
    n, p = 900, 5
    z = rng.normal(size=(n, p))
    if kind == "a constant column":
        z[:, 1] = 0.25
    elif kind == "collinear columns":
        z[:, 1] = z[:, 0]
    missing = np.array([[False] * 5, [False, False, True, False, False], [False, True, False, False, True]])
    starts = np.array([0, 600, 890, 900])
    z[np.repeat(missing, np.diff(starts), axis=0)] = 0.0
    weight = rng.integers(1, 4, n).astype(float)
    counts = np.add.reduceat(weight, starts[:-1])
    mean, K = 0.3 * rng.normal(size=p), precision(p, 1)
    whole = reference.expect_missing(z, weight, np.ones(n, bool), starts, missing, counts, mean, K, None)
    for kernel in (kernels.load(build), reference):
        rows, w, moves = z.copy(), weight.copy(), np.ones(n, bool)
        begins = kernel.condense_missing(rows, w, moves, starts, missing, counts, 4)
        np.testing.assert_array_equal(np.diff(begins), [600, 290, 10] if kind == "collinear columns" else [6, 5, 10])
        rows[begins[-1] :] = np.nan
        kept = slice(begins[-1])
        condensed = (rows[kept], w[kept], moves[kept], begins, missing, counts)
        assert_close(reference.expect_missing(*condensed, mean, K, None), whole, 1e-11)


def test_conditional_distributions_of_a_known_covariance():
    """The reference itself, by hand: x and y with correlation 1/2, y missing."""
    X = np.array([[2.0, np.nan]])
    K = inverse(np.linalg.cholesky(np.array([[1.0, 0.5], [0.5, 1.0]])))
    filled, deviation, distance, log_determinant = X.copy(), np.zeros((1, 2)), np.zeros(1), np.zeros(1)
    kernels.infer_missing(
        X,
        *group(X),
        np.zeros(2),
        np.ones(2),
        np.zeros(2),
        K,
        None,
        filled,
        deviation,
        distance,
        log_determinant,
    )
    np.testing.assert_allclose(filled, [[2.0, 1.0]])
    np.testing.assert_allclose(deviation, [[0.0, np.sqrt(0.75)]])
    np.testing.assert_allclose(distance, [4.0])
    np.testing.assert_allclose(log_determinant, -np.log(0.75))
