"""Rows of a file: the same bits as in memory, and little more memory than a block."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from specimens import blobs

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer
from emkit._blocks import release

STATUS = Path("/proc/self/status")


def stored(tmp_path, X, mode="r"):
    np.save(tmp_path / "rows.npy", X)
    return np.load(tmp_path / "rows.npy", mmap_mode=mode)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize(
    "estimator", [EMGaussianMixture(3, random_state=0), EMHiddenMarkov(3, random_state=0), EMImputer()]
)
def test_rows_of_a_file_give_the_same_bits(tmp_path, estimator, mode):
    X = blobs(np.random.default_rng(0), n=300 if isinstance(estimator, EMHiddenMarkov) else 40_000, d=3)
    if isinstance(estimator, EMImputer):
        X[::7, 1] = np.nan
    there = stored(tmp_path, X, mode)
    one = {k: v for k, v in vars(estimator.fit(X)).items() if isinstance(v, np.ndarray)}
    two = vars(estimator.fit(there))
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)
    np.testing.assert_array_equal(estimator.score_samples(there), estimator.score_samples(X))
    np.testing.assert_array_equal(there, X)


def test_what_was_written_is_not_lost(tmp_path):
    X = np.arange(40_000.0).reshape(-1, 4)
    for mode in ("r+", "c"):
        there = stored(tmp_path, X, mode)
        there[5] = -1.0
        release(there)
        release(there[1000:9000])
        assert (there[5] == -1.0).all()
        np.testing.assert_array_equal(there[6:], X[6:])


def test_release_leaves_other_arrays_alone():
    X = np.arange(40_000.0).reshape(-1, 4)
    for rows in (X, X[::2], X[:, 1:], X[:0], np.asfortranarray(X)):
        before = rows.copy()
        release(rows)
        np.testing.assert_array_equal(rows, before)


@pytest.mark.skipif(not STATUS.exists() or "VmHWM" not in STATUS.read_text(), reason="no record of peak memory here")
def test_a_fit_of_a_file_holds_little_of_it(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "rows.npy", np.repeat(rng.normal(size=(20_000, 8)) * [1, 2, 3, 4, 5, 6, 7, 8], 100, axis=0))
    code = f"""
import warnings
import numpy as np
from emkit import EMGaussianMixture
warnings.simplefilter("ignore")
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
X = np.load({str(tmp_path / "rows.npy")!r}, mmap_mode="r")
mixture = EMGaussianMixture(2, covariance_type="diag", max_iter=3, random_state=0, n_jobs=1)
mixture.fit(X[:20_000].copy())
before = peak()
mixture.fit(X)
print(peak() - before)
"""
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 80.0  # of 122 MB; 15 are the labels
