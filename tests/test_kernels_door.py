"""At the door of every kernel: what is wrong is refused before anything is written, what is right gives the answer.

The compiled kernels are held to all of it: they read and write memory at places that their arguments name. The
reference is the specification: NumPy keeps it within its arrays, and it is held to the answers alone.
"""

import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.base import clone

from emkit import EMGaussianMixture, EMImputer, kernels
from emkit.kernels import reference

SHAPES = {"full": "cholesky", "tied": "cholesky", "diag": "variances", "spherical": "variances"}
COMPILED = [name for name in kernels.available() if name != "reference"]
builds = pytest.mark.parametrize(
    "build", COMPILED or [pytest.param("none", marks=pytest.mark.skip(reason="not compiled"))]
)
every_build = pytest.mark.parametrize("build", kernels.available())

# The table of kernels -------------------------------------------------------------------------------------------------

# Of each argument: ! it is written, ? it may be None, ~ it may lie in memory in any order.
GAUSSIAN = {
    "expect": "X~ weight~? center scale log_weights means {spread}",
    "infer": "X~ center scale log_weights means {spread} log_density!? responsibilities!? labels!?",
    "log_prob": "X~ center scale means {spread} out!",
    "summarize": "X~ center scale means resp",
}
GAUSSIAN_CHAIN = {
    "expect_chain": "X~ center scale means {spread} lengths weight? startprob transmat logliks! n_threads",
    "viterbi": "X~ center scale means {spread} lengths startprob transmat path! scores! n_threads",
}
CHAIN = {
    "forward_backward": "log_prob lengths weight? startprob transmat states! logliks! n_threads",
    "expect_chain_symbols": "numbers table lengths weight? startprob transmat logliks! n_threads",
    "filter_chain": "log_prob! lengths startprob transmat increments!",
    "viterbi": "log_prob lengths startprob transmat path! scores! n_threads",
}
MISSING = {
    "range_missing": "X~",
    "moments_missing": "X~ weight? center scale",
    "group_missing": "X~",
    "standardize_missing": "X~ order center scale rows!",
    "condense_missing": "rows! weight! moves! starts missing counts worth",
    "expect_missing": "rows weight moves starts missing counts mean precision sums?",
    "infer_missing": "X~ order starts missing center scale mean precision noise? "
    "filled!? deviation!? distance!? log_determinant!?",
}
# Axes whose length nothing else of the call tells.
FREE_AXES = {
    ("range_missing", "X"): (0, 1),
    ("group_missing", "X"): (0, 1),
    ("standardize_missing", "X"): (0,),
    ("expect_chain_symbols", "table"): (0,),
}
N, D, K = 40, 3, 5


def gaussian(shape, n):
    """Arguments of the kernels of mixtures, by name."""
    rng = np.random.default_rng(0)
    factors = np.linalg.cholesky(np.eye(D) + 0.3) * rng.uniform(0.5, 2.0, size=(K, 1, 1))
    variances = rng.uniform(0.5, 2.0, size=(K, D))
    spread = {"full": factors, "tied": factors[0].copy(), "diag": variances, "spherical": variances[:, 0].copy()}
    return {
        "X": rng.normal(size=(n, D)),
        "weight": rng.exponential(size=n),
        "center": rng.normal(size=D),
        "scale": rng.uniform(0.5, 2.0, size=D),
        "log_weights": np.log(rng.dirichlet(np.ones(K))),
        "means": rng.normal(size=(K, D)),
        SHAPES[shape]: spread[shape],
        "resp": rng.dirichlet(np.ones(K), size=n),
        "log_density": np.zeros(n),
        "responsibilities": np.zeros((n, K)),
        "labels": np.zeros(n, np.int64),
        "out": np.zeros((n, K)),
    }


def chain(shape, n):
    """Arguments of the kernels of chains, by name."""
    rng = np.random.default_rng(1)
    lengths = np.array([n - 12, 9, 3] if n else [], np.int64)
    return gaussian(shape, n) | {
        "log_prob": rng.normal(size=(n, K)),
        "numbers": np.where(rng.random((n, 1)) < 0.2, np.nan, rng.integers(0, 6, size=(n, 1))),
        "table": np.vstack([np.log(rng.dirichlet(np.ones(K), size=6)), np.zeros(K)]),
        "lengths": lengths,
        "weight": rng.exponential(size=len(lengths)),
        "startprob": rng.dirichlet(np.ones(K)),
        "transmat": rng.dirichlet(np.ones(K), size=K),
        "states": np.zeros((n, K)),
        "logliks": np.zeros(len(lengths)),
        "increments": np.zeros(n),
        "path": np.zeros(n, np.int64),
        "scores": np.zeros(len(lengths)),
        "n_threads": 2,
    }


def holes(kernel, n):
    """Arguments of the kernels of rows with holes, by name."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, D))
    X[: n // 2, 1] = np.nan
    X[: n // 4, 2] = np.nan
    order, starts, missing = reference.group_missing(X)
    center, scale = rng.normal(size=D), rng.uniform(0.5, 2.0, size=D)
    rows = np.zeros((n, D))
    if kernel != "standardize_missing":
        reference.standardize_missing(X, order, center, scale, rows)
    weight = rng.exponential(size=n)
    A = rng.normal(size=(D, 2 * D))
    ended = np.column_stack([rows, np.ones(n)])
    return {
        "X": X,
        "order": order,
        "starts": starts,
        "missing": missing,
        "center": center,
        "scale": scale,
        "rows": rows,
        "weight": weight,
        "moves": np.ones(n, bool),
        "counts": np.array([weight[a:b].sum() for a, b in pairwise(starts)]),
        "worth": 2.0,
        "mean": rng.normal(size=D),
        "precision": A @ A.T,
        "sums": (weight * ended.T) @ ended,
        "noise": rng.normal(size=(n, D)),
        "filled": np.zeros((n, D)),
        "deviation": np.zeros((n, D)),
        "distance": np.zeros(n),
        "log_determinant": np.zeros(n),
    }


class Argument(NamedTuple):
    name: str
    written: bool
    optional: bool
    any_order: bool


class Kernel(NamedTuple):
    name: str
    arguments: tuple[Argument, ...]
    values: dict[str, object]

    def call(self, build, **changed):
        """What it returns and, by name, what it has written."""
        values = self.values | changed
        returned = getattr(kernels.load(build), self.name)(*(values[argument.name] for argument in self.arguments))
        return returned, {argument.name: values[argument.name] for argument in self.arguments if argument.written}

    def arrays(self):
        return [argument for argument in self.arguments if isinstance(self.values[argument.name], np.ndarray)]


def kernel(name, n=N):
    """Find a kernel in the table, with fresh arguments for so many rows."""
    family, _, shape = name.rpartition("_")
    if name in CHAIN:
        signature, values = CHAIN[name], chain("full", n)
    elif name in MISSING:
        signature, values = MISSING[name], holes(name, n)
    elif family in GAUSSIAN_CHAIN:
        signature, values = GAUSSIAN_CHAIN[family].format(spread=SHAPES[shape]), chain(shape, n)
    else:
        signature, values = GAUSSIAN[family].format(spread=SHAPES[shape]), gaussian(shape, n)
    arguments = tuple(
        Argument(re.sub(r"\W", "", word), "!" in word, "?" in word, "~" in word) for word in signature.split()
    )
    return Kernel(name, arguments, {argument.name: values[argument.name] for argument in arguments})


TABLE = [*CHAIN, *MISSING, *(f"{family}_{shape}" for family in (GAUSSIAN | GAUSSIAN_CHAIN) for shape in SHAPES)]
ARRAYS = [(name, argument.name) for name in TABLE for argument in kernel(name).arrays()]
WRITTEN = [(name, argument.name) for name in TABLE for argument in kernel(name).arrays() if argument.written]

every_kernel = pytest.mark.parametrize("name", TABLE)
every_array = pytest.mark.parametrize(("name", "which"), ARRAYS)
every_output = pytest.mark.parametrize(("name", "which"), WRITTEN)


def test_every_kernel_is_in_the_table():
    offered = [name for name in kernels.__all__ if hasattr(reference, name)]
    assert sorted(offered) == sorted(TABLE)
    assert all(hasattr(kernels.load(build), name) for build in COMPILED for name in TABLE)


# What is right --------------------------------------------------------------------------------------------------------


def assert_right(build, name, n=N, rtol=1e-9, **changed):
    """The answer is the reference's, and nothing but what is written has changed."""
    (found, filled), (expected, truth) = (kernel(name, n).call(which, **changed) for which in (build, "reference"))
    if name == "condense_missing":  # what lies beyond the last row is of no use
        filled, truth = ({key: array[: expected[-1]] for key, array in call.items()} for call in (filled, truth))
    pairs = [(filled[key], truth[key]) for key in filled if filled[key] is not None]
    if expected is None:
        assert found is None
    else:
        pairs += [(found, expected)] if isinstance(found, np.ndarray) else list(zip(found, expected, strict=True))
    assert pairs
    for one, other in pairs:
        assert np.shape(one) == np.shape(other)
        size = np.abs(np.asarray(other, float)).max(initial=0.0, where=np.isfinite(other))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * (1.0 + size))


@every_build
@every_kernel
@pytest.mark.parametrize("n", [0, 15, N])
def test_right_calls_give_the_answer(build, name, n):
    before = kernel(name, n).values
    called = kernel(name, n)
    called.call(build)
    for argument in called.arguments:
        if not argument.written:
            np.testing.assert_array_equal(called.values[argument.name], before[argument.name])
    assert_right(build, name, n)


def places(array):
    """The same values elsewhere in memory."""
    wide = np.zeros([3 * length for length in array.shape], array.dtype)
    every_third = wide[(slice(None, None, 3),) * array.ndim]
    every_third[...] = array
    backwards = np.ascontiguousarray(np.flip(array))
    yield "every third cell", every_third
    yield "backwards", np.flip(backwards)
    if array.ndim > 1:
        yield "in Fortran order", np.asfortranarray(array)
        yield "rows apart", np.concatenate([array, array], axis=-1)[..., : array.shape[-1]]


@builds
@every_array
def test_right_arrays_of_other_kinds_give_the_answer(build, name, which):
    argument = next(argument for argument in kernel(name).arguments if argument.name == which)
    array = kernel(name).values[which]
    if argument.any_order:
        for _, place in places(array):
            assert_right(build, name, **{which: place})
    if which == "X":
        assert_right(build, name, X=array.astype(np.float32), rtol=1e-3)
    if not argument.written:
        array.flags.writeable = False
        assert_right(build, name, **{which: array})
    if argument.optional:
        assert_right(build, name, **{which: None})


@builds
@every_kernel
def test_what_need_not_be_finite_is_not_refused(build, name):
    """No kernel promises anything of such parameters but to come to an end within its arrays."""
    for argument in kernel(name).arrays():
        for value in (np.nan, np.inf, -np.inf, 1e308, -1e308):
            values = kernel(name).values
            if values[argument.name].dtype == np.float64:
                values[argument.name][...] = value
                before = {key: array.shape for key, array in values.items() if isinstance(array, np.ndarray)}
                _, filled = kernel(name).call(build, **values)
                assert all(array.shape == before[key] for key, array in filled.items())


# What is wrong --------------------------------------------------------------------------------------------------------


def assert_refused(build, name, because=None, **changed):
    """An error, for that reason, and not a byte is written."""
    called = kernel(name)
    values = {key: changed.get(key, value) for key, value in called.values.items()}
    arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    before = {key: array.tobytes() for key, array in arrays.items()}
    with pytest.raises((TypeError, ValueError), match=because):
        called.call(build, **changed)
    assert {key: array.tobytes() for key, array in arrays.items()} == before


def wrong_types(array, is_rows):
    swapped = array.dtype.newbyteorder(">")
    others = {np.float16, np.float32, np.float64, np.int32, np.int64, np.uint64, np.uint8, np.bool_, np.complex128}
    right = {np.float64, np.float32} if is_rows else {array.dtype.type}
    for dtype in others - right:
        with np.errstate(invalid="ignore"):
            yield f"of {dtype.__name__}", np.nan_to_num(array).astype(dtype)
    yield "of objects", array.astype(object)
    yield "a list", array.tolist()
    if array.itemsize > 1:
        yield "of swapped bytes", array.astype(swapped)


def wrong_lengths(array, free):
    yield "a dimension more before", array[None].copy()
    yield "a dimension more behind", array[..., None].copy()
    yield "a dimension less", array[0].copy() if array.ndim > 1 else np.array(array[0])
    for axis in set(range(array.ndim)) - set(free):
        yield f"longer along {axis}", np.concatenate([array, array.take([-1], axis=axis)], axis=axis)
        yield f"shorter along {axis}", np.delete(array, -1, axis=axis)


def packed(array):
    """The same values with a byte between them."""
    records = np.zeros(array.shape, [("tag", "i1"), ("values", array.dtype)])
    records["values"] = array
    return records["values"]


@builds
@every_array
def test_wrong_arrays_are_refused(build, name, which):
    argument = next(argument for argument in kernel(name).arguments if argument.name == which)
    array = kernel(name).values[which]
    wrong = dict(wrong_types(array, which == "X")) | dict(wrong_lengths(array, FREE_AXES.get((name, which), ())))
    if array.itemsize > 1:
        wrong["a field of packed records"] = packed(array)
    if not argument.any_order:
        # A single column is in both orders.
        wrong |= {place: view for place, view in places(array) if not view.flags.c_contiguous}
    if not argument.optional:
        wrong["None"] = None
    accepted = []
    for what, value in wrong.items():
        try:
            assert_refused(build, name, **{which: value})
        except (AssertionError, pytest.fail.Exception) as error:
            accepted.append(f"{what}: {error}")
    assert not accepted


@builds
@every_output
def test_outputs_that_cannot_be_written_are_refused(build, name, which):
    array = kernel(name).values[which]
    array.flags.writeable = False
    assert_refused(build, name, **{which: array})


def neighbours(one, other, shared):
    """Both in one piece of memory, the first before the other, with so many bytes (at least) in common."""
    step = max(one.itemsize, other.itemsize)
    begin = (one.nbytes - shared) // step * step if shared else -(-one.nbytes // step) * step
    memory = np.zeros(max(begin, 0) + one.nbytes + other.nbytes + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :]
    views = []
    for array, start in ((one, 0), (other, max(begin, 0))):
        views.append(memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape))
        views[-1][...] = array
    return views


@builds
@every_output
def test_outputs_that_share_memory_are_refused(build, name, which):
    values = kernel(name).values
    output = values[which]
    for other in {argument.name for argument in kernel(name).arrays()} - {which}:
        array = values[other]
        for shared in (1, 8, max(output.nbytes, array.nbytes)):
            after, before = neighbours(output, array, shared), neighbours(array, output, shared)[::-1]
            for mine, its in (after, before):
                assert np.shares_memory(mine, its)
                its[...] = array  # what is read is right
                assert_refused(build, name, "share memory", **{which: mine, other: its})
        for mine, its in (neighbours(output, array, 0), neighbours(array, output, 0)[::-1]):
            assert not np.shares_memory(mine, its)
            called = kernel(name)
            called.call(build, **{which: mine, other: its})
            expected = kernel(name).call(build)[1][which]
            np.testing.assert_array_equal(mine, expected)


@builds
@pytest.mark.parametrize(("name", "which"), [(name, which) for name, which in WRITTEN if (name, "X") in ARRAYS])
def test_outputs_within_rows_of_any_order_are_refused(build, name, which):
    """Rows that are backwards, or have gaps, reach from their lowest cell to their highest."""
    values = kernel(name).values
    output, X = neighbours(values[which], values["X"], 8)
    backwards = X[::-1]
    backwards[...] = values["X"]
    assert_refused(build, name, "share memory", **{which: output, "X": backwards})


LENGTHS = {
    "zero": lambda a: np.append(a, 0),
    "negative": lambda a: np.array([a[0] + 4, a[1], a[2], -4]),
    "too many rows": lambda a: a + 1,
    "too few rows": lambda a: a - 1,
    "more than there are integers": lambda a: np.array([2**62, 2**62, 2**62, 2**62, *a]),
}
STARTS = {
    "negative": lambda a: a - 1,
    "later than the first row": lambda a: np.array([1, *a[1:]]),
    "falling": lambda a: np.array([a[0], a[2], a[1], *a[3:]]),
    "beyond the rows": lambda a: np.array([*a[:-1], a[-1] + 1]),
    "before the last row": lambda a: np.array([*a[:-1], a[-1] - 1]),
    "far beyond": lambda a: np.array([*a[:-1], 2**62]),
}
ORDERS = {
    "negative": lambda a: np.array([-1, *a[1:]]),
    "beyond the rows": lambda a: np.array([*a[:-1], N]),
    "far beyond": lambda a: np.array([2**62, *a[1:]]),
}
WORTHS = {value: lambda _, value=value: value for value in (0.0, 0.99, -1.0, -np.inf, np.nan)}
CONTENTS = {"lengths": LENGTHS, "starts": STARTS, "order": ORDERS, "worth": WORTHS}
REASONS = {"lengths": "add up to the rows", "starts": "starts must", "order": "names a row", "worth": "worth must be"}


@builds
@pytest.mark.parametrize(
    ("name", "which"), [(name, which) for name in TABLE for which in CONTENTS if which in kernel(name).values]
)
def test_numbers_that_name_no_place_are_refused(build, name, which):
    value, changed = kernel(name).values[which], {}
    if which == "lengths" and "weight" in kernel(name).values:
        changed["weight"] = None  # which would tell that there is a sequence too many
    for spoil in CONTENTS[which].values():
        wrong = spoil(value)
        for output in ("logliks", "scores"):
            if which == "lengths" and output in kernel(name).values:
                changed[output] = np.zeros(len(wrong))
        assert_refused(build, name, REASONS[which], **{which: wrong}, **changed)


@builds
@pytest.mark.parametrize("name", [name for name, which in ARRAYS if which == "X"])
def test_rows_of_integers_are_told_what_rows_may_be(build, name):
    assert_refused(build, name, "X must be float32 or float64", X=np.zeros((N, D), np.int64))


@builds
@pytest.mark.parametrize("name", [f"{family}_{shape}" for family in (GAUSSIAN | GAUSSIAN_CHAIN) for shape in SHAPES])
def test_no_columns_and_no_components_are_refused(build, name):
    values = kernel(name).values
    empty = {key: np.delete(array, range(D), -1) for key, array in values.items() if key in ("X", "means")}
    assert_refused(build, name, "at least one", **empty)
    assert_refused(build, name, means=np.empty((0, D)))


@builds
@pytest.mark.parametrize("name", [name for name, which in ARRAYS if which == "transmat"])
def test_no_states_are_refused(build, name):
    assert_refused(
        build, name, "at least one", means=np.empty((0, D)), startprob=np.empty(0), transmat=np.empty((0, 0))
    )


# What users bring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", "CF")
def test_rows_and_weights_between_two_places_are_copied(dtype, order):
    """As files read into memory at an odd place have them, and fields of packed records."""
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(60, 2)).astype(dtype), rng.integers(1, 4, size=60).astype(float)
    odd = np.frombuffer(b"!" + X.tobytes(order), dtype, offset=1).reshape(X.shape, order=order)
    assert not odd.flags.aligned
    for estimator in (EMGaussianMixture(2, random_state=0), EMImputer()):
        fitted = clone(estimator).fit(odd, sample_weight=packed(weight))
        expected = clone(estimator).fit(X.copy(order), sample_weight=weight).log_likelihood_
        assert fitted.log_likelihood_ == pytest.approx(expected, rel=1e-12)  # NumPy adds up as rows lie in memory
