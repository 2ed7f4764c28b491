"""Compiled == reference, to rounding, whatever the shapes, strides and float type."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from emkit import kernels
from emkit.kernels import reference

SHAPES = ["full", "tied", "diag", "spherical"]
COMPILED = [name for name in kernels.available() if name != "reference"]
# Rounding of sums relative to the largest of them, and of log-densities and responsibilities.
TOLERANCE = {np.float64: 1e-11, np.float32: 1e-3}

shapes = pytest.mark.parametrize("shape", SHAPES)
builds = pytest.mark.parametrize(
    "build", COMPILED or [pytest.param("none", marks=pytest.mark.skip(reason="not compiled"))]
)
every_build = pytest.mark.parametrize("build", kernels.available())
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def law(rng, shape, n_components, d, spread):
    """Random parameters: log_weights, means, covariance."""
    means = spread * rng.normal(size=(n_components, d)) / np.sqrt(d)

    def factors(count):
        A = np.eye(d) + 0.3 * rng.normal(size=(count, d, d)) / np.sqrt(d)
        return np.linalg.cholesky(A @ A.transpose(0, 2, 1))

    covariance = {
        "full": lambda: factors(n_components),
        "tied": lambda: factors(1)[0],
        "diag": lambda: rng.uniform(0.3, 3, size=(n_components, d)),
        "spherical": lambda: rng.uniform(0.3, 3, size=n_components),
    }[shape]()
    return np.log(rng.dirichlet(np.full(n_components, 3.0))), means, covariance


def problem(seed, shape, n, d, n_components, dtype, spread=3.0):
    """Arguments of a kernel but for the weight: X, center, scale, log_weights, means, covariance."""
    rng = np.random.default_rng(seed)
    log_weights, means, covariance = law(rng, shape, n_components, d, spread)
    center, scale = rng.normal(size=d), rng.uniform(0.5, 2, size=d)
    z = means[rng.integers(n_components, size=n)] + rng.normal(size=(n, d))
    return [(z * scale + center).astype(dtype), center, scale, log_weights, means, covariance]


def expect(build, shape, arguments, weight=None):
    X, *rest = arguments
    return getattr(kernels.load(build), f"expect_{shape}")(X, weight, *rest)


def infer(build, shape, arguments, wanted=(True, True, True)):
    n, n_components = len(arguments[0]), len(arguments[3])
    out = [np.full(n, np.nan), np.full((n, n_components), np.nan), np.full(n, -1, np.int64)]
    out = [array if want else None for array, want in zip(out, wanted, strict=True)]
    assert getattr(kernels.load(build), f"infer_{shape}")(*arguments, *out) is None
    return out


def assert_same_sums(sums, expected, total, dtype):
    assert len(sums) == len(expected)
    for value, truth in zip(sums, expected, strict=True):
        assert np.shape(value) == np.shape(truth)
        assert np.asarray(value).dtype == np.float64
        np.testing.assert_allclose(value, truth, rtol=0, atol=TOLERANCE[dtype] * (total + np.abs(truth).max()))


def layouts(X):
    """The same values laid out differently in memory."""
    wide = np.zeros((2 * len(X), 3 * X.shape[1]), X.dtype)
    wide[::2, ::3] = X
    frozen = X.copy()
    frozen.flags.writeable = False
    return {
        "C": X,
        "Fortran": np.asfortranarray(X),
        "strided": wide[::2, ::3],
        "reversed": np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
        "read-only": frozen,
    }


@builds
@shapes
@dtypes
@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 1000),
    d=st.integers(1, 70),
    n_components=st.integers(1, 40),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    layout=st.sampled_from(["C", "Fortran", "strided", "reversed", "read-only"]),
    weighting=st.sampled_from(["none", "positive", "zeros", "strided"]),
    switched_off=st.booleans(),
)
def test_compiled_is_reference(build, shape, dtype, seed, n, d, n_components, spread, layout, weighting, switched_off):
    arguments = problem(seed, shape, n, d, n_components, dtype, spread)
    arguments[0] = layouts(arguments[0])[layout]
    rng = np.random.default_rng(seed)
    if switched_off and n_components > 1:
        arguments[3][rng.integers(n_components)] = -np.inf
    weight = {
        "none": None,
        "positive": rng.exponential(size=n),
        "zeros": rng.integers(0, 3, size=n).astype(float),
        "strided": rng.exponential(size=2 * n)[::2],
    }[weighting]
    total = n if weight is None else weight.sum()
    assert_same_sums(
        expect(build, shape, arguments, weight), expect("reference", shape, arguments, weight), total, dtype
    )

    density, resp, labels = infer(build, shape, arguments)
    true_density, true_resp, true_labels = infer("reference", shape, arguments)
    atol = TOLERANCE[dtype]
    np.testing.assert_allclose(density, true_density, rtol=atol, atol=atol)
    np.testing.assert_allclose(resp, true_resp, rtol=0, atol=10 * atol)
    np.testing.assert_allclose(resp.sum(axis=1), 1, atol=atol)
    assert (resp[:, np.isneginf(arguments[3])] == 0).all()
    undecided = true_resp.max(axis=1) - true_resp[np.arange(n), labels] < 10 * atol
    assert (undecided | (labels == true_labels)).all()


@every_build
@shapes
@dtypes
def test_outputs_can_be_left_out(build, shape, dtype):
    arguments = problem(0, shape, 333, 5, 4, dtype)
    everything = infer(build, shape, arguments)
    for only in range(3):
        wanted = [which == only for which in range(3)]
        np.testing.assert_array_equal(infer(build, shape, arguments, wanted)[only], everything[only])


@every_build
@shapes
@dtypes
def test_infer_fills_a_slice_of_rows(build, shape, dtype):
    X, *rest = problem(1, shape, 500, 3, 2, dtype)
    density, resp, labels = infer(build, shape, [X, *rest])
    parts = [np.zeros(500), np.zeros((500, 2)), np.zeros(500, np.int64)]
    for rows in (slice(0, 200), slice(200, 500)):
        getattr(kernels.load(build), f"infer_{shape}")(X[rows], *rest, *(part[rows] for part in parts))
    for part, whole in zip(parts, (density, resp, labels), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-5 if dtype == np.float32 else 1e-13)


@every_build
@shapes
@dtypes
def test_no_rows(build, shape, dtype):
    arguments = problem(2, shape, 0, 3, 2, dtype)
    assert all(not np.any(value) for value in expect(build, shape, arguments))
    infer(build, shape, arguments)


@every_build
@shapes
@dtypes
def test_rows_of_weight_zero_add_nothing(build, shape, dtype):
    arguments = problem(3, shape, 400, 6, 3, dtype)
    X, *rest = arguments
    weight = np.random.default_rng(3).integers(0, 2, size=400).astype(float)
    kept = expect(build, shape, [X[weight > 0], *rest])
    X[weight == 0] = np.finfo(dtype).max
    assert_same_sums(expect(build, shape, arguments, weight), kept, weight.sum(), dtype)
    X[weight == 0] = np.nan
    assert_same_sums(expect(build, shape, arguments, weight), kept, weight.sum(), dtype)


@every_build
@shapes
@dtypes
@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e30, 1e200])
def test_weights_have_no_unit(build, shape, dtype, unit):
    arguments = problem(4, shape, 300, 4, 3, dtype)
    weight = np.random.default_rng(4).exponential(size=300)
    expected = expect(build, shape, arguments, weight)
    scaled = [np.asarray(value) / unit for value in expect(build, shape, arguments, weight * unit)]
    assert_same_sums(scaled, expected, weight.sum(), dtype)


@every_build
@shapes
@dtypes
def test_far_rows_never_give_nan(build, shape, dtype):
    arguments = problem(5, shape, 300, 4, 3, dtype)
    X, far = arguments[0], 1e30 if dtype == np.float32 else 1e200
    X[::7] *= far
    X[5] = [far, -far, far, -far]
    X[6] = -X[5]
    arguments[3][1] = -np.inf
    for value in expect(build, shape, arguments):
        assert np.isfinite(value).all()
    density, resp, labels = infer(build, shape, arguments)
    assert np.isfinite(density).all()
    assert (resp[:, 1] == 0).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1, atol=1e-5)
    assert (labels != 1).all()


@every_build
@shapes
@dtypes
def test_every_component_switched_off(build, shape, dtype):
    arguments = problem(6, shape, 50, 2, 3, dtype)
    arguments[3][:] = -np.inf
    density, resp, _ = infer(build, shape, arguments)
    assert np.isfinite(density).all()
    assert not resp.any()


@every_build
@shapes
@dtypes
def test_same_arguments_same_bits(build, shape, dtype):
    arguments = problem(7, shape, 2000, 9, 5, dtype)
    once, again = (expect(build, shape, arguments) for _ in range(2))
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(first, second)


@builds
@shapes
def test_arguments_are_left_alone(build, shape):
    arguments = problem(8, shape, 100, 3, 2, np.float64)
    for array in arguments:
        array.flags.writeable = False
    before = [array.copy() for array in arguments]
    expect(build, shape, arguments)
    infer(build, shape, arguments)
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_door_offers_every_kernel():
    assert kernels.BUILD in kernels.available()
    for name in (f"{task}_{shape}" for task in ("expect", "infer") for shape in SHAPES):
        assert getattr(kernels, name) is getattr(kernels.load(kernels.BUILD), name)
    assert kernels.load("reference") is reference


def choose(name):
    command = [sys.executable, "-W", "error", "-c", "from emkit import kernels; print(kernels.BUILD)"]
    elsewhere = Path(__file__).parent  # from the root of a checkout the import would find the sources, not the build
    environment = {**os.environ, "EMKIT_KERNELS": name}
    return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)


@every_build
def test_the_environment_chooses(build):
    assert choose(build).stdout.strip() == build


def test_the_environment_cannot_choose_what_is_not_there():
    result = choose("abacus")
    assert result.returncode != 0
    assert "EMKIT_KERNELS=abacus" in result.stderr
    assert "reference" in result.stderr
