"""
Larger than memory
==================

A mixture of rows that never lie in memory together: they are written to Parquet piece by piece, fitted from there, and
labelled piece by piece. The same rows as an array give the same bits; a stream that is never seen twice comes close.
"""

import tempfile
from pathlib import Path

import numpy as np

from emkit import EMGaussianMixture

CENTRES = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 2.0], [0.0, 5.0, -2.0]])


class Pieces:
    """Rows that are made when they are wanted: iterate, as often as you like."""

    def __init__(self, n_pieces, rows=20_000):
        self.n_pieces, self.rows = n_pieces, rows

    def __iter__(self):
        for seed in range(self.n_pieces):  # the same rows every time
            rng = np.random.default_rng(seed)
            labels = rng.choice(3, size=self.rows, p=[0.5, 0.3, 0.2])
            yield CENTRES[labels] + rng.normal(size=(self.rows, 3))


# %%
# From an iterable
# ----------------
# Anything that gives the same pieces each time it is gone through can be fitted, labelled and scored.

pieces = Pieces(n_pieces=10)
mixture = EMGaussianMixture(3, random_state=0).fit(pieces)
print(f"{pieces.n_pieces} pieces of {pieces.rows} rows: {mixture.status_} after {mixture.n_iter_} steps")
print(mixture.means_.round(2))

counts = sum(np.bincount(labels, minlength=3) for labels in mixture.predict(pieces))
print("rows of each component:", counts)
print(f"mean log-density: {mixture.score(pieces):.4f}")

whole = EMGaussianMixture(3, random_state=0).fit(np.concatenate(list(pieces)))
print("same bits as in memory:", np.array_equal(whole.covariances_, mixture.covariances_))

# %%
# From a stream
# -------------
# Where no piece comes twice, ``partial_fit`` takes each as it comes.

stream = EMGaussianMixture(3, random_state=0)
for piece in pieces:
    stream.partial_fit(piece)
print(f"each piece seen once: mean log-density {stream.score(pieces):.4f}")

# %%
# From a file
# -----------
# A path to a Parquet file does as well; its row groups are the pieces.


def write(pieces, path):
    """Write a Parquet file, a row group for each piece."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    tables = (pa.table(dict(zip(("length", "width", "depth"), piece.T, strict=True))) for piece in pieces)
    first = next(tables)
    with ParquetWriter(path, first.schema) as file:
        file.write_table(first)
        for table in tables:
            file.write_table(table)


try:
    import pyarrow  # noqa: F401
except ImportError:
    print("no Parquet: pyarrow is not installed (pip install pyarrow)")
else:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write(pieces, path)
        stored = EMGaussianMixture(3, random_state=0).fit(path)
        names = ", ".join(stored.feature_names_in_)
        print(f"from a Parquet file of {path.stat().st_size / 1e6:.1f} MB, columns {names}:")
        print("same bits:", np.array_equal(stored.covariances_, mixture.covariances_))
