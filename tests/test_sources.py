"""Rows that are read block by block: the bits of an array in memory, whatever they come in."""

import pickle
import subprocess
import sys
import warnings
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from specimens import blobs

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, select
from emkit.emissions import Categorical, Columns, Gamma, Poisson
from emkit.exceptions import DataWarning

STATUS = Path("/proc/self/status")


class Blocks:
    """Rows, some at a time, again and again."""

    def __init__(self, X, step=701):
        self.X, self.step = X, step

    def __iter__(self):
        return (self.X[i : i + self.step] for i in range(0, len(self.X), self.step))


def as_blocks(X, tmp_path):
    return Blocks(X)


def as_function(X, tmp_path):
    return lambda: iter(Blocks(X, 999))


def as_npy(X, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    return tmp_path / "rows.npy"


def as_zarr(X, tmp_path):
    zarr = pytest.importorskip("zarr")
    there = zarr.open_array(tmp_path / "rows.zarr", mode="w", shape=X.shape, chunks=(1000, 2), dtype=X.dtype)
    there[:] = X
    return there


def as_parquet(X, tmp_path):
    """Two files in a folder, nulls for holes."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "rows").mkdir()
    for part, rows in enumerate((X[: len(X) // 3], X[len(X) // 3 :])):
        columns = {f"c{j}": pa.array(column, mask=np.isnan(column)) for j, column in enumerate(rows.T)}
        parquet.write_table(pa.table(columns), tmp_path / "rows" / f"{part}.parquet", row_group_size=900)
    return tmp_path / "rows"


KINDS = [as_blocks, as_function, as_npy, as_zarr, as_parquet]


def fitted(estimator):
    """Parameters, and the value of what they maximise."""
    names = ("weights_", "means_", "covariances_", "mean_", "covariance_", "startprob_", "transmat_", "objective_")
    more = ("lambdas_", "emissionprob_")
    return {name: getattr(estimator, name) for name in names + more if hasattr(estimator, name)}


def check_same(estimator, X, source, rtol=0.0, **more):
    one = fitted(estimator.fit(X, **more))
    two = fitted(estimator.fit(source, **more))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=rtol, atol=rtol, err_msg=name)
    return estimator


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["full", "tied"])
def test_a_mixture_of_a_source_has_the_bits_of_one_in_memory(kind, shape, tmp_path):
    X = blobs(np.random.default_rng(0), n=20_000, d=3)
    source = kind(X, tmp_path)
    mixture = check_same(EMGaussianMixture(3, covariance_type=shape, random_state=0), X, source)
    told = mixture.predict(source), mixture.predict_proba(source), mixture.score_samples(source)
    for here, there in zip((mixture.predict(X), mixture.predict_proba(X), mixture.score_samples(X)), told, strict=True):
        np.testing.assert_array_equal(there if kind is as_npy else np.concatenate(list(there)), here)
    assert mixture.score(source) == mixture.score(X)
    assert mixture.bic(source) == mixture.bic(X)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", KINDS)
def test_an_imputer_of_a_source_is_that_of_an_array(kind, tmp_path):
    rng = np.random.default_rng(1)
    X = blobs(rng, n=20_000, d=4, k=1)
    X[rng.random(X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    source = kind(X, tmp_path)
    imputer = check_same(EMImputer(), X, source, rtol=1e-10)
    filled = imputer.transform(source)
    filled = filled if kind is as_npy else np.concatenate(list(filled))
    np.testing.assert_allclose(filled, imputer.transform(X), rtol=1e-12)
    np.testing.assert_array_equal(imputer.missing_patterns_.counts, imputer.fit(X).missing_patterns_.counts)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_of_a_source_has_the_bits_of_one_in_memory(kind, tmp_path):
    rng = np.random.default_rng(2)
    X = blobs(rng, n=20_000, d=2)
    lengths = [250] * 80
    source = kind(X, tmp_path)
    chain = check_same(EMHiddenMarkov(2, random_state=0, max_iter=20), X, source, lengths=lengths)
    there = chain.predict(source, lengths=lengths)
    there = there if kind is as_npy else np.concatenate(list(there))
    np.testing.assert_array_equal(there, chain.predict(X, lengths=lengths))
    groups = np.repeat(np.arange(80), 250)
    assert chain.score(source, groups=groups) == chain.score(X, groups=groups)


def test_blocks_of_a_chain_are_its_sequences():
    rng = np.random.default_rng(3)
    X = [blobs(rng, n=n, d=2) for n in (40, 300, 1, 77)]
    X[1][rng.random(X[1].shape) < 0.1] = np.nan
    chain = check_same(EMHiddenMarkov(2, random_state=0), X, lambda: iter(X), rtol=1e-10)
    for here, there in zip(chain.predict(X), chain.predict(lambda: iter(X)), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    "law",
    [
        Poisson(),
        Categorical(categories=tuple(range(8))),
        Gamma(),
        Columns([("gaussian", [0, 2]), ("poisson", [1])]),
    ],
    ids=lambda law: type(law).__name__,
)
def test_chains_of_other_laws_read_sources(law):
    rng = np.random.default_rng(4)
    X = np.minimum(rng.poisson(np.repeat(rng.choice([1.0, 5.0], 60), 20)), 7)[:, None]
    if isinstance(law, Columns):
        X = np.hstack([X + rng.normal(size=X.shape), X, rng.normal(size=X.shape)])
    if isinstance(law, Gamma):
        X = X + rng.random(X.shape)
        X[rng.random(X.shape) < 0.1] = np.nan
    check_same(EMHiddenMarkov(2, emission=law, random_state=0), X, Blocks(X, 100), lengths=[300] * 4)


def test_weights_of_a_source_are_those_of_all_rows():
    rng = np.random.default_rng(5)
    X, weight = blobs(rng, n=20_000, d=2), rng.integers(0, 3, 20_000)
    check_same(EMGaussianMixture(3, random_state=0), X, Blocks(X), sample_weight=weight)
    X[::5, 0] = np.nan
    check_same(EMImputer(), X, Blocks(X), rtol=1e-10, sample_weight=weight)


def test_weights_of_sequences_and_columns_without_values():
    rng = np.random.default_rng(13)
    X = [blobs(rng, n=n, d=2) for n in (40, 300, 10, 77)]
    weight = np.repeat([1.0, 2.0, 3.0, 1.0], [40, 300, 10, 77])
    check_same(EMHiddenMarkov(2, random_state=0), X, lambda: iter(X), sample_weight=weight)
    X = np.column_stack([X[1], np.full(300, np.nan)])
    X[::3, 0] = np.nan
    with pytest.warns(DataWarning, match="without any observed value are dropped"):
        imputer = check_same(EMImputer(), X, Blocks(X, 100), rtol=1e-10)
    np.testing.assert_allclose(np.concatenate(list(imputer.transform(Blocks(X, 100)))), imputer.transform(X))


def test_a_fit_goes_on_from_another_and_can_be_kept():
    X = blobs(np.random.default_rng(14), n=3000, d=2)
    mixture = EMGaussianMixture(2, warm_start=True, random_state=0).fit(Blocks(X))
    again = pickle.loads(pickle.dumps(mixture)).fit(Blocks(X))
    assert again.n_iter_ <= mixture.n_iter_
    assert len(again.restarts_) == 1
    again.partial_fit(X[:1000])


@pytest.mark.parametrize("kind", [as_npy, as_blocks])
@pytest.mark.parametrize(
    "estimator", [EMGaussianMixture(2, random_state=0), EMImputer(), EMHiddenMarkov(2, random_state=0)]
)
def test_a_batch_of_a_stream_may_be_a_source(estimator, kind, tmp_path):
    X = blobs(np.random.default_rng(12), n=700, d=2)
    fitted = [clone(estimator).partial_fit(rows).partial_fit(rows) for rows in (X, kind(X, tmp_path))]
    here, there = ({k: v for k, v in vars(each).items() if isinstance(v, np.ndarray)} for each in fitted)
    for attributes in (here, there):
        attributes.pop("labels_", None)  # one for each row of an array, none for those of blocks
    assert here.keys() == there.keys()
    for name, value in here.items():
        np.testing.assert_array_equal(there[name], value, err_msg=name)


def test_frames_teach_their_names():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(blobs(np.random.default_rng(6), n=3000, d=2), columns=["tall", "wide"])
    mixture = EMGaussianMixture(2, random_state=0).fit(lambda: (X[i : i + 500] for i in range(0, 3000, 500)))
    assert list(mixture.feature_names_in_) == ["tall", "wide"]
    np.testing.assert_array_equal(mixture.means_, EMGaussianMixture(2, random_state=0).fit(X).means_)
    with pytest.raises(ValueError, match=r"block 1 of X: .*feature names"):
        EMGaussianMixture(2).fit([X[:500], X[500:].rename(columns={"wide": "broad"})])


def test_float32_stays_float32():
    X = blobs(np.random.default_rng(7), n=20_000, d=2).astype(np.float32)
    check_same(EMGaussianMixture(2, random_state=0), X, Blocks(X))


def test_fit_predict_of_a_source_gives_labels_block_by_block():
    X = blobs(np.random.default_rng(8), n=4000, d=2)
    for estimator in (EMGaussianMixture(2, random_state=0), EMHiddenMarkov(2, random_state=0)):
        told = list(estimator.fit_predict(Blocks(X, 1000)))
        assert [len(labels) for labels in told] == [1000] * 4
        assert not hasattr(estimator, "labels_")


def test_an_imputed_source_is_a_source():
    rng = np.random.default_rng(9)
    X = blobs(rng, n=5000, d=3)
    X[rng.random(X.shape) < 0.1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        imputer = EMImputer().fit(Blocks(X))
        mixture = EMGaussianMixture(3, random_state=0).fit(imputer.transform(Blocks(X)))
        whole = EMGaussianMixture(3, random_state=0).fit(imputer.transform(X))
    np.testing.assert_allclose(mixture.means_, whole.means_, rtol=1e-10)


def test_criteria_of_a_source_are_those_of_its_rows():
    X = blobs(np.random.default_rng(13), n=3000, d=2)
    mixture = EMGaussianMixture(2, random_state=0).fit(X)
    for ask in (mixture.score, mixture.aic, mixture.bic, mixture.icl):
        np.testing.assert_allclose(ask(Blocks(X)), ask(X), rtol=1e-12)
        with pytest.raises(ValueError, match="n_samples=0"):
            ask(Blocks(X[:0]))
    found = select(mixture, Blocks(X), {"n_components": [1, 2]}, criterion="icl")
    assert found.best_params_ == select(mixture, X, {"n_components": [1, 2]}, criterion="icl").best_params_


def test_standard_errors_of_a_source():
    X = blobs(np.random.default_rng(10), n=3000, d=2)
    mixture = EMGaussianMixture(2, random_state=0).fit(X)
    np.testing.assert_array_equal(mixture.standard_errors(Blocks(X)).means_, mixture.standard_errors(X).means_)
    with pytest.raises(ValueError, match="needs the rows in memory"):
        mixture.standard_errors(Blocks(X), method="sandwich")


def test_what_sources_are_refused(tmp_path):
    X = blobs(np.random.default_rng(11), n=2000, d=2)
    mixture = EMGaussianMixture(2, random_state=0)
    with pytest.raises(ValueError, match="generator, which can be read once"):
        mixture.fit(block for block in Blocks(X))
    with pytest.raises(ValueError, match="nothing is there"):
        mixture.fit(tmp_path / "rows.npy")
    with pytest.raises(ValueError, match="no block has a row"):
        mixture.fit(Blocks(X[:0]))
    holes = X.copy()
    holes[1500, 1] = np.nan
    with pytest.raises(ValueError, match=r"block 2 of X: Input X contains NaN at row 98, column 1"):
        mixture.fit(Blocks(holes))
    with pytest.raises(ValueError, match=r"block 1 of X: X has 1 features"):
        mixture.fit([X[:10], X[:10, :1]])
    for sign, how in ((1, "more"), (-1, "fewer")):
        passes = iter(range(1000))
        with pytest.raises(ValueError, match=f"1500 rows when it was first read and {how} now"):
            mixture.fit(lambda passes=passes, sign=sign: iter([X[: 1500 + sign * next(passes)]]))
    with pytest.raises(ValueError, match="sample_weight has shape"):
        mixture.fit(Blocks(X), sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="lengths or groups tell of 5 rows, but X has 2000"):
        EMHiddenMarkov(2).fit(Blocks(X), lengths=[5])
    with pytest.raises(ValueError, match="rows of group 0 are not together"):
        EMHiddenMarkov(2).fit(Blocks(X), groups=np.arange(2000) % 2)
    with pytest.raises(ValueError, match="hand its sequences to other methods"):
        EMHiddenMarkov(2, random_state=0).fit(Blocks(X)).decode(Blocks(X))
    with pytest.raises(ValueError, match="hand its blocks to other methods"):
        EMImputer().fit(X).multiple_impute(Blocks(X))
    with pytest.raises(ValueError, match="sample_weight is 0 for sequence 1"):
        EMHiddenMarkov(2).fit([X[:50], X[50:]].__iter__, sample_weight=np.repeat([1.0, 0.0], [50, 1950]))
    with pytest.raises(ValueError, match="set_output"):
        EMImputer().set_output(transform="pandas").fit(X).transform(Blocks(X))
    with pytest.raises(ValueError, match="sample_posterior"):
        EMImputer(sample_posterior=True).fit(X).transform(Blocks(X))


ESTIMATORS = [EMGaussianMixture(1), EMImputer(), EMHiddenMarkov(1)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (lambda: iter([1.0, 2.0]), "block 0 of X is a float: every block must be"),
        (lambda: iter([np.ones((5, 2)), None]), "block 1 of X is a NoneType: every block must be"),
        (lambda: None, "X is a function that gives a NoneType: it must give the blocks"),
        ({"a": [1.0]}, "X is a dict, which has no rows"),
        ({1.0, 2.0}, "X is a set, which has no rows"),
    ],
)
def test_what_has_no_rows(estimator, X, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(X)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_has_no_rows_in_other_libraries(estimator, tmp_path):
    pl, zarr = pytest.importorskip("polars"), pytest.importorskip("zarr")
    dask, bag = pytest.importorskip("dask.array"), pytest.importorskip("dask.bag")
    delayed = pytest.importorskip("dask").delayed
    group = zarr.create_group(store=str(tmp_path / "group.zarr"))
    group.create_array("rows", data=np.ones((5, 2)))
    remedies = [
        (pl.LazyFrame({"a": [1.0]}), r"polars.LazyFrame, .*X.collect\(\)"),
        (zarr.array(np.array(3.0)), "zarr.Array, .*0 dimensions"),
        (zarr.array(np.ones(5)), "zarr.Array, .*1 dimensions"),
        (group, "zarr.Group, .*give one of its arrays: rows"),
        (tmp_path / "group.zarr", "zarr.Group, .*give one of its arrays: rows"),
        (dask.from_array(np.array(3.0)), "dask.Array, .*0 dimensions"),
        (bag.from_sequence([1, 2]), r"dask.Bag, .*X.to_dataframe\(\)"),
        (delayed(np.ones)((5, 2)), "dask.Delayed.*dask.array.from_delayed"),
    ]
    for X, message in remedies:
        with pytest.raises(ValueError, match=f"X is a {message}"):
            estimator.fit(X)


def test_files_that_are_not_what_they_are_called(tmp_path):
    pytest.importorskip("pyarrow.dataset")
    (tmp_path / "rows.npy").touch()
    (tmp_path / "rows.parquet").write_text("rows")
    with pytest.raises(ValueError, match=r"rows.npy', which holds no array of numbers"):
        EMGaussianMixture(1).fit(tmp_path / "rows.npy")
    for path in (tmp_path, tmp_path / "rows.parquet"):
        with pytest.raises(ValueError, match=f"X is the path {str(path)!r}, where not every file is a Parquet file"):
            EMGaussianMixture(1).fit(path)


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").touch()
    for module, path in (("pyarrow.dataset", "rows.parquet"), ("zarr", "rows.zarr")):
        (tmp_path / path).touch()
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"pip install {module.partition('.')[0]}"):
            EMGaussianMixture(2).fit(str(tmp_path / path))


def test_a_reader_of_batches_is_read_once():
    pa = pytest.importorskip("pyarrow")
    batch = pa.record_batch(dict(zip("ab", blobs(np.random.default_rng(12), n=100, d=2).T, strict=True)))
    reader = lambda: pa.RecordBatchReader.from_batches(batch.schema, [batch] * 50)  # noqa: E731
    with pytest.raises(ValueError, match="function that opens a new one"):
        EMGaussianMixture(2).fit(reader())
    assert list(EMGaussianMixture(2, random_state=0).fit(reader).feature_names_in_) == ["a", "b"]


ARROW_REFUSED = [
    ([datetime(2020, 1, 1), None], "timestamp.*a date is not a measurement"),
    ([date(2020, 1, 1)] * 2, "date32.*a date is not a measurement"),
    ([timedelta(1), None], "duration.*a date is not a measurement"),
    (["1", "2"], "text, not numbers.*row 0 holds '1'"),
    ([None, b"1"], "text, not numbers.*row 1 holds b'1'"),
    ([[1.0], [2.0]], "list.*not numbers"),
]


@pytest.mark.parametrize(("cells", "message"), ARROW_REFUSED)
@pytest.mark.parametrize("is_encoded", [False, True])
@pytest.mark.parametrize("kind", ["table", "batch", "parquet"])
def test_arrow_columns_without_numbers_are_refused_by_name(cells, message, is_encoded, kind, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    column = pa.array(cells * 20)
    lost = pa.types.is_duration(column.type) and kind == "parquet"  # the file says they are integers
    if is_encoded and not pa.types.is_list(column.type) and not lost:
        column = column.dictionary_encode()
    X = pa.table({"a": np.arange(40.0), "b": column})
    if kind == "batch":
        X = X.to_batches()[0]
    if kind == "parquet":
        parquet.write_table(X, tmp_path / "rows.parquet")
        X = tmp_path / "rows.parquet"
    for estimator in (EMGaussianMixture(1), EMImputer(), EMHiddenMarkov(1)):
        with pytest.raises(ValueError, match=f"column 'b' of X holds {message}"):
            estimator.fit(X)
    with pytest.raises(ValueError, match="column 'b' of X holds"):
        EMImputer().fit([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]).transform(pa.table({"a": [1.0] * 40, "b": column}))


def test_arrow_nulls_are_missing_cells():
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    assert parquet
    X = pa.table({"a": [1.0, None, 3.0], "b": [True, None, False], "c": [3, 1, None]})
    encoded = pa.table({name: X[name].dictionary_encode() for name in X.column_names})
    expected = np.array([[1.0, 1.0, 3.0], [np.nan, np.nan, 1.0], [3.0, 0.0, np.nan]])
    for table in (X, encoded, *encoded.to_batches()):
        mean = EMImputer(prior="ridge").fit(expected).mean_
        np.testing.assert_array_equal(EMImputer(prior="ridge").fit(table).mean_, mean)
    for cells in (["x", None, "y"], [1, None, 2]):
        for column in (pa.array(cells), pa.array(cells).dictionary_encode()):
            chain = EMHiddenMarkov(1, emission="categorical").fit(pa.table({"a": column}))
            np.testing.assert_allclose(chain.emissionprob_, [[0.5, 0.5]])


@pytest.mark.skipif(not STATUS.exists() or "VmHWM" not in STATUS.read_text(), reason="no record of peak memory here")
def test_a_fit_of_blocks_holds_few_of_them():
    code = """
import warnings
import numpy as np
from emkit import EMGaussianMixture, EMImputer
warnings.simplefilter("ignore")
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
rng = np.random.default_rng(0)
rows = rng.normal(size=(20_000, 8)) + 4.0 * rng.integers(2, size=(20_000, 1))
holes = np.where(rng.random(rows.shape) < 0.1, np.nan, rows)
def blocks(n):
    return (rows * (1.0 + 0.001 * i) for i in range(n))
def with_holes(n):
    return (holes * (1.0 + 0.001 * i) for i in range(n))
for estimator, source in (EMGaussianMixture(2, max_iter=2, n_init=1), blocks), (EMImputer(max_iter=3), with_holes):
    estimator.fit(lambda: source(2))
    before = peak()
    estimator.fit(lambda: source(100))
    print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for grown in map(float, done.stdout.split()):
        assert grown < 60.0  # of 122 MB


def test_a_path_of_another_kind_of_file_is_refused_with_advice(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"rows\.csv.*pandas\.read_csv"):
        EMGaussianMixture(1).fit(tmp_path / "rows.csv")
