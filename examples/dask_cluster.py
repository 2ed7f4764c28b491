"""
A cluster
=========

A dask array is fitted where its chunks are: parameters go out to the workers, sums come back. Here the cluster is two
processes of this machine; with the address of another one in ``Client`` nothing else changes. Predictions are lazy, and
restarts of a fit in memory can race on the same workers.
"""

import joblib
import numpy as np

from emkit import EMGaussianMixture, EMImputer

# %%
# The steps
# ---------


def rows(n=60_000):
    rng = np.random.default_rng(0)
    centres = 4.0 * rng.normal(size=(4, 5))
    return centres[rng.integers(4, size=n)] + rng.normal(size=(n, 5))


def fit_where_the_chunks_are(X):
    import dask.array as da

    chunks = da.from_array(X, chunks=(10_000, 5))
    mixture = EMGaussianMixture(4, random_state=0).fit(chunks)
    print(f"{chunks.numblocks[0]} chunks: {mixture.status_} after {mixture.n_iter_} steps")
    here = EMGaussianMixture(4, random_state=0).fit(X)
    print(f"largest difference to the fit in memory: {np.abs(mixture.means_ - here.means_).max():.1e}")

    labels = mixture.predict(chunks)  # nothing is computed yet
    print("labels:", labels)
    print("rows of each component:", np.bincount(labels.compute()))

    holes = da.where(da.random.default_rng(1).random(chunks.shape, chunks=chunks.chunks) < 0.1, np.nan, chunks)
    imputer = EMImputer().fit(holes.persist())
    print("mean of rows with holes:", imputer.mean_.round(2))


def race_on_the_workers(X):
    with joblib.parallel_config(backend="dask"):
        mixture = EMGaussianMixture(4, n_init=6, n_jobs=2, random_state=0).fit(X)
    print("restarts:", [round(start["objective"], 2) for start in mixture.restarts_])


# %%
# The cluster
# -----------
# Its workers import this script, so only the process that starts them may go on from here.


def main():
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError:
        print("no cluster: dask is not installed (pip install 'emkit[dask]')")
        return
    X = rows()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        fit_where_the_chunks_are(X)
        race_on_the_workers(X)


if __name__ == "__main__":
    main()
