"""Small real data sets of the mixture literature, loaded like scikit-learn's own.

Every loader takes the same two keywords and returns the same Bunch; provenance and licence of each file are in
``README.md`` beside this one.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

__all__ = ["load_banknote", "load_crabs", "load_diabetes_reaven_miller", "load_faithful", "load_galaxies"]


class _Table(NamedTuple):
    """What the columns of one file mean."""

    features: tuple[str, ...]
    classes: tuple[str, ...]  # columns which together name the class of a row; none if rows have no class
    about: str


_TABLES = {
    "faithful": _Table(
        ("eruptions", "waiting"),
        (),
        "Old Faithful geyser: length of an eruption and waiting time to the next, in minutes "
        "(Azzalini & Bowman 1990, Applied Statistics 39:357).",
    ),
    "diabetes_reaven_miller": _Table(
        ("glucose", "insulin", "sspg"),
        ("class",),
        "Plasma glucose, plasma insulin and steady-state plasma glucose of 145 adults, and their diagnosis "
        "(Reaven & Miller 1979, Diabetologia 16:17). Row 104 has insulin 45 where other copies have 455.",
    ),
    "banknote": _Table(
        ("Length", "Left", "Right", "Bottom", "Top", "Diagonal"),
        ("Status",),
        "Six measurements, in millimetres, of 100 genuine and 100 counterfeit Swiss 1000-franc notes "
        "(Flury & Riedwyl 1988, Multivariate Statistics: A Practical Approach).",
    ),
    "crabs": _Table(
        ("FL", "RW", "CL", "CW", "BD"),
        ("sp", "sex"),
        "Frontal lobe, rear width, carapace length and width, body depth, in millimetres, of 50 Leptograpsus crabs "
        "of each species (B blue, O orange) and sex (Campbell & Mahon 1974, Australian Journal of Zoology 22:417).",
    ),
    "galaxies": _Table(
        ("velocity",),
        (),
        "Velocities, in km/s, of 82 galaxies of the Corona Borealis region "
        "(Postman, Huchra & Geller 1986; Roeder 1990, JASA 85:617). Value 78 is 26690 where the paper has 26960.",
    ),
}


def _load(name: str, return_X_y: bool, as_frame: bool) -> Any:
    """Read one file: a Bunch, or a pair if ``return_X_y``."""
    features, classes, about = _TABLES[name]
    path = Path(__file__).parent / "data" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    data: Any = np.array([[float(row[column]) for column in features] for row in rows])
    target: Any = None
    target_names = frame = None
    if classes:
        target_names, target = np.unique([" ".join(row[c] for c in classes) for row in rows], return_inverse=True)
    if as_frame:
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(f"load_{name}(as_frame=True) needs pandas: install it, or drop as_frame") from error
        data = frame = pd.DataFrame(data, columns=list(features))
        if classes:
            target = pd.Series(target, name="target")
            frame = data.assign(target=target)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        feature_names=list(features),
        target_names=target_names,
        frame=frame,
        DESCR=about,
        filename=str(path),
    )


def load_faithful(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Eruptions of the Old Faithful geyser: 272 rows, 2 columns, two kinds of eruption.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (272, 2) float64, ``feature_names``, ``frame``, ``DESCR``, ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_faithful
    >>> load_faithful().data[:2]
    array([[ 3.6, 79. ],
           [ 1.8, 54. ]])
    """
    return _load("faithful", return_X_y, as_frame)


def load_diabetes_reaven_miller(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Chemical and overt diabetes: 145 rows, 3 columns, 3 classes of very different shape.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (145, 3) float64, ``target`` (145,) int64, ``feature_names``, ``target_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_diabetes_reaven_miller
    >>> [str(name) for name in load_diabetes_reaven_miller().target_names]
    ['Chemical', 'Normal', 'Overt']
    """
    return _load("diabetes_reaven_miller", return_X_y, as_frame)


def load_banknote(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Swiss banknotes, genuine and counterfeit: 200 rows, 6 columns, 2 classes.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (200, 6) float64, ``target`` (200,) int64, ``feature_names``, ``target_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_banknote
    >>> [str(name) for name in load_banknote().target_names]
    ['counterfeit', 'genuine']
    """
    return _load("banknote", return_X_y, as_frame)


def load_crabs(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Leptograpsus crabs: 200 rows, 5 strongly correlated columns, 4 classes (species and sex).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (200, 5) float64, ``target`` (200,) int64, ``feature_names``, ``target_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_crabs
    >>> [str(name) for name in load_crabs().target_names]
    ['B F', 'B M', 'O F', 'O M']
    """
    return _load("crabs", return_X_y, as_frame)


def load_galaxies(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Velocities of 82 galaxies in km/s: one column, and a long dispute about the number of clusters.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (82, 1) float64, ``feature_names``, ``frame``, ``DESCR``, ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_galaxies
    >>> load_galaxies().data[:2]
    array([[9172.],
           [9350.]])
    """
    return _load("galaxies", return_X_y, as_frame)
