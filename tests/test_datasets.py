"""The data sets: contents, classes, and the keywords of scikit-learn's loaders."""

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

from emkit import datasets

# loader, shape, sum of all features, rows per class; the sums were taken over the files with awk, not with this reader.
TABLES = [
    ("load_faithful", (272, 2), 20232.677, {}),
    ("load_diabetes_reaven_miller", (145, 3), 123089.0, {"Chemical": 36, "Normal": 76, "Overt": 33}),
    ("load_banknote", (200, 6), 127105.1, {"counterfeit": 100, "genuine": 100}),
    ("load_crabs", (200, 5), 22174.4, {"B F": 50, "B M": 50, "O F": 50, "O M": 50}),
    ("load_galaxies", (82, 1), 1707910.0, {}),
    ("load_cement_missing", (13, 5), 2086.5, {}),
    ("load_apple_crop", (18, 2), 805.0, {}),
    ("load_cholesterol", (28, 3), 17776.0, {}),
    ("load_marijuana", (9, 6), 417.0, {}),
    ("load_airquality", (153, 6), 48960.500000000044, {}),
    ("load_nhanes", (25, 4), 3361.0, {}),
    ("load_earthquakes", (107, 1), 2072, {}),
    ("load_speed", (439, 3), 3132.72665235, {"1": 168, "2": 134, "3": 137}),
    ("load_geyser", (299, 2), 22656.7833337, {}),
    ("load_sp500_monthly", (744, 1), 4.34347021696, {}),
    ("load_africa", (120, 5), 692004960.4866667, {}),
]


def test_every_loader_is_tested():
    assert sorted(datasets.__all__) == sorted(name for name, *_ in TABLES)


@pytest.mark.parametrize(("loader", "shape", "total", "classes"), TABLES)
def test_contents(loader, shape, total, classes):
    bunch = getattr(datasets, loader)()
    assert bunch.data.shape == shape
    assert bunch.data.dtype == np.float64
    assert np.nansum(bunch.data) == pytest.approx(total, rel=1e-12)
    assert len(bunch.feature_names) == shape[1]
    assert Path(bunch.filename).is_file()
    assert bunch.DESCR
    assert bunch.frame is None
    if not classes:
        assert bunch.target is None
        return
    counts = dict(zip(bunch.target_names.tolist(), np.bincount(bunch.target).tolist(), strict=True))
    assert counts == classes


@pytest.mark.parametrize(("loader", "shape", "total", "classes"), TABLES)
def test_keywords(loader, shape, total, classes):
    load = getattr(datasets, loader)
    bunch = load()
    X, y = load(return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)

    pytest.importorskip("pandas")
    framed = load(as_frame=True)
    assert list(framed.data.columns) == bunch.feature_names
    assert list(framed.frame.columns) == bunch.feature_names + ["target"] * bool(classes)
    np.testing.assert_array_equal(framed.data.to_numpy(), bunch.data)
    X, y = load(return_X_y=True, as_frame=True)
    assert X.equals(framed.data)
    assert y is None if not classes else y.equals(framed.frame["target"])


def test_documentation_agrees():
    """The loaders, DESCR, the table of all sets and the files say the same."""
    readme = (Path(datasets.__file__).parent / "README.md").read_text(encoding="utf-8")
    files = {path.stem for path in (Path(datasets.__file__).parent / "data").glob("*.csv")}
    assert files == set(datasets._TABLES)
    for name, facts in datasets._TABLES.items():
        load = getattr(datasets, f"load_{name}")
        n, d = load().data.shape
        classes = " and a class" if facts.classes else ""
        row = f"| `{name}.csv` | {n} x {d}{classes} | {facts.about} | {facts.published} | {facts.copied} |"
        assert row in readme.splitlines()
        for text in (load.__doc__, load().DESCR):
            plain = " ".join(text.split()).replace("``", "`")  # docstrings are reStructuredText
            assert facts.about in plain
            assert facts.published in plain
            assert facts.copied in plain
        assert str(inspect.signature(load)).startswith("(*, return_X_y: 'bool' = False, as_frame: 'bool' = False)")
        assert all(len(line) <= 116 for line in load.__doc__.splitlines())


def test_pandas_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # what `import pandas` finds where it is not installed
    assert datasets.load_faithful().data.shape == (272, 2)
    with pytest.raises(ImportError, match=r"load_faithful.*pandas"):
        datasets.load_faithful(as_frame=True)
