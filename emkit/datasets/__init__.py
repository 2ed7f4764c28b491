"""Small real data sets of the literature on mixtures, missing data and chains, loaded like scikit-learn's own.

Every loader takes the same two keywords and returns the same Bunch. What the columns mean, where the numbers were
published and where the copy comes from, with its licence, is in each docstring, in ``DESCR``, and for all sets together
in ``README.md`` beside this file.
"""

from __future__ import annotations

import csv
import textwrap
import tomllib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.utils import Bunch

__all__ = [
    "load_africa",
    "load_airquality",
    "load_apple_crop",
    "load_banknote",
    "load_cement_missing",
    "load_cholesterol",
    "load_crabs",
    "load_diabetes_reaven_miller",
    "load_earthquakes",
    "load_faithful",
    "load_galaxies",
    "load_geyser",
    "load_marijuana",
    "load_nhanes",
    "load_sp500_monthly",
    "load_speed",
]


class _Table(NamedTuple):
    """What is known of one set; ``tables.toml`` explains the fields."""

    title: str
    about: str
    features: list[str]
    classes: list[str]
    n_rows: int
    published: str
    copied: str


_HERE = Path(__file__).parent
_TABLES = {
    name: _Table(**facts) for name, facts in tomllib.loads((_HERE / "tables.toml").read_text(encoding="utf-8")).items()
}

_DOCSTRING = """{title}

{about}

Parameters
----------
return_X_y : bool, default=False
    Return ``(data, target)`` instead of a Bunch.
as_frame : bool, default=False
    Return pandas objects instead of arrays.

Returns
-------
Bunch or tuple
    ``data``, {shape} float64, NaN where a cell is missing; ``target``,
    {target}; ``feature_names``, ``target_names``, ``frame`` (None
    without ``as_frame``), ``DESCR``, ``filename``.

Notes
-----
{origin}

Examples
--------
>>> from emkit.datasets import load_{name}
>>> load_{name}().data.shape
{shape}
"""


class Loader(Protocol):
    """Read one data set."""

    def __call__(self, *, return_X_y: bool = False, as_frame: bool = False) -> Any:
        """Give a Bunch, or a pair if ``return_X_y``."""


def _loader(name: str) -> Loader:
    """Make the loader of one file, with its documentation."""

    def load(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
        return _load(name, return_X_y, as_frame)

    table = _TABLES[name]
    load.__name__ = load.__qualname__ = f"load_{name}"
    load.__doc__ = _DOCSTRING.format(
        name=name,
        title=table.title,
        about=textwrap.fill(table.about, 110),
        shape=(table.n_rows, len(table.features)),
        target="int64, the number of each row's class" if table.classes else "None: these rows have no class",
        origin=textwrap.fill(_origin(name).replace("`", "``"), 110),  # code, as reStructuredText marks it
    )
    return load


def _origin(name: str) -> str:
    """Where the numbers come from."""
    return f"Published in {_TABLES[name].published}. Copied from {_TABLES[name].copied}."


def _load(name: str, return_X_y: bool, as_frame: bool) -> Any:
    """Read one file."""
    table = _TABLES[name]
    path = _HERE / "data" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if "corr" in row:  # cor, inc
            row["correct"] = str(float(row["corr"] == "cor"))
    data: Any = np.array([[float(row[column] or "nan") for column in table.features] for row in rows])
    target: Any = None
    target_names = frame = None
    if table.classes:
        names = [" ".join(row[column] for column in table.classes) for row in rows]
        target_names, target = np.unique(names, return_inverse=True)
    if as_frame:
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(f"load_{name}(as_frame=True) needs pandas: install it, or drop as_frame") from error
        data = frame = pd.DataFrame(data, columns=table.features)
        if table.classes:
            target = pd.Series(target, name="target")
            frame = data.assign(target=target)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        feature_names=list(table.features),
        target_names=target_names,
        frame=frame,
        DESCR=f"{table.title}\n\n{table.about}\n\n{_origin(name)}\n",
        filename=str(path),
    )


load_africa = _loader("africa")
load_airquality = _loader("airquality")
load_apple_crop = _loader("apple_crop")
load_banknote = _loader("banknote")
load_cement_missing = _loader("cement_missing")
load_cholesterol = _loader("cholesterol")
load_crabs = _loader("crabs")
load_diabetes_reaven_miller = _loader("diabetes_reaven_miller")
load_earthquakes = _loader("earthquakes")
load_faithful = _loader("faithful")
load_galaxies = _loader("galaxies")
load_geyser = _loader("geyser")
load_marijuana = _loader("marijuana")
load_nhanes = _loader("nhanes")
load_sp500_monthly = _loader("sp500_monthly")
load_speed = _loader("speed")
